package overlay

import (
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// maxHistory is how many changes of scopes a History keeps.
const maxHistory = 1 << 16

// History keeps which scopes have been changed lately. Asking it where
// nothing has changed takes no lock.
type History struct {
	current atomic.Uint64

	mu      sync.Mutex
	changes []change // ascending by mark
	floor   storage.Mark
}

type change struct {
	mark  storage.Mark
	scope string
}

// NewHistory returns a History that knows nothing from before m.
func NewHistory(m storage.Mark) *History {
	h := &History{floor: m}
	h.current.Store(uint64(m))
	return h
}

// Mark returns the Mark of the last change.
func (h *History) Mark() storage.Mark { return storage.Mark(h.current.Load()) }

// Publish says that scopes were changed at m, which is beyond every mark
// before it. Snapshots that see the change must be had from before the call.
func (h *History) Publish(m storage.Mark, scopes []string) {
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
	h.current.Store(uint64(m))
}

// Since returns what has changed since a Mark.
func (h *History) Since(since storage.Mark, now func() time.Time) storage.Changes {
	if since == h.Mark() {
		return storage.Changes{Mark: since, Now: now()}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := storage.Changes{Mark: h.Mark(), Now: now()}
	if since < h.floor || since > c.Mark {
		c.All = true
		return c
	}
	i := len(h.changes)
	for i > 0 && h.changes[i-1].mark > since {
		i--
	}
	seen := make(map[string]bool, len(h.changes)-i)
	for _, ch := range h.changes[i:] {
		if !seen[ch.scope] {
			seen[ch.scope] = true
			c.Scopes = append(c.Scopes, ch.scope)
		}
	}
	return c
}
