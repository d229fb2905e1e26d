package audit_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
)

var update = flag.Bool("update", false, "write golden files anew")

// made returns a key, a proof and a proof of consistency, as text.
func made(t testing.TB) (key, proof, consistency, older string) {
	t.Helper()
	g := newRig(t)
	j := certified(t, g)
	mustAppend(t, j, 0, 3)
	old := checkpoint(t, j, last(t, j))
	mustAppend(t, j, 3, 7)
	p, err := j.Reader().Prove(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	c, err := j.Reader().Consistency(t.Context(), old.Size, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	key = keyOf(t, j).String()
	mustClose(t, j)
	return key, string(b) + "\n", string(cb) + "\n", old.Note
}

// TestOldProofsHold checks what was given away once: it can be checked for ever.
func TestOldProofsHold(t *testing.T) {
	dir := filepath.Join("testdata", "proofs")
	if *update {
		key, proof, consistency, older := made(t)
		for name, text := range map[string]string{"journal.pub": key + "\n", "record.proof": proof, "day.proof": consistency, "older.checkpoint": older} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := audit.ParseKey(string(read("journal.pub")))
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := audit.ParseProof(read("record.proof"))
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := p.Check(key); err != nil || shown.Sequence != 7 || !strings.Contains(string(shown.Record), `"request_id":"request-5"`) {
		t.Errorf("Check = %+v, %v, want request-5", shown, err)
	}
	_, c, err := audit.ParseProof(read("day.proof"))
	if err != nil {
		t.Fatal(err)
	}
	if older, newer, err := c.Check(key, read("older.checkpoint")); err != nil || older.Size != 4 || newer.Size < 8 {
		t.Errorf("Check = %+v, %+v, %v, want 4 records and 8", older, newer, err)
	}
}

func FuzzCheckpoint(f *testing.F) {
	_, _, _, older := made(f)
	f.Add([]byte(older))
	f.Add([]byte(strings.Replace(older, "\n4\n", "\n04\n", 1)))
	f.Add([]byte(strings.Replace(older, "Z\n", "+00:00\n", 1)))
	f.Add([]byte(strings.Replace(older, "\n\n", "\nmore\n\n", 1)))
	f.Add([]byte("\n\n— "))
	var zero [16]byte
	key, err := audit.PublicKey(seed(9), cluster, zero)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, body, err := audit.ReadNote(b)
		if err == nil && !strings.HasPrefix(string(b), body) {
			t.Errorf("%q was read as %+v, which is written %q", b, c, body)
		}
		if _, err := key.Open(b); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("Open(%q) = %v, want ErrCorrupt: nobody has that key", b, err)
		}
		notes, rest := audit.ParseNotes(b)
		again, left := audit.ParseNotes(append(bytes.Join(notes, []byte("\n")), '\n'))
		if len(notes) > 0 && (len(again) != len(notes) || left != 0 || rest > len(b)) {
			t.Errorf("%q has %d notes, which by themselves are %d and %d bytes", b, len(notes), len(again), left)
		}
	})
}

func FuzzProof(f *testing.F) {
	text, proof, consistency, _ := made(f)
	key, err := audit.ParseKey(text)
	if err != nil {
		f.Fatal(err)
	}
	right, _, err := audit.ParseProof([]byte(proof))
	if err != nil {
		f.Fatal(err)
	}
	_, day, err := audit.ParseProof([]byte(consistency))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(proof))
	f.Add([]byte(consistency))
	f.Add([]byte(`{"rotunda_audit_proof":1,"path":[""]}`))
	f.Add([]byte(`{"rotunda_audit_proof":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, c, err := audit.ParseProof(b)
		if err != nil {
			return
		}
		if p != nil {
			// Whatever holds says what the right one says, or nothing that was not signed.
			shown, err := p.Check(key)
			if err == nil && (p.Sequence != right.Sequence || !bytes.Equal(p.Record, right.Record)) {
				t.Errorf("%q shows %s", b, shown.Record)
			}
			return
		}
		if older, newer, err := c.Check(key, nil); err == nil && (older.Size != day.FromSize && older.Size != day.ToSize || newer.Size != day.ToSize && newer.Size != day.FromSize) {
			t.Errorf("%q shows %+v and %+v", b, older, newer)
		}
	})
}

func FuzzKey(f *testing.F) {
	text, _, _, _ := made(f)
	f.Add(text)
	f.Add("rotunda.dev/audit/x/00000000000000000000000000000000+00000000+AQ==")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := audit.ParseKey(s)
		if err != nil {
			return
		}
		again, err := audit.ParseKey(k.String())
		if err != nil || again.Origin() != k.Origin() || again.Journal() != k.Journal() {
			t.Errorf("ParseKey(%q) = %v, and its text %v, %v", s, k, again, err)
		}
	})
}

// TestSearchIsFast searches 100,000 records for who, where, when and what.
func TestSearchIsFast(t *testing.T) {
	n := 100_000
	if testing.Short() || detecting {
		n = 10_000
	}
	g := newRig(t)
	g.Config.SegmentBytes = 4 << 20
	j := certified(t, g)
	appendMany(t, j, 0, n)
	wanted := audittest.Record(n / 3)
	rare := &audit.Record{
		Kind: audit.Request, Time: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Op: "kv.write", Path: "secret/data/rare", Outcome: "denied",
		Actor: audit.Actor{Accessor: "rare-accessor"}, In: []byte(fmt.Sprintf(`{"data":%q}`, audit.HashPrefix+strings.Repeat("ab", 32))),
	}
	if err := j.Append(t.Context(), rare); err != nil {
		t.Fatal(err)
	}
	appendMany(t, j, n, n+100)
	r := j.Reader()
	for name, tc := range map[string]struct {
		f    audit.Filter
		want int
	}{
		"principal":      {audit.Filter{Actor: "rare-accessor"}, 1},
		"path":           {audit.Filter{Path: "secret/data/rare"}, 1},
		"value":          {audit.Filter{Value: audit.HashPrefix + strings.Repeat("ab", 32)}, 1},
		"time":           {audit.Filter{From: rare.Time, To: rare.Time.Add(time.Second)}, 1},
		"request":        {audit.Filter{RequestID: wanted.RequestID}, 1},
		"all but time":   {audit.Filter{Actor: "rare-accessor", Path: "secret/", Op: "kv.write", Outcome: "denied"}, 1},
		"oldest first":   {audit.Filter{Path: "secret/data/rare", OldestFirst: true}, 1},
		"nobody":         {audit.Filter{Actor: "nobody"}, 0},
		"one in seven":   {audit.Filter{Actor: "accessor-3", Limit: 100}, 100},
		"what everybody": {audit.Filter{Op: "kv.get", Limit: 1000}, 1000},
	} {
		begin := g.Config.Clock.Now()
		found := 0
		if err := r.Search(t.Context(), tc.f, func(*audit.Record) error { found++; return nil }); err != nil {
			t.Fatalf("%s: Search = %v", name, err)
		}
		took := g.Config.Clock.Now().Sub(begin)
		if found != tc.want {
			t.Errorf("%s: %d records, want %d", name, found, tc.want)
		}
		// A second for 100,000 on a core of our own; the test's machine may be shared.
		if took > 10*time.Second && !detecting {
			t.Errorf("%s: the search took %v", name, took)
		}
		t.Logf("%s: %v of %d records", name, took.Round(time.Millisecond), n)
	}
	// Proofs in a tree of more than one bundle.
	key, head := keyOf(t, j), last(t, j)
	for _, seq := range []uint64{1, 65_535, 65_536, 65_537, 70_000, head} {
		if seq > head {
			continue
		}
		begin := g.Config.Clock.Now()
		p, err := r.Prove(t.Context(), seq)
		if err != nil {
			t.Fatalf("Prove(%d) = %v", seq, err)
		}
		took := g.Config.Clock.Now().Sub(begin)
		if _, err := p.Check(key); err != nil {
			t.Errorf("Check of the proof of %d = %v", seq, err)
		}
		c, err := r.Consistency(t.Context(), seq, 0)
		if err != nil {
			t.Fatalf("Consistency(%d, 0) = %v", seq, err)
		}
		if _, _, err := c.Check(key, nil); err != nil && c.From != "" {
			t.Errorf("Check of the proof from %d = %v", seq, err)
		}
		t.Logf("proof of record %d: %v, %d hashes", seq, took.Round(time.Millisecond), len(p.Path))
	}
	mustClose(t, j)
}
