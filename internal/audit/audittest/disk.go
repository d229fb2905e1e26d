// Package audittest has what tests of the audit log need: a disk that fails, a
// journal on it, and the conformance kit of sinks.
package audittest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"rotunda.dev/rotunda/internal/audit"
)

const sector = 512

// Disk is an [audit.Disk] in memory that fails, hangs and fills up when it is
// told to, and loses power. Make it with [NewDisk].
type Disk struct {
	mu     sync.Mutex
	files  map[string]*file
	failed error         // of every sync
	writes error         // of every write, half of which is done
	hang   chan struct{} // that syncs wait for
	space  int64         // for all files together; negative for no bound
	syncs  int
}

type file struct {
	d       *Disk
	data    []byte
	durable []byte
	dirty   map[int]bool // sectors written since the last sync
}

var _ audit.Disk = (*Disk)(nil)

// NewDisk returns an empty disk without faults.
func NewDisk() *Disk { return &Disk{files: map[string]*file{}, space: -1} }

// FailSyncs makes every sync fail with err from now on; nil ends it.
func (d *Disk) FailSyncs(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = err
}

// FailWrites makes every write to a file fail with err from now on, after half
// of it is done; nil ends it.
func (d *Disk) FailWrites(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = err
}

// HangSyncs makes every sync hang from now on, until release is called.
func (d *Disk) HangSyncs() (release func()) {
	hang := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hang = hang
	return func() {
		d.mu.Lock()
		d.hang = nil
		d.mu.Unlock()
		close(hang)
	}
}

// SetSpace bounds what all files take together; negative is no bound.
func (d *Disk) SetSpace(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = room
}

// Used returns what all files take together.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

func (d *Disk) used() int64 {
	n := int64(0)
	for _, f := range d.files {
		n += int64(len(f.data))
	}
	return n
}

// Syncs returns how many syncs of files there were.
func (d *Disk) Syncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// Clone returns a disk without faults that holds what d holds.
func (d *Disk) Clone() *Disk {
	return d.copy(func(_ string, f *file) []byte { return bytes.Clone(f.data) })
}

// Crash returns the disk as it may be found after a loss of power: of each
// sector that was written and not synced, r decides whether it is there.
func (d *Disk) Crash(r *rand.Rand) *Disk {
	return d.copy(func(_ string, f *file) []byte {
		out := make([]byte, len(f.data))
		copy(out, f.durable)
		for _, at := range slices.Sorted(maps.Keys(f.dirty)) {
			if at < len(f.data) && r.IntN(2) == 0 {
				end := min(at+sector, len(f.data))
				copy(out[at:end], f.data[at:end])
			}
		}
		return out
	})
}

func (d *Disk) copy(content func(string, *file) []byte) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := NewDisk()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		b := content(name, d.files[name])
		out.files[name] = &file{d: out, data: b, durable: bytes.Clone(b), dirty: map[int]bool{}}
	}
	return out
}

// Change makes the file called name hold what change returns for its content;
// nil removes it.
func (d *Disk) Change(name string, change func(b []byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b []byte
	if f := d.files[name]; f != nil {
		b = f.data
	}
	b = change(bytes.Clone(b))
	if b == nil {
		delete(d.files, name)
		return
	}
	d.files[name] = &file{d: d, data: b, durable: bytes.Clone(b), dirty: map[int]bool{}}
}

// Content returns a copy of what the file called name holds; nil where there is none.
func (d *Disk) Content(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return bytes.Clone(f.data)
	}
	return nil
}

// Create implements [audit.Disk].
func (d *Disk) Create(name string, size int64) (audit.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] != nil {
		return nil, fmt.Errorf("creating %s: %w", name, fs.ErrExist)
	}
	if d.space >= 0 && d.used()+size > d.space {
		return nil, fmt.Errorf("creating %s: %w", name, syscall.ENOSPC)
	}
	f := &file{d: d, data: make([]byte, size), durable: make([]byte, size), dirty: map[int]bool{}}
	d.files[name] = f
	return f, nil
}

// Open implements [audit.Disk].
func (d *Disk) Open(name string) (audit.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		return nil, fmt.Errorf("opening %s: %w", name, fs.ErrNotExist)
	}
	return f, nil
}

// View implements [audit.Disk].
func (d *Disk) View(name string) (audit.View, error) { return d.Open(name) }

// Replace implements [audit.Disk].
func (d *Disk) Replace(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return d.failed
	}
	if d.space >= 0 && d.files[name] == nil && d.used()+int64(len(data)) > d.space {
		return fmt.Errorf("replacing %s: %w", name, syscall.ENOSPC)
	}
	d.files[name] = &file{d: d, data: bytes.Clone(data), durable: bytes.Clone(data), dirty: map[int]bool{}}
	return nil
}

// Rename implements [audit.Disk].
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[from]
	if f == nil {
		return fmt.Errorf("renaming %s: %w", from, fs.ErrNotExist)
	}
	delete(d.files, from)
	d.files[to] = f
	return nil
}

// Remove implements [audit.Disk].
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return fmt.Errorf("removing %s: %w", name, fs.ErrNotExist)
	}
	delete(d.files, name)
	return nil
}

// Names implements [audit.Disk].
func (d *Disk) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files)), nil
}

// Sync implements [audit.Disk].
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// Close implements [audit.Disk].
func (d *Disk) Close() error { return nil }

// ReadAt implements [audit.View].
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [audit.File].
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	failed := f.d.writes
	if failed != nil {
		b = b[:len(b)/2]
	}
	end := int(off) + len(b)
	if grow := end - len(f.data); grow > 0 {
		if f.d.space >= 0 && f.d.used()+int64(grow) > f.d.space {
			return 0, syscall.ENOSPC
		}
		f.data = append(f.data, make([]byte, grow)...)
	}
	copy(f.data[off:], b)
	for at := int(off) / sector * sector; at < end; at += sector {
		f.dirty[at] = true
	}
	return len(b), failed
}

// Sync implements [audit.File].
func (f *file) Sync() error {
	f.d.mu.Lock()
	hang := f.d.hang
	f.d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.syncs++
	if f.d.failed != nil {
		return f.d.failed
	}
	if len(f.durable) != len(f.data) {
		f.durable = bytes.Clone(f.data)
		clear(f.dirty)
		return nil
	}
	for at := range f.dirty {
		end := min(at+sector, len(f.data))
		copy(f.durable[at:end], f.data[at:end])
	}
	clear(f.dirty)
	return nil
}

// Truncate implements [audit.File].
func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if size < int64(len(f.data)) {
		f.data = f.data[:size:size]
		return nil
	}
	f.data = append(f.data, make([]byte, int(size)-len(f.data))...)
	return nil
}

// Size implements [audit.View].
func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.data)), nil
}

// Close implements [audit.View].
func (f *file) Close() error { return nil }
