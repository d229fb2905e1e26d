package bolt

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/storage"
)

// snapshot is what is durable at one mark. All who read then share one
// transaction of bbolt, for two reasons. A transaction of their own might see
// a commit whose meta page is written and not yet synced, and so something
// that a power cut takes back. And it costs nothing to begin.
//
// bbolt promises that a transaction serves one goroutine. What is done with
// this one is the exception that its code allows: looking up keys by cursors
// of their own in a transaction that is read-only, which touches no more than
// the map of the file and counters that are atomic. TestSnapshotIsShared
// holds it under the race detector.
type snapshot struct {
	tx   *bbolt.Tx
	rows *bbolt.Bucket
	mark storage.Mark
	refs atomic.Int64 // readers, and one while it is the current one
	done func()       // ends tx

	finders sync.Pool // of *finder
}

// finder is what a lookup needs, kept so that it is not allocated for each.
type finder struct {
	cursor *bbolt.Cursor
	key    []byte
}

// acquire reports whether the snapshot is still open; if so, release must be called.
func (s *snapshot) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *snapshot) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.done()
}

// guard, deferred, turns a panic on damaged pages into an error: bbolt checks
// what it reads by assertions, and a file that is shorter than its map is a fault.
func guard(err *error, old bool) {
	debug.SetPanicOnFault(old)
	switch p := recover().(type) {
	case nil:
	case runtime.Error: // its text is of memory, and tells nothing of the file
		*err = fmt.Errorf("%w: a page of the file cannot be read: keep a copy of it and restore a backup", storage.ErrCorrupt)
	default:
		*err = fmt.Errorf("%w: %v", storage.ErrCorrupt, p)
	}
}

// Find implements [overlay.Base].
func (s *snapshot) Find(k storage.Key) (value []byte, ok bool, err error) {
	if len(k.Scope)+len(k.Row) > storage.MaxKey {
		return nil, false, nil
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	f, again := s.finders.Get().(*finder)
	if !again {
		f = &finder{cursor: s.rows.Cursor()}
	}
	f.key = appendKey(f.key[:0], k)
	if at, b := f.cursor.Seek(f.key); b != nil && bytes.Equal(at, f.key) {
		value, err = decodeValue(f.key, b)
		ok = err == nil
	}
	s.finders.Put(f) // not where bbolt panicked
	return value, ok, err
}

// Scan implements [overlay.Base].
func (s *snapshot) Scan(scope, after, end string, limit int) (items []storage.Item, more bool, err error) {
	if len(scope) > storage.MaxKey {
		return nil, false, nil
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	c := s.rows.Cursor()
	prefix := encodeKey(storage.Key{Scope: scope})
	from := encodeKey(storage.Key{Scope: scope, Row: after})
	k, v := c.Seek(from)
	if after != "" && bytes.Equal(k, from) {
		k, v = c.Next()
	}
	for ; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		row := string(k[len(prefix):])
		if end != "" && row >= end {
			break
		}
		if limit > 0 && len(items) == limit {
			return items, true, nil
		}
		value, err := decodeValue(k, v)
		if err != nil {
			return nil, false, err
		}
		items = append(items, storage.Item{Row: row, Value: value})
	}
	return items, false, nil
}

// Scopes is that of a [storage.Catalog].
func (s *snapshot) Scopes(prefix string, size int, after string, limit int) (scopes []string, more bool, err error) {
	if size > storage.MaxKey || len(prefix) > size {
		return nil, false, nil
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	c := s.rows.Cursor()
	head := encodeKey(storage.Key{Scope: string(make([]byte, size))})[:2]
	want := append(bytes.Clone(head), prefix...)
	from := want
	switch {
	case len(after) == size && after >= prefix:
		if from = past(head, after); from == nil {
			return nil, false, nil
		}
	case after > prefix:
		from = append(bytes.Clone(head), after...)
	}
	for k, _ := c.Seek(from); k != nil && bytes.HasPrefix(k, want); {
		key, err := decodeKey(k)
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(scopes) == limit {
			return scopes, true, nil
		}
		scopes = append(scopes, key.Scope)
		if from = past(head, key.Scope); from == nil {
			break
		}
		k, _ = c.Seek(from)
	}
	return scopes, false, nil
}

// past returns the least key that is greater than those of every row of scope,
// and of scopes that begin with it; nil if there is none.
func past(head []byte, scope string) []byte {
	b := append(bytes.Clone(head), scope...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}
