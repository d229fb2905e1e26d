package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/builtin"
	"rotunda.dev/rotunda/internal/engine/cubbyhole"
	"rotunda.dev/rotunda/internal/engine/system"
	tokens "rotunda.dev/rotunda/internal/engine/token"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/keys"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

// build makes everything that exists while the node is unsealed.
func (n *Node) build(ctx context.Context, b *barrier.Barrier) (_ *broker.Broker, err error) {
	core, err := b.Space(ctx, barrier.Core)
	if err != nil {
		return nil, fmt.Errorf("opening the core space: %w", err)
	}
	tokenSpace, err := b.Space(ctx, barrier.Tokens)
	if err != nil {
		return nil, fmt.Errorf("opening the space of tokens: %w", err)
	}
	changes := fence.New(b.Raw())
	policies := policy.NewStore(core, changes, n.c.Policies)
	if err := policies.EnsureDefaults(ctx); err != nil {
		return nil, fmt.Errorf("making the default policy: %w", err)
	}
	if err := ensureFixedMounts(ctx, core); err != nil {
		return nil, err
	}
	if err := system.RecordVersion(ctx, core, n.c.Info, n.c.Clock.Now()); err != nil { // reads go on where nothing can be written
		n.c.Log.LogAttrs(ctx, slog.LevelWarn, "recording the version that runs", slog.Any("cause", err))
	}
	bounds := n.c.Tokens
	bounds.DefaultTTL, bounds.MaxTTL, bounds.Log = n.c.TTL.Default, n.c.TTL.Max, n.c.Log
	kept := token.NewStore(b, tokenSpace, changes, n.c.Clock, bounds)
	hasher := audit.NewHasher(func(parts ...[]byte) [32]byte { return b.MAC(barrier.ForAudit, parts...) })
	background := newBackground(n.c.Log)
	parts := &system.Parts{
		Info: n.c.Info, Gate: n.gate, Barrier: b, Core: core, Fence: changes, Policies: policies, Tokens: kept,
		Journal: n.journal, Hasher: hasher, Clock: n.c.Clock, Log: n.c.Log, Limits: n.c.Engines, Ceremonies: n.c.Ceremonies,
		Describe: n.front.describe, Measure: n.metrics.Text, Backups: n.backupStatus,
	}
	parts.Mounts = mount.NewTable(mount.Parts{
		Barrier: b, Core: core, Fence: changes, Clock: n.c.Clock, Log: n.c.Log, TTL: n.c.TTL, Limits: n.c.Engines,
		Kinds: append(slices.Concat(builtin.Engines, n.c.more), system.Kind(parts), tokens.Kind(kept, policies), cubbyhole.Kind(kept)),
	})
	unmounting := make(chan struct{}, 1)
	parts.Unmounting = func() {
		select {
		case unmounting <- struct{}{}:
		default:
		}
	}
	if err := b.LoadCounts(ctx); err != nil {
		return nil, err
	}
	parts.Keys = keys.New(keys.Config{
		Barrier: b, Core: core, Clock: n.c.Clock, Log: n.c.Log,
		Spaces: func(ctx context.Context) ([]keys.Space, error) { return spacesOf(ctx, changes, parts.Mounts) },
		Record: func(ctx context.Context, event string) error {
			return n.journal.Append(ctx, &audit.Record{Kind: audit.Event, Time: n.c.Clock.Now(), Node: n.c.Info.ClusterName, Event: event, Outcome: audit.OutcomeOK, Allowed: true})
		},
	})
	if err := n.certify(b); err != nil {
		return nil, err
	}
	parts.Sinks = n.newSinks(hasher)
	parts.Resume = func(ctx context.Context) error {
		if err := system.StartSinks(ctx, parts); err != nil {
			return err
		}
		background.run("ending tokens", kept.Run)
		background.run("turning keys", parts.Keys.Run)
		if n.c.Backups.Dir != "" {
			background.run("writing backups", func(ctx context.Context) error { return n.keepBackups(ctx, b) })
		}
		background.run("removing mounts", func(ctx context.Context) error {
			return n.removeMounts(ctx, changes, parts.Mounts, unmounting)
		})
		return nil
	}
	if err := n.settle(ctx, parts); err != nil {
		return nil, err
	}
	background.run("counting what keys seal", b.Count)
	return broker.New(broker.Parts{
		Barrier: b, Fence: changes, Mounts: parts.Mounts, Tokens: kept, Policies: policies, Journal: n.journal, Hasher: hasher,
		Node: n.c.Info.ClusterName, Log: n.c.Log, Observe: n.metrics.Ran, Clock: n.c.Clock,
		Close: func() error {
			n.sinks.p.Store(nil)
			background.end()
			return parts.Mounts.Close()
		},
	}), nil
}

// spacesOf returns every space whose key is turned: the server's own, and those
// of the mounts that answer. A mount that is being removed loses its key anyway.
func spacesOf(ctx context.Context, changes *fence.Fence, mounts *mount.Table) ([]keys.Space, error) {
	moment, err := changes.Arrive(ctx)
	if err != nil {
		return nil, err
	}
	mounted, err := mounts.Mounted(ctx, moment)
	if err != nil {
		return nil, err
	}
	spaces := []keys.Space{{ID: barrier.Core, Name: "core", Keys: barrier.NoDataKeys{}}, {ID: barrier.Tokens, Name: "tokens", Keys: barrier.NoDataKeys{}}}
	for _, m := range mounted {
		if m.Entry.Fixed {
			continue
		}
		id, err := barrier.ParseSpaceID(m.Entry.ID)
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, keys.Space{ID: id, Name: m.Entry.Accessor, Keys: m.Keys})
	}
	return spaces, nil
}

// certify makes the journal sign checkpoints with a key of the barrier, until it is locked.
func (n *Node) certify(b *barrier.Barrier) error {
	seed := b.Derive(checkpointKey)
	defer seed.Wipe()
	if err := n.journal.Certify(seed, b.ClusterID()); err != nil {
		return fmt.Errorf("beginning to sign checkpoints of the audit journal: %w", err)
	}
	return nil
}

// checkpointKey is the purpose for which the barrier derives the key of checkpoints.
const checkpointKey = "audit-checkpoint"

// fixedMounts are part of every server.
var fixedMounts = []struct {
	path name.Path
	kind string
	does string
}{
	{"sys/", "system", "system endpoints used for control, policy and debugging"},
	{"auth/token/", "token", "token based credentials"},
	{"cubbyhole/", "cubbyhole", "per-token private secret storage"},
}

func ensureFixedMounts(ctx context.Context, core *barrier.Space) error {
	err := core.Update(ctx, storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error {
		there, err := mount.Read(tx)
		if err != nil {
			return err
		}
		for _, f := range fixedMounts {
			if slices.ContainsFunc(there, func(e mount.Entry) bool { return e.Path == f.path }) {
				continue
			}
			e := mount.NewEntry(f.path, f.kind)
			e.Description, e.Fixed = f.does, true
			if err := mount.Add(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("making the server's own mounts: %w", err)
	}
	return nil
}

// EnsureMount makes a mount of the kind given, under its alias or name, unless
// something is mounted at path.
func ensureMount(ctx context.Context, b *broker.Broker, path name.Path, named, description string) error {
	p := b.Parts()
	kind, options, err := p.Mounts.Kind(named)
	if err != nil {
		return err
	}
	core, err := p.Barrier.Space(ctx, barrier.Core)
	if err != nil {
		return err
	}
	e := mount.NewEntry(path, kind.Name)
	e.Description, e.Options = description, options
	id, err := barrier.ParseSpaceID(e.ID)
	if err != nil {
		return err
	}
	moment, err := p.Fence.Arrive(ctx)
	if err != nil {
		return err
	}
	entries, err := p.Mounts.Entries(ctx, moment)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(x mount.Entry) bool { return x.Path == path }) {
		return nil
	}
	if err := p.Barrier.AddSpace(ctx, id); err != nil {
		return fmt.Errorf("making the mount's key: %w", err)
	}
	return core.Update(ctx, storage.Locks{Own: []string{mount.Scope}}, func(tx storage.Tx) error { return mount.Add(tx, e) })
}

// removeMounts finishes the removal of mounts, at the start and whenever one
// has begun that did not end within its request.
func (n *Node) removeMounts(ctx context.Context, changes *fence.Fence, mounts *mount.Table, begun <-chan struct{}) error {
	for {
		moment, err := changes.Arrive(ctx)
		if err == nil {
			err = mounts.FinishAll(ctx, moment)
		}
		if err != nil && ctx.Err() == nil {
			n.c.Log.LogAttrs(ctx, slog.LevelWarn, "removing a mount; it is tried again in a minute", slog.Any("cause", err))
			if err := n.c.Clock.Wait(ctx, n.c.Clock.Now().Add(time.Minute)); err != nil {
				return nil //nolint:nilerr // the node is being sealed
			}
			continue
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return nil
		}
	}
}

// background owns the goroutines of an unsealed node.
type background struct {
	ctx    context.Context //nolint:containedctx // ends when the node is sealed; owned by background
	cancel context.CancelFunc
	wg     sync.WaitGroup
	log    *slog.Logger
}

func newBackground(log *slog.Logger) *background {
	b := &background{log: log}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *background) run(what string, fn func(context.Context) error) {
	b.wg.Go(func() {
		if err := fn(b.ctx); err != nil && b.ctx.Err() == nil {
			b.log.LogAttrs(b.ctx, slog.LevelError, "background work ended", slog.String("work", what), slog.Any("cause", err))
		}
	})
}

func (b *background) end() {
	b.cancel()
	b.wg.Wait()
}
