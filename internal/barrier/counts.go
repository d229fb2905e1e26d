package barrier

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"rotunda.dev/rotunda/internal/storage"
)

// How often each key has sealed is counted, so that it can be replaced long
// before it wears out. A count that is kept is the end of a block that was
// reserved: it is written with the first seal of a key, when half of a block is
// used up, and not at every seal, so a crash makes a count too high by a block
// at most. Counts lie in the core space:
//
//	scope "n", row "t":         format 1 | term 4 | count 8         seals of every space in the term
//	scope "n", row space id 16: format 1 | generation 4 | count 8
const (
	countScope = "n"
	termRow    = "t"
	countBlock = 1 << 16
)

// counter counts the seals of one key.
type counter struct {
	n    atomic.Int64
	mark atomic.Int64  // at which wake is told; 0 for never
	wake chan struct{} // nil where nobody is told
	told int64         // of n, in the count of the term; guarded by counts.mu
}

func (c *counter) add() {
	if c == nil {
		return
	}
	if n := c.n.Add(1); n == c.mark.Load() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// counts are those of a barrier.
type counts struct {
	wake chan struct{}

	mu     sync.Mutex // guards what follows; held for instructions
	kept   map[SpaceID]count
	live   map[SpaceID]map[uint32]*counter
	term   count
	loaded bool
}

// count is how often a key has sealed, by the number of its term or generation.
type count struct {
	number uint32
	n      int64
}

func newCounts() *counts {
	return &counts{wake: make(chan struct{}, 1), kept: map[SpaceID]count{}, live: map[SpaceID]map[uint32]*counter{}}
}

// attach gives the generations of k the counters of their space.
func (c *counts) attach(id SpaceID, k *keys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.live[id]
	if of == nil {
		of = map[uint32]*counter{}
		c.live[id] = of
	}
	for number, g := range k.gens {
		x := of[number]
		if x == nil {
			x = &counter{wake: c.wake}
			if kept := c.kept[id]; c.loaded && kept.number == number {
				x.n.Store(kept.n)
				x.told = kept.n
			}
			x.mark.Store(x.n.Load() + 1) // its first seal reserves a block
			of[number] = x
		}
		g.seals = x
	}
	for number := range of {
		if k.gens[number] == nil {
			c.tellLocked(of[number])
			delete(of, number)
		}
	}
}

// forget drops the counters of a space that is no more.
func (c *counts) forget(id SpaceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.live[id] {
		c.tellLocked(x)
	}
	delete(c.live, id)
	delete(c.kept, id)
}

// tellLocked adds what x has counted to the count of the term.
func (c *counts) tellLocked(x *counter) {
	n := x.n.Load()
	c.term.n += n - x.told
	x.told = n
}

// ofTerm returns the count of a term, which begins at 0 when the term turns.
func (c *counts) ofTerm(term uint32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ofTermLocked(term)
}

func (c *counts) ofTermLocked(term uint32) int64 {
	for _, of := range c.live {
		for _, x := range of {
			c.tellLocked(x)
		}
	}
	if c.term.number != term {
		c.term = count{number: term}
	}
	return c.term.n
}

// of returns how often a generation of a space has sealed.
func (c *counts) of(id SpaceID, generation uint32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.live[id][generation]; x != nil {
		return x.n.Load()
	}
	if kept := c.kept[id]; kept.number == generation {
		return kept.n
	}
	return 0
}

// reserve returns the rows to be kept: each count and block more. Only counts
// that have come past what is kept for them are returned, unless all are asked for.
func (c *counts) reserve(term uint32, block int64, all bool) map[string]count {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := map[string]count{}
	for id, of := range c.live {
		var last uint32
		for number := range of {
			last = max(last, number)
		}
		x := of[last]
		if x == nil || !all && x.n.Load() < x.mark.Load() && c.kept[id].number == last {
			continue
		}
		n := x.n.Load()
		c.kept[id] = count{last, n + block}
		x.mark.Store(n + max(block, 2)/2)
		rows[string(id[:])] = c.kept[id]
	}
	if n := c.ofTermLocked(term); len(rows) > 0 || all {
		rows[termRow] = count{term, n + block}
	}
	return rows
}

func encodeCount(x count) []byte {
	b := binary.BigEndian.AppendUint32([]byte{format1}, x.number)
	return binary.BigEndian.AppendUint64(b, uint64(x.n)) //nolint:gosec // G115: not negative
}

func parseCount(b []byte) (count, error) {
	d := decoder{b: b}
	if f := d.u8(); f != format1 {
		return count{}, fmt.Errorf("count of format %d: %w", f, storage.ErrNewer)
	}
	x := count{number: d.u32()}
	n := d.u64()
	if !d.end() || n > math.MaxInt64/2 {
		return count{}, fmt.Errorf("malformed count: %w", storage.ErrCorrupt)
	}
	x.n = int64(n)
	return x, nil
}

// LoadCounts reads how often each key has sealed, and reserves a block of
// each. It is called once, before [Barrier.Count].
func (b *Barrier) LoadCounts(ctx context.Context) error {
	core, err := b.Space(ctx, Core)
	if err != nil {
		return err
	}
	kept := map[SpaceID]count{}
	var term count
	err = core.View(ctx, func(r storage.Reader) error {
		items, _, err := r.Scan(countScope, "", "", 0)
		if err != nil {
			return err
		}
		for _, item := range items {
			x, err := parseCount(item.Value)
			switch {
			case err != nil:
				return err
			case item.Row == termRow:
				term = x
			case len(item.Row) == len(SpaceID{}):
				kept[SpaceID([]byte(item.Row))] = x
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading how often keys have sealed: %w", err)
	}
	b.counts.mu.Lock()
	b.counts.kept, b.counts.loaded = kept, true
	b.counts.term.number, b.counts.term.n = term.number, b.counts.term.n+term.n
	for id, of := range b.counts.live { // those that were opened before
		for number, x := range of {
			if kept[id].number == number {
				x.n.Add(kept[id].n)
				x.told += kept[id].n
				x.mark.Store(x.n.Load() + countBlock/2)
			}
		}
	}
	b.counts.mu.Unlock()
	return b.keepCounts(ctx, countBlock, true)
}

// Count keeps the counts until ctx ends, and then writes them without a block
// added, so that a server that is stopped in an orderly way counts truly.
func (b *Barrier) Count(ctx context.Context) error {
	for {
		select {
		case <-b.counts.wake:
			if err := b.keepCounts(ctx, countBlock, false); err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return b.keepCounts(context.WithoutCancel(ctx), 1, true) // 1 is this write itself
		}
	}
}

// keepCounts writes counts with block added, in as many transactions as it takes.
func (b *Barrier) keepCounts(ctx context.Context, block int64, all bool) error {
	core, err := b.Space(ctx, Core)
	if err != nil {
		return err
	}
	term, _ := b.Term()
	rows := b.counts.reserve(uint32(term), block, all) //nolint:gosec // G115: it was one
	for len(rows) > 0 {
		some := map[string]count{}
		for row, x := range rows {
			if len(some) == storage.MaxWrites/2 {
				break
			}
			some[row] = x
			delete(rows, row)
		}
		err := core.Update(ctx, storage.Locks{Own: []string{countScope}}, func(tx storage.Tx) error {
			for row, x := range some {
				tx.Put(storage.Key{Scope: countScope, Row: row}, encodeCount(x))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("keeping how often keys have sealed: %w", err)
		}
	}
	return nil
}

// Encryptions returns how often something was sealed since the term began, in
// any space: a row, a data key, or the keys of a space. After a crash it is
// too high by a block that was reserved.
func (b *Barrier) Encryptions() int64 {
	term, _ := b.Term()
	return b.counts.ofTerm(uint32(term)) //nolint:gosec // G115: it was one
}
