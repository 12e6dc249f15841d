/* Forgets sockets in two functions at two rates, and says what it did. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Not inlined, and not left by a jump: each must be on the stack of its socket(). */
#define KNOWN __attribute__((noinline, noclone))
#define STAY __asm__ volatile("" ::: "memory")

KNOWN int leak_refused(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0)
        connect(fd, (struct sockaddr *)&to, sizeof to);
    STAY;
    return fd;
}

KNOWN int leak_unused(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    STAY;
    return fd;
}

/* Arguments: refused and unused sockets per second, seconds, descriptors. */
int main(int count, char **arguments) {
    if (count != 5)
        return 2;
    double refused_per_s = atof(arguments[1]), unused_per_s = atof(arguments[2]);
    double seconds = atof(arguments[3]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = atoi(arguments[4]);
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return 1;
    double begin = now(), full = -1;
    long refused = 0, unused = 0;
    for (double at = 0; at < seconds && full < 0; at = now() - begin) {
        while (full < 0 && refused < at * refused_per_s) {
            if (leak_refused() >= 0)
                refused++;
            else if (errno == EMFILE)
                full = now();
        }
        while (full < 0 && unused < at * unused_per_s) {
            if (leak_unused() >= 0)
                unused++;
            else if (errno == EMFILE)
                full = now();
        }
        struct timespec rest = {.tv_nsec = 2000000};
        nanosleep(&rest, NULL);
    }
    printf("{\"refused\":%ld,\"unused\":%ld,\"full_at_s\":%f}\n", refused, unused, full);
    fflush(stdout);
    getchar();
    return 0;
}
