//go:build !windows

package server

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// What access(2) is asked: https://pubs.opengroup.org/onlinepubs/9799919799/functions/access.html
const (
	mayWrite  = 2
	maySearch = 1
)

// enterable reports whether this user may make files in dir.
func enterable(dir string) error { return access(dir, mayWrite|maySearch) }

// writable reports whether this user may write to a file.
func writable(path string) error { return access(path, mayWrite) }

func access(path string, mode uint32) error {
	if err := syscall.Access(path, mode); err != nil {
		return refused(path, err)
	}
	return nil
}

// refused says why a path cannot be used, and what mends it.
func refused(path string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s is on a file system that is mounted read-only; name another place, or mount it with rw: %w", path, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s cannot be written by this user (%d); let it own it: chown %d %s: %w", path, os.Geteuid(), os.Geteuid(), path, err)
	}
	return &os.PathError{Op: "access", Path: path, Err: err}
}
