// Package engine says what a secret engine is.
package engine

import (
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
	Clock      clock.Clock
	Log        *slog.Logger
}

// Instance is one mounted engine. A nil function is something it does not do.
type Instance struct {
	Ops []op.Op

	// Drain removes some of what the engine keeps, in bounded transactions,
	// and says whether more is left. It is called until it says no, after the
	// mount has been closed to callers.
	Drain func(ctx context.Context) (more bool, err error)

	Close func() error
}
