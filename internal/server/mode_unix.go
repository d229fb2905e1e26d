//go:build !windows

package server

import (
	"fmt"
	"io/fs"
)

// checkPrivate refuses a directory that others than its owner can enter.
func checkPrivate(dir string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can look into it; run: chmod 0700 %s", dir, mode, dir)
	}
	return nil
}
