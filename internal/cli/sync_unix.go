//go:build !windows

package cli

import (
	"errors"
	"os"
)

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the person names it
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
