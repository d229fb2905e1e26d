package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/storage"
)

// A file of bbolt's is pages, in the machine's byte order:
//
//	page    id 8 | flags 2 | count 2 | overflow 4 | elements | keys and values
//	meta    page head | magic 4 | version 4 | page size 4 | flags 4 | root 8 | sequence 8 |
//	        freelist 8 | pages 8 | transaction 8 | FNV-1a of all from magic on 8
//	branch  element: position 4 | key's length 4 | page 8
//	leaf    element: flags 4 | position 4 | key's length 4 | value's length 4
//	bucket  value: root 8, or 0 | sequence 8 | where root is 0, a page
//	free    page head | pages 8 each; where count is 65,535, the first is how many
//
// A position counts from its element. Keys and values lie behind the elements one
// after another, with nothing between, so that a count that is wrong is seen. The
// first two pages are meta pages, written by turns.
const (
	pageHead   = 16
	element    = 16
	metaLen    = 56
	branchFlag = 1
	leafFlag   = 2
	freeFlag   = 16
	bucketFlag = 1
	deepest    = 64       // a tree of pages is never deeper
	mostPage   = 16 << 20 // bytes; a page that overflows holds one key and its value, of storage.MaxBytes at most
)

// bounds reads a file from its root on, and not by the map of it, for what bbolt
// would meet a fault by.
type bounds struct {
	f    *os.File
	size int64  // of a page
	high uint64 // pages that there are
	met  map[uint64]bool
}

// checkBounds returns an error where a page, a key or a value that is in use lies
// outside of what holds it. The store goes on meanwhile.
func (s *Store) checkBounds() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bounds{f: f, size: int64(s.db.Info().PageSize), met: map[uint64]bool{}}
	last, tx, err := s.held(&b)
	if err != nil {
		return err
	}
	defer s.endRead(tx)
	b.high = binary.NativeEndian.Uint64(last[40:])
	if err := b.visit(binary.NativeEndian.Uint64(last[16:]), 0, true); err != nil {
		return err
	}
	return b.free(binary.NativeEndian.Uint64(last[32:]))
}

// free looks at the list of free pages. bbolt gives away what its head says it
// is, with the next transaction, and not what it was read from.
func (b *bounds) free(id uint64) error {
	page, err := b.page(id, pageHead+8+8*b.high)
	if err != nil {
		return err
	}
	ids, count := page[pageHead:], uint64(binary.NativeEndian.Uint16(page[10:]))
	if count == math.MaxUint16 && len(ids) >= 8 {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if binary.NativeEndian.Uint16(page[8:]) != freeFlag || count > uint64(len(ids))/8 {
		return fmt.Errorf("%w: page %d is not the list of free pages", storage.ErrCorrupt, id)
	}
	for i := range count {
		if free := binary.NativeEndian.Uint64(ids[8*i:]); free < 2 || free >= b.high || b.met[free] {
			return fmt.Errorf("%w: free page %d is out of bounds or in use", storage.ErrCorrupt, free)
		}
	}
	return nil
}

// held returns the last meta page, and a transaction that reads: while it lasts
// no page is written over that can be reached from there.
func (s *Store) held(b *bounds) (last []byte, tx *bbolt.Tx, err error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	if last, err = b.last(); err != nil {
		return nil, nil, err
	}
	tx, err = s.beginRead()
	return last, tx, err
}

// last returns the newest of the two meta pages that is whole.
func (b *bounds) last() (last []byte, err error) {
	for i := range int64(2) {
		meta, err := b.meta(i)
		if errors.Is(err, storage.ErrCorrupt) {
			continue // as bbolt does
		}
		if err != nil {
			return nil, err
		}
		if last == nil || binary.NativeEndian.Uint64(meta[48:]) > binary.NativeEndian.Uint64(last[48:]) {
			last = meta
		}
	}
	if last == nil {
		return nil, fmt.Errorf("%w: both meta pages are damaged", storage.ErrCorrupt)
	}
	return last, nil
}

// checkMeta returns an error where a meta page is damaged: bbolt takes the other
// one then, which may be of the transaction before the last. The sum of one lies
// in one sector with what it is of, so that no power cut leaves one so.
func (s *Store) checkMeta() error {
	s.writes.Lock()
	defer s.writes.Unlock()
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bounds{f: f, size: int64(s.db.Info().PageSize)}
	for i := range int64(2) {
		if _, err := b.meta(i); err != nil {
			return err
		}
	}
	return nil
}

func (b *bounds) meta(i int64) ([]byte, error) {
	meta := make([]byte, metaLen+8)
	if _, err := b.f.ReadAt(meta, i*b.size+pageHead); err != nil {
		return nil, fmt.Errorf("reading meta page %d: %w", i, err)
	}
	sum := fnv.New64a()
	_, _ = sum.Write(meta[:metaLen]) // never fails
	if binary.NativeEndian.Uint64(meta[metaLen:]) != sum.Sum64() {
		return nil, fmt.Errorf("%w: meta page %d is damaged, and the last transaction may be missing", storage.ErrCorrupt, i)
	}
	return meta, nil
}

// visit looks at a page and all below it. Top says that it is the first of a
// bucket, which alone may be empty.
func (b *bounds) visit(id uint64, depth int, top bool) error {
	if depth > deepest {
		return fmt.Errorf("%w: page %d is too deep", storage.ErrCorrupt, id)
	}
	page, err := b.page(id, mostPage)
	if err != nil {
		return err
	}
	return b.elements(id, page, depth, top)
}

// page reads a page with those that it overflows to, for most bytes and what is
// left of the last.
func (b *bounds) page(id, most uint64) ([]byte, error) {
	if id < 2 || id >= b.high || b.met[id] {
		return nil, fmt.Errorf("%w: page %d is out of bounds or in use twice", storage.ErrCorrupt, id)
	}
	b.met[id] = true
	head := make([]byte, pageHead)
	if _, err := b.f.ReadAt(head, int64(id)*b.size); err != nil { //nolint:gosec // below the number of pages
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	more := uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head) != id || id+more >= b.high {
		return nil, fmt.Errorf("%w: page %d has the head of another", storage.ErrCorrupt, id)
	}
	if more > most/uint64(b.size) { //nolint:gosec // a page has a size
		return nil, fmt.Errorf("%w: page %d has %d pages, more than what is in it needs", storage.ErrCorrupt, id, more)
	}
	page := make([]byte, int64(1+more)*b.size)                                //nolint:gosec // likewise
	if _, err := b.f.ReadAt(page, int64(id)*b.size); errors.Is(err, io.EOF) { //nolint:gosec // likewise
		return nil, fmt.Errorf("%w: page %d is cut off", storage.ErrCorrupt, id)
	} else if err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return page, nil
}

// elements looks at what a page holds, which may be one in a bucket's value.
func (b *bounds) elements(id uint64, page []byte, depth int, top bool) error {
	outside := fmt.Errorf("%w: page %d has an element outside of it", storage.ErrCorrupt, id)
	if len(page) < pageHead {
		return outside
	}
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != branchFlag && flags != leafFlag {
		return fmt.Errorf("%w: page %d is of no kind that has rows", storage.ErrCorrupt, id)
	}
	if count == 0 && (!top || flags == branchFlag) {
		return fmt.Errorf("%w: page %d has nothing", storage.ErrCorrupt, id)
	}
	next := uint64(pageHead + count*element)
	for i := range count {
		at := pageHead + i*element
		if at+element > len(page) {
			return outside
		}
		e := page[at : at+element]
		word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(e[i:])) }
		position, key, value := word(4), word(8), word(12)
		if flags == branchFlag {
			position, key, value = word(0), word(4), 0
		}
		begin := uint64(at) + position
		if begin != next || begin+key+value > uint64(len(page)) {
			return outside
		}
		next = begin + key + value
		switch {
		case flags == branchFlag:
			if err := b.visit(binary.NativeEndian.Uint64(e[8:]), depth+1, false); err != nil {
				return err
			}
		case word(0)&bucketFlag != 0:
			if err := b.bucket(id, page[begin+key:next], depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket looks at a bucket's value, in page id.
func (b *bounds) bucket(id uint64, value []byte, depth int) error {
	if len(value) < 16 {
		return fmt.Errorf("%w: page %d has a bucket that is cut off", storage.ErrCorrupt, id)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return b.visit(root, depth+1, true)
	}
	return b.elements(id, value[16:], depth+1, true)
}
