package overlay

import (
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// maxHistory is how many changes of scopes a History keeps.
const maxHistory = 1 << 16

// History keeps which scopes have been changed lately. Make it with [NewHistory].
//
// What is current is the store's to say, by one atomic value that has both
// the snapshot and its mark: who has read from a snapshot, and asks then what
// has changed, is told of all that is in it.
type History struct {
	mu      sync.Mutex
	changes []change     // ascending by mark
	floor   storage.Mark // changes up to here are forgotten
}

type change struct {
	mark  storage.Mark
	scope string
}

// NewHistory returns a History that knows nothing from before m.
func NewHistory(m storage.Mark) *History { return &History{floor: m} }

// Append says that scopes are changed at m, which is beyond every mark before
// it. It is called before m becomes current.
func (h *History) Append(m storage.Mark, scopes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range scopes {
		h.changes = append(h.changes, change{m, s})
	}
	if len(h.changes) > maxHistory {
		// Half goes, and with it all of the mark that the cut falls into.
		cut := len(h.changes) / 2
		h.floor = h.changes[cut-1].mark
		for cut < len(h.changes) && h.changes[cut].mark == h.floor {
			cut++
		}
		h.changes = append([]change(nil), h.changes[cut:]...)
	}
}

// Since returns what has changed after since, up to current. Where that is
// nothing, it takes no lock.
func (h *History) Since(since, current storage.Mark, now time.Time) storage.Changes {
	c := storage.Changes{Mark: current, Now: now}
	if since == current {
		return c
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if since < h.floor || since > current {
		c.All = true
		return c
	}
	seen := map[string]bool{}
	for i := len(h.changes) - 1; i >= 0 && h.changes[i].mark > since; i-- {
		if ch := h.changes[i]; ch.mark <= current && !seen[ch.scope] {
			seen[ch.scope] = true
			c.Scopes = append(c.Scopes, ch.scope)
		}
	}
	return c
}
