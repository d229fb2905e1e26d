package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rotunda.dev/rotunda/internal/fault"
)

// Place is where a file is or would be: two that have it in common are one
// file, however they are spelled. Make it with [Locate].
type Place struct {
	path string      // with no link in it
	info fs.FileInfo // nil where there is no file
}

// Locate finds the place of path, which need not be there.
func Locate(path string) (Place, error) {
	if path == Stdout {
		return Place{path: Stdout}, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Place{}, fmt.Errorf("locating a file: %w", err)
	}
	info, err := os.Stat(abs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Place{}, fmt.Errorf("locating a file: %w", err)
	}
	real, err := withoutLinks(abs)
	return Place{real, info}, err
}

// withoutLinks follows the links of as much of path as there is.
func withoutLinks(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	up := filepath.Dir(path)
	if !errors.Is(err, fs.ErrNotExist) || up == path {
		return "", fmt.Errorf("locating a file: %w", err)
	}
	if up, err = withoutLinks(up); err != nil {
		return "", err
	}
	return filepath.Join(up, filepath.Base(path)), nil
}

// Same reports whether p and q are one file: by path, or by a link.
func (p Place) Same(q Place) bool {
	return p.path == q.path || p.info != nil && q.info != nil && os.SameFile(p.info, q.info)
}

// Own is what belongs to the node, and where no sink may write.
type Own struct{ Dirs, Files []string }

// Has reports whether p lies in one of the directories, or is one of the files
// or linked to a file in one of the directories. What cannot be read there is
// an error.
func (o Own) Has(p Place) (bool, error) {
	for _, f := range o.Files {
		q, err := Locate(f)
		if err != nil {
			return false, err
		}
		if p.Same(q) {
			return true, nil
		}
	}
	for _, dir := range o.Dirs {
		q, err := Locate(dir)
		if err != nil {
			return false, err
		}
		if rel, err := filepath.Rel(q.path, p.path); err == nil && filepath.IsLocal(rel) {
			return true, nil
		}
		if linked, err := q.links(p); linked || err != nil {
			return linked, err
		}
	}
	return false, nil
}

// links reports whether a file below p, a directory, is q.
func (p Place) links(q Place) (found bool, err error) {
	if p.info == nil || q.info == nil || !mayBeLinked(q.info) {
		return false, nil
	}
	err = filepath.WalkDir(p.path, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && os.SameFile(info, q.info) {
			found = true
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("looking for the server's own files: %w", err)
	}
	return found, nil
}

// apart refuses the file of c where it is the node's own, or another sink's.
// The caller holds mu.
func (s *Set) apart(name string, c Config) error {
	p, err := Locate(c.file())
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the audit file cannot be found")
	}
	own := false
	if p.path != Stdout {
		own, err = s.own.Has(p)
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the audit file cannot be told from the server's own files")
	}
	if own {
		return fault.New(fault.Invalid, "file_path is one of the server's own files, or lies where they are")
	}
	for other, sink := range s.sinks {
		if other == name {
			continue
		}
		taken, err := sink.holds(p)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "the audit file cannot be told from those of other audit devices")
		}
		if taken {
			return fault.New(fault.Invalid, "file_path is the file of another audit device: %s", other)
		}
	}
	return nil
}

// file returns the path of the file, which starts at the root.
func (c Config) file() string {
	if c.Path == Stdout && c.Dir == "" {
		return Stdout
	}
	return filepath.Join(c.Dir, c.Path)
}

// holds reports whether s writes to p, by the name that it has or by the file
// that is open, which may have been moved away.
func (s *Sink) holds(p Place) (bool, error) {
	q, err := Locate(s.c.file())
	if err != nil {
		return false, err
	}
	if p.Same(q) {
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, isFile := s.out.(*os.File)
	if !isFile || p.info == nil {
		return false, nil
	}
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("looking at the audit file: %w", err)
	}
	return os.SameFile(info, p.info), nil
}
