// Package engine says what a secret engine is.
package engine

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
)

// Kind is a kind of engine that can be mounted.
type Kind struct {
	Name string // "kv": as people write it when they mount one
	Does string // one sentence for people

	// Aliases are other names under which people mount it, each with the
	// options that it stands for: "kv-v2" is kv with version 2.
	Aliases map[string]map[string]string

	Options []string // names of the options that mean something to a mount

	Method bool // an auth method, mounted under auth/
	Fixed  bool // part of the server; nobody can mount it

	// Check reports options that this kind does not take, as a fault of kind
	// Invalid, for a mount that is about to be made or tuned. Nil takes none.
	Check func(options map[string]string) error

	// Open makes an instance of a mount. It starts no goroutine and writes nothing.
	Open func(ctx context.Context, env Env) (Instance, error)
}

// Mountable reports whether people can mount k.
func (k Kind) Mountable() bool { return !k.Fixed }

// Checked reports options that k does not take, as a fault of kind Invalid.
func (k Kind) Checked(options map[string]string) error {
	if k.Check != nil {
		return k.Check(options)
	}
	if len(options) > 0 {
		return fault.New(fault.Invalid, "%s takes no options", k.Name)
	}
	return nil
}

// Values seals the values of secrets, each under a key of its own. What it
// returns is to be kept by the caller; see [barrier.Space.Seal].
type Values interface {
	Seal(v barrier.Value, plain []byte) (wrapped, sealed []byte, err error)
	Unseal(v barrier.Value, wrapped, sealed []byte) ([]byte, error)
}

// Env is all that an instance may touch: it has no way to any other mount.
type Env struct {
	Store      storage.Store // this mount's keys and no others: Scope is a table byte and any text, Row has no user's byte
	Values     Values
	Mount      op.Mount
	Options    map[string]string // "version": "2"
	DefaultTTL time.Duration     // of leases of this mount, system default where the mount has none
	MaxTTL     time.Duration
	Limits     Limits
	Clock      clock.Clock
	Log        *slog.Logger
}

// Limits bounds what engines keep and answer. A zero field stands for the default.
type Limits struct {
	SecretBytes    int // of a secret's value; 512 KiB
	SecretVersions int // kept of a secret that says nothing else; 10
	MetadataItems  int // of a secret's custom metadata; 64
	MetadataBytes  int // of an item of it; 512
	ListPage       int // largest limit that a list can be asked for; 1000
	BatchItems     int // of a request that asks about many; 128
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	l.SecretBytes = cmp.Or(l.SecretBytes, 512<<10)
	l.SecretVersions = cmp.Or(l.SecretVersions, 10)
	l.MetadataItems = cmp.Or(l.MetadataItems, 64)
	l.MetadataBytes = cmp.Or(l.MetadataBytes, 512)
	l.ListPage = cmp.Or(l.ListPage, 1000)
	l.BatchItems = cmp.Or(l.BatchItems, 128)
	return l
}

// Page reports a limit that a list must not be asked for, as a fault of kind
// Invalid. Zero asks for all. A smaller page than was asked for would pass for
// the end of the list, so none is given.
func (l Limits) Page(limit int) error {
	if limit > l.ListPage {
		return fault.New(fault.Invalid, "limit is at most %d; without it all is listed", l.ListPage)
	}
	return nil
}

// Instance is one mounted engine. A nil function is something it does not do.
type Instance struct {
	Ops []op.Op

	// Drain removes some of what the engine keeps, in bounded transactions,
	// and says whether more is left. It is called until it says no, after the
	// mount has been closed to callers.
	Drain func(ctx context.Context) (more bool, err error)

	// Keys knows which of the engine's rows hold data keys that Values has
	// wrapped, so that they can be brought under another key of the mount:
	// [barrier.NoDataKeys] for an engine that seals no values. The key of a mount
	// whose engine does not say is never rotated, as what was forgotten would be lost.
	Keys barrier.Holder

	Close func() error
}
