package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"rotunda.dev/rotunda/internal/durable"
)

// osDisk is a directory of the operating system. Its files are 0600.
type osDisk struct {
	root *os.Root
	lock *os.File
}

// openDisk opens dir for the one process that writes there, and makes it where
// there is none. Nobody else can look into it.
func openDisk(dir string) (*osDisk, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the journal's directory: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's directory: %w", err)
	}
	lock, err := root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = lockFile(lock)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the journal's directory: %w", err), root.Close())
	}
	return &osDisk{root, lock}, nil
}

// viewDisk opens dir to read.
func viewDisk(dir string) (*osDisk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's directory: %w", err)
	}
	return &osDisk{root: root}, nil
}

// private makes dir the owner's alone.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the journal's directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 || !modesMeanSomething {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		return fmt.Errorf("closing the journal's directory to others: %w", err)
	}
	return nil
}

func (d *osDisk) Create(name string, size int64) (File, error) {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err = allocate(f, size); err != nil {
		return nil, errors.Join(err, f.Close(), d.root.Remove(name))
	}
	return osFile{f}, nil
}

func (d *osDisk) Open(name string) (File, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) View(name string) (View, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) Replace(name string, data []byte) error {
	tmp := name + ".tmp"
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.Remove(tmp))
	}
	if err := d.Rename(tmp, name); err != nil {
		return err
	}
	return d.Sync()
}

func (d *osDisk) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d *osDisk) Remove(name string) error     { return d.root.Remove(name) }

func (d *osDisk) Names() ([]string, error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, dir.Close())
}

func (d *osDisk) Sync() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncDir(dir), dir.Close())
}

func (d *osDisk) Close() error {
	err := d.root.Close()
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readAll reads the file called name of d.
func readAll(d Disk, name string) ([]byte, error) {
	v, err := d.View(name)
	if err != nil {
		return nil, err
	}
	size, err := v.Size()
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	b := make([]byte, size)
	n, err := v.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], errors.Join(err, v.Close())
}
