// Package system is the engine at sys/: it initializes, unseals and seals, and
// keeps mounts, policies, wrapping and audit. It is part of every server and
// cannot be mounted elsewhere.
package system

import (
	"context"
	"log/slog"
	"slices"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/keys"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/token"
)

// Parts is what the engine works on. It exists while the server is unsealed.
type Parts struct {
	Info     Info
	Gate     *gate.Gate
	Barrier  *barrier.Barrier
	Core     *barrier.Space
	Fence    *fence.Fence
	Mounts   *mount.Table
	Policies *policy.Store
	Tokens   *token.Store
	Keys     *keys.Keeper
	Journal  *audit.Journal
	Hasher   *audit.Hasher
	Sinks    Sinks // of the audit log; see audit.go

	Ceremonies Ceremonies
	Limits     engine.Limits
	Clock      clock.Clock
	Log        *slog.Logger

	// Describe returns the OpenAPI document of what is mounted.
	Describe func(ctx context.Context) ([]byte, error)
	// Measure returns the metrics in Prometheus' text format.
	Measure func() ([]byte, error)
	// Backups says how scheduled backups stand.
	Backups func() backup.Status
	// Resume begins what the server does by itself, when a quarantine has ended.
	Resume func(ctx context.Context) error
	// Unmounting is told that a mount has begun to be removed.
	Unmounting func()
}

// Info is what the server says of itself.
type Info struct {
	Version       string // ours
	CompatVersion string // the semver that clients of the Vault API are told
	BuildDate     string // RFC 3339
	ClusterName   string
	APIAddr       string
	StorageType   string
	UI            bool

	// Troubles returns what is the matter with the machine below; nil for nothing ever.
	Troubles func() []Trouble
}

func (i Info) troubles() []Trouble {
	if i.Troubles == nil {
		return nil
	}
	return i.Troubles()
}

// Kind returns the engine's kind; it can be opened once for each Parts.
func Kind(p *Parts) engine.Kind {
	return engine.Kind{
		Name: "system", Does: "Administers the server.", Fixed: true,
		Open: func(context.Context, engine.Env) (engine.Instance, error) {
			return engine.Instance{Ops: Ops(p)}, nil
		},
	}
}

// Ops returns every operation under sys/ that needs an unsealed server, and
// those that do not.
func Ops(p *Parts) []op.Op {
	return slices.Concat(
		SealOps(p.Gate, p.Info), mountOps(p), miscOps(p), leaseOps(), rotateOps(p), slotOps(p), peopleOps(p),
		policyOps(*p), capabilityOps(*p), catalogOps(p), versionOps(p), wrappingOps(*p), auditOps(*p), backupOps(p),
	)
}
