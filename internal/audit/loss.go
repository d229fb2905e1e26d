package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/storage"
)

// # Losses
//
// The acceptance of a loss lies in the directory of the node's keys from when
// it is given until the node has recorded it, as JSON:
//
//	audit-loss-accepted  {"format":1,"at":…,"found":…,"kept":…,"journal":…,"before":[…]}
//
// Kept is the directory, in that of the journal, to which everything was moved;
// journal is the id of the lost one in hex, and is empty where only events while
// sealed were damaged. Before are the ids of those whose loss was accepted
// earlier, and not recorded when this one was found.
const (
	lossFile   = "audit-loss-accepted"
	lossFormat = 1
	lossEvent  = "journal-loss-accepted"
	lostPrefix = "lost-"
	damagedExt = ".damaged"
)

// Loss is the loss of records that somebody accepted.
type Loss struct {
	Format  int       `json:"format"`
	At      time.Time `json:"at"`
	Found   string    `json:"found"`             // what was missing or wrong
	Kept    string    `json:"kept,omitempty"`    // directory, in that of the journal, of what was left
	Journal string    `json:"journal,omitempty"` // id of the journal that was lost, in hex
	Before  []string  `json:"before,omitempty"`  // ids of those that were lost before it, in hex

	journal *[16]byte  // likewise; nil for none
	before  [][16]byte // likewise
}

// String says what was lost, when that was accepted, and where the rest is.
func (l *Loss) String() string {
	s := "at " + l.At.UTC().Format(time.RFC3339) + " the loss of records was accepted: " + l.Found
	if l.Kept != "" {
		s += "; what was left is in " + l.Kept
	}
	return s
}

// readLoss returns the loss whose acceptance waits to be recorded; nil where none does.
func readLoss(keysDir string) (*Loss, error) {
	name := filepath.Join(keysDir, lossFile)
	b, err := os.ReadFile(name) //nolint:gosec // the node's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing is lost
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	l := &Loss{}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if l.Format != lossFormat {
		return nil, fmt.Errorf("reading %s: %w", name, ErrNewer)
	}
	for _, text := range append(slices.Clone(l.Before), l.Journal) {
		if text == "" {
			continue
		}
		id, err := hex.DecodeString(text)
		if err != nil || len(id) != 16 {
			return nil, fmt.Errorf("reading %s: it does not name a journal", name)
		}
		l.before = append(l.before, [16]byte(id))
	}
	if last := len(l.before) - 1; l.Journal != "" {
		l.journal, l.before = &l.before[last], l.before[:last]
	}
	return l, nil
}

func removeLoss(keysDir string) error {
	if err := os.Remove(filepath.Join(keysDir, lossFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the acceptance of a loss: %w", err)
	}
	return nil
}

// recordLoss says in the log and, once, in the journal that records were lost.
func (j *Journal) recordLoss(ctx context.Context, k *keys, l *Loss) error {
	j.c.Log.LogAttrs(ctx, slog.LevelError, "audit records are lost", slog.String("event", lossEvent), slog.String("what", l.String()))
	if l.journal != nil { // the journal has just begun, or a crash ended it there
		for r, err := range j.reader(k).Records(ctx, 1) {
			if err != nil {
				return fmt.Errorf("looking for the record of a loss: %w", err)
			}
			if r.Event == lossEvent && r.Note == l.String() {
				return nil
			}
		}
	}
	if err := j.event(ctx, lossEvent, l.String(), true); err != nil {
		return fmt.Errorf("recording the loss of records: %w", err)
	}
	return nil
}

// begin begins a journal in the place of one whose loss was accepted.
func (j *Journal) begin(ctx context.Context, k *keys, store storage.Store, l *Loss) error {
	if err := j.recordLoss(ctx, k, l); err != nil {
		return err
	}
	j.saveHead()
	lost := slices.Clone(l.before)
	if l.journal != nil {
		lost = append(lost, *l.journal)
	}
	for _, id := range lost {
		if err := j.outbox.adopt(ctx, k, store, id); err != nil {
			return err
		}
	}
	if err := j.anchor.advance(ctx, 0); err != nil {
		return err
	}
	return removeLoss(j.c.KeysDir)
}

// adopt takes over the rows of the outbox that waited for a journal which is lost.
func (o *outbox) adopt(ctx context.Context, k *keys, store storage.Store, lost [16]byte) error {
	const most = 32
	journal := o.j.main.journal
	from, to := outboxTable+string(lost[:]), outboxTable+string(journal[:])
	for more := true; more; {
		err := store.Update(ctx, storage.Locks{Own: []string{from, to}}, func(tx storage.Tx) (err error) {
			var items []storage.Item
			if items, more, err = tx.Scan(from, "", "", most); err != nil {
				return err
			}
			for _, it := range items {
				plain, err := k.openRow(lost, it.Row, it.Value)
				if err != nil {
					return err
				}
				sealed, err := k.sealRow(journal, it.Row, plain)
				if err != nil {
					return err
				}
				tx.Put(storage.Key{Scope: to, Row: it.Row}, sealed)
				tx.Delete(storage.Key{Scope: from, Row: it.Row})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("taking over records that waited for the journal that is lost: %w", err)
		}
	}
	return nil
}

// ErrWhole says that nothing of a journal is lost.
var ErrWhole = errors.New("audit: the journal is whole; there is no loss to accept")

// AcceptLoss lets the node of the journal in dir go on without what is lost of
// it. The journal is put aside as a whole, in a directory of the same directory,
// and nothing is deleted; another begins when the node starts, whose first
// record says what was lost. The node must be stopped. Stored is what the store
// knows of the journal, nil where it knows nothing. Where t has the journal's
// key, what its checkpoints contradict is lost too. The error wraps [ErrWhole]
// where nothing is.
//
// Another journal has to begin: checkpoints of this one vouch for records under
// the sequences that it would give away once more.
func AcceptLoss(ctx context.Context, dir, keysDir string, stored *Anchor, t Trust, now time.Time) (_ *Loss, err error) {
	d, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	before, err := readLoss(keysDir)
	if err != nil {
		return nil, err
	}
	pinned, err := PinnedAnchor(keysDir)
	if err != nil && !errors.Is(err, errAnchor) {
		return nil, err
	}
	if pinned != nil && stored != nil && !pinned.Same(stored) {
		pinned = nil
	}
	main, sealed := &Reader{disk: d, stream: records}, &Reader{disk: d, stream: events}
	wrong, wrongSealed := main.lost(ctx, stored, pinned, t), sealed.lost(ctx, nil, nil, Trust{})
	for _, err := range []error{wrong, wrongSealed} {
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err // the disk, or a newer version: nothing is known to be lost
		}
	}
	began := false
	if before != nil && before.journal != nil && wrong != nil {
		if began, err = anotherBegan(d, before); err != nil {
			return nil, err
		}
		if began { // and the anchors are of the one that was lost
			stored, pinned = nil, nil
			wrong = main.lost(ctx, nil, nil, t)
		}
	}
	if wrong == nil && wrongSealed == nil {
		if before == nil {
			return nil, ErrWhole
		}
		return before, nil // it waits for the node to start
	}
	l := before
	if before == nil || wrong != nil && (before.journal == nil || began) {
		if l, err = newLoss(d, errors.Join(wrong, wrongSealed), wrong != nil, stored, pinned, now); err != nil {
			return nil, err
		}
		if before != nil {
			l.follows(before)
		}
		b, err := json.Marshal(l)
		if err != nil {
			return nil, fmt.Errorf("encoding the acceptance of a loss: %w", err)
		}
		if err := replaceFile(keysDir, lossFile, append(b, '\n')); err != nil {
			return nil, err
		}
	}
	if err := d.root.Mkdir(l.Kept, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making a directory for what is left: %w", err)
	}
	return l, d.putAside(l.Kept, wrong != nil || l.Journal != "" && !began, wrongSealed != nil)
}

// anotherBegan reports whether a journal began in the place of the one that was
// lost: it is put aside as another loss, and not into the directory of that one.
func anotherBegan(d Disk, lost *Loss) (bool, error) {
	id, err := journalOf(d)
	return id != *lost.journal && id != [16]byte{}, err
}

// follows has l tell of a loss, too, that was accepted before and never recorded.
func (l *Loss) follows(earlier *Loss) {
	l.Found = earlier.String() + "; and then: " + l.Found
	l.Before = slices.Clone(earlier.Before)
	if earlier.Journal != "" {
		l.Before = append(l.Before, earlier.Journal)
	}
}

// lost returns what is missing or wrong in a stream; nil where nothing is.
func (r *Reader) lost(ctx context.Context, stored, pinned *Anchor, t Trust) error {
	if err := r.Compare(ctx, stored); err != nil { // it says most about what is missing
		return err
	}
	if err := r.Compare(ctx, pinned); err != nil {
		return err
	}
	rep, err := r.VerifySigned(ctx, t, nil)
	if d, ok := errors.AsType[*Damage](err); ok && d.What == headMissing {
		return nil // nothing is lost with it: the node writes it anew
	}
	if err != nil || r.stream != records {
		return err
	}
	return r.signedBeyond(rep.Last)
}

// signedBeyond reports records that the last checkpoint has, whoever signed it,
// and that are missing behind the one with sequence last.
func (r *Reader) signedBeyond(last uint64) error {
	text, err := readAll(r.disk, checkpointName)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	if c, err := readNote(text); err == nil && c.Size > last {
		return missingSigned(last, c.Size)
	}
	return nil
}

func missingSigned(last, signed uint64) error {
	return &Damage{Segment: checkpointName, Seq: last + 1, What: fmt.Sprintf("records %d to %d, which a checkpoint has, are missing", last+1, signed)}
}

func newLoss(d *osDisk, found error, main bool, stored, pinned *Anchor, now time.Time) (*Loss, error) {
	now = now.UTC()
	what := strings.ReplaceAll(found.Error(), ErrCorrupt.Error()+": ", "")
	l := &Loss{Format: lossFormat, At: now, Found: strings.ReplaceAll(what, "\n", "; "), Kept: lostPrefix + now.Format("20060102T150405.000Z") + damagedExt}
	if !main {
		return l, nil
	}
	id, err := journalOf(d, stored, pinned)
	if err != nil {
		return nil, err
	}
	l.Journal = hex.EncodeToString(id[:])
	return l, nil
}

// journalOf returns the id of the journal that is lost: that which was known,
// or that of the first segment whose header can be read.
func journalOf(d Disk, anchors ...*Anchor) (id [16]byte, err error) {
	for _, a := range anchors {
		if a != nil {
			return a.Journal, nil
		}
	}
	names, err := d.Names()
	if err != nil {
		return id, fmt.Errorf("listing the journal: %w", err)
	}
	for _, name := range names {
		if _, ok := records.parseName(name); !ok {
			continue
		}
		if _, h, err := readHeader(d, name); err == nil {
			return h.journal, nil
		}
	}
	if h, err := readHead(d, records); err == nil && h != nil {
		return h.journal, nil
	}
	return id, nil
}

// putAside moves the files of the streams given to a directory of d. Heads go
// last: until they have gone, what is left is found to be damaged.
func (d *osDisk) putAside(to string, main, sealed bool) error {
	names, err := d.Names()
	if err != nil {
		return fmt.Errorf("listing the journal: %w", err)
	}
	var moved, heads, sinks []string
	for _, name := range names {
		_, sink := sinkName(name)
		_, tiles := parseTiles(name)
		_, history := parseHistory(name)
		switch {
		case name == records.headName() && main, name == events.headName() && sealed:
			heads = append(heads, name)
		case sink && main:
			sinks = append(sinks, name)
		case strings.HasPrefix(name, records.prefix()) && main, strings.HasPrefix(name, events.prefix()) && sealed,
			(tiles || history || name == checkpointName || name == rootsName) && main:
			moved = append(moved, name)
		}
	}
	for _, name := range sinks { // a sink gets all of the journal that begins
		if err := d.Replace(name, sinkPosition(0)); err != nil {
			return fmt.Errorf("keeping where a sink stands: %w", err)
		}
	}
	for _, name := range append(moved, heads...) {
		if _, err := d.root.Lstat(to + "/" + name); err == nil { // nothing is written over
			return fmt.Errorf("putting %s aside: %w in %s", name, fs.ErrExist, to)
		}
		if err := d.Rename(name, to+"/"+name); err != nil {
			return fmt.Errorf("putting %s aside: %w", name, err)
		}
	}
	return d.Sync()
}
