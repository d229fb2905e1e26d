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
		err := r.forward(ctx, &pass{from: from, fn: func(rec *Record) error {
			if !yield(rec, nil) {
				return stop
			}
			return nil
		}})
		if err != nil && !errors.Is(err, stop) {
			yield(nil, err)
		}
	}
}

// pass is one walk over the records of a journal.
type pass struct {
	from, before uint64    // sequences: only those from here on, and before there; 0 for no bound
	begin, end   time.Time // only segments that can have records of this time
	m            *matcher
	fn           func(*Record) error

	// Damaged decides whether the walk goes on behind damage; nil ends it there.
	damaged func(*Damage) error
}

// hurt says that there is damage; the walk goes on where it returns nil.
func (p *pass) hurt(d *Damage) error {
	if p.damaged == nil {
		return d
	}
	return p.damaged(d)
}

// survive turns damage into nil where the walk goes on behind it.
func (p *pass) survive(err error) error {
	if d, ok := errors.AsType[*Damage](err); ok {
		return p.hurt(d)
	}
	return err
}

func (r *Reader) forward(ctx context.Context, p *pass) error {
	e, err := r.look(ctx, p)
	if err != nil {
		return err
	}
	var buf, plain []byte
	next := uint64(0) // sequence behind the segment before; 0 where that was left out
	for i := range e.segments {
		seg := &e.segments[i]
		if i+1 < len(e.segments) && e.segments[i+1].first <= p.from || !e.spans(i, p.begin, p.end) {
			next = 0
			continue
		}
		if buf, err = r.read(seg, buf); err != nil {
			if r.removed(seg, err) {
				next = 0
				continue
			}
			return err
		}
		if next > 0 && seg.first != next {
			if err := p.hurt(r.gap(seg, 0, next, seg.first)); err != nil {
				return err
			}
		}
		next = seg.first
		for s := range r.scan(&e, i, buf) {
			if s.damage != nil {
				if err := p.hurt(s.damage); err != nil {
					return err
				}
				next = s.next
				continue
			}
			next = s.frame.seq() + 1
			if s.frame.seq() < p.from {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			plain, err = r.deliver(&e, i, s.off, s.frame, plain, p)
			if err = p.survive(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// look returns what there is to walk over: of a stopped node that is damaged,
// segments whose headers cannot be read as well, where p goes on behind damage.
func (r *Reader) look(ctx context.Context, p *pass) (extent, error) {
	e, err := r.extent(ctx)
	if err == nil || p.damaged == nil || r.tape != nil || !errors.Is(err, ErrCorrupt) {
		return e, err
	}
	return r.salvage(p)
}

// salvage is extent for a journal some of whose headers are damaged. What they
// say is taken from the names of their files and from the others.
func (r *Reader) salvage(p *pass) (extent, error) {
	names, err := r.disk.Names()
	if err != nil {
		return extent{}, fmt.Errorf("listing segments: %w", err)
	}
	var e extent
	if h, err := readHead(r.disk, r.stream); err == nil && h != nil {
		e.journal = h.journal
	}
	var zero [16]byte
	for _, name := range names {
		first, ok := r.stream.parseName(name)
		if !ok {
			continue
		}
		seg, h, err := readHeader(r.disk, name)
		switch {
		case err == nil && h.first == first && h.stream == r.stream && (e.journal == zero || h.journal == e.journal):
			e.journal = h.journal
		case err != nil && !errors.Is(err, ErrCorrupt):
			return e, err
		default:
			d := &Damage{Segment: name, Seq: first, What: "the segment is of another journal, or has another one's name"}
			if err != nil {
				d.What = errHeader.Error()
			}
			if err := p.hurt(d); err != nil {
				return e, err
			}
			if err == nil {
				continue
			}
			if seg, err = r.nameless(name, first); err != nil {
				return e, err
			}
		}
		e.segments = append(e.segments, seg)
	}
	return e, nil
}

// nameless is a segment of which only the name is known.
func (r *Reader) nameless(name string, first uint64) (segment, error) {
	v, err := r.disk.View(name)
	if err != nil {
		return segment{}, fmt.Errorf("opening %s: %w", name, err)
	}
	size, err := v.Size()
	if err = errors.Join(err, v.Close()); err != nil {
		return segment{}, fmt.Errorf("reading %s: %w", name, err)
	}
	seg := segment{first: first, end: size}
	if r.keys != nil {
		seg.key = r.keys.id
	}
	return seg, nil
}

func (r *Reader) gap(seg *segment, off int64, from, to uint64) *Damage {
	return &Damage{Segment: r.stream.name(seg.first), Offset: off, Seq: from, What: missing(from, to-1)}
}

func missing(first, last uint64) string {
	if first >= last {
		return fmt.Sprintf("record %d is missing", first)
	}
	return fmt.Sprintf("records %d to %d are missing", first, last)
}

// step is a frame of a segment or damage to it.
type step struct {
	off    int64
	frame  frame
	damage *Damage
	next   uint64 // behind damage: the sequence that may follow; 0 for any
}

// scan yields all whole frames of segment i, which is b, and what is damaged
// between and behind them: behind damage it goes on with the next whole frame.
func (r *Reader) scan(e *extent, i int, b []byte) iter.Seq[step] {
	return func(yield func(step) bool) {
		seg := &e.segments[i]
		off, last, began := int64(headerLen), seg.first-1, seg.first
		for {
			f, err := parseFrame(b[min(off, int64(len(b))):])
			if err == nil {
				if seq := f.seq(); seq != last+1 {
					d := &Damage{Segment: r.stream.name(seg.first), Offset: off, Seq: last + 1, What: fmt.Sprintf("the record has sequence %d, not %d", seq, last+1)}
					if !yield(step{off: off, damage: d, next: max(last+1, seq)}) {
						return
					}
				}
				if f.seq() > last {
					last, began = f.seq(), f.seq()-uint64(f.place)
					if !yield(step{off: off, frame: f}) {
						return
					}
				}
				off += int64(f.size())
				continue
			}
			err = r.reached(e, i, b, off, last, began)
			if err == nil {
				return
			}
			d, _ := errors.AsType[*Damage](err)
			at, following := resync(b, off, last)
			if i+1 < len(e.segments) && following == 0 {
				following = e.segments[i+1].first
			}
			if following > last+2 {
				d.What += fmt.Sprintf("; records %d to %d cannot be read", last+1, following-1)
			}
			if !yield(step{off: off, damage: d, next: following}) || at < 0 {
				return
			}
			off, last = at, following-1
		}
	}
}

// resync returns the offset and the sequence of the first whole frame of b
// behind off with a sequence beyond last; -1 and 0 where there is none.
func resync(b []byte, off int64, last uint64) (int64, uint64) {
	for at := off + 1; at < int64(len(b)); at++ {
		n := bytes.IndexByte(b[at:], frameBegin)
		if n < 0 {
			break
		}
		at += int64(n)
		if f, err := parseFrame(b[at:]); err == nil && f.seq() > last {
			return at, f.seq()
		}
	}
	return -1, 0
}

// backward calls fn with all records, newest first.
func (r *Reader) backward(ctx context.Context, fn func(*Record) error) error {
	return r.backwardPass(ctx, &pass{fn: fn})
}

func (r *Reader) backwardPass(ctx context.Context, p *pass) error {
	e, err := r.look(ctx, p)
	if err != nil {
		return err
	}
	var buf, plain []byte
	var o offsets
	next := uint64(0) // sequence of the first record of the segment behind; 0 where that was left out
	for i := len(e.segments) - 1; i >= 0; i-- {
		seg := &e.segments[i]
		if p.before > 0 && seg.first >= p.before || !e.spans(i, p.begin, p.end) {
			next = 0
			continue
		}
		if buf, err = r.read(seg, buf); err != nil {
			if r.removed(seg, err) { // and all before it
				next = 0
				continue
			}
			return err
		}
		if err = r.offsets(&e, i, buf, &o, p); err != nil {
			return err
		}
		if next > o.last+1 {
			if err := p.hurt(r.gap(&e.segments[i+1], 0, o.last+1, next)); err != nil {
				return err
			}
		}
		next = seg.first
		for n, at := range slices.Backward(o.at) {
			if err := ctx.Err(); err != nil {
				return err
			}
			f, err := parseFrame(buf[at:])
			if want := seg.first + uint64(n); !o.seen && err == nil && f.seq() != want { //nolint:gosec // it counts up from 0
				err = fmt.Errorf("the record has sequence %d, not %d", f.seq(), want)
			}
			if err != nil {
				err = &Damage{Segment: r.stream.name(seg.first), Offset: at, Seq: seg.first + uint64(n), What: err.Error()} //nolint:gosec // likewise
			} else if p.before == 0 || f.seq() < p.before {
				plain, err = r.deliver(&e, i, at, f, plain, p)
			}
			if err = p.survive(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// offsets are those of the frames of a segment.
type offsets struct {
	at   []int64
	last uint64 // sequence of the last frame
	seen bool   // the frames themselves were looked at, and not only their lengths
}

// offsets finds the frames of segment i, which is b. Where a look at their
// lengths leads to the end and the last sequence that are known, it takes that
// for enough, and leaves out those from the sequence p.before on.
func (r *Reader) offsets(e *extent, i int, b []byte, o *offsets, p *pass) error {
	first := e.segments[i].first
	*o = offsets{at: o.at[:0], last: first - 1}
	if e.live && o.leap(b, first) {
		if p.before > first && p.before-first < uint64(len(o.at)) {
			o.at = o.at[:p.before-first]
		}
		return nil
	}
	*o = offsets{at: o.at[:0], last: first - 1, seen: true}
	for s := range r.scan(e, i, b) {
		if s.damage == nil {
			o.at, o.last = append(o.at, s.off), s.frame.seq()
			continue
		}
		if s.next > 0 {
			o.last = s.next - 1
		}
		if err := p.hurt(s.damage); err != nil {
			return err
		}
	}
	return nil
}

// leap finds frames by their lengths, and reports whether that led to the end
// of b with as many as the last one's sequence says.
func (o *offsets) leap(b []byte, first uint64) bool {
	at := int64(headerLen)
	for at < int64(len(b)) {
		size, err := frameLen(b[at:])
		if err != nil {
			return false
		}
		o.at = append(o.at, at)
		at += int64(size)
	}
	if at != int64(len(b)) || len(o.at) == 0 {
		return at == int64(len(b))
	}
	f, err := parseFrame(b[o.at[len(o.at)-1]:])
	o.last = first + uint64(len(o.at)) - 1
	return err == nil && f.seq() == o.last
}

// slack is how far a record's time may be from the order of records.
const slack = 5 * time.Minute

// spans reports whether segment i can have records between begin and end.
func (e *extent) spans(i int, begin, end time.Time) bool {
	if !end.IsZero() && e.segments[i].begun.After(end.Add(slack)) {
		return false
	}
	if begin.IsZero() || i+1 == len(e.segments) {
		return true
	}
	next := e.segments[i+1].begun
	return next.IsZero() || !next.Before(begin.Add(-slack)) // zero is not known
}

// deliver opens a frame and calls p.fn with its record if p is for it.
func (r *Reader) deliver(e *extent, i int, at int64, f frame, plain []byte, p *pass) ([]byte, error) {
	plain, err := r.open(e, i, at, f, plain)
	if err != nil || !p.m.may(plain) {
		return plain, err
	}
	rec := &Record{}
	if err := rec.UnmarshalJSON(plain); err != nil {
		return plain, &Damage{Segment: r.stream.name(e.segments[i].first), Offset: at, Seq: f.seq(), What: err.Error()}
	}
	rec.Seq = f.seq()
	if !p.m.matches(rec) {
		return plain, nil
	}
	return plain, p.fn(rec)
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

// Damages is what is damaged of a journal that was searched, in the order in
// which it was met.
type Damages []*Damage

// mostDamages are how many are told one by one.
const mostDamages = 32

// Error says what is damaged and where.
func (d Damages) Error() string {
	var b strings.Builder
	for i, one := range d {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

// Unwrap returns each [Damage].
func (d Damages) Unwrap() []error {
	errs := make([]error, len(d))
	for i, one := range d {
		errs[i] = one
	}
	return errs
}

// add is what a pass calls that goes on behind damage.
func (d *Damages) add(one *Damage) error {
	switch {
	case len(*d) < mostDamages:
		*d = append(*d, one)
	case len(*d) == mostDamages:
		*d = append(*d, &Damage{Segment: one.Segment, Offset: one.Offset, Seq: one.Seq, What: "there is more damage than is told"})
	}
	return nil
}

// Search calls fn with the records that f asks for, newest first unless f says
// otherwise. Where the journal is damaged, it goes on with the next record that
// is whole; the error is [Damages] then, and wraps [ErrCorrupt].
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
	var damages Damages
	p := &pass{begin: f.From, end: f.To, m: m, fn: each, damaged: damages.add}
	var err error
	if f.OldestFirst {
		p.from = f.After + 1
		err = r.forward(ctx, p)
	} else {
		p.before = f.After
		err = r.backwardPass(ctx, p)
	}
	if errors.Is(err, stop) {
		err = nil
	}
	if err == nil && len(damages) > 0 {
		return damages
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
		for s := range r.scan(&e, i, b) {
			switch {
			case s.damage != nil && (s.next == 0 || s.next > seq):
				return nil, s.damage
			case s.damage == nil && s.frame.seq() == seq:
				return bytes.Clone(s.frame.stored), nil
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
			for s := range r.scan(&e, i, b) {
				if s.damage != nil {
					yield([32]byte{}, s.damage)
					return
				}
				if s.frame.seq() >= from && !yield(LeafHash(s.frame.stored), nil) {
					return
				}
			}
		}
		if err != nil {
			yield([32]byte{}, err)
		}
	}
}
