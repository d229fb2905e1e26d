package audit

import (
	"context"
	"fmt"
	"time"
)

// expire removes the oldest segments where they are too old or too many. The
// record that says so is durable before, and the head knows what is kept.
func (j *Journal) expire(ctx context.Context) error {
	s := j.main.status()
	needed := min(s.low, j.needed())
	certified := j.certified()
	n := j.expired(s, min(needed, certified))
	if certified < needed && n < j.expired(s, needed) {
		j.hurry()
	}
	if n == 0 {
		return nil
	}
	last := s.segments[n].first - 1
	note := fmt.Sprintf("records %d to %d, begun %s, were removed: they were older or more than the configuration keeps",
		s.segments[0].first, last, s.segments[0].begun.Format(time.RFC3339))
	if err := j.event(ctx, "retention", note, false); err != nil {
		return fmt.Errorf("recording what will be removed: %w", err)
	}
	k := j.keys.Load()
	if k == nil {
		return nil
	}
	return j.remove(ctx, j.main, k, n)
}

// expired returns how many of the oldest segments are not kept: whole ones
// only, never the last, nor any with a record from the sequence needed on: a
// sink, an open intent or the tree needs it.
func (j *Journal) expired(s status, needed uint64) int {
	total := int64(0)
	for _, seg := range s.segments {
		total += seg.end
	}
	now := j.c.Clock.Now()
	n := 0
	for ; n+1 < len(s.segments); n++ {
		next := s.segments[n+1]
		old := j.c.KeepAge > 0 && now.Sub(next.begun) > j.c.KeepAge
		much := j.c.KeepBytes > 0 && total > j.c.KeepBytes
		if !old && !much || next.first > needed {
			break
		}
		total -= s.segments[n].end
	}
	return n
}

func (j *Journal) expireSealed() error {
	s := j.sealed.status()
	total := int64(0)
	for _, seg := range s.segments {
		total += seg.end
	}
	n := 0
	for ; n+1 < len(s.segments) && total > sealedKeep; n++ {
		total -= s.segments[n].end
	}
	if n == 0 {
		return nil
	}
	return j.remove(j.ctx, j.sealed, j.sealed.keys, n)
}

// remove removes the n oldest segments of t.
func (j *Journal) remove(ctx context.Context, t *tape, k *keys, n int) error {
	s := t.status()
	if t == j.main { // before the head: whoever opens the journal removes what that does not keep
		if err := j.anchor.advance(ctx, s.segments[n].first); err != nil {
			return err
		}
	}
	j.saving.Lock()
	err := t.writeHead(k, s, s.segments[n].first)
	j.saving.Unlock()
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.segments = t.segments[n:]
	t.mu.Unlock()
	for _, seg := range s.segments[:n] {
		if err := t.discard(t.stream.name(seg.first)); err != nil {
			return fmt.Errorf("removing a segment: %w", err)
		}
	}
	if notary := j.notary.Load(); notary != nil && t == j.main {
		if err := notary.prune(s.segments[n].first); err != nil {
			return fmt.Errorf("removing tiles: %w", err)
		}
	}
	return t.disk.Sync()
}
