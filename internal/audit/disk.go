package audit

import "io"

// Disk is a directory of files, as the journal needs it. Tests make ones that fail.
type Disk interface {
	// Create makes a file of size bytes that are allocated and zero, and fails
	// where it exists.
	Create(name string, size int64) (File, error)
	// Open opens an existing file to read and write.
	Open(name string) (File, error)
	// Replace makes name hold data, durably, or leaves it as it was.
	Replace(name string, data []byte) error
	Read(name string) ([]byte, error)
	Rename(from, to string) error
	Remove(name string) error
	// Names returns the names of all files, in order.
	Names() ([]string, error)
	// Sync makes creations, renames and removals durable.
	Sync() error
	Close() error
}

// File is one file of a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes what was written durable.
	Sync() error
	// Truncate sets the size, and allocates what it adds.
	Truncate(size int64) error
	Size() (int64, error)
}
