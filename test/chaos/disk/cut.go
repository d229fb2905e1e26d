//go:build linux

package disk

import (
	"math/rand/v2"
	"syscall"
)

// Cut is how a power cut treats what was not synced.
type Cut int

// The cuts. Each is chosen for a file, or for all names, at random by [Disk.PowerCut].
const (
	Nothing Cut = iota // of it is kept
	All                // of it is kept
	Some               // writes are kept and others are not, in whatever order
	Pages              // of 4 KiB, likewise
	Sectors            // of 512 bytes, likewise
	cuts
)

func (c Cut) sector() int64 {
	if c == Pages {
		return pageSize
	}
	return 512
}

// PowerCut makes of the Disk what it holds when the power comes back. Nobody
// may have it mounted. Without r, nothing is kept that was not synced.
func (d *Disk) PowerCut(r *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Cuts++
	how := func() Cut {
		if r == nil {
			return Nothing
		}
		return Cut(r.IntN(int(cuts)))
	}
	kind := how()
	for _, c := range d.names {
		if kind == All || kind != Nothing && r.IntN(2) == 0 {
			d.keep(c)
		} else {
			d.stats.Names++
		}
	}
	d.names = nil
	for _, n := range d.nodes {
		d.cut(n, how(), r)
	}
	d.sweep()
}

// sweep removes what no durable name leads to.
func (d *Disk) sweep() {
	reached := map[uint64]bool{}
	var visit func(id uint64)
	visit = func(id uint64) {
		n := d.nodes[id]
		if n == nil || reached[id] {
			return
		}
		reached[id] = true
		n.entries = map[string]uint64{}
		for name, to := range n.durable {
			n.entries[name] = to
			visit(to)
		}
	}
	visit(rootID)
	for id := range d.nodes {
		if !reached[id] {
			delete(d.nodes, id)
		}
	}
}

func (d *Disk) cut(n *node, how Cut, r *rand.Rand) {
	if n.mode&syscall.S_IFMT == syscall.S_IFDIR {
		return
	}
	next := n.kept.clone()
	size, end := next.size, next.size
	for _, w := range n.written {
		end = max(end, w.off+int64(len(w.b)))
		sectors := (len(w.b) + 511) / 512
		switch {
		case how == Nothing, how == Some && r.IntN(2) == 0:
			d.stats.Lost += sectors
			continue
		case how == All, how == Some:
			next.do(w)
			d.stats.Kept += sectors
			size = next.size
			continue
		case w.b == nil:
			if r.IntN(2) == 0 {
				next.resize(w.size)
				size = w.size
			}
			continue
		}
		d.tear(&next, w, how.sector(), r)
		if r.IntN(2) == 0 {
			size = max(size, w.off+int64(len(w.b)))
		}
	}
	next.size = max(next.size, end) // behind which nothing was written
	next.resize(size)
	n.now, n.kept, n.written = next.clone(), next, nil
}

// tear keeps some sectors of w.
func (d *Disk) tear(c *content, w write, sector int64, r *rand.Rand) {
	kept, lost := 0, 0
	end := w.off + int64(len(w.b))
	for at := w.off; at < end; {
		next := min(end, (at/sector+1)*sector)
		if r.IntN(2) == 0 {
			c.write(w.b[at-w.off:next-w.off], at)
			kept++
		} else {
			lost++
		}
		at = next
	}
	d.stats.Kept += kept
	d.stats.Lost += lost
	if kept > 0 && lost > 0 {
		d.stats.Torn++
	}
}
