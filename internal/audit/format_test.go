package audit

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/secret"
)

func FuzzFrame(f *testing.F) {
	b := make([]byte, frameExtra+40)
	b[frameHead] = sealedJSON
	finishFrame(b, 3, [32]byte{1, 2, 3})
	f.Add(b)
	f.Add([]byte{frameBegin, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			_ = torn(b, int64(len(b)))
			_ = laterBatch(b, 0, 0)
			return
		}
		again := make([]byte, fr.size())
		copy(again[frameHead:], fr.stored)
		finishFrame(again, fr.place, fr.chain)
		if !bytes.Equal(again, b[:fr.size()]) {
			t.Errorf("a frame that parses is not what it would be written as")
		}
		if torn(b, headerLen) && !zero(b[:1]) && len(b) == fr.size() && len(b) < sector-headerLen {
			t.Errorf("a whole frame is taken for a torn one")
		}
	})
}

func FuzzHeader(f *testing.F) {
	h := header{stream: records, first: 7, begun: time.Unix(1, 2).UTC()}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHeader(b); err == nil && !bytes.Equal(h.encode(), b[:headerLen]) {
			t.Errorf("a header that parses is not what it would be written as")
		}
		if h, err := parseHead(b); err == nil && !bytes.Equal(h.bytes(), b) {
			t.Errorf("a head that parses is not what it would be written as")
		}
		if seq, ok := parseSinkPosition(b); ok && !bytes.Equal(sinkPosition(seq), b) {
			t.Errorf("a position that parses is not what it would be written as")
		}
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add("journal-00000000000000000001.seg")
	f.Add("sealed-00000000000000000001.seg")
	f.Fuzz(func(t *testing.T, s string) {
		for _, st := range []stream{records, events} {
			if n, ok := st.parseName(s); ok && st.name(n) != s {
				t.Errorf("parseName(%q) = %d", s, n)
			}
		}
		if n, ok := sinkName(s); ok && sinkFile(n) != s && sinkFile(n) != string(bytes.ToLower([]byte(s))) {
			t.Errorf("sinkName(%q) = %q", s, n)
		}
	})
}

// FuzzSegment reads anything as a segment, behind damage too: no panic and no
// end, and what is accepted is in order.
func FuzzSegment(f *testing.F) {
	h := header{stream: records, first: 1, begun: time.Unix(1, 2).UTC()}
	f.Add(h.encode(), int64(128))
	frames := h.encode()
	for seq := range byte(4) {
		stored := []byte{sealedJSON, 0, 0, 0, 0, 0, 0, 0, seq + 1, 'x'}
		b := append(make([]byte, frameHead, 64), append(stored, frameEnd)...)
		finishFrame(b, 0, [32]byte{})
		if seq != 1 { // there is a gap
			frames = append(frames, b...)
		}
	}
	f.Add(frames, int64(130))
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		if off := headerLen + int(uint64(at)%maxStored); off < len(b) {
			b[off] ^= 0x40
		}
		r, last := &Reader{stream: records}, uint64(0)
		for s := range r.scan(&extent{segments: []segment{{first: 1}, {first: 9}}}, 0, b) {
			if s.damage == nil && s.frame.seq() <= last {
				t.Errorf("record %d comes behind record %d", s.frame.seq(), last)
			}
			if s.damage == nil {
				last = s.frame.seq()
			}
		}
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		seg := &segment{first: h.first, chain: h.chain}
		pos, _, err := scanSegment(b, "x", seg)
		if err == nil && pos.off > int64(len(b)) {
			t.Errorf("a segment of %d bytes ends at %d", len(b), pos.off)
		}
	})
}

// FuzzRecord holds that a record comes back from its JSON as it went, and that
// the JSON is canonical.
func FuzzRecord(f *testing.F) {
	f.Add("kv.get", "secret/data/\"x\"", "é\x01", int64(5), 3, []byte(`{"a":"hmac-sha256:00"}`))
	f.Add("", "", "\xff", int64(-1), -1, []byte(``))
	f.Fuzz(func(t *testing.T, op, path, other string, nanos int64, n int, in []byte) {
		v := jsontext.Value(in)
		if v.Canonicalize() != nil || len(in) == 0 {
			v = nil
		}
		r := &Record{
			Seq: 7, ID: other, Kind: Request, Time: time.Unix(0, nanos).UTC(), Node: other, RequestID: op, Op: op, Verb: other, Path: path,
			MountPath: path, MountID: other, Actor: Actor{TokenHash: other, Policies: []string{op, other}}, Remote: other,
			Headers: []Header{{op, other}}, Allowed: n%2 == 0, Rule: path, Outcome: op, Status: n % 1000, Error: other, In: v, Out: v,
			WrapTTL: time.Duration(nanos), Wrapped: n%3 == 0, Warnings: n % 10, Event: op, Note: other,
		}
		b := appendRecord(nil, r, true)
		canonical := jsontext.Value(bytes.Clone(b))
		if err := canonical.Canonicalize(); err != nil || !bytes.Equal(canonical, b) {
			t.Fatalf("%s\nis not canonical: %s, %v", b, canonical, err)
		}
		var back Record
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("decoding %s: %v", b, err)
		}
		if again := appendRecord(nil, &back, true); !bytes.Equal(again, b) {
			t.Errorf("%s came back as\n%s", b, again)
		}
	})
}

// FuzzDecodeRecord reads anything as a record.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-24T08:00:00Z","seq":1,"headers":[{"name":"a","value":"b"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		if out := appendRecord(nil, &r, true); !jsontext.Value(out).IsValid() && jsontext.Value(b).IsValid() {
			t.Errorf("%s was written again as %s", b, out)
		}
	})
}

func TestARecordIsBoundToItsPlace(t *testing.T) {
	k, err := newKeys(secret.NewBytes(aead.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	journal := [16]byte{1}
	stored, err := k.sealRecord(nil, journal, 5, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := k.openRecord(nil, journal, stored); err != nil || string(b) != "x" {
		t.Fatalf("openRecord = %q, %v", b, err)
	}
	if _, err := k.openRecord(nil, [16]byte{2}, stored); err == nil {
		t.Error("a record of one journal opens in another")
	}
	moved := bytes.Clone(stored)
	moved[8]++
	if _, err := k.openRecord(nil, journal, moved); err == nil {
		t.Error("a record opens under another sequence")
	}
	row, err := k.sealRow(journal, "0123456789abcdef", []byte("y"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := k.openRow(journal, "0123456789abcdef", row); err != nil || string(b) != "y" {
		t.Errorf("openRow = %q, %v", b, err)
	}
	if _, err := k.openRow(journal, "0123456789abcdeg", row); err == nil {
		t.Error("a row of the outbox opens as another")
	}
	row[0] = 2
	if _, err := k.openRow(journal, "0123456789abcdef", row); err == nil {
		t.Error("a row of a newer format opens")
	}
	if _, err := newKeys(secret.NewBytes(make([]byte, 16))); err == nil {
		t.Error("a key of 16 bytes is taken")
	}
	k.wipe()
	if _, err := k.openRecord(nil, journal, stored); !errors.Is(err, ErrLocked) {
		t.Errorf("openRecord with a wiped key = %v, want ErrLocked", err)
	}
}
