package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// What Config's zero values stand for.
const (
	defaultSegment = 16 << 20
	defaultAge     = 24 * time.Hour
	defaultReserve = 64 << 20

	sealedSegment = 64 << 10
	sealedKeep    = 4 << 20

	tick = 10 * time.Second // between two looks of the maintainer
)

// SealedKeyName is the name of the file in Config.KeysDir that holds the key of
// events while sealed.
const SealedKeyName = "audit-sealed.key"

// Journal is the record of all operations of one node. It is safe for
// concurrent use. Make it with [Open].
type Journal struct {
	c      Config
	dir    string
	disk   Disk
	main   *tape
	sealed *tape
	outbox *outbox
	anchor *anchorage
	lastID atomic.Int64 // time of the last row of the outbox

	keys    atomic.Pointer[keys] // nil while locked
	turning sync.Mutex           // held by Unlock, Lock and Close
	ending  <-chan struct{}      // closed when all that Lock began has ended; guarded by turning
	saving  sync.Mutex           // held while a head is written
	tending sync.Mutex           // held while the maintainer may record something

	nudged chan struct{}
	ctx    context.Context //nolint:containedctx // the life of the goroutines that Close waits for
	cancel context.CancelFunc
	wg     sync.WaitGroup

	feedMu sync.Mutex
	feeds  map[string]*feed

	notary atomic.Pointer[notary] // nil where no checkpoints are signed
	treed  atomic.Bool            // some were

	lastTry time.Time // of the maintainer to get out of a full disk
}

// Open opens the journal in dir, making it where there is none. It is locked:
// it takes events by [Journal.Sealed] and nothing else.
//
// What a crash left of a batch that was never acknowledged is cut off. Any
// other damage at the end of the journal is an error that wraps [ErrCorrupt]
// and says where; [Reader.Verify] looks at all of it.
func Open(dir string, c Config) (*Journal, error) {
	if c.Clock == nil || c.KeysDir == "" {
		return nil, errors.New("audit: Config needs a Clock and a KeysDir")
	}
	if c.Patience == 0 {
		c.Patience = patience
	}
	if c.SegmentAge == 0 {
		c.SegmentAge = defaultAge
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	disk := c.Disk
	if disk == nil {
		d, err := openDisk(dir)
		if err != nil {
			return nil, err
		}
		disk = d
	}
	if err := c.fit(disk); err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	j := &Journal{c: c, dir: dir, disk: disk, nudged: make(chan struct{}, 1), feeds: map[string]*feed{}}
	j.anchor = &anchorage{j: j}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	if err := j.open(); err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	return j, nil
}

func (j *Journal) open() error {
	nodeKey, err := nodeKeys(j.c.KeysDir)
	if err != nil {
		return err
	}
	j.main = &tape{
		disk: j.disk, stream: records, clock: j.c.Clock, size: j.c.SegmentBytes, age: j.c.SegmentAge, reserve: j.c.Reserve, nudge: j.nudge,
		patience: j.c.Patience,
	}
	j.sealed = &tape{disk: j.disk, stream: events, clock: j.c.Clock, size: min(sealedSegment, j.c.SegmentBytes), nudge: func() {}, keys: nodeKey, patience: j.c.Patience}
	j.outbox = &outbox{j: j, wake: make(chan struct{}, 1), urgent: make(chan chan struct{})}
	j.main.settled = j.outbox.settled
	for _, t := range []*tape{j.main, j.sealed} {
		if err := j.load(t); err != nil {
			return err
		}
	}
	names, err := j.disk.Names()
	if err != nil {
		return fmt.Errorf("listing the journal: %w", err)
	}
	j.treed.Store(slices.Contains(names, checkpointName))
	if j.main.reserve > 0 {
		if err := j.main.hold(); err != nil {
			if !outOfSpace(err) {
				return err
			}
			j.main.full = true
		}
	}
	j.main.start()
	j.sealed.start()
	j.wg.Go(j.maintain)
	return nil
}

// load loads t and holds it against its head.
func (j *Journal) load(t *tape) error {
	if err := t.load(); err != nil {
		return err
	}
	h, err := readHead(j.disk, t.stream)
	if err != nil || h == nil {
		return err
	}
	if err := h.check(t.segments, t.journal, t.head); err != nil {
		return err
	}
	for len(t.segments) > 1 && t.segments[1].first <= h.first {
		if err := j.disk.Remove(t.stream.name(t.segments[0].first)); err != nil {
			return fmt.Errorf("removing a segment that is not kept: %w", err)
		}
		t.segments = t.segments[1:]
	}
	return nil
}

// nodeKeys reads the node's own key from dir, and makes it where there is none.
func nodeKeys(dir string) (*keys, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the node's keys: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil { // of what a crash has left unsynced
		return nil, fmt.Errorf("syncing the directory of the node's keys: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the node's keys: %w", err)
	}
	k, err := readNodeKeys(root)
	if errors.Is(err, fs.ErrNotExist) {
		key := aead.NewKey()
		if err = writeNodeKey(root, key); err == nil {
			k, err = newKeys(secret.NewBytes(key))
		}
	}
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, SealedKeyName), err)
	}
	return k, nil
}

// writeNodeKey writes a key that gets its name when it is complete, so that no
// crash leaves half of one.
func writeNodeKey(root *os.Root, key []byte) error {
	const fresh = SealedKeyName + ".new"
	f, err := root.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(fresh, SealedKeyName); err != nil {
		return err
	}
	return durable.SyncDir(root.Name())
}

func readNodeKeys(root *os.Root) (*keys, error) {
	info, err := root.Lstat(SealedKeyName)
	if err != nil {
		return nil, err
	}
	if modesMeanSomething && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others can read it (mode %o): chmod 600 it", info.Mode().Perm())
	}
	text, err := root.ReadFile(SealedKeyName)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(string(trimNewline(text)))
	if err != nil || len(key) != aead.KeySize {
		return nil, errors.New("it does not hold 64 hex digits")
	}
	return newKeys(secret.NewBytes(key))
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// Unlock gives j the audit key and the physical store, whose outbox it moves
// into the journal first. Intents without an outcome are closed as unknown. The
// error wraps [ErrCorrupt] where the journal is not what is known of it in the
// store and among the node's keys; see [AcceptLoss].
func (j *Journal) Unlock(key secret.Bytes, store storage.Store) error {
	j.turning.Lock()
	defer j.turning.Unlock()
	if j.keys.Load() != nil {
		return errors.New("audit: journal is unlocked already")
	}
	if j.ending != nil {
		select {
		case <-j.ending:
		default:
			return unavailable(errStuck)
		}
	}
	k, err := newKeys(key)
	if err != nil {
		return err
	}
	if err := j.checkHead(k); err != nil {
		k.wipe()
		return err
	}
	ctx, cancel := context.WithTimeout(j.ctx, time.Minute)
	defer cancel()
	accepted, alarms, err := j.hold(ctx, k, store)
	if err != nil {
		k.wipe()
		return err
	}
	j.main.mu.Lock()
	j.main.keys = k
	j.main.mu.Unlock()
	j.anchor.open(k, store)
	if err := j.recover(ctx, k, store, accepted, alarms); err != nil {
		short, cancel := context.WithTimeout(j.ctx, patience)
		defer cancel()
		err = errors.Join(err, j.outbox.stop(short))
		j.anchor.close()
		j.forget(k)
		return err
	}
	j.saveHead()
	j.anchor.tend(ctx)
	j.keys.Store(k)
	return nil
}

func (j *Journal) checkHead(k *keys) error {
	h, err := readHead(j.disk, records)
	if err != nil || h == nil {
		return err
	}
	segs := j.main.status().segments
	if h.authentic(k) {
		return nil
	}
	if len(segs) > 0 && segs[len(segs)-1].key != k.id {
		return nil // the key has been turned, and the head will be written anew
	}
	return &Damage{Segment: records.headName(), What: "the head was not written by this journal"}
}

// recover brings j's books in order after it was given its key.
func (j *Journal) recover(ctx context.Context, k *keys, store storage.Store, accepted *Loss, alarms []string) error {
	if accepted != nil {
		if err := j.begin(ctx, k, store, accepted); err != nil {
			return err
		}
	}
	if err := j.openIntents(ctx, k); err != nil {
		return fmt.Errorf("looking for operations without an outcome: %w", err)
	}
	if err := j.outbox.start(ctx, k, store); err != nil {
		return fmt.Errorf("emptying the audit outbox: %w", err)
	}
	if err := j.sayAlarms(ctx, alarms); err != nil {
		return err
	}
	j.main.mu.Lock()
	open := make([]string, 0, len(j.main.open))
	for request := range j.main.open {
		open = append(open, request)
	}
	slices.SortFunc(open, func(a, b string) int { return cmp.Compare(j.main.open[a], j.main.open[b]) })
	j.main.mu.Unlock()
	for _, request := range open {
		r := &Record{Kind: Outcome, RequestID: request, Outcome: OutcomeUnknown, Time: j.c.Clock.Now(), Node: j.c.Node, Critical: true}
		if err := j.append(ctx, r); err != nil {
			return fmt.Errorf("closing an operation without an outcome: %w", err)
		}
	}
	return j.event(ctx, "journal-unlocked", "", true)
}

// openIntents finds the intents of this journal's life before that have no outcome.
func (j *Journal) openIntents(ctx context.Context, k *keys) error {
	s := j.main.status()
	h, err := readHead(j.disk, records)
	if err != nil || len(s.segments) == 0 {
		return err
	}
	from := s.segments[0].first
	if h != nil {
		from = max(from, h.low)
	}
	rd := j.reader(k)
	for r, err := range rd.Records(ctx, from) {
		if err != nil {
			if errors.Is(err, ErrWrongKey) && k.id != s.segments[len(s.segments)-1].key {
				continue // written before the key was turned
			}
			return err
		}
		j.main.mu.Lock()
		switch r.Kind {
		case Intent:
			j.main.open[r.RequestID] = r.Seq
		case Outcome:
			delete(j.main.open, r.RequestID)
		case Request, Event:
		}
		j.main.mu.Unlock()
	}
	return nil
}

// Lock takes the key away again, when what was given to j is durable or could
// not be made so in two seconds.
func (j *Journal) Lock() {
	j.turning.Lock()
	defer j.turning.Unlock()
	j.lock()
}

func (j *Journal) lock() {
	k := j.keys.Swap(nil)
	if k == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), patience)
	defer cancel()
	j.ending = within(ctx, func() {
		j.complain("draining the audit outbox", j.outbox.stop(ctx))
		j.complain("recording that the journal was locked", j.event(ctx, "journal-locked", "", true))
		j.closeFeeds(ctx)
		j.tending.Lock() // what the maintainer records is signed too
		if n := j.notary.Load(); n != nil {
			n.stop()
			j.notary.Store(nil)
		}
		j.tending.Unlock()
		j.saveHead()
		j.anchor.tend(ctx)
		j.anchor.close()
	})
	if n := j.notary.Load(); n != nil { // a disk that does not answer keeps it
		n.sign.wipe()
	}
	j.forget(k)
}

// forget takes the key from the tape and wipes it.
func (j *Journal) forget(k *keys) {
	j.main.mu.Lock()
	j.main.keys = nil
	j.main.mu.Unlock()
	k.wipe()
}

// within calls fn and returns when it has returned, or when ctx ends and fn is
// left to a disk that does not answer. The channel is closed when fn has returned.
func within(ctx context.Context, fn func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return done
}

// Close locks j and ends it.
func (j *Journal) Close() error {
	j.turning.Lock()
	defer j.turning.Unlock()
	j.lock()
	j.cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), patience)
	defer cancel()
	within(ctx, j.wg.Wait)
	err := errors.Join(j.main.stop(), j.sealed.stop())
	return errors.Join(err, j.disk.Close())
}

// Append records r. When it returns nil, r is durable, and so is every record
// of a transaction that had ended before. It sets r.Seq and r.ID. The error is
// a fault of kind Unavailable, within two seconds; r may then be durable all
// the same.
func (j *Journal) Append(ctx context.Context, r *Record) error {
	if j.keys.Load() == nil {
		return unavailable(ErrLocked)
	}
	return j.append(ctx, r)
}

var entries = sync.Pool{New: func() any { return &entry{json: make([]byte, 0, 1024)} }}

func (j *Journal) append(ctx context.Context, r *Record) error {
	if r.ID == "" {
		r.ID = newTextID(j.c.Clock.Now())
	}
	e := entries.Get().(*entry) //nolint:forcetypeassert,errcheck // the pool holds nothing else
	e.json = appendRecord(e.json[:0], r, false)
	e.kind, e.request, e.critical = r.Kind, r.RequestID, r.Critical
	b, seq, err := j.main.add(e)
	e.request = ""
	entries.Put(e)
	if err != nil {
		return err
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	r.Seq = seq
	return nil
}

// nextRow returns a row of the outbox behind every one before it.
func (j *Journal) nextRow() (row, id string) {
	for {
		last := j.lastID.Load()
		next := max(last+1, j.c.Clock.Now().UnixNano())
		if j.lastID.CompareAndSwap(last, next) {
			return newID(time.Unix(0, next))
		}
	}
}

// newID returns the id of a record that is made at t, as a row of the outbox
// and as text: ids are in the order of time, nearly.
func newID(t time.Time) (row, id string) {
	b := randomID(t)
	return string(b[:]), hex.EncodeToString(b[:])
}

// newTextID is the text of [newID].
func newTextID(t time.Time) string {
	b := randomID(t)
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

func randomID(t time.Time) (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(t.UnixNano()))
	rand.Read(b[8:])
	return b
}

func (j *Journal) event(ctx context.Context, event, note string, critical bool) error {
	return j.append(ctx, &Record{Kind: Event, Event: event, Note: note, Time: j.c.Clock.Now(), Node: j.c.Node, Outcome: OutcomeOK, Critical: critical})
}

// Sealed records an event while the journal is locked, in a journal of its own
// whose key is the node's. An event is a few words of a-z and '-', "unseal-refused",
// so that it holds neither names nor values.
func (j *Journal) Sealed(ctx context.Context, event string) error {
	for _, c := range []byte(event) {
		if (c < 'a' || c > 'z') && c != '-' {
			return fault.New(fault.Internal, "an event is words of a-z and '-'")
		}
	}
	if event == "" || len(event) > 64 {
		return fault.New(fault.Internal, "an event has 1 to 64 bytes")
	}
	now := j.c.Clock.Now()
	_, id := newID(now)
	r := &Record{ID: id, Kind: Event, Event: event, Time: now}
	b, _, err := j.sealed.add(&entry{json: appendRecord(nil, r, false), kind: Event})
	if err != nil {
		return err
	}
	return b.wait(ctx)
}

// Sync returns when the record of every transaction that has ended is durable
// in the journal.
func (j *Journal) Sync(ctx context.Context) error {
	if j.keys.Load() == nil {
		return nil // Lock has synced
	}
	b, err := j.main.flush()
	if err != nil || b == nil {
		return err
	}
	return b.wait(ctx)
}

func (j *Journal) nudge() {
	select {
	case j.nudged <- struct{}{}:
	default:
	}
}

// maintain does what need not be done at once: it prepares segments, gets out
// of a full disk, removes what is too old, and writes heads.
func (j *Journal) maintain() {
	ticks := make(chan struct{})
	j.wg.Go(func() {
		for j.c.Clock.Wait(j.ctx, j.c.Clock.Now().Add(tick)) == nil {
			select {
			case ticks <- struct{}{}:
			case <-j.ctx.Done():
				return
			}
		}
	})
	for {
		ticked := false
		select {
		case <-j.ctx.Done():
			return
		case <-j.nudged:
		case <-ticks:
			ticked = true
		}
		j.tend(func() { j.leaveFull(ticked) })
		j.complain("preparing a segment", j.main.prepare())
		j.tend(func() {
			if j.keys.Load() != nil {
				j.complain("removing what is too old from the journal", j.expire(j.ctx))
			}
		})
		j.complain("removing old events while sealed", j.expireSealed())
		if ticked || j.turnedOver() {
			j.saveHead()
		}
		if ticked && j.keys.Load() != nil { // while it is being unlocked, no anchor is ahead of that
			j.anchor.tend(j.ctx)
		}
	}
}

func (j *Journal) tend(fn func()) {
	j.tending.Lock()
	defer j.tending.Unlock()
	fn()
}

// turnedOver reports whether a segment was begun since the head was written.
func (j *Journal) turnedOver() bool {
	h, err := readHead(j.disk, records)
	s := j.main.status()
	return err == nil && len(s.segments) > 1 && (h == nil || h.last+1 < s.segments[len(s.segments)-1].first)
}

func (j *Journal) saveHead() {
	j.saving.Lock()
	defer j.saving.Unlock()
	j.complain("writing the journal's head", errors.Join(j.main.saveHead(), j.sealed.saveHead()))
}

func (j *Journal) complain(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		j.c.Log.LogAttrs(j.ctx, slog.LevelWarn, "audit journal", slog.String("doing", what), slog.Any("cause", err))
	}
}

// leaveFull ends the refusals of a full disk once there is space for the
// reserve and for another segment, and records the gap.
func (j *Journal) leaveFull(ticked bool) {
	j.main.mu.Lock()
	full := j.main.full
	j.main.mu.Unlock()
	now := j.c.Clock.Now()
	if !full || !ticked && now.Sub(j.lastTry) < time.Second && !j.lastTry.IsZero() {
		return
	}
	j.lastTry = now
	refused, since, err := j.main.recover()
	if err != nil {
		if !outOfSpace(err) {
			j.complain("making space for the journal", err)
		}
		return
	}
	if j.keys.Load() == nil {
		return
	}
	note := "the disk was full"
	if refused > 0 {
		note = fmt.Sprintf("the disk was full: %d operations were refused from %s to %s", refused, since.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	j.complain("recording a gap", j.event(j.ctx, "gap", note, true))
}
