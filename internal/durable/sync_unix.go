//go:build !windows

package durable

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes the names in dir durable. Windows, and file systems that know no
// such thing, do so by themselves.
func SyncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the caller's own
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) { // fsync(2)
		err = nil
	}
	return errors.Join(err, d.Close())
}
