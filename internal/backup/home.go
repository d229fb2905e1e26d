package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/storage"
)

// Scope is that of the core space in which it is kept where a store belongs,
// and whether it is quarantined.
const Scope = "b"

const homeRow = "home"

// Home is where a store belongs. One that was restored, or that is opened
// under another cluster's name, is quarantined: it answers requests and does
// nothing by itself until it is told to resume, so that a copy does not end
// what the original still lends, and a mistake can be taken back.
type Home struct {
	Format int       `json:"format"`
	Name   string    `json:"name"`             // of the cluster
	Reason string    `json:"reason,omitempty"` // why it is quarantined; empty where it is not
	Since  time.Time `json:"since,omitzero"`   // it is quarantined
}

// The reasons for a quarantine.
const (
	Restored = "restored"
	Renamed  = "renamed"
)

// Quarantined reports whether the store does nothing by itself.
func (h Home) Quarantined() bool { return h.Reason != "" }

var homeKey = storage.Key{Scope: Scope, Row: homeRow}

func readHome(r storage.Reader) (h Home, there bool, err error) {
	b, err := r.Get(homeKey)
	if errors.Is(err, storage.ErrNotFound) {
		return Home{}, false, nil
	}
	if err != nil {
		return Home{}, false, err
	}
	if err := json.Unmarshal(b, &h); err != nil || h.Format != 1 {
		return Home{}, false, fmt.Errorf("reading where the store belongs: %w", storage.ErrCorrupt)
	}
	return h, true, nil
}

// WriteHome keeps where a store belongs, in a transaction of the core space
// that owns [Scope].
func WriteHome(tx storage.Tx, h Home) error {
	h.Format = 1
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("writing where the store belongs: %w", err)
	}
	tx.Put(homeKey, b)
	return nil
}

// ReadHome returns where a store belongs; the zero Home where that was never said.
func ReadHome(ctx context.Context, core storage.Store) (h Home, err error) {
	err = core.View(ctx, func(r storage.Reader) error {
		h, _, err = readHome(r)
		return err
	})
	return h, err
}

// Settle says that a store is opened under a cluster's name, and returns where
// it belongs. The first name is kept; another one quarantines the store.
func Settle(ctx context.Context, core storage.Store, name string) (h Home, err error) {
	settled := func(r storage.Reader) (bool, error) {
		var there bool
		h, there, err = readHome(r)
		return there && (h.Name == name || h.Quarantined()), err
	}
	done := false
	err = core.View(ctx, func(r storage.Reader) error {
		done, err = settled(r)
		return err
	})
	if err == nil && !done {
		err = core.Update(ctx, storage.Locks{Own: []string{Scope}}, func(tx storage.Tx) error {
			if done, err := settled(tx); err != nil || done {
				return err
			}
			if h.Name != "" {
				h.Reason, h.Since = Renamed, tx.Now()
			} else {
				h.Name = name
			}
			return WriteHome(tx, h)
		})
	}
	if err != nil {
		return Home{}, fmt.Errorf("finding out where the store belongs: %w", err)
	}
	return h, nil
}

// Resume ends a quarantine: the store belongs to the cluster of the name. It
// reports whether there was one.
func Resume(ctx context.Context, core storage.Store, name string) (was bool, err error) {
	err = core.Update(ctx, storage.Locks{Own: []string{Scope}}, func(tx storage.Tx) error {
		h, _, err := readHome(tx)
		if err != nil {
			return err
		}
		if was = h.Quarantined(); !was {
			return nil
		}
		return WriteHome(tx, Home{Name: name})
	})
	if err != nil {
		return false, fmt.Errorf("ending the quarantine: %w", err)
	}
	return was, nil
}
