package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"rotunda.dev/rotunda/internal/storage"
)

// # Anchors
//
// Whoever can change the journal's directory can cut off its end together with
// its head, or remove all of it. So what is durable in it is known elsewhere too:
//
//	scope 0x02 "anchor", row "journal", of the physical store
//	the file audit-anchor in the directory of the node's keys
//
//	  0   8  "RTNDANC" and the format, 1
//	  8  16  journal id
//	 24   8  sequence of the first record that is kept
//	 32   8  sequence of the last record
//	 40  32  chain value after it
//	 72   8  id of the audit key, as in a segment
//	 80  32  HMAC-SHA256(audit key, "rotunda audit anchor", bytes 0 to 79)
//	112   4  CRC-32C of the 112 bytes before
//
// An anchor is written behind the records: with the rows of the outbox that are
// deleted, every ten seconds where something was recorded, before segments are
// removed, and when the journal is unlocked and locked. In the store it never
// goes back. So a journal that is missing, is another one, ends before its
// anchor or has another record there is not the one that was written, and is
// not unlocked: see [AcceptLoss].
const (
	anchorScope  = "\x02anchor"
	anchorRow    = "journal"
	anchorFile   = "audit-anchor"
	anchorMagic  = "RTNDANC"
	anchorFormat = 1
	anchorBody   = 80
	anchorLen    = 116
)

var anchorKey = storage.Key{Scope: anchorScope, Row: anchorRow}

// Anchor is what is known of a journal outside of its directory.
type Anchor struct {
	Journal     [16]byte
	First, Last uint64   // sequences of the first record that is kept and of the last
	Chain       [32]byte // after the last

	key    [8]byte // id of the audit key
	mac    [32]byte
	behind bool // records may have been removed from the beginning since it was written
}

// String says which records the journal had.
func (a *Anchor) String() string {
	return fmt.Sprintf("records %d to %d of journal %x", a.First, a.Last, a.Journal)
}

// Same reports whether a and b are of journals of one store: both were written
// under one audit key.
func (a *Anchor) Same(b *Anchor) bool { return a.key == b.key }

func (a *Anchor) body() []byte {
	b := append(make([]byte, 0, anchorLen), anchorMagic...)
	b = append(b, anchorFormat)
	b = append(b, a.Journal[:]...)
	b = binary.BigEndian.AppendUint64(b, a.First)
	b = binary.BigEndian.AppendUint64(b, a.Last)
	b = append(b, a.Chain[:]...)
	return append(b, a.key[:]...)
}

func (a *Anchor) bytes() []byte {
	b := append(a.body(), a.mac[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// sign makes a what k vouches for.
func (a *Anchor) sign(k *keys) (err error) {
	a.key = k.id
	a.mac, err = k.mac("rotunda audit anchor", a.body())
	return err
}

// authentic reports whether a was written under k.
func (a *Anchor) authentic(k *keys) bool {
	mac, err := k.mac("rotunda audit anchor", a.body())
	return err == nil && hmac.Equal(mac[:], a.mac[:])
}

var errAnchor = fmt.Errorf("%w: its anchor is not whole", ErrCorrupt)

// parseAnchor is the inverse of bytes.
func parseAnchor(b []byte) (*Anchor, error) {
	if len(b) >= 8 && string(b[:7]) == anchorMagic && b[7] > anchorFormat {
		return nil, ErrNewer
	}
	if len(b) != anchorLen {
		return nil, errAnchor
	}
	a := &Anchor{First: binary.BigEndian.Uint64(b[24:]), Last: binary.BigEndian.Uint64(b[32:])}
	copy(a.Journal[:], b[8:])
	copy(a.Chain[:], b[40:])
	copy(a.key[:], b[72:])
	copy(a.mac[:], b[anchorBody:])
	if !bytes.Equal(b, a.bytes()) {
		return nil, errAnchor
	}
	return a, nil
}

// readAnchor returns what r knows of the journal; nil where it knows nothing.
func readAnchor(r storage.Reader) (*Anchor, error) {
	b, err := r.Get(anchorKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing was recorded yet
	}
	if err != nil {
		return nil, err
	}
	return parseAnchor(b)
}

// StoredAnchor returns what a physical store knows of its journal; nil where it
// knows nothing. The error wraps [ErrCorrupt] where that is damaged.
func StoredAnchor(ctx context.Context, store storage.Store) (a *Anchor, err error) {
	err = store.View(ctx, func(r storage.Reader) (err error) {
		a, err = readAnchor(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what the store knows of the audit journal: %w", err)
	}
	return a, nil
}

// PinnedAnchor returns what the directory of a node's keys knows of its
// journal; nil where it knows nothing. The error wraps [ErrCorrupt] where that
// is damaged.
func PinnedAnchor(keysDir string) (*Anchor, error) {
	name := filepath.Join(keysDir, anchorFile)
	b, err := os.ReadFile(name) //nolint:gosec // the node's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing was recorded yet
	}
	var a *Anchor
	if err == nil {
		a, err = parseAnchor(b)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	a.behind = true // retention waits for the store alone
	return a, nil
}

// Forget makes a physical store know nothing of a journal, because it is a copy
// that will have another.
func Forget(ctx context.Context, store storage.Store) error {
	err := store.Update(ctx, storage.Locks{Own: []string{anchorScope}}, func(tx storage.Tx) error {
		tx.Delete(anchorKey)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forgetting the audit journal of the original: %w", err)
	}
	return nil
}

// ForgetPinned makes the directory of a node's keys know nothing of a journal.
func ForgetPinned(keysDir string) error {
	if err := os.Remove(filepath.Join(keysDir, anchorFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the audit journal of before: %w", err)
	}
	return nil
}

// replaceFile makes the file called name in dir hold b, durably, or leaves it as it was.
func replaceFile(dir, name string, b []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the directory of the node's keys: %w", err)
	}
	d := &osDisk{root: root}
	if err = errors.Join(d.Replace(name, b), d.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// anchorage keeps the anchors of a journal.
type anchorage struct {
	j *Journal

	writing sync.Mutex // held to write anchors, one after another

	mu     sync.Mutex    // guards the rest
	store  storage.Store // nil while the journal is locked
	keys   *keys
	stored Anchor // the newest that the store has
	pinned Anchor // the newest that the node's keys have
	failed string // why an anchor could not be written last
}

func (a *anchorage) open(k *keys, store storage.Store) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store, a.keys, a.stored, a.pinned, a.failed = store, k, Anchor{}, Anchor{}, ""
}

func (a *anchorage) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store, a.keys = nil, nil
}

// current is what is durable; its Last is 0 where nothing is.
func (a *anchorage) current() Anchor {
	s := a.j.main.status()
	if len(s.segments) == 0 || s.head.seq == 0 {
		return Anchor{}
	}
	return Anchor{Journal: s.journal, First: s.segments[0].first, Last: s.head.seq, Chain: s.head.chain}
}

// put moves the anchor of the store to what is durable when tx runs: it is
// never ahead of the journal. The transaction owns the anchor's scope, and so
// no other moves it back.
func (a *anchorage) put(tx storage.Tx, k *keys, first uint64) (Anchor, error) {
	before, err := readAnchor(tx)
	if err != nil && !errors.Is(err, errAnchor) {
		return Anchor{}, err
	}
	now := a.current()
	if now.Last == 0 {
		return now, nil
	}
	now.First = max(now.First, first)
	if before != nil && before.Journal == now.Journal && before.authentic(k) {
		if before.Last >= now.Last && before.First >= now.First {
			return *before, nil
		}
		now.First = max(now.First, before.First) // records that are about to be removed
	}
	if err := now.sign(k); err != nil {
		return now, err
	}
	tx.Put(anchorKey, now.bytes())
	return now, nil
}

// kept notes what the store has.
func (a *anchorage) kept(now Anchor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Last > a.stored.Last || now.First > a.stored.First || now.Journal != a.stored.Journal {
		a.stored = now
	}
}

// advance brings both anchors up to what is durable. First is the sequence of
// the first record that will be kept; 0 leaves that as it is.
func (a *anchorage) advance(ctx context.Context, first uint64) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	store, k, stored, pinned := a.store, a.keys, a.stored, a.pinned
	a.mu.Unlock()
	if store == nil {
		return nil
	}
	now := a.current()
	if now.Last == 0 {
		return nil
	}
	if now.Journal != stored.Journal || now.Last > stored.Last || max(first, now.First) > stored.First {
		err := store.Update(ctx, storage.Locks{Own: []string{anchorScope}}, func(tx storage.Tx) (err error) {
			now, err = a.put(tx, k, first)
			return err
		})
		if err != nil {
			return fmt.Errorf("keeping the journal's anchor in the store: %w", err)
		}
		a.kept(now)
	}
	if now.Journal != pinned.Journal || now.Last > pinned.Last {
		if err := now.sign(k); err != nil {
			return err
		}
		if err := replaceFile(a.j.c.KeysDir, anchorFile, now.bytes()); err != nil {
			return err
		}
		a.mu.Lock()
		a.pinned = now
		a.mu.Unlock()
	}
	return nil
}

// tend is advance of who goes on without: an anchor that stays behind misses
// less, and is wrong about nothing. It says once why.
func (a *anchorage) tend(ctx context.Context) {
	why := ""
	err := a.advance(ctx, 0)
	if err != nil {
		why = err.Error()
	}
	a.mu.Lock()
	said := why == a.failed
	a.failed = why
	a.mu.Unlock()
	if !said {
		a.j.complain("keeping the journal's anchor", err)
	}
}

// Anchored returns what the store knows of an unlocked journal; its Last is 0
// where it knows nothing.
func (j *Journal) Anchored() Anchor {
	j.anchor.mu.Lock()
	defer j.anchor.mu.Unlock()
	return j.anchor.stored
}

// known returns what is known of the journal, and reports what cannot be believed.
func (j *Journal) known(ctx context.Context, k *keys, store storage.Store) (stored, pinned *Anchor, alarms []string, err error) {
	stored, err = StoredAnchor(ctx, store)
	if errors.Is(err, errAnchor) {
		stored, err = nil, nil
		alarms = append(alarms, "the anchor of the journal in the store is damaged")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	pinned, err = PinnedAnchor(j.c.KeysDir)
	if errors.Is(err, errAnchor) {
		pinned, err = nil, nil
		alarms = append(alarms, "the anchor of the journal among the node's keys is damaged")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if stored != nil && stored.key == k.id && !stored.authentic(k) {
		stored = nil
		alarms = append(alarms, "the anchor of the journal in the store was not written by this node")
	}
	if pinned != nil && pinned.key != k.id {
		pinned = nil // of another store, or from before the key was turned
	}
	if pinned != nil && !pinned.authentic(k) {
		pinned = nil
		alarms = append(alarms, "the anchor of the journal among the node's keys was not written by this node")
	}
	return stored, pinned, alarms, nil
}

// hold compares the journal with what is known of it elsewhere. It returns the
// loss that somebody has accepted and that is to be recorded, and what else is.
func (j *Journal) hold(ctx context.Context, k *keys, store storage.Store) (*Loss, []string, error) {
	stored, pinned, alarms, err := j.known(ctx, k, store)
	if err != nil {
		return nil, nil, err
	}
	rd := j.reader(k)
	accepted, err := readLoss(j.c.KeysDir)
	if err != nil {
		return nil, nil, err
	}
	if accepted != nil {
		done, err := j.settled(ctx, rd, accepted, stored, pinned)
		switch {
		case err != nil:
			return nil, nil, err
		case done:
			if err := removeLoss(j.c.KeysDir); err != nil {
				return nil, nil, err
			}
			accepted = nil
		case accepted.journal != nil: // what is known is of the journal that was lost
			return accepted, alarms, nil
		}
	}
	if err := rd.Compare(ctx, stored); err != nil {
		return nil, nil, err
	}
	if err := rd.Compare(ctx, pinned); err != nil {
		return nil, nil, err
	}
	h, err := readHead(j.disk, records)
	if err != nil {
		return nil, nil, err
	}
	if h == nil && stored != nil {
		alarms = append(alarms, "the journal's head was missing; no record is")
	}
	return accepted, alarms, nil
}

// settled reports whether the acceptance of a loss is behind the journal
// already, for both anchors are of the one that began, and refuses one that was
// not finished.
func (j *Journal) settled(ctx context.Context, rd *Reader, l *Loss, stored, pinned *Anchor) (bool, error) {
	e, err := rd.extent(ctx)
	if err != nil || l.journal == nil {
		return false, err
	}
	if e.journal == *l.journal {
		return false, &Damage{Segment: records.headName(), What: "the loss of this journal was accepted, and it was not put aside: accept it again"}
	}
	return stored != nil && stored.Journal == e.journal && (pinned == nil || pinned.Journal == e.journal), nil
}

// Compare holds the journal against what is known of it elsewhere. The error is
// a [Damage] that says which records are missing, or are not those that there were.
func (r *Reader) Compare(ctx context.Context, a *Anchor) error {
	if a == nil || a.Last == 0 || r.stream != records {
		return nil
	}
	e, err := r.extent(ctx)
	if err != nil {
		return err
	}
	d := &Damage{Segment: records.headName(), Seq: a.First}
	switch {
	case len(e.segments) == 0:
		d.What = "the journal is missing: " + a.String() + " were durable"
		return d
	case e.journal != a.Journal:
		d.Segment = records.name(e.segments[0].first)
		d.What = fmt.Sprintf("this is journal %x; %s, which were durable, are missing", e.journal, a)
		return d
	case !a.behind && e.segments[0].first > a.First:
		d.Segment = records.name(e.segments[0].first)
		d.What = missing(a.First, e.segments[0].first-1) + ", though nobody removed what is too old"
		return d
	}
	return r.reaches(&e, a)
}

// reaches reports where e ends before a, or has another record there.
func (r *Reader) reaches(e *extent, a *Anchor) error {
	i := segmentOf(e.segments, a.Last)
	if i < 0 {
		return nil // retention has removed it
	}
	seg := &e.segments[i]
	d := &Damage{Segment: records.name(seg.first), Offset: headerLen}
	b, err := r.read(seg, nil)
	if err != nil {
		if r.removed(seg, err) {
			return nil
		}
		return err
	}
	last := seg.first - 1
	for at, f := range r.frames(b) {
		last, d.Offset = f.seq(), at+int64(f.size())
		if last < a.Last {
			continue
		}
		if last == a.Last && f.chain == a.Chain {
			return nil
		}
		d.Offset, d.Seq, d.What = at, a.Last, fmt.Sprintf("record %d is not the one that was durable", a.Last)
		return d
	}
	d.Seq, d.What = last+1, missing(last+1, a.Last)+" that the node knows of"
	if rest := b[min(int64(len(b)), d.Offset):]; !zero(rest) && !torn(rest, d.Offset) {
		if _, err := parseFrame(rest); err != nil {
			d.What = err.Error()
		}
	}
	return d
}

// sayAlarms records what is wrong with anchors and heads and loses nothing.
func (j *Journal) sayAlarms(ctx context.Context, alarms []string) error {
	for _, what := range alarms {
		j.c.Log.LogAttrs(ctx, slog.LevelError, "audit journal", slog.String("problem", what))
		if err := j.event(ctx, "journal-anchor-damaged", what, true); err != nil {
			return fmt.Errorf("recording a problem of the journal: %w", err)
		}
	}
	return nil
}
