// Package durable makes directories and files that are still there, under their
// names, when the power has failed: a name is kept when its directory was synced,
// and not before.
//
// Its functions can be called again after a crash in the middle of them, and make
// good what was left.
package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// MkdirAll makes dir and the directories above it where they are missing, with
// a mode, and makes their names durable.
func MkdirAll(dir string, mode fs.FileMode) error {
	info, err := os.Stat(dir)
	above := filepath.Dir(dir)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("it is not a directory")}
	case err == nil:
		// It may have been made by a process that was killed before it could sync.
		// Who may not read the directory above has made nothing there.
		if err := SyncDir(above); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if above != dir {
		if err := MkdirAll(above, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(above)
}

// WriteFile makes path hold data, with a mode: after a crash it holds what it
// held before, or data.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, "."+filepath.Base(path)+"-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the caller's own
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // the umask may only have taken away
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(dir)
}
