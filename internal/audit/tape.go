package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
)

// patience is how long anyone waits for the disk, where nothing else is said.
const patience = 2 * time.Second

// What one batch can hold. Who comes when it is full is refused.
const (
	maxBatch      = 16 << 10
	maxBatchBytes = 32 << 20
)

const reserveName = "reserve"

var (
	errFull     = errors.New("audit: the disk is full")
	errStuck    = errors.New("audit: the disk does not answer")
	errPoisoned = errors.New("audit: the disk failed to keep records")
	errBusy     = errors.New("audit: too many records wait for the disk")
	errClosed   = errors.New("audit: journal is closed")
)

// unavailable is what the caller of an operation is told where its record
// cannot be kept.
func unavailable(cause error) error {
	say := "the audit journal cannot be written; try again later"
	switch {
	case errors.Is(cause, errFull), outOfSpace(cause):
		say = "the audit journal cannot be written: its disk is full; try again when there is space"
	case errors.Is(cause, errStuck):
		say = "the audit journal cannot be written: its disk does not answer; try again later"
	case errors.Is(cause, errPoisoned):
		say = "the audit journal cannot be written: its disk has failed, and the server must be started anew"
	}
	return fault.Wrap(fault.Unavailable, cause, "%s", say)
}

// segment is one file of a tape.
type segment struct {
	first uint64
	end   int64 // offset after its last frame
	begun time.Time
	key   [8]byte
	chain [32]byte // before its first record
}

// position is a place in a tape, after the record with sequence seq.
type position struct {
	seq   uint64
	chain [32]byte
	off   int64 // in the last segment
}

// entry is a record on its way to a tape.
type entry struct {
	json     []byte // canonical
	kind     Kind
	request  string
	critical bool
	row      string // of the outbox, where it came from there
}

// slot is the place of an entry in a batch.
type slot struct {
	entry   *entry // until it is sealed
	waiting *entry // the same where it came from the outbox, and must come again if the batch fails
	kind    Kind
	request string
	seq     uint64
	frame   []byte
	leaf    [32]byte
	err     error
}

var slots = sync.Pool{New: func() any { return new(slot) }}

// seal makes the slot's frame, all but what depends on the frames before it.
func (s *slot) seal(k *keys, journal [16]byte) {
	if cap(s.frame) < frameHead {
		s.frame = make([]byte, frameHead, 1024)
	}
	b, err := k.sealRecord(s.frame[:frameHead], journal, s.seq, s.entry.json)
	s.entry, s.err = nil, err
	if err != nil {
		return
	}
	b[frameHead-1] = 0 // the leaf's prefix, until the chain value takes its place
	s.leaf = sha256.Sum256(b[frameHead-1:])
	s.frame = append(b, frameEnd)
}

// batch is what is made durable together.
type batch struct {
	slots    []*slot
	bytes    int
	critical bool
	pending  sync.WaitGroup // slots that are not sealed
	overdue  *time.Timer
	once     sync.Once
	done     chan struct{}
	err      error // valid once done is closed
}

func (b *batch) finish(err error) {
	b.once.Do(func() {
		b.err = err
		close(b.done)
		if b.overdue != nil {
			b.overdue.Stop()
		}
	})
}

// wait returns when b is durable, or cannot be, or when ctx has ended.
func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		select {
		case <-b.done:
			return b.err
		default:
			return unavailable(ctx.Err())
		}
	}
}

// tape is the segments of one stream and the goroutine that writes them.
//
// Whoever adds a record gets its sequence under mu, seals it himself, and
// waits for his batch; the writer takes a batch, waits for its last seal,
// chains the frames, and writes and syncs them at once. While it does, the
// next batch fills.
type tape struct {
	disk     Disk
	stream   stream
	journal  [16]byte
	clock    clock.Clock
	size     int64         // of a segment
	age      time.Duration // at which a segment is closed
	reserve  int64         // bytes; 0 for none
	patience time.Duration // with the disk
	settled  func(*batch)  // called by the writer when a batch is durable
	nudge    func()        // called when prepare or recover have something to do

	wake chan struct{} // the current batch has its first slot
	quit chan struct{}
	done chan struct{}

	making sync.Mutex // held while there is a file called spareName that is not in spare

	mu       sync.Mutex
	keys     *keys // nil while locked
	current  *batch
	next     uint64   // sequence of the next record
	queue    []*entry // of the outbox: they go before whatever is added next
	segments []segment
	head     position      // durable
	advanced chan struct{} // closed and replaced when head moves; nil if nobody waits
	marked   chan struct{} // closed when head is at mark; nil if nobody waits
	mark     uint64
	open     map[string]uint64 // intents without outcome, by request
	stats    Stats
	spare    File // made in advance, of size bytes, called spareName
	held     bool // the reserve is there
	full     bool
	refused  uint64    // since full
	since    time.Time // of the first refusal
	poison   error
	stuck    bool
	closed   bool

	saved headFile // of who writes heads, one at a time

	// Of the writer alone.
	file  File
	limit int64 // size of file
	off   int64
	chain [32]byte
	buf   []byte
}

func (t *tape) spareName() string { return t.stream.prefix() + "next" }

// load finds the segments of t and the end of the last one, which it mends
// where a batch was being written when the machine stopped.
func (t *tape) load() error {
	names, err := t.disk.Names()
	if err != nil {
		return fmt.Errorf("listing segments: %w", err)
	}
	t.segments, t.journal, err = listSegments(t.disk, t.stream, names)
	if err != nil {
		return err
	}
	if slices.Contains(names, t.spareName()) {
		if err := t.disk.Remove(t.spareName()); err != nil {
			return fmt.Errorf("removing a segment that was being prepared: %w", err)
		}
	}
	if len(t.segments) == 0 {
		rand.Read(t.journal[:])
		t.head = position{chain: firstChain(t.stream, t.journal)}
		t.chain, t.next = t.head.chain, 1
		return nil
	}
	return t.loadLast()
}

func (t *tape) loadLast() error {
	seg := &t.segments[len(t.segments)-1]
	name := t.stream.name(seg.first)
	b, err := readAll(t.disk, name)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	head, rest, err := scanSegment(b, name, seg)
	if err != nil {
		return err
	}
	t.file, err = t.disk.Open(name)
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	t.limit = int64(len(b))
	if !zero(rest) {
		t.limit = head.off
		if err := t.file.Truncate(head.off); err != nil {
			return errors.Join(fmt.Errorf("cutting off what was never acknowledged from %s: %w", name, err), t.file.Close())
		}
	}
	// Whoever wrote it may have been killed before it was synced, and it is shown
	// and built upon from now on.
	if err := errors.Join(t.file.Sync(), t.disk.Sync()); err != nil {
		return errors.Join(fmt.Errorf("syncing %s: %w", name, err), t.file.Close())
	}
	seg.end = head.off
	t.head, t.off, t.chain, t.next = head, head.off, head.chain, head.seq+1
	return nil
}

// scanSegment returns the end of the last whole frame of a segment that is b,
// and what lies behind it: zeros, or a batch that was never acknowledged.
func scanSegment(b []byte, name string, seg *segment) (position, []byte, error) {
	at := position{seq: seg.first - 1, chain: seg.chain, off: headerLen}
	began := seg.first
	for {
		rest := b[at.off:]
		f, err := parseFrame(rest)
		if err != nil {
			if zero(rest) || torn(rest, at.off) && !laterBatch(rest, at.seq, began) {
				return at, rest, nil
			}
			return at, nil, &Damage{Segment: name, Offset: at.off, Seq: at.seq + 1, What: err.Error()}
		}
		if err := at.step(&f); err != nil {
			return at, nil, &Damage{Segment: name, Offset: at.off, Seq: at.seq + 1, What: err.Error()}
		}
		began = at.seq - uint64(f.place)
	}
}

// step moves p over the frame that lies there.
func (p *position) step(f *frame) error {
	if f.seq() != p.seq+1 {
		return fmt.Errorf("the record has sequence %d, not %d", f.seq(), p.seq+1)
	}
	chain := nextChain(p.chain, LeafHash(f.stored))
	if chain != f.chain {
		return errors.New("the record is not the one that was chained")
	}
	p.seq, p.chain, p.off = p.seq+1, chain, p.off+int64(f.size())
	return nil
}

// listSegments reads the headers of all segments of a stream.
func listSegments(d Disk, s stream, names []string) (segs []segment, journal [16]byte, err error) {
	for _, name := range names {
		first, ok := s.parseName(name)
		if !ok {
			continue
		}
		seg, h, err := readHeader(d, name)
		if err != nil {
			return nil, journal, err
		}
		damage := &Damage{Segment: name, Seq: first}
		switch {
		case h.first != first || h.stream != s:
			damage.What = "the segment has another one's name"
		case len(segs) > 0 && h.journal != journal:
			damage.What = "the segment is of another journal"
		case first == 1 && h.chain != firstChain(s, h.journal):
			damage.What = "the chain does not begin where a journal begins"
		default:
			journal = h.journal
			segs = append(segs, seg)
			continue
		}
		return nil, journal, damage
	}
	return segs, journal, nil
}

func readHeader(d Disk, name string) (seg segment, h header, err error) {
	v, err := d.View(name)
	if err != nil {
		return seg, h, fmt.Errorf("opening %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	var b [headerLen]byte
	n, readErr := v.ReadAt(b[:], 0)
	if n < headerLen {
		if readErr != nil && !isEOF(readErr) {
			return seg, h, fmt.Errorf("reading %s: %w", name, readErr)
		}
		return seg, h, &Damage{Segment: name, What: errHeader.Error()}
	}
	h, err = parseHeader(b[:])
	if errors.Is(err, errHeader) {
		err = &Damage{Segment: name, What: errHeader.Error()}
	}
	size, sizeErr := v.Size()
	return segment{first: h.first, end: size, begun: h.begun, key: h.key, chain: h.chain}, h, errors.Join(err, sizeErr)
}

// start runs the writer.
func (t *tape) start() {
	t.wake, t.quit, t.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	t.current = newBatch()
	if t.open == nil {
		t.open = map[string]uint64{}
	}
	go t.run()
}

// stop ends the writer, for which it waits no longer than anyone.
func (t *tape) stop() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	close(t.quit)
	select {
	case <-t.done:
	case <-time.After(patience):
		return errStuck
	}
	var err error
	if t.file != nil {
		err = t.file.Close()
	}
	if t.spare != nil {
		err = errors.Join(err, t.spare.Close(), t.disk.Remove(t.spareName()))
	}
	return err
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// add gives e a place in the current batch, behind what waits in the queue.
// The caller may use e again when it returns.
func (t *tape) add(e *entry) (*batch, uint64, error) {
	t.mu.Lock()
	if err := t.refuses(e.critical); err != nil {
		t.mu.Unlock()
		return nil, 0, unavailable(err)
	}
	b, k := t.current, t.keys
	before := len(b.slots)
	t.drawQueue(b)
	if len(b.slots) >= maxBatch || b.bytes >= maxBatchBytes {
		t.mu.Unlock()
		return nil, 0, unavailable(errBusy)
	}
	seq := t.take(b, e)
	mine := b.slots[before:len(b.slots):len(b.slots)]
	t.begin(b, before)
	t.mu.Unlock()
	t.sealAll(b, mine, k)
	return b, seq, nil
}

// flush gives what waits in the queue its place in a batch, and returns the
// batch that has the last of all records; nil where all are durable.
func (t *tape) flush() (*batch, error) {
	t.mu.Lock()
	if err := t.refuses(true); err != nil {
		t.mu.Unlock()
		return nil, unavailable(err)
	}
	b, k := t.current, t.keys
	before := len(b.slots)
	t.drawQueue(b)
	mine := b.slots[before:len(b.slots):len(b.slots)]
	if len(b.slots) == 0 {
		if t.next-1 == t.head.seq {
			t.mu.Unlock()
			return nil, nil //nolint:nilnil // nothing to wait for
		}
		b.bytes++ // wait for the batch that is being written: the next one ends after it
	}
	t.begin(b, before)
	t.mu.Unlock()
	t.sealAll(b, mine, k)
	return b, nil
}

// drawQueue moves entries from the queue to b. It is called with mu held.
//
// Rows are in the order in which their transactions ran, but are delivered by
// many goroutines.
func (t *tape) drawQueue(b *batch) {
	if len(t.queue) > 1 {
		slices.SortFunc(t.queue, func(a, b *entry) int { return strings.Compare(a.row, b.row) })
	}
	n := 0
	for ; n < len(t.queue) && len(b.slots) < maxBatch-1 && b.bytes < maxBatchBytes; n++ {
		t.take(b, t.queue[n])
	}
	if n == len(t.queue) {
		t.queue = nil
	} else {
		t.queue = t.queue[n:]
	}
}

func (t *tape) take(b *batch, e *entry) uint64 {
	s := slots.Get().(*slot) //nolint:forcetypeassert,errcheck // the pool holds nothing else
	s.entry, s.waiting, s.kind, s.request, s.seq = e, nil, e.kind, e.request, t.next
	if e.row != "" {
		s.waiting = e
	}
	t.next++
	b.slots = append(b.slots, s)
	b.bytes += frameExtra + storedHead + 64 + len(e.json)
	b.critical = b.critical || e.critical
	b.pending.Add(1)
	return s.seq
}

// begin wakes the writer for a batch that had before slots until now.
func (t *tape) begin(b *batch, before int) {
	if before > 0 || b.overdue != nil {
		return
	}
	b.overdue = time.AfterFunc(t.patience, func() {
		t.mu.Lock()
		select {
		case <-b.done:
		default:
			t.stuck = true
		}
		t.mu.Unlock()
		b.finish(unavailable(errStuck))
	})
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tape) sealAll(b *batch, mine []*slot, k *keys) {
	for _, s := range mine {
		s.seal(k, t.journal)
		b.pending.Done()
	}
}

// refuses says why nothing can be added. It is called with mu held.
func (t *tape) refuses(critical bool) error {
	switch {
	case t.closed:
		return errClosed
	case t.poison != nil:
		return t.poison
	case t.keys == nil:
		return ErrLocked
	case t.stuck:
		return errStuck
	case t.full && !critical:
		if t.refused == 0 {
			t.since = t.clock.Now()
		}
		t.refused++
		t.nudge()
		return errFull
	}
	return nil
}

// run writes batches until t is closed and none is left.
func (t *tape) run() {
	defer close(t.done)
	for {
		quitting := false
		select {
		case <-t.wake:
			t.gather()
		case <-t.quit:
			quitting = true
		}
		t.mu.Lock()
		b := t.current
		if b.overdue == nil {
			t.mu.Unlock()
			if quitting {
				return
			}
			continue
		}
		t.current = newBatch()
		t.mu.Unlock()
		b.pending.Wait()
		t.settle(b, t.write(b))
		if quitting {
			return
		}
	}
}

// gather lets those who were woken by the last batch come back before the next
// one is taken: otherwise the first of them would be alone in it, and the
// others would wait for two syncs instead of one.
func (t *tape) gather() {
	for had := 0; ; {
		t.mu.Lock()
		has := len(t.current.slots)
		t.mu.Unlock()
		if has == had || has >= maxBatch/2 {
			return
		}
		had = has
		runtime.Gosched()
	}
}

// write makes b durable, or says why it is not.
func (t *tape) write(b *batch) error {
	if t.poisoned() {
		return errPoisoned
	}
	need := 0
	for _, s := range b.slots {
		if s.err != nil {
			return s.err
		}
		need += len(s.frame)
	}
	if need == 0 {
		return nil
	}
	if t.file == nil || t.off+int64(need) > t.limit || t.outdated() {
		if err := t.rotate(int64(need), b.critical); err != nil {
			return err
		}
	}
	t.buf = t.buf[:0]
	chain := t.chain
	for i, s := range b.slots {
		chain = nextChain(chain, s.leaf)
		finishFrame(s.frame, uint32(i), chain)
		t.buf = append(t.buf, s.frame...)
	}
	if _, err := t.file.WriteAt(t.buf, t.off); err != nil {
		return errors.Join(fmt.Errorf("writing records: %w", err), t.mend())
	}
	if err := t.file.Sync(); err != nil {
		return t.poisonWith(err)
	}
	t.off += int64(need)
	t.chain = chain
	t.mu.Lock()
	t.stats.Records += uint64(len(b.slots))
	t.stats.Bytes += uint64(need)
	t.stats.Syncs++
	t.mu.Unlock()
	return nil
}

// mend takes back what a failed write may have left behind the last record.
func (t *tape) mend() error {
	t.limit = t.off // what comes next goes to another segment
	if err := t.file.Truncate(t.off); err != nil {
		return t.poisonWith(err)
	}
	if err := t.file.Sync(); err != nil {
		return t.poisonWith(err)
	}
	return nil
}

func (t *tape) poisoned() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.poison != nil
}

// poisonWith makes t refuse everything from now on: after a failed sync nobody
// knows what the disk has, and asking again would only seem to help.
func (t *tape) poisonWith(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.poison = fmt.Errorf("%w: %w", errPoisoned, err)
	return t.poison
}

// outdated reports whether the segment must be closed because of its age or
// its key.
func (t *tape) outdated() bool {
	t.mu.Lock()
	seg := t.segments[len(t.segments)-1]
	turned := t.keys != nil && t.keys.id != seg.key
	t.mu.Unlock()
	return turned || t.age > 0 && t.off > headerLen && t.clock.Now().Sub(seg.begun) >= t.age
}

// rotate begins a segment that takes need bytes at least. Where the disk is
// full and the batch is critical, it gives up the reserve for it.
func (t *tape) rotate(need int64, critical bool) error {
	err := t.advance(need)
	if err != nil && outOfSpace(err) && critical && t.release() {
		err = t.advance(need)
	}
	return err
}

func (t *tape) release() bool {
	t.mu.Lock()
	held := t.held
	t.held = false
	t.mu.Unlock()
	if !held || t.disk.Remove(reserveName) != nil {
		return false
	}
	t.mu.Lock()
	t.full = true
	t.mu.Unlock()
	return true
}

func (t *tape) advance(need int64) error {
	t.making.Lock()
	defer t.making.Unlock()
	t.mu.Lock()
	k, spare, head := t.keys, t.spare, t.head
	t.spare = nil
	t.mu.Unlock()
	if k == nil {
		return ErrLocked
	}
	size := max(t.size, headerLen+need)
	if spare != nil && size > t.size {
		if err := errors.Join(spare.Close(), t.disk.Remove(t.spareName())); err != nil {
			return fmt.Errorf("removing a prepared segment: %w", err)
		}
		spare = nil
	}
	if spare == nil {
		var err error
		if spare, err = t.blank(size); err != nil {
			return err
		}
	}
	h := header{stream: t.stream, journal: t.journal, first: head.seq + 1, begun: t.clock.Now(), chain: t.chain, key: k.id}
	_, err := spare.WriteAt(h.encode(), 0)
	if err == nil {
		err = spare.Sync()
	}
	if err == nil {
		err = t.disk.Rename(t.spareName(), t.stream.name(h.first))
	}
	if err == nil {
		err = t.disk.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("beginning a segment: %w", err), spare.Close(), t.discard(t.spareName()), t.discard(t.stream.name(h.first)))
	}
	t.finishSegment()
	t.mu.Lock()
	if n := len(t.segments); n > 0 && t.segments[n-1].first == h.first {
		t.segments = t.segments[:n-1] // it had no record, and its file is replaced
	}
	t.segments = append(t.segments, segment{first: h.first, end: headerLen, begun: h.begun, key: h.key, chain: h.chain})
	t.head.off = headerLen
	t.mu.Unlock()
	t.file, t.limit, t.off = spare, size, headerLen
	t.nudge()
	return nil
}

// finishSegment closes the segment that was written to. Its space that was not
// used goes back; where that fails, it stays, and is zero.
func (t *tape) finishSegment() {
	if t.file == nil {
		return
	}
	if t.off < t.limit {
		_ = t.file.Truncate(t.off)
	}
	_ = t.file.Close()
}

// discard removes a file that nothing refers to.
func (t *tape) discard(name string) error {
	if err := t.disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// blank makes an empty segment, every byte of which has been written once: to
// write over it changes no metadata of the file, and syncs in half the time.
func (t *tape) blank(size int64) (File, error) {
	if err := t.discard(t.spareName()); err != nil {
		return nil, fmt.Errorf("removing a prepared segment: %w", err)
	}
	f, err := t.disk.Create(t.spareName(), size)
	if err != nil {
		return nil, fmt.Errorf("making a segment: %w", err)
	}
	zeros := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		if _, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err == nil {
			err = f.Sync() // a little at a time: records that are being synced wait for it
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a segment: %w", err), f.Close(), t.discard(t.spareName()))
	}
	return f, nil
}

// settle tells who waits for b what became of it.
func (t *tape) settle(b *batch, err error) {
	if err == nil {
		t.keep(b)
		return
	}
	t.mu.Lock()
	// What came meanwhile was sealed with sequences that follow those of b. It
	// fails too, and the sequences are given anew.
	follow := t.current
	t.current = newBatch()
	t.next = t.head.seq + 1
	var again []*entry
	for _, s := range slices.Concat(b.slots, follow.slots) {
		if s.waiting != nil {
			again = append(again, s.waiting)
		}
	}
	t.queue = append(again, t.queue...)
	if outOfSpace(err) {
		t.full = true
	}
	t.stuck = false
	t.mu.Unlock()
	b.finish(unavailable(err))
	follow.finish(unavailable(err))
}

func (t *tape) keep(b *batch) {
	t.mu.Lock()
	if n := len(b.slots); n > 0 {
		t.head = position{seq: b.slots[n-1].seq, chain: t.chain, off: t.off}
		t.segments[len(t.segments)-1].end = t.off
	}
	for _, s := range b.slots {
		switch s.kind {
		case Intent:
			t.open[s.request] = s.seq
		case Outcome:
			delete(t.open, s.request)
		case Request, Event:
		}
	}
	if t.advanced != nil {
		close(t.advanced)
		t.advanced = nil
	}
	t.passed()
	t.stuck = false
	prepare := t.spare == nil && t.off > t.limit/2
	t.mu.Unlock()
	if t.settled != nil {
		t.settled(b)
	}
	b.finish(nil)
	for _, s := range b.slots {
		s.waiting, s.request = nil, ""
		slots.Put(s)
	}
	if prepare {
		t.nudge()
	}
}

// prepare makes the next segment before it is needed.
func (t *tape) prepare() error {
	t.making.Lock()
	defer t.making.Unlock()
	t.mu.Lock()
	need := t.spare == nil && !t.closed && t.keys != nil && t.poison == nil && (t.full || t.head.off > t.size/2)
	t.mu.Unlock()
	if !need {
		return nil
	}
	f, err := t.blank(t.size)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.spare = f
	t.mu.Unlock()
	return nil
}

// recover makes the reserve and the next segment, where they are missing, and
// ends the refusals that a full disk made necessary. It returns how many there
// were, and since when.
func (t *tape) recover() (refused uint64, since time.Time, err error) {
	if err := t.prepare(); err != nil {
		return 0, since, err
	}
	t.mu.Lock()
	held := t.held || t.reserve <= 0
	t.mu.Unlock()
	if !held {
		if err := t.hold(); err != nil {
			return 0, since, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	refused, since = t.refused, t.since
	t.full, t.refused, t.since = false, 0, time.Time{}
	return refused, since, nil
}

// hold takes the reserve from the disk.
func (t *tape) hold() error {
	f, err := t.disk.Create(reserveName, t.reserve)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	} else if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("holding back space for critical records: %w", err)
	}
	t.mu.Lock()
	t.held = true
	t.mu.Unlock()
	return nil
}

// status is what is known of t at one moment.
type status struct {
	journal  [16]byte
	segments []segment
	head     position
	low      uint64 // sequence of the first intent that has no outcome; else that of the next record
}

func (t *tape) status() status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := status{t.journal, slices.Clone(t.segments), t.head, t.head.seq + 1}
	for seq := range maps.Values(t.open) {
		s.low = min(s.low, seq)
	}
	return s
}
