package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
)

const (
	// checkpointRecords and checkpointEvery are how far checkpoints are apart at
	// most; the latter leaves a slow disk two of the ten seconds that are promised.
	checkpointRecords = 1000
	checkpointEvery   = 8 * time.Second

	historySize = 16 << 10
)

// notary signs checkpoints of a journal while it is unlocked. It reads the
// records again from their segments, behind those who write them, and nobody
// waits for it.
type notary struct {
	j    *Journal
	f    *forest
	sign *signer

	anchor uint64 // records of the last checkpoint when n was started

	asked   chan chan error
	hurried chan struct{} // retention waits for the tree
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	latest  Checkpoint // what was signed last; its tiles are written
	durable uint64     // leaves whose tiles are durable
	broken  error      // what is signed and what is recorded contradict one another

	// Of the goroutine alone.
	ready   bool // what follows is right
	tree    compact
	at      position // of the last record in the tree, in the segment that begins with record first
	first   uint64
	tiles   *grower
	history File
	beside  uint64 // bundle of history
	end     int64  // of history
	pending []Checkpoint
	buf     []byte
	anew    bool // the tiles are not to be believed

	stale atomic.Bool // the tiles were found to be wrong
}

// Certify makes j sign checkpoints of what it records with the Ed25519 key of
// seed, which is 32 bytes, from now on until it is locked. Cluster is part of
// the name under which it signs. The journal must be unlocked. The error wraps
// [ErrCorrupt] where a checkpoint has more records than there are.
func (j *Journal) Certify(seed secret.Bytes, cluster string) error {
	if j.keys.Load() == nil {
		return unavailable(ErrLocked)
	}
	s := j.main.status()
	if len(s.segments) == 0 {
		return errors.New("audit: the journal has no record yet")
	}
	key, err := PublicKey(seed, cluster, s.journal)
	if err != nil {
		return err
	}
	f, err := openForest(j.disk, s.journal, j.c.bundle())
	if err != nil {
		return fmt.Errorf("opening the tree of the journal: %w", err)
	}
	n := &notary{j: j, f: f, sign: &signer{key: key, seed: seed.Clone()}, asked: make(chan chan error), hurried: make(chan struct{}, 1), done: make(chan struct{})}
	if err := n.start(s.head.seq); err != nil {
		n.sign.wipe()
		return err
	}
	ctx, cancel := context.WithCancel(j.ctx)
	n.cancel = cancel
	if !j.notary.CompareAndSwap(nil, n) {
		cancel()
		n.sign.wipe()
		return errors.New("audit: checkpoints are signed already")
	}
	j.treed.Store(true)
	if n.latest.Size == 0 {
		n.complain(n.step(ctx, true)) //nolint:contextcheck // of the journal's life
	}
	go n.run(ctx)
	return nil
}

// bundle is the height of a bundle of a tree that is begun.
func (c *Config) bundle() int {
	if c.bundleHeight > 0 {
		return c.bundleHeight
	}
	return bundleHeight
}

// start finds the last checkpoint.
func (n *notary) start(head uint64) error {
	candidates, err := n.candidates()
	if err != nil {
		return err
	}
	for _, text := range candidates {
		c, err := n.sign.key.Open(text)
		if err != nil {
			n.alarm("checkpoint-damaged", "a checkpoint is damaged or not signed by this node: "+reason(err))
			continue
		}
		if c.Size > n.latest.Size || c.Size == n.latest.Size && c.Time.After(n.latest.Time) {
			n.latest = c
		}
	}
	if n.latest.Size > head {
		return missingSigned(head, n.latest.Size)
	}
	n.anchor = n.latest.Size
	return nil
}

// candidates returns the texts that can be the last checkpoint.
func (n *notary) candidates() ([][]byte, error) {
	var out [][]byte
	text, err := n.f.last()
	switch {
	case err == nil:
		out = append(out, text)
	case !errors.Is(err, ErrCorrupt):
		return nil, err
	}
	bundles, err := n.f.histories()
	if err != nil {
		return nil, err
	}
	for _, bundle := range slices.Backward(bundles) {
		h, err := n.f.readHistory(bundle)
		if err != nil {
			return nil, err
		}
		if len(h.notes) > 0 {
			return append(out, h.notes[len(h.notes)-1].text), nil
		}
	}
	return out, nil
}

// alarm says in the log and in the journal that something is wrong with what
// was signed.
func (n *notary) alarm(event, what string) {
	n.j.c.Log.LogAttrs(n.j.ctx, slog.LevelError, "audit checkpoints", slog.String("problem", what))
	ctx, cancel := context.WithTimeout(n.j.ctx, patience)
	defer cancel()
	n.j.complain("recording a problem of checkpoints", n.j.event(ctx, event, what, true))
}

func (n *notary) run(ctx context.Context) {
	defer close(n.done)
	defer n.sign.wipe()
	ticks := make(chan struct{})
	var ticker sync.WaitGroup
	defer ticker.Wait()
	ticker.Go(func() {
		for n.j.c.Clock.Wait(ctx, n.j.c.Clock.Now().Add(checkpointEvery)) == nil {
			select {
			case ticks <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	})
	err := n.step(ctx, true)
	for {
		n.complain(err)
		due := n.j.main.reach(n.size() + checkpointRecords)
		if err != nil {
			due = nil // not before the next tick
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			n.complain(n.step(last, true))
			n.forget()
			cancel()
			return
		case <-due:
			err = n.step(ctx, false)
		case <-ticks:
			err = n.step(ctx, true)
		case answer := <-n.asked:
			err = n.step(ctx, true)
			answer <- err
		case <-n.hurried:
			if err = n.step(ctx, true); err == nil {
				n.j.nudge()
			}
		}
	}
}

func (n *notary) complain(err error) { n.j.complain("signing a checkpoint of the audit journal", err) }

func (n *notary) size() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latest.Size
}

// now signs a checkpoint of everything that is durable.
func (n *notary) now(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case n.asked <- answer:
	case <-n.done:
		return unavailable(ErrLocked)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop signs the last checkpoint, forgets the key, and returns when nothing
// of the tree will be written any more.
func (n *notary) stop() {
	n.cancel()
	<-n.done
}

// step brings the tree up to what is durable and signs what is due. Timed says
// that the time has come for a checkpoint, however little there is.
func (n *notary) step(ctx context.Context, timed bool) error {
	n.mu.Lock()
	broken := n.broken
	n.mu.Unlock()
	if broken != nil {
		return broken
	}
	if n.stale.Swap(false) {
		n.forget()
		n.anew = true
	}
	err := n.advance(ctx, timed)
	if err != nil {
		n.forget()
	}
	if errors.Is(err, ErrCorrupt) {
		n.mu.Lock()
		n.broken = err
		n.mu.Unlock()
		n.alarm("checkpoint-contradiction", "no checkpoints are signed any more: "+err.Error())
	}
	return err
}

func (n *notary) advance(ctx context.Context, timed bool) error {
	if !n.ready {
		if err := n.load(ctx); err != nil {
			return err
		}
	}
	if err := n.read(ctx, ^uint64(0), true); err != nil {
		return err
	}
	now := n.j.c.Clock.Now()
	var last Checkpoint
	if timed && n.tree.n > 0 {
		var err error
		if last, err = n.sign.checkpoint(&n.tree, now); err != nil {
			return err
		}
		if n.tree.n > n.signed() {
			n.pending = append(n.pending, last)
		}
	}
	if err := n.tiles.flush(); err != nil {
		return err
	}
	if err := n.keep(); err != nil {
		return err
	}
	if !timed || n.tree.n == 0 {
		return nil
	}
	if err := n.tiles.sync(); err != nil {
		return err
	}
	if n.history != nil {
		if err := n.history.Sync(); err != nil {
			return fmt.Errorf("syncing checkpoints: %w", err)
		}
	}
	if err := n.f.disk.Replace(checkpointName, []byte(last.Note)); err != nil {
		return fmt.Errorf("writing the last checkpoint: %w", err)
	}
	n.mu.Lock()
	n.latest, n.durable = last, n.tree.n
	n.mu.Unlock()
	return nil
}

// signed returns how many records the newest checkpoint has, published or not.
func (n *notary) signed() uint64 {
	if len(n.pending) > 0 {
		return n.pending[len(n.pending)-1].Size
	}
	return n.size()
}

// load makes the tree that the last checkpoint is of, from the tiles where they
// agree with it and from the segments where not.
func (n *notary) load(ctx context.Context) error {
	if err := n.mend(); err != nil {
		return err
	}
	n.mu.Lock()
	latest := n.latest
	n.mu.Unlock()
	if !n.anew {
		tree, err := n.f.base(latest.Size, nil)
		if err == nil && (latest.Size == 0 || tree.root() == latest.rootOf()) {
			return n.begin(tree)
		}
		if err != nil && !errors.Is(err, errNoTree) {
			return fmt.Errorf("reading the tree of the journal: %w", err)
		}
	}
	kept := n.j.main.status().segments[0].first - 1
	n.j.c.Log.LogAttrs(ctx, slog.LevelWarn, "the tree of the audit journal is computed anew", slog.Uint64("records", latest.Size-min(kept, latest.Size)))
	base, err := n.f.base(kept, nil)
	switch {
	case errors.Is(err, errNoTree):
		return &Damage{Segment: rootsName, What: fmt.Sprintf("the tree of records 1 to %d, which were removed, is not there", kept)}
	case err != nil:
		return fmt.Errorf("reading the tree of the journal: %w", err)
	}
	if err := n.begin(base); err != nil {
		return err
	}
	n.ready = false
	if err := n.read(ctx, latest.Size, false); err != nil {
		return err
	}
	if n.tree.n != latest.Size || latest.Size > 0 && n.tree.root() != latest.rootOf() {
		return &Damage{Segment: checkpointName, Seq: latest.Size, What: "the records are not those that were signed"}
	}
	n.ready, n.anew = true, false
	return nil
}

// mend cuts off what a crash left behind the last checkpoint.
func (n *notary) mend() error {
	bundles, err := n.f.histories()
	if err != nil || len(bundles) == 0 {
		return err
	}
	if err := n.openHistory(bundles[len(bundles)-1]); err != nil {
		return err
	}
	return n.closeHistory()
}

// begin makes tree what there is, and finds the segment that goes on behind it.
func (n *notary) begin(tree compact) error {
	n.forget()
	tiles, err := growFrom(n.f, tree.n)
	if err != nil {
		return fmt.Errorf("reading the tree of the journal: %w", err)
	}
	s := n.j.main.status()
	i := segmentOf(s.segments, tree.n+1)
	if i < 0 {
		return &Damage{Segment: rootsName, Seq: tree.n + 1, What: "the record behind the tree is not kept"}
	}
	n.tree, n.tiles, n.first, n.ready = tree, tiles, s.segments[i].first, true
	n.at = position{seq: n.first - 1, chain: s.segments[i].chain, off: headerLen}
	return nil
}

// segmentOf returns the index of the segment that has the record with sequence
// seq, or where it will be; -1 where it is not kept.
func segmentOf(segs []segment, seq uint64) int {
	i, found := slices.BinarySearchFunc(segs, seq, func(s segment, seq uint64) int {
		switch {
		case s.first < seq:
			return -1
		case s.first > seq:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	return i
}

// read adds the records to the tree that are durable, up to that with sequence
// last. Where it may sign, it does at every 1,000 of them.
func (n *notary) read(ctx context.Context, last uint64, sign bool) error {
	for {
		s := n.j.main.status()
		i := segmentOf(s.segments, n.first)
		if i < 0 || s.segments[i].first != n.first {
			return fmt.Errorf("reading records for a checkpoint: %w", fs.ErrNotExist)
		}
		if err := n.readSegment(ctx, &s.segments[i], last, sign); err != nil {
			return err
		}
		if n.at.seq >= last || i+1 == len(s.segments) {
			return nil
		}
		next := &s.segments[i+1]
		if next.first != n.at.seq+1 || next.chain != n.at.chain {
			return &Damage{Segment: records.name(next.first), Seq: next.first, What: "the segment does not follow the one before"}
		}
		n.first, n.at.off = next.first, headerLen
	}
}

// readSegment adds the records of one segment. Those that are in the tree
// already, because it was begun in the middle, are stepped over.
func (n *notary) readSegment(ctx context.Context, seg *segment, last uint64, sign bool) (err error) {
	const most = 2 << 20 // a frame is shorter
	name := records.name(seg.first)
	v, err := n.f.disk.View(name)
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	for n.at.off < seg.end && n.at.seq < last {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := int(min(most, seg.end-n.at.off))
		n.buf = slices.Grow(n.buf[:0], size)[:size]
		got, err := v.ReadAt(n.buf, n.at.off)
		if err != nil && !isEOF(err) {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		b, before := n.buf[:got], n.at.seq
		for len(b) > 0 && n.at.seq < last {
			f, err := parseFrame(b)
			if errors.Is(err, errShortFrame) && n.at.seq > before {
				break // the rest comes with the next read
			}
			off := n.at.off
			var leaf [32]byte
			if err == nil {
				leaf, err = n.at.verify(&f, b)
			}
			if err != nil {
				return &Damage{Segment: name, Offset: off, Seq: n.at.seq + 1, What: err.Error()}
			}
			b = b[f.size():]
			if n.at.seq <= n.tree.n {
				continue
			}
			if err := n.add(leaf, sign); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *notary) add(leaf [32]byte, sign bool) error {
	n.tree.add(tlog.Hash(leaf))
	if err := n.tiles.add(tlog.Hash(leaf)); err != nil {
		return err
	}
	if !sign || n.tree.n < n.signed()+checkpointRecords {
		return nil
	}
	c, err := n.sign.checkpoint(&n.tree, n.j.c.Clock.Now())
	n.pending = append(n.pending, c)
	return err
}

// keep writes the checkpoints that are pending behind the others, and
// publishes the last.
func (n *notary) keep() error {
	for len(n.pending) > 0 {
		bundle := n.f.historyOf(n.pending[0].Size)
		if err := n.openHistory(bundle); err != nil {
			return err
		}
		var text []byte
		of := 0
		for ; of < len(n.pending) && n.f.historyOf(n.pending[of].Size) == bundle; of++ {
			text = append(append(text, n.pending[of].Note...), '\n')
		}
		if _, err := n.history.WriteAt(text, n.end); err != nil {
			return fmt.Errorf("writing checkpoints: %w", err)
		}
		n.end += int64(len(text))
		n.mu.Lock()
		n.latest = n.pending[of-1]
		n.mu.Unlock()
		n.pending = n.pending[of:]
	}
	return nil
}

// openHistory opens the file of the checkpoints beside a bundle, to write
// behind those that are there.
func (n *notary) openHistory(bundle uint64) error {
	if n.history != nil && n.beside == bundle {
		return nil
	}
	if err := n.closeHistory(); err != nil {
		return err
	}
	name := n.f.historyName(bundle)
	file, err := n.f.disk.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = n.f.disk.Create(name, historySize); err == nil {
			err = n.f.disk.Sync()
		}
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	h, err := n.f.readHistory(bundle)
	if err == nil && h.torn {
		if anchor := n.anchor; n.f.historyOf(anchor) == bundle && (len(h.notes) == 0 || !reaches(h.notes[len(h.notes)-1].text, anchor)) {
			n.alarm("checkpoint-damaged", name+" is damaged, and cut off there")
		}
		err = errors.Join(file.Truncate(h.end), file.Sync())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("reading %s: %w", name, err), file.Close())
	}
	n.history, n.beside, n.end = file, bundle, h.end
	return nil
}

// reaches reports whether a checkpoint has size records or more.
func reaches(text []byte, size uint64) bool {
	c, err := readNote(text)
	return err == nil && c.Size >= size
}

func (n *notary) closeHistory() error {
	if n.history == nil {
		return nil
	}
	err := errors.Join(n.history.Sync(), n.history.Close())
	n.history = nil
	return err
}

// forget lets go of everything that load makes.
func (n *notary) forget() {
	if n.tiles != nil {
		n.j.complain("closing the tree of the journal", n.tiles.close())
	}
	n.j.complain("closing checkpoints", n.closeHistory())
	n.tree, n.tiles, n.pending, n.ready = compact{}, nil, nil, false
}

// reach returns a channel that is closed when the record with sequence seq is
// durable. There is one who waits like this.
func (t *tape) reach(seq uint64) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.marked == nil {
		t.marked = make(chan struct{})
	}
	t.mark = seq
	marked := t.marked
	t.passed()
	return marked
}

// passed tells who waits in reach. It is called with mu held.
func (t *tape) passed() {
	if t.marked != nil && t.head.seq >= t.mark {
		close(t.marked)
		t.marked = nil
	}
}

// certified returns the sequence of the first record that retention must not
// remove, because the tree does not have it for good.
func (j *Journal) certified() uint64 {
	n := j.notary.Load()
	if n == nil {
		if j.treed.Load() {
			return 0
		}
		return ^uint64(0)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.durable + 1
}

// hurry asks for the tree to be brought up to date, and for the maintainer to
// be woken then.
func (j *Journal) hurry() {
	if n := j.notary.Load(); n != nil {
		select {
		case n.hurried <- struct{}{}:
		default:
		}
	}
}

// prune removes what is kept of the tree beside records that were removed:
// all but the roots. First is the sequence of the first record that is kept.
func (n *notary) prune(first uint64) error {
	names, err := n.f.disk.Names()
	if err != nil {
		return fmt.Errorf("listing the tree of the journal: %w", err)
	}
	n.mu.Lock()
	bound := min(n.f.bundle(first-1), n.f.historyOf(n.latest.Size)) << n.f.height
	n.mu.Unlock()
	for _, name := range names {
		leaf, ok := parseTiles(name)
		if !ok {
			leaf, ok = parseHistory(name)
		}
		if ok && leaf < bound {
			err = errors.Join(err, n.j.main.discard(name))
		}
	}
	return err
}

// Certified returns when the last checkpoint was signed, and why none are
// any more: the error wraps [ErrCorrupt]. Both are zero while none are signed.
func (j *Journal) Certified() (time.Time, error) {
	n := j.notary.Load()
	if n == nil {
		return time.Time{}, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latest.Time, n.broken
}

// VerifierKey returns the key that verifies the checkpoints of j, while it
// signs some.
func (j *Journal) VerifierKey() (*Key, error) {
	n := j.notary.Load()
	if n == nil {
		return nil, unavailable(ErrLocked)
	}
	return n.sign.key, nil
}

// Checkpoint returns the last checkpoint of j: one with the record whose
// sequence is covering at least, which is made where there is none; 0 stands
// for any. The error is a fault of kind NotFound where there is no such record.
func (j *Journal) Checkpoint(ctx context.Context, covering uint64) (Checkpoint, error) {
	n := j.notary.Load()
	if n == nil {
		return Checkpoint{}, unavailable(ErrLocked)
	}
	for again := false; ; again = true {
		n.mu.Lock()
		latest, broken := n.latest, n.broken
		n.mu.Unlock()
		switch {
		case broken != nil:
			return latest, broken
		case latest.Size >= max(covering, 1):
			return latest, nil
		case again || covering > j.main.status().head.seq:
			return latest, fault.New(fault.NotFound, "no audit record %d", covering)
		}
		if err := n.now(ctx); err != nil {
			return latest, err
		}
	}
}
