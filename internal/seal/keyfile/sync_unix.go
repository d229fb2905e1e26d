//go:build unix

package keyfile

import (
	"errors"
	"os"
)

// syncDir makes a new entry of dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
