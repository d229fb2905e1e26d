// Package barrier keeps a [storage.Store] whose values and names cannot be read
// in the store below it.
package barrier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

var (
	// ErrWrongKey says that the root key is not the one that the store was made with.
	ErrWrongKey = errors.New("barrier: the root key is not this store's")

	// ErrInitialized says that the store holds a keyring already.
	ErrInitialized = errors.New("barrier: the store is initialized already")

	// ErrUninitialized says that the store holds no keyring: it is to be initialized first.
	ErrUninitialized = errors.New("barrier: the store is not initialized")

	// ErrNoSpace says that a space was never added, or that its keys are destroyed.
	ErrNoSpace = errors.New("barrier: no such space")
)

// SpaceID names a space: one set of keys, and the rows that are kept under it.
type SpaceID [16]byte

var (
	// Core is the space of the server's own rows: mounts, policies and the like.
	Core = SpaceID{15: 1}

	// Tokens is the space of tokens.
	Tokens = SpaceID{15: 2}
)

// NewSpaceID returns a random id.
func NewSpaceID() SpaceID {
	var id SpaceID
	rand.Read(id[:])
	return id
}

// String returns id as 32 hexadecimal digits.
func (id SpaceID) String() string { return hex.EncodeToString(id[:]) }

// ParseSpaceID reads what [SpaceID.String] wrote.
func ParseSpaceID(s string) (SpaceID, error) {
	var id SpaceID
	if len(s) != 2*len(id) {
		return SpaceID{}, errors.New("barrier: a space id has 32 hexadecimal digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return SpaceID{}, errors.New("barrier: a space id has 32 hexadecimal digits")
	}
	return id, nil
}

// Purpose says what a lookup key is for. Each purpose has a key of its own.
type Purpose byte

// The purposes of [Barrier.MAC].
const (
	ForTokens Purpose = 1 + iota // finding a token without keeping it
	ForAudit                     // values in audit records
	ForLeaks                     // fingerprints of secrets that are searched for elsewhere
)

// Barrier is an unsealed store. It is safe for concurrent use.
type Barrier struct{ raw storage.Store }

// Space is one set of keys, and a [storage.Store] of what is kept under it.
type Space struct {
	b  *Barrier
	id SpaceID
}

// Value names one sealed value; it cannot be opened under another name.
type Value struct {
	Secret, Version [16]byte
	Kind            byte
}

// Create makes a keyring, the seal stanzas and the spaces [Core] and [Tokens]
// in an empty store, in one transaction. The stanzas must have been sealed
// with [BindingOf] the same root key. A store that has a keyring is refused
// with [ErrInitialized].
func Create(ctx context.Context, raw storage.Store, root secret.Bytes, stanzas []seal.Stanza) error {
	return errors.ErrUnsupported
}

// BindingOf returns the binding with which seals wrap root, before [Create].
func BindingOf(root secret.Bytes) []byte { return nil }

// Binding returns the binding with which seals unwrap the root key of a store, before [Open].
func Binding(ctx context.Context, raw storage.Store) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Initialized reports whether the store holds a keyring.
func Initialized(ctx context.Context, raw storage.Store) (bool, error) {
	return false, errors.ErrUnsupported
}

// Stanzas returns the seal stanzas of a store.
func Stanzas(ctx context.Context, raw storage.Store) ([]seal.Stanza, error) {
	return nil, errors.ErrUnsupported
}

// Open opens the keyring with root, of which it keeps a copy. An error wrapping
// [ErrWrongKey] says that root is another store's.
func Open(ctx context.Context, raw storage.Store, root secret.Bytes) (*Barrier, error) {
	return nil, errors.ErrUnsupported
}

// Close wipes the keys; what is asked of the barrier afterwards fails with
// [storage.ErrClosed]. It does not close the store below.
func (b *Barrier) Close() {}

// ClusterID returns the identity of the store, as a UUID.
func (b *Barrier) ClusterID() string { return "" }

// Raw returns the store below.
func (b *Barrier) Raw() storage.Store { return b.raw }

// MAC returns the HMAC-SHA256 of parts, each with its length, under the lookup key of p.
func (b *Barrier) MAC(p Purpose, parts ...[]byte) [32]byte { return [32]byte{} }

// AuditKey returns the key under which the audit journal is encrypted.
func (b *Barrier) AuditKey() secret.Bytes { return b.Derive("audit-journal") }

// Derive returns a 32-byte key for purpose: always the same in one store, and
// unrelated to that of any other purpose or store. The caller wipes it.
func (b *Barrier) Derive(purpose string) secret.Bytes { return secret.Bytes{} }

// AddSpace makes keys for a space; it leaves those that exist.
func (b *Barrier) AddSpace(ctx context.Context, id SpaceID) error { return errors.ErrUnsupported }

// AddSpaceTx is [Barrier.AddSpace] in a transaction of the physical store,
// which is to own [KeyScope] of id.
func (b *Barrier) AddSpaceTx(tx storage.Tx, id SpaceID) error { return errors.ErrUnsupported }

// KeyScope returns the physical scope that holds the keys of a space.
func KeyScope(id SpaceID) string { return "k" + string(id[:]) }

// DropSpace destroys the keys of a space. What was kept under them can never
// be read again. Dropping what does not exist is not an error.
func (b *Barrier) DropSpace(ctx context.Context, id SpaceID) error { return errors.ErrUnsupported }

// Space returns a space that was added, or an error wrapping [ErrNoSpace].
func (b *Barrier) Space(ctx context.Context, id SpaceID) (*Space, error) {
	return nil, errors.ErrUnsupported
}

// ID returns the id of the space.
func (s *Space) ID() SpaceID { return s.id }

// View implements [storage.Store].
func (s *Space) View(ctx context.Context, fn func(storage.Reader) error) error {
	return errors.ErrUnsupported
}

// Update implements [storage.Store]. It joins the space's keys, and carries
// the [storage.Rider] in ctx.
func (s *Space) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	return errors.ErrUnsupported
}

// Changes implements [storage.Store]. Its scopes are physical ones; see [Space.Physical].
func (s *Space) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	return s.b.raw.Changes(ctx, since)
}

// Close implements [storage.Store]. It does nothing: the barrier owns the keys.
func (s *Space) Close() error { return nil }

// Over returns the space as seen through a reader of the physical store.
func (s *Space) Over(r storage.Reader) storage.Reader { return nil }

// OverTx returns the space as seen through a transaction of the physical
// store, which is to join [Space.KeyScope].
func (s *Space) OverTx(tx storage.Tx) storage.Tx { return nil }

// KeyScope returns the physical scope that a transaction joins in which [Space.OverTx] is used.
func (s *Space) KeyScope() string { return KeyScope(s.id) }

// Physical returns the scope of the physical store in which scope is kept.
func (s *Space) Physical(scope string) string { return "" }

// Seal encrypts plain under a random key of its own, which it wraps with the
// space's key. Whoever deletes wrapped has destroyed plain.
func (s *Space) Seal(v Value, plain []byte) (wrapped, sealed []byte, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Unseal returns what [Space.Seal] was given, if both are as it returned them for v.
func (s *Space) Unseal(v Value, wrapped, sealed []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
