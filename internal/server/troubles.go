package server

import (
	"errors"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/storage"
)

// troubles returns what is the matter with the machine below the node.
func (n *Node) troubles() []system.Trouble {
	var all []system.Trouble
	if s, ok := n.store.(interface{ Health() error }); ok {
		switch err := s.Health(); {
		case err == nil:
		case errors.Is(err, storage.ErrFull):
			all = append(all, system.StoreFull)
		case errors.Is(err, storage.ErrReadOnly):
			all = append(all, system.StoreReadOnly)
		case errors.Is(err, storage.ErrBusy):
			all = append(all, system.StoreStuck)
		case errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrPoisoned):
			all = append(all, system.StoreDamaged)
		default:
			all = append(all, system.StoreFailed)
		}
	}
	switch n.journal.Trouble() {
	case audit.Full:
		all = append(all, system.JournalFull)
	case audit.Stuck:
		all = append(all, system.JournalStuck)
	case audit.Failed:
		all = append(all, system.JournalFailed)
	}
	for _, f := range n.journal.FeedStatus() {
		if f.Late {
			return append(all, system.SinkLate)
		}
	}
	return all
}

// troubleGauge returns 1 for each trouble that there is, and 0 for the others.
func (n *Node) troubleGauge() map[string]float64 {
	out := map[string]float64{}
	for _, t := range system.Troubles() {
		out[string(t)] = 0
	}
	for _, t := range n.troubles() {
		out[string(t)] = 1
	}
	return out
}
