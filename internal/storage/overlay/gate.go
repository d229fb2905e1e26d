package overlay

import "sync/atomic"

// Gate lets transactions in until it is closed, and closes once all are out.
// Make it with [NewGate].
type Gate struct {
	in     atomic.Int64 // transactions, and one while it is open
	closed atomic.Bool
	empty  chan struct{} // closed when in is 0
}

// NewGate returns an open Gate.
func NewGate() *Gate {
	g := &Gate{empty: make(chan struct{})}
	g.in.Store(1)
	return g
}

// Enter reports whether the gate is open; if so, Leave must be called.
func (g *Gate) Enter() bool {
	if g.closed.Load() {
		return false
	}
	for {
		n := g.in.Load()
		if n == 0 {
			return false
		}
		if g.in.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Leave undoes one Enter.
func (g *Gate) Leave() {
	if g.in.Add(-1) == 0 {
		close(g.empty)
	}
}

// Close lets nobody in and returns when all are out. It reports whether this
// was the call that closed the gate.
func (g *Gate) Close() bool {
	first := g.closed.CompareAndSwap(false, true)
	if first {
		g.Leave()
	}
	<-g.empty
	return first
}

// Closed reports whether Close has been called.
func (g *Gate) Closed() bool { return g.closed.Load() }
