package memory

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func allocate(size int) ([]byte, Kind) {
	if mem, err := secretPages(size); err == nil {
		return mem, Secret
	}
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, size), Plain
	}
	// What cannot be had leaves memory that is as good as any other.
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	_ = unix.Madvise(mem, unix.MADV_WIPEONFORK)
	if err := unix.Mlock(mem); err != nil {
		return mem, Plain
	}
	return mem, Locked
}

func secretPages(size int) ([]byte, error) {
	fd, err := memfdSecret()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(mem, unix.MADV_DONTFORK) // a child that is forked and not yet replaced does not see it
	return mem, nil
}

func release(r region) error {
	err := unix.Munmap(r.mem)
	if err != nil && r.kind == Plain {
		return nil // it was the garbage collector's
	}
	return err
}

func harden() error {
	var errs []error
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("limiting core dumps: %w", err))
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("making the process undumpable: %w", err))
	}
	return errors.Join(errs...)
}
