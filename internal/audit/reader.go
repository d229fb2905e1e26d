package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/secret"
)

// Reader reads the records of a journal: one that is in use, or that of a
// stopped node. It holds nothing open but, of a stopped node, the directory.
type Reader struct {
	disk   Disk
	stream stream
	keys   *keys    // nil where there is no key
	live   *Journal // nil of a stopped node
	tape   *tape    // likewise
}

// Reader returns a reader of j with the key that j has now.
func (j *Journal) Reader() *Reader { return j.reader(j.keys.Load()) }

func (j *Journal) reader(k *keys) *Reader {
	return &Reader{disk: j.disk, stream: records, keys: k, live: j, tape: j.main}
}

// SealedReader returns a reader of the events of j's life while sealed.
func (j *Journal) SealedReader() *Reader {
	return &Reader{disk: j.disk, stream: events, keys: j.sealed.keys, live: j, tape: j.sealed}
}

// OpenReader opens the journal in dir of a node that is stopped. Without a key
// it can verify, and read no record.
func OpenReader(dir string, key secret.Bytes) (*Reader, error) {
	d, err := viewDisk(dir)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(d, key)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return r, nil
}

// NewReader is [OpenReader] for a journal on d, which it takes over.
func NewReader(d Disk, key secret.Bytes) (*Reader, error) {
	r := &Reader{disk: d, stream: records}
	if key.Len() == 0 {
		return r, nil
	}
	k, err := newKeys(key)
	r.keys = k
	return r, err
}

// OpenSealedReader opens the journal in dir of a node that is stopped, to read
// the events of its life while sealed. keysDir holds the node's keys.
func OpenSealedReader(dir, keysDir string) (*Reader, error) {
	root, err := os.OpenRoot(keysDir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the node's keys: %w", err)
	}
	k, err := readNodeKeys(root)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("reading the key of events while sealed: %w", err)
	}
	d, err := viewDisk(dir)
	if err != nil {
		return nil, err
	}
	return &Reader{disk: d, stream: events, keys: k}, nil
}

// Close lets go of the directory of a stopped node.
func (r *Reader) Close() error {
	if r.live != nil {
		return nil
	}
	return r.disk.Close()
}

// extent is what there is to read at one moment.
type extent struct {
	journal  [16]byte
	segments []segment
	head     position // of a live journal
	live     bool
}

func (r *Reader) extent(ctx context.Context) (extent, error) {
	if r.tape != nil {
		if r.stream == records {
			_ = r.live.Sync(ctx) // a journal that cannot be written can be read
		}
		s := r.tape.status()
		return extent{s.journal, s.segments, s.head, true}, nil
	}
	names, err := r.disk.Names()
	if err != nil {
		return extent{}, fmt.Errorf("listing segments: %w", err)
	}
	segs, journal, err := listSegments(r.disk, r.stream, names)
	return extent{journal: journal, segments: segs}, err
}

// read returns the bytes of a segment, using buf where it is large enough.
func (r *Reader) read(seg *segment, buf []byte) (_ []byte, err error) {
	name := r.stream.name(seg.first)
	v, err := r.disk.View(name)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	b := slices.Grow(buf[:0], int(seg.end))[:seg.end]
	n, err := v.ReadAt(b, 0)
	if isEOF(err) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b[:n], nil
}

// removed reports whether seg could not be read because retention has removed it.
func (r *Reader) removed(seg *segment, err error) bool {
	return r.tape != nil && errors.Is(err, fs.ErrNotExist) && r.tape.status().segments[0].first > seg.first
}

// frames yields the frames of a segment that is b, each with its offset, up to
// the zeros at its end, or to what a crash left there if it is the last one.
func (r *Reader) frames(b []byte) iter.Seq2[int64, frame] {
	return func(yield func(int64, frame) bool) {
		for off := int64(headerLen); off < int64(len(b)); {
			f, err := parseFrame(b[off:])
			if err != nil || !yield(off, f) {
				return
			}
			off += int64(f.size())
		}
	}
}

// reached reports damage where the frames of segment i, which is b, ended at
// off and should not have.
func (r *Reader) reached(e *extent, i int, b []byte, off int64, last, began uint64) error {
	rest := b[min(off, int64(len(b))):]
	final := i == len(e.segments)-1
	switch {
	case len(b) < headerLen:
	case e.live && final && last == e.head.seq:
		if len(rest) == 0 {
			return nil
		}
	case e.live && final:
	case zero(rest), final && torn(rest, off) && !laterBatch(rest, last, began):
		return nil
	}
	what := "records are missing"
	if len(rest) > 0 {
		if _, err := parseFrame(rest); err != nil {
			what = err.Error()
		}
	}
	return &Damage{Segment: r.stream.name(e.segments[i].first), Offset: off, Seq: last + 1, What: what}
}

// Records yields the records from the sequence from on, in order, as far as
// they are durable when it is called.
func (r *Reader) Records(ctx context.Context, from uint64) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		stop := errors.New("stop")
		err := r.forward(ctx, from, time.Time{}, time.Time{}, nil, func(rec *Record) error {
			if !yield(rec, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(nil, err)
		}
	}
}

func (r *Reader) forward(ctx context.Context, from uint64, begin, end time.Time, m *matcher, fn func(*Record) error) error {
	e, err := r.extent(ctx)
	if err != nil {
		return err
	}
	var buf, plain []byte
	for i := range e.segments {
		seg := &e.segments[i]
		if i+1 < len(e.segments) && e.segments[i+1].first <= from || !e.spans(i, begin, end) {
			continue
		}
		if buf, err = r.read(seg, buf); err != nil {
			if r.removed(seg, err) {
				continue
			}
			return err
		}
		off, last, began := int64(headerLen), seg.first-1, seg.first
		for at, f := range r.frames(buf) {
			last, began, off = f.seq(), f.seq()-uint64(f.place), at+int64(f.size())
			if last < from {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if plain, err = r.deliver(&e, i, at, f, plain, m, fn); err != nil {
				return err
			}
		}
		if err := r.reached(&e, i, buf, off, last, began); err != nil {
			return err
		}
	}
	return nil
}

// backward calls fn with the records before the sequence before, newest
// first; 0 stands for all.
func (r *Reader) backward(ctx context.Context, before uint64, fn func(*Record) error) error {
	return r.backwardMatching(ctx, before, time.Time{}, time.Time{}, nil, fn)
}

func (r *Reader) backwardMatching(ctx context.Context, before uint64, begin, end time.Time, m *matcher, fn func(*Record) error) error {
	e, err := r.extent(ctx)
	if err != nil {
		return err
	}
	var buf, plain []byte
	var offsets []int64
	for i := len(e.segments) - 1; i >= 0; i-- {
		seg := &e.segments[i]
		if before > 0 && seg.first >= before || !e.spans(i, begin, end) {
			continue
		}
		if buf, err = r.read(seg, buf); err != nil {
			return err
		}
		offsets, err = r.offsets(&e, i, buf, offsets[:0])
		if err != nil {
			return err
		}
		if before > 0 && before-seg.first < uint64(len(offsets)) {
			offsets = offsets[:before-seg.first]
		}
		for _, at := range slices.Backward(offsets) {
			if err := ctx.Err(); err != nil {
				return err
			}
			f, err := parseFrame(buf[at:])
			if err != nil {
				return &Damage{Segment: r.stream.name(seg.first), Offset: at, What: err.Error()}
			}
			if plain, err = r.deliver(&e, i, at, f, plain, m, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// offsets appends those of the frames of segment i, which is b. Where a look
// at their lengths leads to the end that is known, it takes that for enough:
// a frame is checked when it is delivered.
func (r *Reader) offsets(e *extent, i int, b []byte, dst []int64) ([]int64, error) {
	at := int64(headerLen)
	for at < int64(len(b)) {
		n, err := frameLen(b[at:])
		if err != nil {
			break
		}
		dst = append(dst, at)
		at += int64(n)
	}
	if e.live && at == int64(len(b)) {
		return dst, nil
	}
	dst = dst[:0]
	off, last, began := int64(headerLen), e.segments[i].first-1, e.segments[i].first
	for at, f := range r.frames(b) {
		last, began, off = f.seq(), f.seq()-uint64(f.place), at+int64(f.size())
		dst = append(dst, at)
	}
	return dst, r.reached(e, i, b, off, last, began)
}

// slack is how far a record's time may be from the order of records.
const slack = 5 * time.Minute

// spans reports whether segment i can have records between begin and end.
func (e *extent) spans(i int, begin, end time.Time) bool {
	if !end.IsZero() && e.segments[i].begun.After(end.Add(slack)) {
		return false
	}
	return begin.IsZero() || i+1 == len(e.segments) || !e.segments[i+1].begun.Before(begin.Add(-slack))
}

// deliver opens a frame and calls fn with its record if m matches it.
func (r *Reader) deliver(e *extent, i int, at int64, f frame, plain []byte, m *matcher, fn func(*Record) error) ([]byte, error) {
	plain, err := r.open(e, i, at, f, plain)
	if err != nil || !m.may(plain) {
		return plain, err
	}
	rec := &Record{}
	if err := rec.UnmarshalJSON(plain); err != nil {
		return plain, &Damage{Segment: r.stream.name(e.segments[i].first), Offset: at, Seq: f.seq(), What: err.Error()}
	}
	rec.Seq = f.seq()
	if !m.matches(rec) {
		return plain, nil
	}
	return plain, fn(rec)
}

func (r *Reader) open(e *extent, i int, at int64, f frame, plain []byte) ([]byte, error) {
	switch {
	case r.keys == nil:
		return plain, ErrLocked
	case e.segments[i].key != r.keys.id:
		return plain, fmt.Errorf("reading %s: %w", r.stream.name(e.segments[i].first), ErrWrongKey)
	}
	plain, err := r.keys.openRecord(plain[:0], e.journal, f.stored)
	if errors.Is(err, ErrCorrupt) {
		return nil, &Damage{Segment: r.stream.name(e.segments[i].first), Offset: at, Seq: f.seq(), What: "the record cannot be opened"}
	}
	return plain, err
}

// Filter says which records a search is for. A zero field asks for nothing.
type Filter struct {
	Actor     string // accessor, display name or entity of who asked
	Path      string // the path begins with it
	Op        string
	Kind      Kind
	Outcome   string
	RequestID string
	Value     string // a keyed hash, as [Hasher.Hash] returns it, that is in the request or the answer
	From, To  time.Time

	OldestFirst bool
	After       uint64 // only records behind this one, in the order of the search
	Limit       int    // 0 for all
}

// HashText is [Hasher.Hash] of a secret: what a [Filter] looks for it by.
func (h *Hasher) HashText(t secret.Text) string { return h.Hash(t.Reveal()) }

// Search calls fn with the records that f asks for, newest first unless f says
// otherwise.
func (r *Reader) Search(ctx context.Context, f Filter, fn func(*Record) error) error {
	stop := errors.New("stop")
	found := 0
	m := &matcher{f: f, needles: f.needles()}
	each := func(rec *Record) error {
		if err := fn(rec); err != nil {
			return err
		}
		if found++; found == f.Limit {
			return stop
		}
		return nil
	}
	var err error
	if f.OldestFirst {
		err = r.forward(ctx, f.After+1, f.From, f.To, m, each)
	} else {
		err = r.backwardMatching(ctx, f.After, f.From, f.To, m, each)
	}
	if errors.Is(err, stop) {
		return nil
	}
	return err
}

// matcher tells most records that are not asked for by their bytes alone.
type matcher struct {
	f       Filter
	needles [][]byte
}

func (f *Filter) needles() [][]byte {
	var out [][]byte
	whole := func(member, s string) {
		if s != "" {
			out = append(out, quote([]byte(member), s))
		}
	}
	whole(`"op":`, f.Op)
	whole(`"kind":`, string(f.Kind))
	whole(`"outcome":`, f.Outcome)
	whole(`"request_id":`, f.RequestID)
	whole(`:`, f.Actor)
	whole(``, f.Value)
	if f.Path != "" {
		q := quote([]byte(`"path":`), f.Path)
		out = append(out, q[:len(q)-1])
	}
	return out
}

func (m *matcher) may(plain []byte) bool {
	if m == nil {
		return true
	}
	for _, n := range m.needles {
		if !bytes.Contains(plain, n) {
			return false
		}
	}
	return true
}

func (m *matcher) matches(r *Record) bool {
	if m == nil {
		return true
	}
	f := &m.f
	switch {
	case f.Actor != "" && f.Actor != r.Actor.Accessor && f.Actor != r.Actor.DisplayName && f.Actor != r.Actor.EntityID,
		!strings.HasPrefix(r.Path, f.Path),
		f.Op != "" && f.Op != r.Op,
		f.Kind != "" && f.Kind != r.Kind,
		f.Outcome != "" && f.Outcome != r.Outcome,
		f.RequestID != "" && f.RequestID != r.RequestID,
		!f.From.IsZero() && r.Time.Before(f.From),
		!f.To.IsZero() && !r.Time.Before(f.To):
		return false
	case f.Value != "":
		return holds(r.In, f.Value) || holds(r.Out, f.Value) || f.Value == r.Actor.TokenHash
	}
	return true
}

// holds reports whether v has the string s in it.
func holds(v jsontext.Value, s string) bool { return bytes.Contains(v, quote(nil, s)) }

var errStopped = errors.New("audit: the journal of a stopped node has no more to come")

// Tail calls fn with the records of a live journal from the sequence from on,
// those that there are and those that come, until ctx ends or the journal is
// closed. From 0 it begins with what comes.
func (r *Reader) Tail(ctx context.Context, from uint64, fn func(*Record) error) error {
	if r.tape == nil {
		return errStopped
	}
	if from == 0 {
		from = r.tape.status().head.seq + 1
	}
	for {
		for rec, err := range r.Records(ctx, from) {
			if err != nil {
				return err
			}
			if err := fn(rec); err != nil {
				return err
			}
			from = rec.Seq + 1
		}
		if err := r.tape.beyond(ctx, from-1); err != nil {
			return err
		}
	}
}

// Summary is what a journal holds, as its headers say.
type Summary struct {
	Journal     [16]byte
	First, Last uint64 // Last is 0 where the node is stopped: Verify finds it
	Segments    int
	Bytes       int64
}

// Summary returns what the journal holds without reading its records.
func (r *Reader) Summary(ctx context.Context) (Summary, error) {
	e, err := r.extent(ctx)
	s := Summary{Journal: e.journal, Segments: len(e.segments), Last: e.head.seq}
	for i := range e.segments {
		if i == 0 {
			s.First = e.segments[0].first
		}
		s.Bytes += e.segments[i].end
	}
	return s, err
}

// Last returns the sequence of the last durable record of a live journal.
func (r *Reader) Last(ctx context.Context) (uint64, error) {
	e, err := r.extent(ctx)
	return e.head.seq, err
}

// Beyond returns when a live journal has a durable record behind the one with
// sequence seq.
func (r *Reader) Beyond(ctx context.Context, seq uint64) error {
	if r.tape == nil {
		return errStopped
	}
	return r.tape.beyond(ctx, seq)
}

// beyond returns when there is a durable record behind the one with sequence seq.
func (t *tape) beyond(ctx context.Context, seq uint64) error {
	for {
		t.mu.Lock()
		if t.head.seq > seq {
			t.mu.Unlock()
			return nil
		}
		if t.advanced == nil {
			t.advanced = make(chan struct{})
		}
		moved := t.advanced
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.done:
			return errClosed
		}
	}
}

// JournalID returns the random id of the journal, to which its records are bound.
func (r *Reader) JournalID(ctx context.Context) ([16]byte, error) {
	e, err := r.extent(ctx)
	return e.journal, err
}

// Stored returns the stored bytes of one record, as chain and leaves are over
// them. The error is a fault of kind NotFound where there is none.
func (r *Reader) Stored(ctx context.Context, seq uint64) ([]byte, error) {
	e, err := r.extent(ctx)
	if err != nil {
		return nil, err
	}
	for i := range slices.Backward(e.segments) {
		if e.segments[i].first > seq {
			continue
		}
		b, err := r.read(&e.segments[i], nil)
		if err != nil {
			return nil, err
		}
		for _, f := range r.frames(b) {
			if f.seq() == seq {
				return bytes.Clone(f.stored), nil
			}
		}
		break
	}
	return nil, fault.New(fault.NotFound, "no audit record %d", seq)
}

// RecordKey returns the key of one record: whoever has it can open the record
// with [OpenRecord], and no other.
func (r *Reader) RecordKey(ctx context.Context, seq uint64) ([32]byte, error) {
	if r.keys == nil {
		return [32]byte{}, ErrLocked
	}
	journal, err := r.JournalID(ctx)
	if err != nil {
		return [32]byte{}, err
	}
	return r.keys.record(journal, seq)
}

// Leaves yields the leaf hashes of the records from the sequence from on.
func (r *Reader) Leaves(ctx context.Context, from uint64) iter.Seq2[[32]byte, error] {
	return func(yield func([32]byte, error) bool) {
		e, err := r.extent(ctx)
		var b []byte
		for i := range e.segments {
			if i+1 < len(e.segments) && e.segments[i+1].first <= from {
				continue
			}
			if err == nil {
				b, err = r.read(&e.segments[i], b)
			}
			if r.removed(&e.segments[i], err) {
				err = nil
				continue
			}
			if err != nil {
				break
			}
			for _, f := range r.frames(b) {
				if f.seq() >= from && !yield(LeafHash(f.stored), nil) {
					return
				}
			}
		}
		if err != nil {
			yield([32]byte{}, err)
		}
	}
}
