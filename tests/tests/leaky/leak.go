// Leaks at most 2,000 sockets, 15 a second.
package main

import (
	"os"
	"syscall"
	"time"
)

//go:noinline
func leakHere() {
	if _, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
		panic(err)
	}
}

func main() {
	for n := 0; n < 2000; n++ {
		leakHere()
		time.Sleep(66 * time.Millisecond)
	}
	os.Stdin.Read(make([]byte, 1))
}
