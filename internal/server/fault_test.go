package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/secret"
)

// faulty is a node in a directory, whose disks fail when they are told to.
type faulty struct {
	t    *testing.T
	dir  string
	root string
	disk *audittest.Disk // of the journal

	mu     sync.Mutex
	commit func(commit func() error) error // guarded by mu; nil to commit

	n *Node
	h http.Handler
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{t: t, dir: t.TempDir(), disk: audittest.NewDisk()}
	f.start()
	t.Cleanup(func() { _ = f.n.Close() })
	f.root = f.do(http.MethodPost, "auth/token/create-orphan", `{"policies":["root"],"id":"root-for-tests","ttl":"1h"}`, "").text("auth.client_token")
	return f
}

func (f *faulty) start() {
	f.t.Helper()
	h, err := makeHome(filepath.Join(f.dir, "data"), filepath.Join(f.dir, "config"))
	if err != nil {
		f.t.Fatal(err)
	}
	c := nodeOfHome(h, slog.New(slog.DiscardHandler))
	c.Door.Timeout = 3 * time.Second
	c.testPatience = time.Second
	c.testJournal = func(a *audit.Config) { a.Disk, a.Reserve, a.SegmentBytes = f.disk, 64<<10, 32<<10 }
	c.testCommit = func(commit func() error) error {
		f.mu.Lock()
		with := f.commit
		f.mu.Unlock()
		if with == nil {
			return commit()
		}
		return with(commit)
	}
	if f.n, err = Open(c); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.n.adopt(f.t.Context(), h); err != nil {
		f.t.Fatal(err)
	}
	if f.root == "" {
		owner, err := f.n.owner(f.t.Context(), secret.New(""))
		if err != nil {
			f.t.Fatal(err)
		}
		f.root = owner.Reveal()
	}
	f.h = f.n.handler(Listener{})
}

// restart ends the node as a crash does not, and starts it again with disks that work.
func (f *faulty) restart() {
	f.t.Helper()
	f.fail(nil)
	_ = f.n.Close()
	f.disk = f.disk.Clone()
	f.start()
}

func (f *faulty) fail(commit func(func() error) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commit = commit
}

type said struct {
	status int
	body   string
	took   time.Duration
}

func (s said) text(path string) string {
	var v any
	if err := json.Unmarshal([]byte(s.body), &v); err != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	out, _ := v.(string)
	return out
}

func (f *faulty) do(method, path, body, token string) said {
	if token == "" {
		token = f.root
	}
	var payload io.Reader
	if body != "" {
		payload = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "/v1/"+path, payload)
	r.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	began := time.Now()
	f.h.ServeHTTP(w, r)
	return said{w.Code, w.Body.String(), time.Since(began)}
}

func (f *faulty) put(key string) said {
	return f.do(http.MethodPost, "secret/data/"+key, `{"data":{"v":"`+key+`"}}`, "")
}

// want reads key and holds it to what was written by put, or to not being there.
func (f *faulty) want(key string, there bool) {
	f.t.Helper()
	got := f.do(http.MethodGet, "secret/data/"+key, "", "")
	if there && (got.status != http.StatusOK || got.text("data.data.v") != key) || !there && got.status != http.StatusNotFound {
		f.t.Errorf("reading %s = %d %s; want it there: %t", key, got.status, got.body, there)
	}
}

// refused holds an answer to a fault to what may be told: nothing of the machine.
func (f *faulty) refused(what string, s said, statuses ...int) {
	f.t.Helper()
	ok := false
	for _, want := range statuses {
		ok = ok || s.status == want
	}
	if !ok {
		f.t.Errorf("%s = %d %s; want one of %v", what, s.status, s.body, statuses)
	}
	for _, words := range []string{f.dir, "injected", "bbolt", "store.db", "disk i/o", "input/output", ".go:"} {
		if strings.Contains(strings.ToLower(s.body), words) {
			f.t.Errorf("%s tells of the machine: %s", what, s.body)
		}
	}
	if s.took > 6*time.Second {
		f.t.Errorf("%s took %v", what, s.took)
	}
}

var errInjected = &os.PathError{Op: "fdatasync", Path: "store.db", Err: syscall.EIO}

// A journal whose disk fails: nothing is answered, and nothing acknowledged is lost.
func TestJournalSyncFails(t *testing.T) {
	f := newFaulty(t)
	if s := f.put("before"); s.status != http.StatusOK {
		t.Fatalf("put = %+v", s)
	}
	f.disk.FailSyncs(syscall.EIO)
	f.refused("a read", f.do(http.MethodGet, "secret/data/before", "", ""), http.StatusServiceUnavailable)
	for i := range 5 {
		f.refused("a write", f.put(fmt.Sprint("during", i)), http.StatusServiceUnavailable)
	}
	f.refused("an unknown token", f.do(http.MethodGet, "secret/data/before", "", "nobody"), http.StatusServiceUnavailable)
	f.restart()
	f.want("before", true)
	for i := range 5 {
		f.want(fmt.Sprint("during", i), false)
	}
	if s := f.put("after"); s.status != http.StatusOK {
		t.Errorf("put after a restart = %+v", s)
	}
}

// A journal whose disk hangs: 503 within two seconds, and all is well when it goes on.
func TestJournalSyncHangs(t *testing.T) {
	f := newFaulty(t)
	if s := f.put("before"); s.status != http.StatusOK {
		t.Fatalf("put = %+v", s)
	}
	release := sync.OnceFunc(f.disk.HangSyncs())
	t.Cleanup(release)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			s := f.do(http.MethodGet, "secret/data/before", "", "")
			f.refused("a read", s, http.StatusServiceUnavailable)
			if s.took > 3*time.Second {
				t.Errorf("a read took %v; want 503 within two seconds", s.took)
			}
		})
	}
	all.Wait()
	release()
	deadline := time.Now().Add(10 * time.Second)
	for reads := false; !reads; reads = f.do(http.MethodGet, "secret/data/before", "", "").status == http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the journal does not go on when its disk does")
		}
	}
	f.want("before", true)
}

// A journal whose disk is full: nothing is answered but what must go on, and
// all is well when there is space again.
func TestJournalDiskFull(t *testing.T) {
	f := newFaulty(t)
	var victims []string
	for i := range 3 {
		id := fmt.Sprint("victim-", i)
		if s := f.do(http.MethodPost, "auth/token/create", `{"id":"`+id+`","policies":["default"]}`, ""); s.status != http.StatusOK {
			t.Fatalf("creating a token = %+v", s)
		}
		victims = append(victims, id)
	}
	if s := f.put("before"); s.status != http.StatusOK {
		t.Fatalf("put = %+v", s)
	}
	f.disk.SetSpace(f.disk.Used())
	full := false
	acked := 0
	for range 2000 { // what the segments that there are take
		if s := f.put(fmt.Sprint("k", acked)); s.status != http.StatusOK {
			f.refused("a write on a full disk", s, http.StatusServiceUnavailable)
			full = true
			break
		}
		acked++
	}
	if !full {
		t.Fatal("the disk is never full")
	}
	f.refused("a read on a full disk", f.do(http.MethodGet, "secret/data/before", "", ""), http.StatusServiceUnavailable)
	for _, id := range victims {
		if s := f.do(http.MethodPost, "auth/token/revoke", `{"token":"`+id+`"}`, ""); s.status != http.StatusNoContent {
			t.Errorf("revoking on a full disk = %+v; want it done, with the space held back", s)
		}
	}
	f.disk.SetSpace(-1)
	deadline := time.Now().Add(30 * time.Second)
	for reads := false; !reads; reads = f.do(http.MethodGet, "secret/data/before", "", "").status == http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the journal does not go on when there is space again")
		}
	}
	for i := range acked {
		f.want(fmt.Sprint("k", i), true)
	}
	for _, id := range victims {
		if s := f.do(http.MethodGet, "auth/token/lookup-self", "", id); s.status != http.StatusForbidden {
			t.Errorf("a token that was revoked = %+v", s)
		}
	}
}

// A store whose disk fails: what is not durable is not acknowledged, the node
// says so from then on, and the next start has all that was acknowledged.
func TestStoreSyncFails(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprint("kept ", kept), func(t *testing.T) {
			f := newFaulty(t)
			if s := f.put("before"); s.status != http.StatusOK {
				t.Fatalf("put = %+v", s)
			}
			f.fail(func(commit func() error) error {
				if kept {
					return errors.Join(commit(), errInjected)
				}
				return errInjected
			})
			for i := range 4 {
				f.refused("a write", f.put(fmt.Sprint("during", i)), http.StatusServiceUnavailable)
			}
			f.fail(nil) // too late: nobody knows what the disk has
			f.refused("a write afterwards", f.put("late"), http.StatusServiceUnavailable)
			f.refused("a read afterwards", f.do(http.MethodGet, "secret/data/before", "", ""), http.StatusServiceUnavailable)
			health := f.do(http.MethodGet, "sys/health", "", "")
			if health.status != http.StatusServiceUnavailable || !strings.Contains(health.body, `"rotunda_troubles":["store-failed"]`) || !strings.Contains(health.body, `"sealed":false`) {
				t.Errorf("sys/health of a node whose store has failed = %d %s; want 503, open, and what is the matter", health.status, health.body)
			}
			if s := f.do(http.MethodGet, "sys/seal-status", "", ""); s.status != http.StatusOK || !strings.Contains(s.body, `"rotunda_troubles":["store-failed"]`) {
				t.Errorf("sys/seal-status of a node whose store has failed = %d %s; want what is the matter", s.status, s.body)
			}
			f.restart()
			f.want("before", true)
			f.want("late", false)
			if s := f.put("after"); s.status != http.StatusOK {
				t.Errorf("put after a restart = %+v", s)
			}
		})
	}
}

// A store whose disk hangs is an error in bounded time, not a hang.
func TestStoreSyncHangs(t *testing.T) {
	f := newFaulty(t)
	if s := f.put("before"); s.status != http.StatusOK {
		t.Fatalf("put = %+v", s)
	}
	hang := make(chan struct{})
	release := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(release)
	f.fail(func(commit func() error) error { <-hang; return commit() })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			f.refused("a write", f.put(fmt.Sprint("during", i)), http.StatusServiceUnavailable)
		})
	}
	all.Wait()
	f.want("before", true) // reads go on
	if s := f.put("late"); s.status != http.StatusServiceUnavailable || s.took > 2*time.Second || !strings.Contains(s.body, "nothing was stored") {
		t.Errorf("a write to a store that is known to hang = %+v; want 503 at once", s)
	}
	release()
	f.fail(nil)
	deadline := time.Now().Add(10 * time.Second)
	for s := f.put("after"); s.status != http.StatusOK; s = f.put("after") {
		if time.Now().After(deadline) {
			t.Fatalf("put when the disk goes on = %+v", s)
		}
	}
}

// A store whose disk is full: writes fail, reads go on, and so do writes when
// there is space again.
func TestStoreDiskFull(t *testing.T) {
	f := newFaulty(t)
	if s := f.put("before"); s.status != http.StatusOK {
		t.Fatalf("put = %+v", s)
	}
	var full atomic.Bool
	full.Store(true)
	f.fail(func(commit func() error) error {
		if full.Load() {
			return &os.PathError{Op: "write", Path: "store.db", Err: syscall.ENOSPC}
		}
		return commit()
	})
	for i := range 4 {
		f.refused("a write on a full disk", f.put(fmt.Sprint("during", i)), http.StatusServiceUnavailable)
		if s := f.put("told"); !strings.Contains(s.body, "the storage is full: nothing was stored") {
			t.Errorf("a write on a full disk is told %s", s.body)
		}
		if s := f.do(http.MethodGet, "sys/health", "", ""); s.status != http.StatusOK || !strings.Contains(s.body, `"rotunda_troubles":["store-full"]`) {
			t.Errorf("sys/health on a full disk = %d %s; want 200 and what is the matter", s.status, s.body)
		}
		f.want("before", true)
	}
	full.Store(false)
	if s := f.put("after"); s.status != http.StatusOK {
		t.Errorf("put when there is space again = %+v", s)
	}
	for i := range 4 {
		f.want(fmt.Sprint("during", i), false)
	}
	f.restart()
	f.want("before", true)
	f.want("after", true)
}

// The record of a token that was given names it, so that its uses are found.
func TestGrantsAreRecorded(t *testing.T) {
	f := newFaulty(t)
	made := f.do(http.MethodPost, "auth/token/create", `{"policies":["default"],"num_uses":3}`, "")
	f.do(http.MethodGet, "auth/token/lookup-self", "", made.text("auth.client_token"))
	found := f.do(http.MethodGet, "sys/audit-journal/search?op=token.create", "", "")
	used := f.do(http.MethodGet, "sys/audit-journal/search?op=token.read-self", "", "")
	var records, uses struct {
		Data struct {
			Records []struct {
				Out struct {
					Auth struct {
						ClientToken string `json:"client_token"`
						Accessor    string `json:"accessor"`
					} `json:"auth"`
				} `json:"out"`
				Actor struct {
					Token    string `json:"token"`
					Accessor string `json:"accessor"`
				} `json:"actor"`
			} `json:"records"`
		} `json:"data"`
	}
	if err := errors.Join(json.Unmarshal([]byte(found.body), &records), json.Unmarshal([]byte(used.body), &uses)); err != nil || len(records.Data.Records) == 0 || len(uses.Data.Records) == 0 {
		t.Fatalf("%v: %s %s", err, found.body, used.body)
	}
	given, user := records.Data.Records[0].Out.Auth, uses.Data.Records[0].Actor
	if given.Accessor != made.text("auth.accessor") || given.Accessor != user.Accessor || given.ClientToken == "" || given.ClientToken != user.Token {
		t.Errorf("the journal says that %+v was given, and was used by %+v", given, user)
	}
	if strings.Contains(found.body, made.text("auth.client_token")) {
		t.Error("the journal holds the token")
	}
}
