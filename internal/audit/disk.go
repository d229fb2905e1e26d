package audit

import (
	"errors"
	"io"
	"syscall"
)

// Disk is a directory of files, as the journal needs it. Tests make ones that fail.
type Disk interface {
	// Create makes a file of size bytes, which are allocated and zero, and
	// fails where it exists.
	Create(name string, size int64) (File, error)
	// Open opens an existing file to read and write.
	Open(name string) (File, error)
	// View opens an existing file to read.
	View(name string) (View, error)
	// Replace makes name hold data, durably, or leaves it as it was.
	Replace(name string, data []byte) error
	// Rename gives from the name to, whose file, if there is one, is gone.
	Rename(from, to string) error
	Remove(name string) error
	// Names returns the names of all files, in order.
	Names() ([]string, error)
	// Sync makes creations, renames and removals durable.
	Sync() error
	Close() error
}

// View is a file that is read.
type View interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// File is a file that is written.
type File interface {
	View
	io.WriterAt
	// Sync makes what was written durable.
	Sync() error
	// Truncate cuts the file off at size.
	Truncate(size int64) error
}

// outOfSpace reports whether err says that the disk, or what of it the process
// may use, is full.
func outOfSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota) || errors.Is(err, syscall.EFBIG)
}
