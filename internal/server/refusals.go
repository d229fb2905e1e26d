package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/listen"
)

const (
	refusalsEvery = 10 * time.Second

	// While sealed the journal is small, and must not be filled by strangers.
	sealedRefusalsEvery = 10 * time.Minute
)

// refusals records what the listeners refuse before it is a request: for each
// kind and network no more than one record in [refusalsEvery], with a count.
// One goroutine uses it at a time.
type refusals struct {
	n     *Node
	since time.Time
	told  map[listen.Refusal]time.Time // while sealed
}

func (n *Node) newRefusals() *refusals {
	return &refusals{n: n, since: n.c.Clock.Now(), told: map[listen.Refusal]time.Time{}}
}

// keep records until ctx ends.
func (r *refusals) keep(ctx context.Context) {
	for r.n.c.Clock.Wait(ctx, r.n.c.Clock.Now().Add(refusalsEvery)) == nil {
		r.record(ctx)
	}
}

// record records what has come since it was called last. What the journal does
// not take comes again the next time.
func (r *refusals) record(ctx context.Context) {
	taken, now := r.n.refusals.Take(), r.n.c.Clock.Now()
	for i, refused := range taken {
		err := r.one(ctx, refused, now)
		if err == nil {
			continue
		}
		r.n.refusals.Return(taken[i:])
		r.n.c.Log.LogAttrs(ctx, slog.LevelWarn, "recording what was refused before it was a request", slog.Any("cause", err))
		return
	}
	r.since = now
}

func (r *refusals) one(ctx context.Context, refused listen.Refused, now time.Time) error {
	from := "one of this machine's sockets"
	remote := ""
	switch {
	case refused.Others:
		from = "other networks"
	case refused.From.IsValid():
		from, remote = refused.From.String(), refused.From.String()
	}
	err := r.n.journal.Append(ctx, &audit.Record{
		Kind: audit.Event, Time: now, Node: r.n.c.Info.ClusterName, Event: string(refused.Kind), Outcome: fault.Invalid.String(), Remote: remote,
		Note: fmt.Sprintf("%d from %s since %s", refused.Count, from, r.since.UTC().Format(time.RFC3339)),
	})
	if !errors.Is(err, audit.ErrLocked) {
		return err
	}
	if last, ok := r.told[refused.Kind]; ok && now.Sub(last) < sealedRefusalsEvery {
		return nil
	}
	if err := r.n.journal.Sealed(ctx, string(refused.Kind)); err != nil {
		return err
	}
	r.told[refused.Kind] = now
	return nil
}

// refusalCounts returns how often each kind was refused.
func (n *Node) refusalCounts() map[string]float64 {
	out := map[string]float64{}
	for kind, count := range n.refusals.Totals() {
		out[string(kind)] = float64(count)
	}
	return out
}
