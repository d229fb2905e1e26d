//go:build linux

// Package disk is a file system that behaves as a disk may, and no better: what
// is written is there until the power fails, and stays only where it was synced.
// It lives in memory, is mounted by FUSE, and can be told to fail.
//
// # What it promises
//
//   - Bytes and sizes of a file are kept once an fsync or fdatasync of it has
//     returned. Of what was written since, a power cut keeps any part, each
//     sector as any of the writes to it since has left it.
//   - Names are kept once an fsync of their directory has returned. Of the
//     changes since, a power cut keeps any, in their order; a rename is whole.
//     Syncing a file does not keep its name.
//   - After a failed fsync, what should have been synced is shown as before, and
//     is on its way nowhere: a later fsync that succeeds does not keep it.
//   - Modes are kept at once.
package disk

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	pageSize = 4096
	rootID   = 1
)

// Disk is what a file system holds. It outlives mounts. The zero value is not
// usable: make it with [New].
type Disk struct {
	mu     sync.Mutex
	nodes  map[uint64]*node
	next   uint64   // of the ids
	names  []change // of names that are not durable
	faults Faults
	stats  Stats
	trace  []string // what was asked for, where that is wanted
	tracks bool
}

// Stats counts what a Disk was asked for.
type Stats struct {
	Ops    int // that could have been failed
	Failed int
	Syncs  int // of files and directories
	Cuts   int
	Kept   int // sectors that were not synced and were kept by cuts
	Lost   int // that were not
	Torn   int // writes that were kept in part
	Names  int // changes of names that cuts have lost
}

// node is a file or a directory.
type node struct {
	id       uint64
	mode     uint32
	now      content // that is shown
	kept     content // that is durable
	written  []write // between the two
	entries  map[string]uint64
	durable  map[string]uint64 // entries that are
	modified int64
}

// change is one of names. All of it is kept or nothing.
type change struct {
	dirs []uint64 // that it touches
	set  []entry
}

// entry is a name in a directory, and what it leads to; nothing where that is 0.
type entry struct {
	dir  uint64
	name string
	to   uint64
}

// New returns an empty Disk.
func New() *Disk {
	d := &Disk{nodes: map[uint64]*node{}, next: rootID}
	d.add(syscall.S_IFDIR | 0o700)
	return d
}

func (d *Disk) add(mode uint32) *node {
	n := &node{id: d.next, mode: mode}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.entries, n.durable = map[string]uint64{}, map[string]uint64{}
	}
	d.next++
	d.nodes[n.id] = n
	return n
}

// apply makes c so, and durable by a sync of what it touches.
func (d *Disk) apply(c change) {
	for _, e := range c.set {
		if !slices.Contains(c.dirs, e.dir) {
			c.dirs = append(c.dirs, e.dir)
		}
		put(d.nodes[e.dir].entries, e)
	}
	d.names = append(d.names, c)
}

func put(in map[string]uint64, e entry) {
	if e.to == 0 {
		delete(in, e.name)
	} else {
		in[e.name] = e.to
	}
}

// keepNames makes the names in a directory durable.
func (d *Disk) keepNames(dir uint64) {
	d.names = slices.DeleteFunc(d.names, func(c change) bool {
		if !slices.Contains(c.dirs, dir) {
			return false
		}
		d.keep(c)
		return true
	})
}

func (d *Disk) keep(c change) {
	for _, e := range c.set {
		if n := d.nodes[e.dir]; n != nil {
			put(n.durable, e)
		}
	}
}

// Clone returns a Disk with the same content, that changes by itself.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Disk{nodes: map[uint64]*node{}, next: d.next, names: slices.Clone(d.names)}
	for id, n := range d.nodes {
		m := *n
		m.now, m.kept, m.written = n.now.clone(), n.kept.clone(), slices.Clone(n.written)
		m.entries, m.durable = maps.Clone(n.entries), maps.Clone(n.durable)
		c.nodes[id] = &m
	}
	return c
}

// Stats returns the counts since the Disk was made or cloned.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Trace begins to note what the Disk is asked for, one line an operation that
// could be failed; Traced returns the notes.
func (d *Disk) Trace() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tracks, d.trace = true, nil
}

// Traced returns what was noted since [Disk.Trace].
func (d *Disk) Traced() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.trace)
}

// find returns the file at a path of names with slashes between; nil for none.
func (d *Disk) find(path string) *node {
	n := d.nodes[rootID]
	for name := range strings.SplitSeq(path, "/") {
		if n = d.nodes[n.entries[name]]; n == nil {
			return nil
		}
	}
	return n
}

// Bytes returns what the file at a path holds.
func (d *Disk) Bytes(path string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(path)
	if n == nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	b := make([]byte, n.now.size)
	n.now.read(b, 0)
	return b, nil
}

// Flip changes bits of one byte of the file at a path, durably. Nobody may have
// the Disk mounted.
func (d *Disk) Flip(path string, at int64, bits byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(path)
	if n == nil || at >= n.now.size {
		return &fs.PathError{Op: "change", Path: path, Err: fs.ErrNotExist}
	}
	var b [1]byte
	n.now.read(b[:], at)
	n.now.write([]byte{b[0] ^ bits}, at)
	n.kept, n.written = n.now.clone(), nil
	return nil
}

// Names returns the names in the directory at a path, in order.
func (d *Disk) Names(path string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.find(path); n != nil {
		return slices.Sorted(maps.Keys(n.entries))
	}
	return nil
}
