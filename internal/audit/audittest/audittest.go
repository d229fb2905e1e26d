package audittest

import (
	"crypto/sha256"
	"fmt"
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

// On returns the rig with another disk.
func (g *Rig) On(d *Disk) *Rig {
	other := *g
	other.Disk, other.Config.Disk = d, d
	return &other
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
