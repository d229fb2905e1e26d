//go:build !windows

package server

import (
	"errors"
	"os"
	"path/filepath"
)

// syncParent makes the name of a file or directory durable.
func syncParent(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
