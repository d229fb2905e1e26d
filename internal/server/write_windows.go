package server

import (
	"errors"
	"os"
	"path/filepath"
)

// writeFile replaces a file as a whole: a crash leaves the old one or the new.
func writeFile(path string, data []byte, _ os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}
