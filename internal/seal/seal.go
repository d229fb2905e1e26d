// Package seal wraps the root key so that it can be kept on disk.
//
// Each way to unseal a store is a slot: one [Stanza], made by one [Sealer]. Any
// one of them opens it, so moving from one to another is adding a stanza and
// then removing one.
package seal

import (
	"context"
	"errors"

	"rotunda.dev/rotunda/internal/secret"
)

var (
	// ErrNotMine says that no stanza was made by this Sealer: try the next one.
	ErrNotMine = errors.New("seal: no stanza of this kind")

	// ErrMoreShares says that people have still to bring more of the key.
	ErrMoreShares = errors.New("seal: more shares are needed")

	// ErrBadShare says that a share is damaged, of another set, or forged:
	// the person who brought it is to look again.
	ErrBadShare = errors.New("seal: bad share")

	// ErrDuplicateShare says that a share has been given already.
	ErrDuplicateShare = errors.New("seal: share was given already")

	// ErrWrongKey says that the key, passphrase or identity is sound and not
	// the one with which the stanza was made.
	ErrWrongKey = errors.New("seal: wrong key")

	// ErrDamaged says that a stanza, or what opens it, is not as it was made.
	ErrDamaged = errors.New("seal: damaged")
)

// Sealer wraps the root key under a key that this server does not keep.
type Sealer interface {
	// Seal wraps root. The stanza can be opened only with the same binding.
	Seal(ctx context.Context, root secret.Bytes, binding []byte) (Stanza, error)

	// Unseal returns the root key. An error wrapping [ErrNotMine] or
	// [ErrMoreShares] is an answer; any other is a failure, and final.
	Unseal(ctx context.Context, stanzas []Stanza, binding []byte) (secret.Bytes, error)
}

// Stanza is the root key as one Sealer wrapped it. None of it is secret.
type Stanza struct {
	Kind string   // names the Sealer: "shamir", "awskms"
	Args []string // what the Sealer needs to know it again: a key ID, a threshold
	Body []byte
}
