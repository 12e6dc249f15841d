/* Creates sockets from 2 to the power of its argument places and closes them, then, when a line comes in, leaks 200
   from 20 others. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PLAIN __attribute__((noinline, noclone))

static int made;

PLAIN static int odd(unsigned path, int depth);

PLAIN static int even(unsigned path, int depth) {
    made = depth == 0 ? socket(AF_INET, SOCK_STREAM, 0)
                      : path & 1 ? odd(path >> 1, depth - 1) : even(path >> 1, depth - 1);
    return made;
}

PLAIN static int odd(unsigned path, int depth) {
    made = depth == 0 ? socket(AF_INET, SOCK_STREAM, 0)
                      : path & 1 ? odd(path >> 1, depth - 1) : even(path >> 1, depth - 1);
    return made;
}

PLAIN static int leak_late(int depth) {
    made = depth == 0 ? socket(AF_INET, SOCK_STREAM, 0) : leak_late(depth - 1);
    return made;
}

int main(int argc, char **argv) {
    int depth = argc > 1 ? atoi(argv[1]) : 0;
    struct rlimit few = {400, 400};
    setrlimit(RLIMIT_NOFILE, &few);
    for (unsigned path = 0; path < 1u << depth; path++) {
        int kept = even(path, depth);
        close(kept);
    }
    puts("many");
    fflush(stdout);
    getchar();
    for (int one = 0; one < 200; one++) leak_late(one % 20);
    puts("leaked");
    fflush(stdout);
    for (;;) pause();
}
