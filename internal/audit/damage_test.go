package audit_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
)

// found is what a search finds in both orders.
func found(t *testing.T, r *audit.Reader, oldestFirst bool) (seqs []uint64, damages audit.Damages) {
	t.Helper()
	err := r.Search(t.Context(), audit.Filter{OldestFirst: oldestFirst}, func(rec *audit.Record) error {
		seqs = append(seqs, rec.Seq)
		return nil
	})
	if !oldestFirst {
		slices.Reverse(seqs)
	}
	if err == nil {
		return seqs, nil
	}
	damages, ok := errors.AsType[audit.Damages](err)
	if !ok || !errors.Is(err, audit.ErrCorrupt) {
		t.Fatalf("Search() = %v, want damage", err)
	}
	return seqs, damages
}

// A search tells of damage where it is, and gives every record that is whole,
// before it and behind it, in a journal that is in use as in that of a stopped node.
func TestSearchGoesOnBehindDamage(t *testing.T) {
	const first = "journal-00000000000000000001.seg"
	image := newRig(t)
	j := image.Open(t)
	mustAppend(t, j, 0, 39)
	mustClose(t, j)
	segs := withPrefix(t, image.Disk, "journal-0")
	ends := append([]int{128}, frameEnds(t, image.Disk.Content(first))...)
	n := uint64(len(ends) - 1) // records of the first segment
	if len(segs) < 3 || n < 8 {
		t.Fatalf("%d segments, the first with %d records", len(segs), n)
	}
	const all = 41
	for name, c := range map[string]struct {
		segment string
		change  func(b []byte) []byte
		offset  int // of the damage in the first segment; negative where it is not there
		seq     uint64
		what    string
		lost    []uint64
		stopped bool // it keeps a node from starting
	}{
		"a byte of a record":        {first, func(b []byte) []byte { b[ends[3]+70] ^= 1; return b }, ends[3], 4, "the checksum is wrong", []uint64{4}, false},
		"the length of a record":    {first, func(b []byte) []byte { b[ends[3]+1] ^= 0x40; return b }, ends[3], 4, "no frame begins here", []uint64{4}, false},
		"the beginning of a record": {first, func(b []byte) []byte { b[ends[3]] = 0; return b }, ends[3], 4, "no frame begins here", []uint64{4}, false},
		"bytes of two records":      {first, func(b []byte) []byte { b[ends[3]+70] ^= 1; b[ends[4]+70] ^= 1; return b }, ends[3], 4, "records 4 to 5 cannot be read", []uint64{4, 5}, false},
		"the last of a segment":     {first, func(b []byte) []byte { b[ends[n]-9] ^= 1; return b }, ends[n-1], n, "the checksum is wrong", []uint64{n}, false},
		"a record is taken out":     {first, func(b []byte) []byte { return slices.Delete(b, ends[3], ends[4]) }, ends[3], 4, "sequence 5, not 4", []uint64{4}, false},
		"a segment ends early":      {first, func(b []byte) []byte { return b[:ends[n-2]] }, -1, n - 1, "are missing", []uint64{n - 1, n}, false},
		"a segment is missing":      {segs[1], func([]byte) []byte { return nil }, -1, n + 1, "are missing", nil, false},
		"a header":                  {segs[1], func(b []byte) []byte { b[40]++; return b }, -1, n + 1, "the segment header is damaged", []uint64{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			disk := image.Disk.Clone()
			disk.Change(c.segment, c.change)
			g := image.On(t, disk.Clone())
			readers := map[string]*audit.Reader{"stopped": g.Reader(t)}
			total := all
			if j, err := g.TryOpen(); err == nil {
				defer mustClose(t, j)
				readers["in use"] = j.Reader()
				readers["stopped"] = image.On(t, disk).Reader(t)
			} else if !c.stopped {
				t.Fatal(err)
			}
			for state, r := range readers {
				for _, forward := range []bool{true, false} {
					want := []uint64{}
					for seq := range uint64(total) {
						if !slices.Contains(c.lost, seq+1) {
							want = append(want, seq+1)
						}
					}
					seqs, damages := found(t, r, forward)
					if state == "in use" {
						seqs = slices.DeleteFunc(seqs, func(s uint64) bool { return s > all }) // that it was opened
					}
					if c.lost == nil { // a whole segment
						want = seqs
						if len(seqs) >= all || !slices.Contains(seqs, all) || !slices.Contains(seqs, n) {
							t.Errorf("%s, oldest first %t: found %v", state, forward, seqs)
						}
					}
					if !slices.Equal(seqs, want) {
						t.Errorf("%s, oldest first %t: found %v, want %v", state, forward, seqs, want)
					}
					if len(damages) == 0 {
						t.Fatalf("%s, oldest first %t: no damage is told of", state, forward)
					}
					d := damages[0]
					if len(damages) == len(c.lost) && len(c.lost) > 1 {
						continue // each of them told by itself, newest first
					}
					if d.Seq != c.seq || !strings.Contains(d.What, c.what) || c.offset >= 0 && (d.Segment != first || d.Offset != int64(c.offset)) {
						t.Errorf("%s, oldest first %t: damage %+v, want %q of record %d at %d", state, forward, *d, c.what, c.seq, c.offset)
					}
				}
			}
			if c.offset < 0 {
				return
			}
			if _, err := readers["stopped"].Stored(t.Context(), 4); slices.Contains(c.lost, 4) && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("Stored(4) = %v, want ErrCorrupt", err)
			}
			if _, err := readers["stopped"].Stored(t.Context(), 6); err != nil {
				t.Errorf("Stored(6) = %v", err)
			}
			_, err := readers["stopped"].Verify(t.Context(), nil)
			if d, ok := errors.AsType[*audit.Damage](err); !ok || d.Segment != first || d.Offset != int64(c.offset) || d.Seq != c.seq {
				t.Errorf("Verify() = %v, want damage of record %d at %d", err, c.seq, c.offset)
			}
		})
	}
}

// However much is damaged, no more than a page is told of it.
func TestDamagesAreBounded(t *testing.T) {
	g := newRig(t)
	g.Config.SegmentBytes = 1 << 20
	j := g.Open(t)
	mustAppend(t, j, 0, 200)
	mustClose(t, j)
	const first = "journal-00000000000000000001.seg"
	ends := frameEnds(t, g.Disk.Content(first))
	g.Disk.Change(first, func(b []byte) []byte {
		for i := 0; i < len(ends)-1; i += 2 {
			b[ends[i]+70] ^= 1
		}
		return b
	})
	seqs, damages := found(t, g.Reader(t), true)
	if len(seqs) != 101 || len(damages) != 33 {
		t.Errorf("%d records and %d damages, want 101 and 33", len(seqs), len(damages))
	}
}
