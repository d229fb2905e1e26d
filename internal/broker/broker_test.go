package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/broker/brokertest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage/storagetest"
	"rotunda.dev/rotunda/internal/token"
)

// kinds are the kinds and outcomes of records.
func kinds(records []*audit.Record) string {
	var all []string
	for _, r := range records {
		all = append(all, strings.TrimSuffix(string(r.Kind)+":"+r.Outcome, ":"))
	}
	return strings.Join(all, " ")
}

// What an operation does and how it ends is in the journal, whatever it does.
func TestRecords(t *testing.T) {
	for _, c := range []struct {
		what string
		verb op.Verb
		path string
		want fault.Kind
		fine bool
		kept string // rows
		told string // kinds and outcomes of the records
	}{
		{"a read", op.Read, "probe/read", 0, true, "", "request:ok"},
		{"a read that fails", op.Read, "probe/fail", fault.Internal, false, "", "request:internal"},
		{"a read that panics", op.Read, "probe/panic", fault.Internal, false, "", "request:internal"},
		{"a read that is refused", op.Read, "probe/refuse", fault.Invalid, false, "", "request:invalid"},
		{"a write", op.Update, "probe/write", 0, true, "a", "request:ok"},
		{"a write that is refused", op.Update, "probe/write-fail", fault.Invalid, false, "", "request:invalid"},
		{"a write that panics", op.Update, "probe/write-panic", fault.Internal, false, "", "request:internal"},
		{"two writes", op.Update, "probe/twice", 0, true, "ab", "intent outcome:ok"},
		{"a write and a panic", op.Update, "probe/halfway", fault.Internal, false, "a", "intent outcome:internal"},
		{"an effect outside", op.Update, "probe/outside", 0, true, "", "intent outcome:ok"},
		{"no such operation", op.Read, "probe/nothing", fault.NoRoute, false, "", "request:no-route"},
		{"no such mount", op.Read, "nothing/at/all", fault.NoRoute, false, "", "request:no-route"},
		{"the wrong verb", op.Delete, "probe/read", fault.Unsupported, false, "", "request:unsupported"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := brokertest.New(t)
			req := r.Request(c.verb, c.path)
			response, err := r.Broker.Handle(t.Context(), req)
			if c.fine != (err == nil) || !c.fine && fault.KindOf(err) != c.want {
				t.Errorf("Handle = %v; want %v", err, c.want)
			}
			if c.fine != (response != nil) {
				t.Errorf("Handle answered %v with error %v", response, err)
			}
			if err != nil && strings.Contains(fault.Public(err), "nobody may see") {
				t.Errorf("the caller is told %q", fault.Public(err))
			}
			for _, row := range []string{"a", "b"} {
				if got := r.Has(row); got != strings.Contains(c.kept, row) {
					t.Errorf("row %s is there: %t; want %t", row, got, !got)
				}
			}
			if got := kinds(r.Records(req.ID)); got != c.told {
				t.Errorf("the journal has %q; want %q", got, c.told)
			}
			// The process lives, and so does the broker.
			if _, err := r.Broker.Handle(t.Context(), r.Request(op.Read, "probe/read")); err != nil {
				t.Errorf("a read afterwards: %v", err)
			}
		})
	}
}

// Who is not let in learns nothing, and is recorded.
func TestDenied(t *testing.T) {
	r := brokertest.New(t)
	nobody, err := r.Broker.Parts().Tokens.Issue(t.Context(), time.Now(), token.Spec{DisplayName: "x", Path: "x", Policies: []name.Name{"default"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for what, presented := range map[string]secret.Text{
		"no token": secret.New(""), "an unknown one": secret.New("rts_unknown"), "one without the policy": nobody.ClientToken,
	} {
		for _, path := range []string{"probe/read", "probe/write", "probe/nothing"} {
			verb := op.Read
			if path == "probe/write" {
				verb = op.Update
			}
			ran := r.Probe.Ran.Load()
			req := brokertest.Request(presented, verb, path)
			_, err := r.Broker.Handle(t.Context(), req)
			if k := fault.KindOf(err); k != fault.Denied && k != fault.Unauthenticated && (path != "probe/nothing" || k != fault.NoRoute) {
				t.Errorf("%s at %s = %v; want it denied", what, path, err)
			}
			if r.Probe.Ran.Load() != ran || r.Has("a") {
				t.Errorf("%s at %s: the work was done", what, path)
			}
			if got := r.Records(req.ID); len(got) != 1 || got[0].Allowed || got[0].Outcome == audit.OutcomeOK {
				t.Errorf("%s at %s: the journal has %q", what, path, kinds(got))
			}
		}
	}
}

// Nothing is answered that the journal does not take, and a write that cannot
// be recorded is not kept.
func TestJournalRefuses(t *testing.T) {
	for what, fail := range map[string]func(r *brokertest.Rig){
		"a failing sync": func(r *brokertest.Rig) { r.Disk.FailSyncs(syscall.EIO) },
		"a locked one":   func(r *brokertest.Rig) { r.Journal.Lock() },
	} {
		t.Run(what, func(t *testing.T) {
			r := brokertest.New(t)
			fail(r)
			// The first that meets a failing disk may be a write whose record is
			// with it: it is kept, and its record too.
			if _, err := r.Broker.Handle(t.Context(), r.Request(op.Read, "probe/read")); !fault.Is(err, fault.Unavailable) {
				t.Errorf("a read = %v; want it unavailable", err)
			}
			for _, path := range []string{"probe/write", "probe/twice", "probe/outside"} {
				ran := r.Probe.Ran.Load()
				response, err := r.Broker.Handle(t.Context(), r.Request(op.Update, path))
				if !fault.Is(err, fault.Unavailable) || response != nil {
					t.Errorf("%s = %v, %v; want it unavailable", path, response, err)
				}
				if path == "probe/outside" && r.Probe.Ran.Load() != ran {
					t.Errorf("%s had its effect without an intent", path)
				}
			}
			if r.Has("a") || r.Has("b") {
				t.Error("a write is kept without a record")
			}
		})
	}
}

// A journal that hangs is a refusal within two seconds.
func TestJournalHangs(t *testing.T) {
	r := brokertest.New(t)
	release := r.Disk.HangSyncs()
	defer release()
	began := time.Now()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			verb, path := op.Read, "probe/read"
			if i%2 == 1 {
				path = "probe/refuse"
			}
			if response, err := r.Broker.Handle(t.Context(), r.Request(verb, path)); !fault.Is(err, fault.Unavailable) || response != nil {
				t.Errorf("%s = %v, %v; want it unavailable", path, response, err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A transaction whose end nobody heard of is not told to be done, and is done
// and recorded, or neither.
func TestStoreFails(t *testing.T) {
	for how, kept := range map[storagetest.Outcome]bool{
		storagetest.Lost: false, storagetest.Unkept: false, storagetest.Unheard: true,
	} {
		t.Run(fmt.Sprint(how), func(t *testing.T) {
			r := brokertest.New(t)
			if err := r.Journal.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.Store.FailUpdate(1, how)
			req := r.Request(op.Update, "probe/write")
			if response, err := r.Broker.Handle(t.Context(), req); err == nil || response != nil {
				t.Errorf("Handle = %v, %v; want an error", response, err)
			}
			if got := r.Has("a"); got != kept {
				t.Errorf("the write is kept: %t; want %t", got, kept)
			}
			// The row of the outbox is moved when the journal is next unlocked.
			r.Store.Heal()
			r.Journal.Lock()
			if err := r.Journal.Unlock(r.Barrier.AuditKey(), r.Store); err != nil {
				t.Fatal(err)
			}
			done := slices.ContainsFunc(r.Records(req.ID), func(rec *audit.Record) bool { return rec.Outcome == audit.OutcomeOK })
			if done != kept {
				t.Errorf("it is recorded as done: %t; want %t (%s)", done, kept, kinds(r.Records(req.ID)))
			}
		})
	}
}

// An intent whose outcome a crash took is closed as unknown.
func TestIntentWithoutOutcome(t *testing.T) {
	r := brokertest.New(t)
	r.Store.FailUpdate(2, storagetest.Poisoned) // the second of the two writes
	req := r.Request(op.Update, "probe/twice")
	if err := r.Journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Broker.Handle(t.Context(), req); err == nil {
		t.Fatal("Handle went well")
	}
	r.Store.Heal()
	r.Journal.Lock()
	if err := r.Journal.Unlock(r.Barrier.AuditKey(), r.Store); err != nil {
		t.Fatal(err)
	}
	got := r.Records(req.ID)
	if len(got) != 2 || got[0].Kind != audit.Intent || got[1].Kind != audit.Outcome || got[1].Outcome == audit.OutcomeOK {
		t.Errorf("the journal has %q; want an intent and an outcome that is not ok", kinds(got))
	}
	if !r.Has("a") || r.Has("b") {
		t.Error("want the first write and not the second")
	}
}

// An answer is wrapped whole; a failure is not; and an empty answer is not.
func TestWrap(t *testing.T) {
	r := brokertest.New(t)
	for _, path := range []string{"probe/read", "probe/write"} {
		verb := op.Read
		if path == "probe/write" {
			verb = op.Update
		}
		req := r.Request(verb, path)
		req.WrapTTL = time.Minute
		response, err := r.Broker.Handle(t.Context(), req)
		if err != nil || response.Reply.Wrap == nil || response.Value != nil {
			t.Fatalf("%s wrapped = %+v, %v", path, response, err)
		}
		records := r.Records(req.ID)
		if last := records[len(records)-1]; !last.Wrapped || strings.Contains(string(last.Out), response.Reply.Wrap.Token.Reveal()) {
			t.Errorf("%s: the record is %+v", path, last)
		}
	}
	req := r.Request(op.Read, "probe/refuse")
	req.WrapTTL = time.Minute
	if _, err := r.Broker.Handle(t.Context(), req); !fault.Is(err, fault.Invalid) {
		t.Errorf("a refusal wrapped = %v", err)
	}
	for what, encode := range map[string]func(*broker.Response) (secret.JSON, error){
		"fails":  func(*broker.Response) (secret.JSON, error) { return secret.JSON{}, errors.New("no") },
		"panics": func(*broker.Response) (secret.JSON, error) { panic("no") },
	} {
		req := r.Request(op.Read, "probe/read")
		req.WrapTTL, req.Encode = time.Minute, encode
		response, err := r.Broker.Handle(t.Context(), req)
		if response != nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("an encoder that %s: %v, %v; want an internal error", what, response, err)
		}
		if got := kinds(r.Records(req.ID)); got != "request:internal" {
			t.Errorf("an encoder that %s: the journal has %q", what, got)
		}
	}
}

// A token of n uses is good for n operations, however many try at once.
func TestUses(t *testing.T) {
	const uses, racers = 5, 40
	r := brokertest.New(t)
	grant, err := r.Broker.Parts().Tokens.Issue(t.Context(), time.Now(), token.Spec{DisplayName: "x", Path: "x", Policies: []name.Name{name.Root}, NumUses: uses, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var good, bad atomic.Int64
	var all sync.WaitGroup
	for i := range racers {
		path := "probe/read"
		if i%3 == 0 {
			path = "probe/refuse" // a use all the same
		}
		all.Go(func() {
			_, err := r.Broker.Handle(t.Context(), brokertest.Request(grant.ClientToken, op.Read, path))
			switch {
			case err == nil, fault.Is(err, fault.Invalid):
				good.Add(1)
			case fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.Denied):
				bad.Add(1)
			default:
				t.Errorf("Handle = %v", err)
			}
		})
	}
	all.Wait()
	if good.Load() != uses || bad.Load() != racers-uses || r.Probe.Ran.Load() != uses {
		t.Errorf("%d operations were let through and %d refused, %d ran; want %d and %d", good.Load(), bad.Load(), r.Probe.Ran.Load(), uses, racers-uses)
	}
}

// The outcome is recorded though the caller has gone.
func TestCallerGone(t *testing.T) {
	r := brokertest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	req := r.Request(op.Read, "probe/wait")
	done := make(chan error, 1)
	go func() {
		_, err := r.Broker.Handle(ctx, req)
		done <- err
	}()
	<-r.Probe.Entered
	cancel()
	if err := <-done; err == nil {
		t.Error("Handle = nil for a caller who has gone")
	}
	if got := r.Records(req.ID); len(got) != 1 || got[0].Outcome == audit.OutcomeOK {
		t.Errorf("the journal has %q", kinds(got))
	}
}
