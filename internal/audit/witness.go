package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Trust is what whoever verifies a journal knows of it from elsewhere.
type Trust struct {
	Key         *Key     // of the journal's checkpoints; nil leaves them out
	Checkpoints [][]byte // that were kept elsewhere, and must be of this journal too
}

// Signed is what checkpoints vouch for in a journal.
type Signed struct {
	Checkpoints int       // that were verified, every one consistent with all others
	Records     uint64    // the records from the first to that with this sequence
	At          time.Time // when the last checkpoint was signed
	Root        [32]byte  // of the last checkpoint
	Stale       int       // bundles of the tree that are missing or damaged; the node makes them anew
}

// witness holds the records of a journal against its checkpoints, while they
// are read.
type witness struct {
	f      *forest
	key    *Key
	all    []kept // by size
	next   int    // of all
	tree   compact
	begun  bool
	latest Checkpoint

	checked int
	stale   int
	tiles   []tlog.Hash // of the bundle of the next leaf, as far as they must be right
	roots   []tlog.Hash
}

// witness returns one that has the checkpoints of this moment; nil where t has
// no key.
func (r *Reader) witness(ctx context.Context, t Trust) (*witness, error) {
	if t.Key == nil || r.stream != records {
		return nil, nil //nolint:nilnil // nothing is signed
	}
	f, err := r.forest(ctx)
	if err != nil {
		return nil, err
	}
	w := &witness{f: f, key: t.Key}
	if f.journal != t.Key.Journal() {
		return nil, &Damage{Segment: checkpointName, What: fmt.Sprintf("the journal is %x, not %x, of which the key is", f.journal, t.Key.Journal())}
	}
	if w.all, err = f.all(t.Key); err != nil {
		return nil, err
	}
	for i := range w.all {
		if c := &w.all[i].Checkpoint; c.Size > w.latest.Size || c.Size == w.latest.Size && c.Time.After(w.latest.Time) {
			w.latest = *c
		}
	}
	for i, text := range t.Checkpoints {
		name := fmt.Sprintf("the checkpoint that was kept (%d)", i+1)
		c, err := t.Key.Open(text)
		if err != nil {
			return nil, &Damage{Segment: name, What: reason(err)}
		}
		w.all = insertKept(w.all, kept{Checkpoint: c, file: name, at: -1})
	}
	w.roots, err = f.roots(f.bundle(w.latest.Size))
	if errors.Is(err, errNoTree) {
		w.stale++
		err = nil
	}
	return w, err
}

// begin goes on behind the first n records, which are not kept.
func (w *witness) begin(n uint64) error {
	if w == nil || w.begun {
		return nil
	}
	w.begun = true
	start := n &^ (1<<w.f.height - 1)
	for ; w.next < len(w.all) && w.all[w.next].Size < start; w.next++ {
		if w.all[w.next].at < 0 {
			return fmt.Errorf("comparing %s: its %d records were removed, as the configuration says", w.all[w.next].file, w.all[w.next].Size)
		}
	}
	tree, err := w.f.base(n, w.check)
	if errors.Is(err, errNoTree) {
		return &Damage{Segment: rootsName, What: fmt.Sprintf("the tree of records 1 to %d, which were removed, is not there", n)}
	}
	w.tree = tree
	w.enter()
	return err
}

// enter reads the tiles of the bundle of the next leaf.
func (w *witness) enter() {
	w.tiles = nil
	start := w.f.bundle(w.tree.n) << w.f.height
	if w.latest.Size <= start {
		return
	}
	tiles, err := w.f.leaves(w.f.bundle(w.tree.n), min(1<<w.f.height, w.latest.Size-start))
	if err != nil {
		w.stale++ // whatever keeps it from being read: nothing depends on it
		return
	}
	w.tiles = tiles
}

// check compares the tree with the checkpoints of as many records.
func (w *witness) check(tree *compact) error {
	for ; w.next < len(w.all) && w.all[w.next].Size <= tree.n; w.next++ {
		k := &w.all[w.next]
		if k.Size < tree.n {
			continue
		}
		if k.Size > 0 && tree.root() != k.rootOf() {
			return k.damage(fmt.Sprintf("the first %d records are not those that were signed", k.Size))
		}
		w.checked++
	}
	return nil
}

// add takes the next record.
func (w *witness) add(leaf [32]byte) error {
	if w == nil {
		return nil
	}
	if at := w.tree.n & (1<<w.f.height - 1); at < uint64(len(w.tiles)) && w.tiles[at] != leaf {
		w.stale++
		w.tiles = nil
	}
	w.tree.add(tlog.Hash(leaf))
	if w.next < len(w.all) && w.all[w.next].Size == w.tree.n {
		if err := w.check(&w.tree); err != nil {
			return err
		}
	}
	if w.tree.n&(1<<w.f.height-1) == 0 {
		w.enter()
	}
	return nil
}

// end reports records that are signed and not there.
func (w *witness) end(rep *Report) error {
	if w == nil {
		return nil
	}
	if w.next < len(w.all) {
		k := &w.all[len(w.all)-1]
		return k.damage(fmt.Sprintf("records %d to %d are missing", w.tree.n+1, k.Size))
	}
	rep.Signed = Signed{Checkpoints: w.checked, Records: w.latest.Size, At: w.latest.Time, Root: w.latest.Root, Stale: w.stale}
	return nil
}
