package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Progress is how far a verification is.
type Progress struct {
	Records     uint64
	Done, Total int64 // bytes
}

// Report is what a verification found to be whole.
type Report struct {
	Journal  [16]byte
	Records  uint64
	First    uint64 // sequence of the first record that is kept; those before were removed by retention
	Last     uint64
	Chain    [32]byte  // after the last record: two reports with the same are of the same records
	Begun    time.Time // of the first segment
	Segments int
	Bytes    int64
	Opened   uint64 // records that were opened with the key
	Torn     int64  // bytes of a batch that was being written when the node stopped, and never acknowledged
	Signed   Signed // by checkpoints, where they were looked at
}

// Verify reads the whole journal and returns an error that wraps [ErrCorrupt],
// a [Damage] that says where, if a record was changed, removed, inserted or
// moved. It needs no key. With one, it opens every record too, which finds
// what was made up with its chain computed anew.
func (r *Reader) Verify(ctx context.Context, progress func(Progress)) (Report, error) {
	return r.VerifySigned(ctx, Trust{}, progress)
}

// VerifySigned is [Reader.Verify] that also holds the records against every
// checkpoint, those of the journal and those that t has from elsewhere: that
// finds a journal that was made up as a whole, and one whose end is missing.
// The records behind the last checkpoint, Report.Signed.Records, are chained
// and not signed yet. An error that does not wrap [ErrCorrupt] says that
// something could not be compared.
func (r *Reader) VerifySigned(ctx context.Context, t Trust, progress func(Progress)) (Report, error) {
	for again := 2; ; again-- {
		first := r.first()
		rep, err := r.verify(ctx, t, progress)
		if again == 0 || !errors.Is(err, ErrCorrupt) || r.first() == first {
			return rep, err
		}
		// Retention removed what was being read, which can look like damage.
	}
}

// first returns the sequence of the first record of a live journal; 0 of a stopped node's.
func (r *Reader) first() uint64 {
	if r.tape == nil {
		return 0
	}
	if s := r.tape.status(); len(s.segments) > 0 {
		return s.segments[0].first
	}
	return 0
}

func (r *Reader) verify(ctx context.Context, t Trust, progress func(Progress)) (Report, error) {
	w, err := r.witness(ctx, t) // before the extent, which only grows
	if err != nil {
		return Report{}, err
	}
	e, err := r.extent(ctx)
	rep := Report{Journal: e.journal, Segments: len(e.segments)}
	if err != nil {
		return rep, err
	}
	if len(e.segments) == 0 {
		return rep, errors.Join(r.verifyHead(&e, position{}), w.end(&rep))
	}
	total := int64(0)
	for i := range e.segments {
		total += e.segments[i].end
	}
	first := &e.segments[0]
	rep.First, rep.Begun = first.first, first.begun
	at := position{seq: first.first - 1, chain: first.chain}
	var buf, plain []byte
	for i := range e.segments {
		seg := &e.segments[i]
		if buf, err = r.read(seg, buf); err != nil {
			if rep.Records == 0 && r.removed(seg, err) && i+1 < len(e.segments) {
				next := e.segments[i+1]
				rep.First, rep.Begun = next.first, next.begun
				at = position{seq: next.first - 1, chain: next.chain}
				continue
			}
			return rep, err
		}
		if err := r.joins(seg, at); err != nil {
			return rep, err
		}
		if err := w.begin(at.seq); err != nil {
			return rep, err
		}
		at.off = headerLen
		opens := r.keys != nil && seg.key == r.keys.id
		began := seg.first
		for off, f := range r.frames(buf) {
			if rep.Records%1024 == 0 {
				if err := ctx.Err(); err != nil {
					return rep, err
				}
				if progress != nil {
					progress(Progress{rep.Records, rep.Bytes + off, total})
				}
			}
			leaf, err := at.verify(&f, buf[off:])
			if err != nil {
				return rep, &Damage{Segment: r.stream.name(seg.first), Offset: off, Seq: at.seq + 1, What: err.Error()}
			}
			if err := w.add(leaf); err != nil {
				return rep, err
			}
			began = at.seq - uint64(f.place)
			rep.Records++
			if opens {
				if plain, err = r.open(&e, i, off, f, plain); err != nil {
					return rep, err
				}
				rep.Opened++
			}
		}
		if err := r.reached(&e, i, buf, at.off, at.seq, began); err != nil {
			return rep, err
		}
		if rest := buf[at.off:]; !zero(rest) {
			rep.Torn = int64(len(rest))
		}
		rep.Bytes += at.off
	}
	rep.Last, rep.Chain = at.seq, at.chain
	if r.keys != nil && rep.Opened == 0 && rep.Records > 0 {
		return rep, fmt.Errorf("opening records: %w", ErrWrongKey)
	}
	if progress != nil {
		progress(Progress{rep.Records, total, total})
	}
	return rep, errors.Join(r.verifyHead(&e, at), w.end(&rep))
}

// joins reports damage where seg does not follow what ended at at.
func (r *Reader) joins(seg *segment, at position) error {
	switch {
	case seg.first != at.seq+1:
		return &Damage{
			Segment: r.stream.name(seg.first), Seq: at.seq + 1,
			What: fmt.Sprintf("the segment before ends with record %d", at.seq),
		}
	case seg.chain != at.chain:
		return &Damage{Segment: r.stream.name(seg.first), Seq: seg.first, What: "the segment does not follow the one before"}
	}
	return nil
}

// verify is step for a frame that b begins with, and may be written to: the
// byte before the stored ones holds the leaf's prefix for a moment.
func (p *position) verify(f *frame, b []byte) (leaf [32]byte, err error) {
	if f.seq() != p.seq+1 {
		return leaf, fmt.Errorf("the record has sequence %d, not %d", f.seq(), p.seq+1)
	}
	was := b[frameHead-1]
	b[frameHead-1] = 0
	leaf = sha256.Sum256(b[frameHead-1 : frameHead+len(f.stored)])
	b[frameHead-1] = was
	chain := nextChain(p.chain, leaf)
	if chain != f.chain {
		return leaf, fmt.Errorf("record %d is not the one that was chained", f.seq())
	}
	p.seq, p.chain, p.off = p.seq+1, chain, p.off+int64(f.size())
	return leaf, nil
}

const headMissing = "the head is missing"

// verifyHead holds the records, which end at last, against what the head says.
func (r *Reader) verifyHead(e *extent, last position) error {
	h, err := readHead(r.disk, r.stream)
	if err != nil {
		return err
	}
	missing := &Damage{Segment: r.stream.headName(), Seq: last.seq + 1, What: headMissing}
	switch {
	case h == nil && r.stream == records && last.seq > 0:
		return missing
	case h == nil:
		return nil
	case r.keys != nil && !h.authentic(r.keys):
		missing.What = "the head was not written by this journal"
		return missing
	case e.live && h.last > last.seq:
		return nil // written while the segments were read
	case len(e.segments) > 0 && e.segments[0].first < h.first && !e.live:
		return nil // a segment that was about to be removed
	}
	return h.check(e.segments, e.journal, last)
}
