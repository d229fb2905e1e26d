//go:build unix && !linux

package memory

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func allocate(size int) ([]byte, Kind) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, size), Plain
	}
	if err := unix.Mlock(mem); err != nil {
		return mem, Plain
	}
	return mem, Locked
}

func release(r region) error {
	err := unix.Munmap(r.mem)
	if err != nil && r.kind == Plain {
		return nil // it was the garbage collector's
	}
	return err
}

func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limiting core dumps: %w", err)
	}
	return nil
}
