//go:build unix

package system

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/audit/file"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/wire"
)

// auditRig runs the operations on the audit log as a broker does.
type auditRig struct {
	t       testing.TB
	parts   Parts
	journal *audittest.Rig
	dir     string
}

type testSinks struct {
	*file.Set
	declared []audit.SinkConfig
}

func (s testSinks) Declared() []audit.SinkConfig { return s.declared }

func newAuditRig(t testing.TB) *auditRig {
	t.Helper()
	raw := mem.New(mem.Config{})
	root := secret.NewBytes([]byte("0123456789abcdef0123456789abcdef"))
	if err := barrier.Create(t.Context(), raw, root, []seal.Stanza{{Kind: "test", Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	core, err := b.Space(t.Context(), barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	r := &auditRig{t: t, journal: audittest.NewRig(t, raw), dir: t.TempDir()}
	r.parts = Parts{
		Barrier: b, Core: core, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
		Hasher: audit.NewHasher(func(parts ...[]byte) [32]byte { return b.MAC(barrier.ForAudit, parts...) }),
	}
	r.start(nil)
	return r
}

// start opens the journal and starts the sinks.
func (r *auditRig) start(declared []audit.SinkConfig) {
	r.t.Helper()
	r.parts.Journal = r.journal.Open(r.t)
	if err := r.parts.Journal.Certify(r.parts.Barrier.Derive("audit-checkpoint"), r.parts.Barrier.ClusterID()); err != nil {
		r.t.Fatalf("Certify = %v", err)
	}
	r.parts.Sinks = testSinks{file.NewSet(r.parts.Journal, r.parts.Hasher, r.dir, file.Own{}), declared}
	if err := StartSinks(r.t.Context(), &r.parts); err != nil {
		r.t.Fatalf("StartSinks = %v", err)
	}
}

func (r *auditRig) stop() {
	r.t.Helper()
	if err := r.parts.Journal.Close(); err != nil {
		r.t.Errorf("closing the journal: %v", err)
	}
}

type source struct{ fill func(any) }

func (s source) Fill(in any) error           { s.fill(in); return nil }
func (s source) Params() ([]op.Param, error) { return nil, nil }

func auditDo[In any](r *auditRig, opName string, args []op.Arg, in In) (any, error) {
	r.t.Helper()
	ops := auditOps(r.parts)
	i := slices.IndexFunc(ops, func(o op.Op) bool { return o.Name == opName })
	if i < 0 {
		r.t.Fatalf("no operation %s", opName)
	}
	c := &op.Call{ID: "r", Time: r.parts.Clock.Now(), Args: args, Mount: op.Mount{Path: "sys/"}}
	return ops[i].Run(r.t.Context(), c, source{func(p any) { *p.(*In) = in }}, func(op.Ask) error { return nil })
}

func (r *auditRig) sinks() SinkMap {
	r.t.Helper()
	out, err := auditDo(r, "system.audit.list", nil, op.Nothing{})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.(SinkMap)
}

func at(path string) []op.Arg { return []op.Arg{{Name: "path", Value: path}} }

func (r *auditRig) enable(name string, in sinkEnableIn) error {
	_, err := auditDo(r, "system.audit.enable", at(name), in)
	return err
}

func TestSinksOverTheAPI(t *testing.T) {
	r := newAuditRig(t)
	good := sinkEnableIn{Type: "file", Description: "for the SIEM", Options: wire.Map{"file_path": filepath.Join(r.dir, "audit.json")}}
	if err := r.enable("to-file/", good); err != nil {
		t.Fatal(err)
	}
	want := SinkInfo{Description: "for the SIEM", Options: good.Options, Path: "to-file/", Type: "file"}
	if got := r.sinks(); len(got) != 1 || got["to-file/"].Description != want.Description || !maps.Equal(got["to-file/"].Options, want.Options) || got["to-file/"].Path != want.Path {
		t.Errorf("sinks = %+v, want %+v", got, want)
	}
	for name, in := range map[string]sinkEnableIn{
		"to-file": good, "a/b": good, "": good, "x*": good, "journal": good,
		"other":   {Type: "socket", Options: wire.Map{"address": "127.0.0.1:1"}},
		"outside": {Type: "file", Options: wire.Map{"path": "/etc/x"}},
		"raw":     {Type: "file", Options: wire.Map{"file_path": filepath.Join(r.dir, "raw"), "log_raw": "true"}},
		"none":    {Type: "file", Options: wire.Map{"file_path": filepath.Join(r.dir, "no/such/dir")}},
	} {
		if err := r.enable(name, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("enable %q = %v, want Invalid", name, err)
		}
	}
	if got := r.sinks(); len(got) != 1 {
		t.Errorf("sinks after refusals = %+v, want one", got)
	}
	appended := func(i int) {
		t.Helper()
		if err := r.parts.Journal.Append(t.Context(), audittest.Record(i)); err != nil {
			t.Fatal(err)
		}
	}
	appended(1)
	r.stop() // and it is there after a restart
	r.start(nil)
	appended(2)
	r.stop()
	b, err := os.ReadFile(filepath.Join(r.dir, "audit.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"request-1", "request-2"} {
		if strings.Count(string(b), `"id":"`+id+`"`) < 2 {
			t.Errorf("the file does not have the lines of %s", id)
		}
	}
	declared := audit.SinkConfig{Name: "conf", Kind: "file", Declared: true, Options: map[string]string{"file_path": filepath.Join(r.dir, "conf.json")}}
	r.start([]audit.SinkConfig{declared})
	if got := slices.Sorted(maps.Keys(r.sinks())); !slices.Equal(got, []string{"conf/", "to-file/"}) {
		t.Errorf("sinks = %v", got)
	}
	for name, want := range map[string]fault.Kind{"conf": fault.Invalid, "a/b": fault.Invalid} {
		if _, err := auditDo(r, "system.audit.disable", at(name), sinkPathIn{}); !fault.Is(err, want) {
			t.Errorf("disable %s = %v, want %v", name, err, want)
		}
	}
	for range 2 { // one that is not there is not an error
		if _, err := auditDo(r, "system.audit.disable", at("to-file"), sinkPathIn{}); err != nil {
			t.Errorf("disable = %v", err)
		}
	}
	if feeds, err := r.parts.Journal.Feeds(); err != nil || len(feeds) != 1 {
		t.Errorf("feeds = %v, %v, want that of the configuration", feeds, err)
	}
	r.stop()
	r.start(nil) // without the declared one
	if feeds, err := r.parts.Journal.Feeds(); err != nil || len(feeds) != 0 {
		t.Errorf("feeds = %v, %v, want none", feeds, err)
	}
	r.stop()
}

func TestAuditHashIsTheHashOfTheJournal(t *testing.T) {
	r := newAuditRig(t)
	defer r.stop()
	out, err := auditDo(r, "system.audit-hash", at("journal"), auditHashIn{Input: "hunter2"})
	if err != nil || out.(auditHashOut).Hash != r.parts.Hasher.Hash("hunter2") {
		t.Errorf("hash = %v, %v", out, err)
	}
	if _, err := auditDo(r, "system.audit-hash", at("file"), auditHashIn{Input: "x"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("hash for a sink that is not there = %v, want Invalid", err)
	}
	if _, err := auditDo(r, "system.audit-hash", at("journal"), auditHashIn{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("hash of nothing = %v, want Invalid", err)
	}
}

func TestJournalOverTheAPI(t *testing.T) {
	r := newAuditRig(t)
	defer r.stop()
	for i := range 20 {
		if err := r.parts.Journal.Append(t.Context(), audittest.Record(i)); err != nil {
			t.Fatal(err)
		}
	}
	search := func(in searchIn) (ids []string, last uint64) {
		t.Helper()
		out, err := auditDo(r, searchName, nil, in)
		if err != nil {
			t.Fatalf("search %+v = %v", in, err)
		}
		for _, b := range out.(searchOut).Records {
			var rec audit.Record
			if err := json.Unmarshal(b, &rec); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, rec.RequestID)
		}
		return ids, out.(searchOut).Last
	}
	if ids, _ := search(searchIn{Path: "secret/", Limit: 2}); !slices.Equal(ids, []string{"request-19", "request-18"}) {
		t.Errorf("search = %v", ids)
	}
	ids, last := search(searchIn{Op: "kv.get", OldestFirst: true, Limit: 2})
	if !slices.Equal(ids, []string{"request-0", "request-1"}) {
		t.Errorf("search = %v", ids)
	}
	if ids, _ := search(searchIn{Op: "kv.get", OldestFirst: true, Limit: 1, After: last}); !slices.Equal(ids, []string{"request-2"}) {
		t.Errorf("search after %d = %v", last, ids)
	}
	for _, in := range []searchIn{{From: "yesterday"}, {To: "x"}, {Limit: -1}} {
		if _, err := auditDo(r, searchName, nil, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("search %+v = %v, want Invalid", in, err)
		}
	}
	if _, err := r.parts.Journal.Checkpoint(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	out, err := auditDo(r, "system.audit-journal.verify", nil, op.Nothing{})
	if v := out.(verifyOut); err != nil || !v.Whole || v.Records < 20 || v.Damage != nil || v.Signed.Last < 20 || v.Signed.Checkpoints == 0 {
		t.Errorf("verify = %+v, %v", v, err)
	}
	if out, err := auditDo(r, "system.audit-journal", nil, op.Nothing{}); err != nil || out.(journalOut).Last < 20 {
		t.Errorf("journal = %+v, %v", out, err)
	}
	names, err := r.journal.Disk.Names()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "journal-0") })
	r.journal.Disk.Change(names[i], func(b []byte) []byte { b[300] ^= 1; return b })
	out, err = auditDo(r, "system.audit-journal.verify", nil, op.Nothing{})
	if v := out.(verifyOut); err != nil || v.Whole || v.Damage == nil || v.Damage.Segment != names[i] {
		t.Errorf("verify of a damaged journal = %+v, %v", v, err)
	}
	r.journal.Disk.Change(names[i], func(b []byte) []byte { b[300] ^= 1; return b })
	// What is answered is counted in the record of the search, and not shown.
	if got := string(r.parts.Hasher.Redact(searchOut{Records: make([]jsontext.Value, 3)})); got != `{"last":0,"records":3}` {
		t.Errorf("the answer is recorded as %s", got)
	}
}

func TestFollowTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditRig(t)
		defer r.stop()
		last, err := r.parts.Journal.Reader().Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		follow := func(after uint64) searchOut {
			t.Helper()
			out, err := auditDo(r, searchName, nil, searchIn{After: after, Wait: wire.Duration(20 * time.Second)})
			if err != nil {
				t.Fatalf("follow = %v", err)
			}
			return out.(searchOut)
		}
		if out := follow(last); len(out.Records) != 0 || out.Last != last {
			t.Errorf("follow of an idle journal = %+v, want nothing after 20 s", out)
		}
		got := make(chan searchOut)
		go func() { got <- follow(last) }()
		synctest.Wait()
		own := audittest.Record(1)
		own.Op = searchName
		for _, rec := range []*audit.Record{own, audittest.Record(2)} {
			if err := r.parts.Journal.Append(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		out := <-got
		if len(out.Records) != 1 || !strings.Contains(string(out.Records[0]), "request-2") || out.Last != last+2 {
			t.Errorf("follow = %+v, want the second record", out)
		}
	})
}

func TestSinkTableOfAnotherVersion(t *testing.T) {
	r := newAuditRig(t)
	defer r.stop()
	for _, bad := range []string{`{"format":2,"sinks":[]}`, `{`} {
		err := r.parts.Core.Update(t.Context(), storage.Locks{Own: []string{sinkScope}}, func(tx storage.Tx) error {
			tx.Put(storage.Key{Scope: sinkScope, Row: sinkRow}, []byte(bad))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := StartSinks(context.Background(), &r.parts); err == nil {
			t.Errorf("StartSinks with the row %s = nil, want an error", bad)
		}
	}
}

func TestProofsOverTheAPI(t *testing.T) {
	r := newAuditRig(t)
	defer r.stop()
	var ids []string
	for i := range 20 {
		rec := audittest.Record(i)
		if err := r.parts.Journal.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, rec.ID)
	}
	out, err := auditDo(r, "system.audit-journal.key", nil, op.Nothing{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := audit.ParseKey(out.(journalKeyOut).Key)
	if err != nil || key.Origin() != out.(journalKeyOut).Origin {
		t.Fatalf("ParseKey(%+v) = %v, %v", out, key, err)
	}
	out, err = auditDo(r, "system.audit-journal.prove", nil, proveIn{ID: ids[7]})
	if err != nil {
		t.Fatal(err)
	}
	p := out.(audit.Proof)
	shown, err := p.Check(key)
	if err != nil || !strings.Contains(string(shown.Record), `"request_id":"request-7"`) {
		t.Errorf("Check = %+v, %v, want request-7", shown, err)
	}
	if got := string(r.parts.Hasher.Redact(p)); strings.Contains(got, base64.StdEncoding.EncodeToString(p.Key)) {
		t.Errorf("the answer is recorded as %s, with the record's key", got)
	}
	if out, err := auditDo(r, "system.audit-journal.prove", nil, proveIn{Seq: p.Sequence}); err != nil || out.(audit.Proof).Sequence != p.Sequence {
		t.Errorf("prove by sequence = %+v, %v", out, err)
	}
	for _, bad := range []struct {
		in   proveIn
		want fault.Kind
	}{{proveIn{}, fault.Invalid}, {proveIn{Seq: 1, ID: ids[0]}, fault.Invalid}, {proveIn{ID: "x"}, fault.Invalid}, {proveIn{Seq: 9999}, fault.NotFound}, {proveIn{ID: strings.Repeat("0", 32)}, fault.NotFound}} {
		if _, err := auditDo(r, "system.audit-journal.prove", nil, bad.in); !fault.Is(err, bad.want) {
			t.Errorf("prove %+v = %v, want %v", bad.in, err, bad.want)
		}
	}
	out, err = auditDo(r, "system.audit-journal.checkpoint", nil, op.Nothing{})
	if err != nil {
		t.Fatal(err)
	}
	old := out.(checkpointOut)
	if err := r.parts.Journal.Append(t.Context(), audittest.Record(20)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.parts.Journal.Checkpoint(t.Context(), old.Size+1); err != nil {
		t.Fatal(err)
	}
	out, err = auditDo(r, "system.audit-journal.consistency", nil, consistencyIn{From: old.Size})
	if err != nil {
		t.Fatal(err)
	}
	c := out.(audit.Consistency)
	if from, to, err := c.Check(key, []byte(old.Checkpoint)); err != nil || from.Size != old.Size || to.Size <= old.Size {
		t.Errorf("Check = %+v, %+v, %v", from, to, err)
	}
	for _, bad := range []struct {
		in   consistencyIn
		want fault.Kind
	}{{consistencyIn{}, fault.Invalid}, {consistencyIn{From: 9999}, fault.NotFound}, {consistencyIn{From: 1, To: 9999}, fault.NotFound}, {consistencyIn{From: 3, To: 2}, fault.Invalid}} {
		if _, err := auditDo(r, "system.audit-journal.consistency", nil, bad.in); !fault.Is(err, bad.want) {
			t.Errorf("consistency %+v = %v, want %v", bad.in, err, bad.want)
		}
	}
}
