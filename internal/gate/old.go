package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/pin"
	"rotunda.dev/rotunda/internal/secret"
)

// The events of a store that is older than what the node has seen of it, and of
// one about which the node remembers nothing.
const (
	eventRefused  = "old-store-refused"
	eventAccepted = "old-store-accepted"
	eventUnpinned = "store-without-a-pin"
)

// isOld refuses a store that is older than what the node has seen of it.
func (g *Gate) isOld(ctx context.Context, b *barrier.Barrier) (pin.Found, error) {
	if g.c.Pins == nil {
		return pin.Found{}, nil
	}
	found, err := g.c.Pins.Check(ctx, b)
	if !errors.Is(err, pin.ErrOld) && !errors.Is(err, pin.ErrDamaged) {
		return found, err
	}
	g.c.Log.LogAttrs(ctx, slog.LevelError, "the store is not served from", slog.Any("cause", err))
	refused := g.c.Journal.Sealed(ctx, eventRefused)
	return found, errors.Join(fault.Wrap(fault.Invalid, err,
		"%v; nothing was changed. Put back the newest copy, or stop the server and accept this one with: rotunda operator accept-rollback", err), refused)
}

// pinned begins to remember how far the store comes in a session.
func (g *Gate) pinned(ctx context.Context, s *session, found pin.Found) (err error) {
	if g.c.Pins == nil {
		return nil
	}
	if found.Opened && !found.Pinned {
		g.c.Log.LogAttrs(ctx, slog.LevelWarn, "this node remembers nothing of the store, which was opened before: whether it is an old copy cannot be told",
			slog.String("pin", g.c.Pins.Path(s.barrier.ClusterID())))
		r := g.event(eventUnpinned)
		r.Note = "The node has no pin of this store, which was opened before; whether it is an old copy cannot be told."
		if err := g.c.Journal.Append(ctx, r); err != nil {
			return fmt.Errorf("recording that there was no pin: %w", err)
		}
	}
	if s.pin, err = g.c.Pins.Begin(ctx, s.barrier); err != nil {
		return err
	}
	s.pinning.Go(func() { s.pin.Run(s.ctx) })
	return nil
}

// AcceptOld opens a store that is older than what the node has seen of it, has
// everything ended by end that was lent, and only then remembers the store as it
// is: when it fails on the way the store is still refused, and it can be called
// again. The gate is shut afterwards. Root was brought by a quorum. The error is
// a fault of kind Invalid where the store is not old.
func (g *Gate) AcceptOld(ctx context.Context, root secret.Bytes, end func(context.Context, *broker.Broker) error) (err error) {
	g.moving.Lock()
	defer g.moving.Unlock()
	g.ended()
	b, err := barrier.Open(ctx, g.c.Store, root)
	if err != nil {
		return fmt.Errorf("opening the barrier: %w", err)
	}
	if g.c.Pins == nil {
		b.Close()
		return fault.New(fault.Invalid, "this node remembers nothing of the store, so that there is nothing to accept")
	}
	_, old := g.c.Pins.Check(ctx, b)
	if !errors.Is(old, pin.ErrOld) && !errors.Is(old, pin.ErrDamaged) {
		b.Close()
		if old != nil {
			return old
		}
		return fault.New(fault.Invalid, "the store is the one that this node has seen: there is nothing to accept")
	}
	r := g.event(eventAccepted)
	r.Note, r.Critical = "A quorum accepts an old copy of the store; every token and lease of it is revoked. "+old.Error()+".", true
	s, err := g.begin(ctx, b, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.shut(s, "sealed")) }()
	if err := end(s.ctx, s.broker); err != nil {
		return fmt.Errorf("ending what an old store has lent: %w", err)
	}
	g.c.Log.LogAttrs(ctx, slog.LevelWarn, "an old copy of the store was accepted", slog.Any("cause", old))
	s.pin, err = g.c.Pins.Begin(ctx, b)
	return err
}

// Pinned returns when the node has last remembered how far the store has come;
// the zero Time while the gate is shut, and where it remembers nothing.
func (g *Gate) Pinned() time.Time {
	g.mu.Lock()
	live := g.live
	g.mu.Unlock()
	if live == nil || live.pin == nil {
		return time.Time{}
	}
	return live.pin.Pinned()
}
