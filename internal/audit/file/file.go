// Package file writes the audit log to a file, one JSON object a line, in the
// shape that clients of Vault's audit devices read:
// https://developer.hashicorp.com/vault/docs/audit#audit-log-entry
//
// Besides its lines of type "request" and "response" there are lines of type
// "event" for what the server does by itself.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/fault"
)

// Stdout is the path that stands for the standard output of the server.
const Stdout = "stdout"

// Config says where and how a Sink writes.
type Config struct {
	Dir          string      // the file is in it or below; it must exist
	Path         string      // relative to Dir, or Stdout
	Mode         fs.FileMode // of a file that is made; 0600 if zero; execute bits are never set
	HMACAccessor bool        // show accessors as keyed hashes
	Hasher       *audit.Hasher
}

// Sink is an audit sink. Make it with [Open].
type Sink struct {
	c Config

	mu   sync.Mutex // Reopen comes from elsewhere
	out  io.WriteCloser
	torn bool // a line was written in part
	buf  []byte
}

var _ audit.Sink = (*Sink)(nil)

// Open opens the file to append to it, and makes it where it is missing. It
// refuses what is not a regular file, a symbolic link included, and a path
// that leaves the directory.
func Open(c Config) (*Sink, error) {
	if c.Hasher == nil {
		return nil, errors.New("audit file: Config needs a Hasher")
	}
	s := &Sink{c: c.clean()}
	return s, s.Reopen()
}

// clean returns c with the mode that a file is made with.
func (c Config) clean() Config {
	if c.Mode == 0 {
		c.Mode = 0o600
	}
	c.Mode &^= 0o111 | ^fs.ModePerm
	return c
}

// Reopen closes the file and opens it by its name again, for who has moved it away.
func (s *Sink) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c.Path == Stdout {
		if s.out == nil {
			s.out = keepOpen{os.Stdout}
		}
		return nil
	}
	f, err := openFile(s.c)
	if err != nil {
		return err
	}
	if s.out != nil {
		err = errors.Join(syncFile(s.out), s.out.Close())
	}
	s.out = f
	return err
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

func openFile(c Config) (_ *os.File, err error) {
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the audit file: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	path := filepath.Clean(c.Path)
	if !filepath.IsLocal(path) || path == "." {
		return nil, fault.New(fault.Invalid, "the audit file must lie in the directory that the configuration names")
	}
	if err := regular(root, path, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := root.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|openFlags, c.Mode)
	if err != nil {
		return nil, fmt.Errorf("opening the audit file: %w", err)
	}
	// What was opened is what the name stands for, and not behind a link that
	// came in between.
	if err := regular(root, path, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o111 != 0 {
		err = f.Chmod(info.Mode().Perm() &^ 0o111)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking execute bits from the audit file: %w", err), f.Close())
	}
	return f, nil
}

// regular reports whether the name is that of a regular file, and of f if f is not nil.
func regular(root *os.Root, path string, f *os.File) error {
	info, err := root.Lstat(path)
	if err != nil {
		return fmt.Errorf("looking at the audit file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fault.New(fault.Invalid, "the audit file is not a regular file")
	}
	if f == nil {
		return nil
	}
	opened, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at the audit file: %w", err)
	}
	if !os.SameFile(info, opened) {
		return fault.New(fault.Invalid, "the audit file is not a regular file")
	}
	return nil
}

// Write appends the lines of r.
func (s *Sink) Write(_ context.Context, r *audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return fs.ErrClosed
	}
	s.buf = s.buf[:0]
	if s.torn {
		s.buf = append(s.buf, '\n')
	}
	s.buf = s.appendLines(s.buf, r)
	n, err := s.out.Write(s.buf)
	if err != nil {
		s.torn = s.torn || n > 0
		return fmt.Errorf("writing the audit file: %w", err)
	}
	s.torn = false
	return nil
}

// Flush brings what was written to the disk.
func (s *Sink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return fs.ErrClosed
	}
	if err := syncFile(s.out); err != nil {
		return fmt.Errorf("syncing the audit file: %w", err)
	}
	return nil
}

func syncFile(w io.Writer) error {
	if f, ok := w.(*os.File); ok {
		return f.Sync()
	}
	return nil
}

// Close flushes and closes the file.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return nil
	}
	err := errors.Join(syncFile(s.out), s.out.Close())
	s.out = nil
	return err
}
