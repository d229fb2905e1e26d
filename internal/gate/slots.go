package gate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Slot is one way to open the store, as it is kept.
type Slot struct {
	ID                string // stays as long as the slot does
	Kind              string // of its stanza
	Args              []string
	Shares, Threshold int // where people open it
}

// slotID names a stanza by what it is.
func slotID(st seal.Stanza) (string, error) {
	b, err := st.Append(nil)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}

func (g *Gate) slot(st seal.Stanza, binding []byte) (Slot, error) {
	id, err := slotID(st)
	if err != nil {
		return Slot{}, err
	}
	out := Slot{ID: id, Kind: st.Kind, Args: st.Args}
	if st.Kind == g.c.Quorum.Kind() {
		counts, err := g.c.Quorum.Collect(st, binding)
		if err != nil {
			return Slot{}, fmt.Errorf("reading the slot of the shares: %w", err)
		}
		_, out.Threshold, out.Shares = counts.Progress()
	}
	return out, nil
}

// Slots returns the ways to open the store, in their order.
func (g *Gate) Slots(ctx context.Context) ([]Slot, error) {
	stanzas, binding, err := g.slots(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Slot, len(stanzas))
	for i, st := range stanzas {
		if out[i], err = g.slot(st, binding); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// inside calls fn with the session; ErrSealed where there is none.
func (g *Gate) inside(fn func(*session) error) error {
	s := g.enter()
	if s == nil {
		return ErrSealed
	}
	defer s.busy.Done()
	return fn(s)
}

// checkShares reports a number of shares that the root key cannot be split into.
func checkShares(shares, threshold int) error {
	if shares < 1 || shares > 255 || threshold < 1 || threshold > shares || (threshold == 1) != (shares == 1) {
		return fault.New(fault.Invalid, "shares must be 1 to 255, and the threshold at least 2 (1 for a single share) and at most the shares")
	}
	return nil
}

// AddShares makes a slot that people open with shares, where there is none. The
// shares are told once and kept nowhere.
func (g *Gate) AddShares(ctx context.Context, shares, threshold int) (added Slot, out []Share, err error) {
	if err := checkShares(shares, threshold); err != nil {
		return Slot{}, nil, err
	}
	err = g.inside(func(s *session) error {
		added, err = g.add(ctx, s.barrier, func(root secret.Bytes, binding []byte, old []seal.Stanza) (seal.Stanza, error) {
			if find(old, g.c.Quorum.Kind()) >= 0 {
				return seal.Stanza{}, fault.New(fault.Invalid, "there are shares already; sys/rotate/root makes others, or the slot is removed first")
			}
			st, made, err := g.c.Quorum.Split(root, binding, shares, threshold)
			out = made
			return st, err
		})
		return err
	})
	return added, out, err
}

// AddRecipients makes a slot that any of the age recipients opens. The error is
// a fault of kind Invalid where there is one for them, or they are none.
func (g *Gate) AddRecipients(ctx context.Context, recipients []string) (added Slot, err error) {
	if len(recipients) == 0 {
		return Slot{}, fault.New(fault.Invalid, "there must be a recipient at least")
	}
	sealer := g.c.Recipients(recipients)
	err = g.inside(func(s *session) error {
		added, err = g.add(ctx, s.barrier, func(root secret.Bytes, binding []byte, old []seal.Stanza) (seal.Stanza, error) {
			st, err := sealer.Seal(ctx, root, binding)
			if err != nil {
				return seal.Stanza{}, fault.Wrap(fault.Invalid, err, "the root key cannot be sealed to these recipients")
			}
			if same(old, st) {
				return seal.Stanza{}, fault.New(fault.Invalid, "there is a slot for these recipients already")
			}
			return st, nil
		})
		return err
	})
	return added, err
}

// add makes a stanza and keeps it. It is made before the transaction, which may run again.
func (g *Gate) add(ctx context.Context, b *barrier.Barrier, seals func(root secret.Bytes, binding []byte, old []seal.Stanza) (seal.Stanza, error)) (Slot, error) {
	stanzas, binding, err := g.slots(ctx)
	if err != nil {
		return Slot{}, err
	}
	root, err := b.Root()
	if err != nil {
		return Slot{}, err
	}
	defer root.Wipe()
	st, err := seals(root, binding, stanzas)
	if err != nil {
		return Slot{}, err
	}
	err = b.SetStanzas(ctx, func(old []seal.Stanza) ([]seal.Stanza, error) {
		if len(old) == maxSlots {
			return nil, fault.New(fault.Invalid, "there are %d slots already; remove one first", maxSlots)
		}
		if st.Kind == g.c.Quorum.Kind() && find(old, st.Kind) >= 0 {
			return nil, fault.New(fault.Invalid, "there are shares already")
		}
		return append(slices.Clone(old), st), nil
	})
	if err != nil {
		return Slot{}, err
	}
	return g.slot(st, binding)
}

// maxSlots is how many slots a store has at most.
const maxSlots = 16

// same reports whether there is a stanza for what st is for: its arguments
// name a key or recipients.
func same(stanzas []seal.Stanza, st seal.Stanza) bool {
	return slices.ContainsFunc(stanzas, func(x seal.Stanza) bool { return x.Kind == st.Kind && slices.Equal(x.Args, st.Args) })
}

// RemoveSlot removes a way to open the store, which must not be the last one.
// It reports whether the configuration still names a seal of its kind, which
// gets a slot again when the store is next unsealed.
func (g *Gate) RemoveSlot(ctx context.Context, id string) (configured bool, err error) {
	err = g.inside(func(s *session) error {
		return s.barrier.SetStanzas(ctx, func(old []seal.Stanza) ([]seal.Stanza, error) {
			var kept []seal.Stanza
			for _, st := range old {
				x, err := slotID(st)
				if err != nil {
					return nil, err
				}
				if x != id {
					kept = append(kept, st)
					continue
				}
				configured = slices.ContainsFunc(g.c.Auto, func(a Auto) bool { return a.Kind == st.Kind })
			}
			switch {
			case len(kept) == len(old):
				return nil, fault.New(fault.NotFound, "there is no such seal slot")
			case len(kept) == 0:
				return nil, fault.New(fault.Invalid, "the last seal slot cannot be removed: nothing would open the store")
			}
			return kept, nil
		})
	})
	return configured, err
}

// complete makes a slot for each configured seal that has none; opened is the
// one that has opened the store, negative for none. What cannot be made is
// logged: the store is open.
func (g *Gate) complete(ctx context.Context, b *barrier.Barrier, root secret.Bytes, opened int) {
	for i, a := range g.c.Auto {
		if i == opened {
			continue
		}
		if err := g.completeOne(ctx, b, root, a); err != nil {
			g.c.Log.LogAttrs(ctx, slog.LevelError, "making the slot of a configured seal", slog.String("seal", a.Kind), slog.Any("cause", err))
		}
	}
}

func (g *Gate) completeOne(ctx context.Context, b *barrier.Barrier, root secret.Bytes, a Auto) error {
	stanzas, binding, err := g.slots(ctx)
	if err != nil {
		return err
	}
	st, err := a.Sealer.Seal(ctx, root, binding)
	if err != nil {
		return err
	}
	if same(stanzas, st) {
		return nil
	}
	opens, err := a.Sealer.Unseal(ctx, stanzas, binding)
	switch {
	case err == nil:
		opens.Wipe()
		return nil
	case !errors.Is(err, seal.ErrNotMine) && !errors.Is(err, seal.ErrWrongKey):
		return err
	}
	err = b.SetStanzas(ctx, func(old []seal.Stanza) ([]seal.Stanza, error) {
		if len(old) == maxSlots {
			return nil, fmt.Errorf("there are %d slots already", maxSlots)
		}
		return append(slices.Clone(old), st), nil
	})
	if err != nil {
		return err
	}
	g.c.Log.LogAttrs(ctx, slog.LevelInfo, "a configured seal has a slot now", slog.String("seal", a.Kind))
	return g.c.Journal.Append(ctx, g.event("seal slot added: "+a.Kind))
}
