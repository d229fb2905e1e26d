// Package storage keeps bytes under ordered keys, in scopes, in transactions.
//
// Everything that must survive goes through a [Store]. Every store has
// transactions; there is no second-class kind without them. The package
// storagetest holds every store to this page.
//
// # Scopes
//
// The first part of every [Key] is its scope, which is the unit of isolation:
// a secret, a directory, a mount, a token, a shard of the due queue. In what
// reaches a physical store, a scope is made of a table byte, random ids, HMACs,
// integers and times, never of a user's byte. A store that encrypts (package
// barrier) takes scopes whose first byte is the table and whose rest is any
// text, and makes them so.
package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/fault"
)

// The bounds of the contract. A store refuses what is beyond them with [ErrTooLarge].
const (
	MaxKey       = 1024            // bytes of Scope and Row together
	MaxScopes    = 16              // declared by one Update
	MaxTouched   = 64              // scopes that one Update touches, with those that it had not declared
	MaxReads     = 128             // keys read by one Update, a scanned item counting as one
	MaxWrites    = 128             // keys written by one Update
	MaxBytes     = 1 << 20         // bytes written by one Update
	MaxView      = 5 * time.Second // length of one View
	MaxReruns    = 4               // of an Update that touched a scope it had not declared
	MaxConflicts = 10              // reruns of an Update after conflicts
)

var (
	// ErrNotFound says that a key holds nothing.
	ErrNotFound = errors.New("storage: key not found")

	// ErrExists is returned by an Update whose Insert met a key that holds something.
	ErrExists = errors.New("storage: key already exists")

	// ErrConflict says that others kept changing what the transaction read.
	ErrConflict = errors.New("storage: too many conflicts")

	// ErrTooLarge says that a transaction or a key is beyond the bounds.
	ErrTooLarge = errors.New("storage: too large")

	// ErrCorrupt says that what was read is damaged.
	ErrCorrupt = errors.New("storage: damaged data")

	// ErrNewer says that the store was written by a newer version.
	ErrNewer = errors.New("storage: written by a newer version")

	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("storage: in use by another process")

	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("storage: closed")

	// ErrScope says that a Join scope was written in a way that only an owner may.
	ErrScope = errors.New("storage: scope is joined, not owned")
)

// What the machine does to a store. These are faults of kind Unavailable, so
// that the caller of an operation is told what is the matter, and whether what
// it asked for may have been done. Whoever looks at the machine is told more by
// the log.
var (
	// ErrUnknown says that a transaction may or may not have been kept. It is
	// never run again by the store; the caller looks before it acts.
	ErrUnknown = fault.New(fault.Unavailable, "the storage did not answer in time or has failed: what was asked for may have been stored or not; look before it is tried again")

	// ErrPoisoned says that the store failed to make something durable, and
	// answers nothing more until the process is started anew.
	ErrPoisoned = fault.New(fault.Unavailable, "the storage has failed, and answers nothing more until the server is started anew")

	// ErrFull says that a transaction found no space: none of it is kept, and
	// the store goes on.
	ErrFull = fault.New(fault.Unavailable, "the storage is full: nothing was stored; try again when there is space")

	// ErrReadOnly says that the disk takes no writes: none of the transaction is
	// kept, and the store goes on.
	ErrReadOnly = fault.New(fault.Unavailable, "the storage is read-only: nothing was stored")

	// ErrBusy says that the store has not got through with what it was given
	// before, so that it took no more: none of the transaction is kept.
	ErrBusy = fault.New(fault.Unavailable, "the storage does not answer: nothing was stored; try again later")
)

// Key names one value. Keys compare bytewise, first by Scope.
type Key struct{ Scope, Row string }

// Item is a row of a scope and its value.
type Item struct {
	Row   string
	Value []byte // the caller's to keep
}

// Locks are the scopes that an Update touches. Own is exclusive. Join is
// shared: it may read what owners write and insert fresh rows with random ids
// (Tx.Insert), and do nothing else; it may not scan.
type Locks struct{ Own, Join []string }

// Mark is a moment in a store's history. A snapshot whose Mark is m has seen
// every change up to m; it may have seen some later ones.
type Mark uint64

// Store is an ordered map from keys to values. It is safe for concurrent use.
type Store interface {
	// View calls fn with one consistent snapshot over all scopes. It ends
	// after [MaxView]. What fn reads is valid until fn returns, values for longer.
	View(ctx context.Context, fn func(Reader) error) error

	// Update calls fn in a transaction that is strictly serializable over
	// every scope that it touches. If fn returns nil, all of its writes are
	// kept and are durable when Update returns nil, or none are and Update
	// returns an error; an error wrapping [ErrUnknown] says that it is not
	// known which. If fn returns an error, none are kept, and Update returns it.
	//
	// fn may run again: it must do no I/O, call no Store, and have no effect
	// but through its Tx. Touching a scope that locks do not declare reruns fn
	// with the union, owned: that run goes on to its end, so that one rerun
	// learns all such scopes, and nothing of it is kept. Its results are valid
	// only when Update returns nil.
	//
	// A [Rider] in ctx is carried by stores that have a physical store below
	// them; see [WithRider].
	Update(ctx context.Context, locks Locks, fn func(Tx) error) error

	// Changes returns the scopes that have been changed since a Mark, as of
	// an instant after the call began. A View that begins after it has returned
	// sees all that it told of. A Mark from before this Store was opened gives All.
	Changes(ctx context.Context, since Mark) (Changes, error)

	// Close lets go of the store. It waits for transactions that run.
	Close() error
}

// Near is a Store that answers Changes from the memory of this process, in
// nanoseconds, so that there is no use in one call for many askers.
type Near interface {
	Store
	ChangesAreNear()
}

// Reader reads a Store at one moment.
type Reader interface {
	// Get returns the value at k, or an error wrapping [ErrNotFound].
	Get(k Key) ([]byte, error)

	// GetMany returns the values at ks, nil for a key that holds nothing.
	GetMany(ks []Key) ([][]byte, error)

	// Scan returns up to limit items of scope with after < Row < end, in
	// ascending order, and whether there are more. An empty end has no bound;
	// an empty after begins at the first row, were it "". A limit of 0 or less
	// has no bound.
	Scan(scope, after, end string, limit int) (items []Item, more bool, err error)

	// Mark returns the Mark of the snapshot.
	Mark() Mark

	// Now returns the store's clock.
	Now() time.Time
}

// Catalog is a Reader that can tell which scopes there are: that of a View of
// every store here. It is for work on all that is kept, such as a key that is
// replaced, and not for requests.
type Catalog interface {
	Reader

	// Scopes returns up to limit scopes that have size bytes, begin with prefix
	// and are greater than after, in ascending order, and whether there are more.
	Scopes(prefix string, size int, after string, limit int) (scopes []string, more bool, err error)
}

// Whole is a Store that hands over all that it keeps, for a backup.
type Whole interface {
	Store

	// Whole calls fn with one snapshot, as View does, and with each, which
	// calls its argument with every row of that snapshot: in the order of the
	// lengths of scopes, then of scopes, then of rows. A value is valid until the
	// next call. Each is not bound to [MaxView]; the Reader is.
	Whole(ctx context.Context, fn func(r Reader, each func(func(Key, []byte) error) error) error) error
}

// Tx is a Reader that reads its own writes. Errors of writes appear when Update returns.
type Tx interface {
	Reader

	// Put keeps value at k. The Tx takes value over.
	Put(k Key, value []byte)

	// Insert is Put for a key that must hold nothing; otherwise the Update
	// fails with [ErrExists].
	Insert(k Key, value []byte)

	// Delete removes k. Deleting nothing is not an error.
	Delete(k Key)
}

// Changes is what has been committed since a Mark.
type Changes struct {
	Mark   Mark      // all up to here is in Scopes
	Now    time.Time // the store's clock at that moment
	Scopes []string  // that have been written to, in no order
	All    bool      // too far behind: anything may have been changed
}

// Rider writes along with another transaction, to be kept or lost with it.
type Rider struct {
	Locks Locks
	// Write is called after the transaction's own function has returned nil,
	// in the physical store's keys, and again when that is run again.
	Write func(Tx) error
	// Done is called once, when the transaction has been kept.
	Done func()
}

type riderKey struct{}

// WithRider returns a context whose next successful Update, through a store
// that honours riders, carries r.
func WithRider(ctx context.Context, r *Rider) context.Context {
	return context.WithValue(ctx, riderKey{}, r)
}

// WithRiderFrom is [WithRider] of the rider that first returns, which is called
// once, when an Update asks for it.
func WithRiderFrom(ctx context.Context, first func() *Rider) context.Context {
	return context.WithValue(ctx, riderKey{}, &riderFrom{first: first})
}

type riderFrom struct {
	once  sync.Once
	first func() *Rider
	rider *Rider
}

// RiderOf returns the rider in ctx; nil if there is none.
func RiderOf(ctx context.Context) *Rider {
	switch r := ctx.Value(riderKey{}).(type) {
	case *Rider:
		return r
	case *riderFrom:
		r.once.Do(func() { r.rider = r.first() })
		return r.rider
	}
	return nil
}
