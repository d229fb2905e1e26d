package audit_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

func auditKey() secret.Bytes { return secret.NewBytes([]byte("0123456789abcdef0123456789abcdef")) }

type setup struct {
	dir, keys string
	store     storage.Store
	c         audit.Config
}

func newSetup(t testing.TB) *setup {
	t.Helper()
	s := &setup{dir: t.TempDir() + "/audit", keys: t.TempDir(), store: mem.New(mem.Config{})}
	s.c = audit.Config{Node: "n1", KeysDir: s.keys, Clock: clock.System{}, SegmentBytes: 64 << 10, Reserve: -1}
	return s
}

func (s *setup) open(t testing.TB) *audit.Journal {
	t.Helper()
	j, err := audit.Open(s.dir, s.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Unlock(auditKey(), s.store); err != nil {
		t.Fatal(err)
	}
	return j
}

func closed(t testing.TB, j *audit.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func record(i int) *audit.Record {
	return &audit.Record{
		Kind: audit.Request, Time: time.Date(2026, 11, 24, 8, 0, 0, i, time.UTC), Node: "n1", RequestID: fmt.Sprintf("r%d", i),
		Op: "kv.get", Verb: "read", Path: fmt.Sprintf("secret/data/app%d", i), MountPath: "secret/", MountKind: "kv", MountAccessor: "kv_12345678",
		Actor:  audit.Actor{TokenHash: "hmac-sha256:ab", Accessor: "acc", DisplayName: "alice", TokenKind: "service", Policies: []string{"default", "dev"}},
		Remote: "192.0.2.1:4711", Allowed: true, Rule: "secret/*", Outcome: audit.OutcomeOK,
	}
}

func all(t testing.TB, r *audit.Reader) []*audit.Record {
	t.Helper()
	var out []*audit.Record
	for rec, err := range r.Records(t.Context(), 1) {
		if err != nil {
			t.Fatalf("Records: %v", err)
		}
		out = append(out, rec)
	}
	return out
}

func TestAppendIsReadAgain(t *testing.T) {
	s := newSetup(t)
	j := s.open(t)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if err := j.Append(t.Context(), record(i)); err != nil {
				t.Errorf("Append(%d) = %v", i, err)
			}
		})
	}
	wg.Wait()
	recs := all(t, j.Reader())
	if len(recs) != 501 {
		t.Fatalf("%d records, want 501", len(recs))
	}
	rep, err := j.Reader().Verify(t.Context(), nil)
	if err != nil || rep.Records != 501 || rep.Opened != 501 {
		t.Fatalf("Verify() = %+v, %v", rep, err)
	}
	closed(t, j)
	j = s.open(t)
	if n := len(all(t, j.Reader())); n != 503 {
		t.Fatalf("%d records after a restart, want 503", n)
	}
	closed(t, j)
	r, err := audit.OpenReader(s.dir, secret.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if rep, err := r.Verify(t.Context(), nil); err != nil || rep.Records != 504 {
		t.Fatalf("Verify() = %+v, %v", rep, err)
	}
}

func TestRiderIsKeptWithItsTransaction(t *testing.T) {
	s := newSetup(t)
	j := s.open(t)
	for i := range 300 {
		rider := j.Rider(func() (*audit.Record, error) { return record(i), nil })
		err := carry(t.Context(), s.store, rider, i)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	recs := all(t, j.Reader())
	if len(recs) != 301 {
		t.Fatalf("%d records, want 301", len(recs))
	}
	for i, r := range recs[1:] {
		if want := fmt.Sprintf("r%d", i); r.RequestID != want {
			t.Fatalf("record %d is of request %s, want %s", r.Seq, r.RequestID, want)
		}
	}
	closed(t, j)
	if n := rows(t, s.store); n != 0 {
		t.Errorf("%d rows in the outbox after Close, want 0", n)
	}
}

// carry runs a transaction with a rider, as the barrier does.
func carry(ctx context.Context, store storage.Store, rider *storage.Rider, i int) error {
	locks := storage.Locks{Own: []string{"\x01thing"}, Join: rider.Locks.Join}
	err := store.Update(ctx, locks, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "\x01thing", Row: fmt.Sprint(i)}, []byte("x"))
		return rider.Write(tx)
	})
	if err == nil {
		rider.Done()
	}
	return err
}

func rows(t testing.TB, store storage.Store) int {
	t.Helper()
	n := 0
	err := store.View(t.Context(), func(r storage.Reader) error {
		ch, err := store.Changes(t.Context(), 0)
		if err != nil {
			return err
		}
		for _, scope := range ch.Scopes {
			if len(scope) > 7 && scope[:7] == "\x02outbox" {
				items, _, err := r.Scan(scope, "", "", 1000)
				if err != nil {
					return err
				}
				n += len(items)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
