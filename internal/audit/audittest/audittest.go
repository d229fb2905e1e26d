package audittest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Rig is a journal on a [Disk], and what it needs.
type Rig struct {
	Disk   *Disk
	Store  storage.Store
	Config audit.Config
	Key    secret.Bytes
}

// NewRig returns a rig of small segments, no reserve and the machine's clock.
func NewRig(t testing.TB, store storage.Store) *Rig {
	t.Helper()
	d := NewDisk()
	return &Rig{
		Disk: d, Store: store, Key: secret.NewBytes([]byte("0123456789abcdef0123456789abcdef")),
		Config: audit.Config{Node: "test", KeysDir: t.TempDir(), Clock: clock.System{}, SegmentBytes: 8 << 10, Reserve: -1, Disk: d},
	}
}

// Open opens and unlocks the journal. The test fails where that fails.
func (g *Rig) Open(t testing.TB) *audit.Journal {
	t.Helper()
	j, err := g.TryOpen()
	if err != nil {
		t.Fatalf("opening the journal: %v", err)
	}
	return j
}

// TryOpen is Open for a test that expects it to fail.
func (g *Rig) TryOpen() (*audit.Journal, error) {
	j, err := audit.Open("", g.Config)
	if err != nil {
		return nil, err
	}
	if err := j.Unlock(g.Key.Clone(), g.Store); err != nil {
		_ = j.Close()
		return nil, err
	}
	return j, nil
}

// On returns the rig with another disk, of whose journal nothing is known
// elsewhere any more: see [Rig.Anchors].
func (g *Rig) On(t testing.TB, d *Disk) *Rig {
	t.Helper()
	other := *g
	other.Disk, other.Config.Disk = d, d
	other.SetAnchors(t, Anchors{})
	return &other
}

// Anchors are what is known of a journal outside of its disk, at one moment.
type Anchors struct{ Store, Keys []byte } // nil where nothing is

const anchorFile = "audit-anchor"

var anchorKey = storage.Key{Scope: "\x02anchor", Row: "journal"}

// Anchors returns what is known of the rig's journal.
func (g *Rig) Anchors(t testing.TB) (a Anchors) {
	t.Helper()
	err := g.Store.View(t.Context(), func(r storage.Reader) (err error) {
		a.Store, err = r.Get(anchorKey)
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	a.Keys, err = os.ReadFile(filepath.Join(g.Config.KeysDir, anchorFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return a
}

// Crash returns what image makes of the disk, and what is known of the journal
// elsewhere at that moment.
func (g *Rig) Crash(t testing.TB, image func() *Disk) (*Disk, Anchors) {
	t.Helper()
	for known := g.Anchors(t); ; {
		d := image()
		now := g.Anchors(t)
		if bytes.Equal(now.Store, known.Store) && bytes.Equal(now.Keys, known.Keys) {
			return d, known
		}
		known = now
	}
}

// SetAnchors makes a all that is known of the rig's journal.
func (g *Rig) SetAnchors(t testing.TB, a Anchors) {
	t.Helper()
	err := g.Store.Update(t.Context(), storage.Locks{Own: []string{anchorKey.Scope}}, func(tx storage.Tx) error {
		if a.Store == nil {
			tx.Delete(anchorKey)
			return nil
		}
		tx.Put(anchorKey, slices.Clone(a.Store))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(g.Config.KeysDir, anchorFile)
	if a.Keys == nil {
		err = os.RemoveAll(name)
	} else {
		err = os.WriteFile(name, a.Keys, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Reader returns a reader of what is on the disk, as of a stopped node.
func (g *Rig) Reader(t testing.TB) *audit.Reader {
	t.Helper()
	r, err := audit.NewReader(g.Disk, g.Key.Clone())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Record returns the i-th of a series of records that differ.
func Record(i int) *audit.Record {
	hash := fmt.Sprintf("%s%x", audit.HashPrefix, sha256.Sum256([]byte{byte(i), byte(i >> 8)})) //nolint:gosec // low bytes of a number
	return &audit.Record{
		Kind: audit.Request, Time: time.Date(2026, 11, 24, 8, 0, i, i, time.UTC), Node: "test", RequestID: fmt.Sprintf("request-%d", i),
		Op: "kv.get", Verb: "read", Path: fmt.Sprintf("secret/data/app%d", i),
		MountPath: "secret/", MountKind: "kv", MountAccessor: "kv_0a1b2c3d", MountID: "000102030405060708090a0b0c0d0e0f",
		Actor:  audit.Actor{TokenHash: hash, Accessor: fmt.Sprintf("accessor-%d", i%7), DisplayName: "alice", TokenKind: "service", Policies: []string{"default", "dev"}},
		Remote: "192.0.2.1:4711", Allowed: true, Rule: `policy "dev": path "secret/*"`, Outcome: audit.OutcomeOK, Status: 200,
		In: jsontext.Value(fmt.Sprintf(`{"path":%q,"version":%d}`, hash, i)), Out: jsontext.Value(fmt.Sprintf(`{"data":{"password":%q}}`, hash)),
	}
}

// Records returns everything that r can read, oldest first.
func Records(t testing.TB, r *audit.Reader) []*audit.Record {
	t.Helper()
	var out []*audit.Record
	for rec, err := range r.Records(t.Context(), 1) {
		if err != nil {
			t.Fatalf("reading records: %v", err)
		}
		out = append(out, rec)
	}
	return out
}

// Requests returns the request ids of those of records that have one, in order.
func Requests(records []*audit.Record) []string {
	var ids []string
	for _, r := range records {
		if r.RequestID != "" {
			ids = append(ids, r.RequestID)
		}
	}
	return ids
}
