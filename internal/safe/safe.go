// Package safe keeps secrets: each at a path, with its history of versions,
// the labels that move between them, and what is known about them. It is the
// one model under every door; an engine says what of it its callers see.
//
// # What is kept
//
// A [Secret] has ordered [Version]s. A version is never changed: its value,
// its id and its kind stay as they were made. What moves are the labels, of
// which [Current], [Pending] and [Previous] have a meaning here and others are
// the caller's. A version is given its number when it becomes current, so one
// that is pending has none, and numbers follow the order in which values came
// into use.
//
// # Rows
//
// Everything of a secret lies in one scope, "s" and its path, so that it is
// read and written as one:
//
//	h             the head: all but the values, see head.go
//	v be64(seq)   the value of one version, sealed under a key of its own
//
// The key of a value lies in the head, wrapped by the mount's. Destroying a
// version takes its key out of the head, so the value cannot be read from
// that transaction on, and its row is removed there too or, where there are
// many, by later ones. A value's seal binds the ids of secret and version, so a
// new key for the mount touches heads only.
//
// The names are in package directory. A secret that was removed while it had
// more rows than one transaction removes leaves its head, marked gone, and a
// row with a random id in the scope "g" that says where; see [Safe.Sweep].
package safe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// MaxVersions bounds the versions that a secret keeps.
const MaxVersions = 1000

// ErrNone says that there is no secret at a path.
var ErrNone = errors.New("safe: no such secret")

// ErrDestroyed says that the value of a version is gone for ever.
var ErrDestroyed = errors.New("safe: the version has been destroyed")

// Values seals the values of secrets, each under a key of its own; see
// [barrier.Space].
type Values interface {
	Seal(v barrier.Value, plain []byte) (wrapped, sealed []byte, err error)
	Unseal(v barrier.Value, wrapped, sealed []byte) ([]byte, error)
}

// Safe reads and writes the secrets of one mount, in transactions of its callers.
type Safe struct{ values Values }

// New returns a safe whose values are sealed by values.
func New(values Values) *Safe { return &Safe{values: values} }

// Scope returns the scope of the secret at path, to be declared by who changes it.
func Scope(path string) string { return "s" + path }

const (
	headRow      = "h"
	garbageScope = "g"
	sweepRows    = 48 // rows of values that one transaction removes, beside the rows of up to 32 directories
)

func valueRow(seq uint64) string {
	var b [9]byte
	b[0] = 'v'
	binary.BigEndian.PutUint64(b[1:], seq)
	return string(b[:])
}

// Find returns the secret at path. The error is [ErrNone] where there is none.
func (s *Safe) Find(r storage.Reader, path string) (*Secret, error) {
	x, err := find(r, path)
	if err == nil && x.gone {
		return nil, ErrNone
	}
	return x, err
}

func find(r storage.Reader, path string) (*Secret, error) {
	b, err := r.Get(storage.Key{Scope: Scope(path), Row: headRow})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading the head of a secret: %w", err)
	}
	x, err := decodeHead(b)
	if err != nil {
		return nil, err
	}
	x.path = path
	return x, nil
}

// FindOrMake returns the secret at path, or one that is there once it has been
// saved; it was made at the time given.
func (s *Safe) FindOrMake(r storage.Reader, path string, at time.Time) (*Secret, error) {
	x, err := find(r, path)
	switch {
	case err == nil && !x.gone:
		return x, nil
	case err != nil && !errors.Is(err, ErrNone):
		return nil, err
	}
	made := &Secret{ID: newID(), Created: at.UTC(), Updated: at.UTC(), path: path, fresh: true, next: 1}
	if x != nil { // what is left of another is removed along with this one's writes
		made.next, made.garbage = x.next, x.garbage
	}
	return made, nil
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// Value returns the value of v, a version of x. The error is [ErrDestroyed]
// where it is gone; any other state is the caller's to look at.
func (s *Safe) Value(r storage.Reader, x *Secret, v *Version) (secret.Bytes, error) {
	plain, err := s.open(r, x, v)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.NewBytes(plain), nil
}

// Object returns the value of v as one JSON object, as [Safe.Value]: text is
// {"value": "text"}, and bytes that are not text are the same in base64.
func (s *Safe) Object(r storage.Reader, x *Secret, v *Version) (secret.JSON, error) {
	plain, err := s.open(r, x, v)
	if err != nil {
		return secret.JSON{}, err
	}
	return asObject(v.Kind, plain)
}

func (s *Safe) open(r storage.Reader, x *Secret, v *Version) ([]byte, error) {
	if v.Destroyed {
		return nil, ErrDestroyed
	}
	sealed, err := r.Get(storage.Key{Scope: Scope(x.path), Row: valueRow(v.seq)})
	if err != nil {
		return nil, fmt.Errorf("reading a value: %w", damagedIfGone(err))
	}
	plain, err := s.values.Unseal(barrier.Value{Secret: x.ID, Version: v.ID, Kind: byte(v.Kind)}, v.wrapped, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening a value: %w", err)
	}
	return plain, nil
}

// damagedIfGone tells a row that ought to be there from a thing that is not.
func damagedIfGone(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%w: the row of a version is missing", storage.ErrCorrupt)
	}
	return err
}

// Draft is a version that is about to be made.
type Draft struct {
	Kind               Kind
	Value              []byte
	DeletedAt          time.Time // when it will be as if deleted; zero for never
	NotBefore, Expires time.Time
	Pending            bool // made to become current later, by [Secret.Promote]
}

// Add makes a version of x, which must be saved then. Unless the draft is
// pending, it becomes current.
func (s *Safe) Add(tx storage.Tx, x *Secret, d Draft, at time.Time) (*Version, error) {
	v := Version{
		ID: newID(), Kind: d.Kind, Created: at.UTC(), DeletedAt: d.DeletedAt.UTC(),
		NotBefore: d.NotBefore.UTC(), Expires: d.Expires.UTC(), seq: x.next,
	}
	seal := s.values.Seal
	if t, ok := tx.(barrier.ValueTx); ok {
		seal = t.SealValue
	}
	wrapped, sealed, err := seal(barrier.Value{Secret: x.ID, Version: v.ID, Kind: byte(v.Kind)}, d.Value)
	if err != nil {
		return nil, fmt.Errorf("sealing a value: %w", err)
	}
	v.wrapped = wrapped
	x.next++
	x.Versions = append(x.Versions, v)
	x.Updated = at.UTC()
	made := &x.Versions[len(x.Versions)-1]
	tx.Put(storage.Key{Scope: Scope(x.path), Row: valueRow(v.seq)}, sealed)
	if d.Pending {
		x.SetLabel(Pending, made)
	} else {
		x.Promote(made)
	}
	return made, nil
}

// Save keeps x as it is, and its name where it is new.
func (s *Safe) Save(tx storage.Tx, x *Secret) error {
	if x.fresh {
		if err := directory.Insert(tx, x.path); err != nil {
			return fmt.Errorf("keeping the name of a secret: %w", err)
		}
		x.fresh = false
	}
	x.dropRows(tx)
	if t, ok := tx.(barrier.Rewrapper); ok {
		if _, err := x.rewrap(t); err != nil {
			return err
		}
	}
	tx.Put(storage.Key{Scope: Scope(x.path), Row: headRow}, encodeHead(x))
	return nil
}

// dropRows removes rows of values that nothing refers to, as many as one
// transaction may.
func (x *Secret) dropRows(tx storage.Tx) {
	n := min(len(x.garbage), sweepRows)
	for _, seq := range x.garbage[:n] {
		tx.Delete(storage.Key{Scope: Scope(x.path), Row: valueRow(seq)})
	}
	x.garbage = x.garbage[n:]
}

// Remove removes x, every version and its name. It reports whether rows are
// left that [Safe.Sweep] is to remove; none of them can be read any more.
func (s *Safe) Remove(tx storage.Tx, x *Secret) (left bool, err error) {
	if err := directory.Drop(tx, x.path); err != nil {
		return false, fmt.Errorf("dropping the name of a secret: %w", err)
	}
	x.wipe()
	x.dropRows(tx)
	head := storage.Key{Scope: Scope(x.path), Row: headRow}
	if len(x.garbage) == 0 {
		tx.Delete(head)
		return false, nil
	}
	tx.Put(head, encodeHead(x))
	id := newID()
	tx.Insert(storage.Key{Scope: garbageScope, Row: string(id[:])}, []byte(x.path))
	return true, nil
}

// wipe makes x what is left of a secret that is gone: rows to be removed.
func (x *Secret) wipe() {
	left := &Secret{ID: x.ID, path: x.path, gone: true, next: x.next, garbage: x.garbage}
	for i := range x.Versions {
		if !x.Versions[i].Destroyed {
			left.garbage = append(left.garbage, x.Versions[i].seq)
		}
	}
	*x = *left
}
