// Package replay holds holes that products of this field once had as tests of
// the whole node, over the wire. README.md says which row is which test.
package replay

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// canary stands in what is sent and must not be in any answer that refuses it,
// in the log, in the journal or in the store.
const canary = "c4n4ryV4lu3"

// attack is a request that must be refused.
type attack struct {
	what    string // that is tried
	token   string // root's if empty; see nobody
	method  string // POST if empty
	path    string
	body    string
	headers []string
	status  []int // of which the answer has one; any 4xx but 429 if empty
	settles bool  // meanwhile the node cleans up after tokens, or counts a use
}

// nobody is the token of a request without one.
const nobody = "\x00"

// plain starts a node like most of the tests need.
func plain(t *testing.T) *servertest.Rig {
	t.Helper()
	return servertest.Start(t, servertest.Config{})
}

// refused makes each request and holds the answer to what refusing means: its
// status, a body that gives nothing away, a store that stays as it is, a
// record, nothing of the canary anywhere, and a node that lives.
func refused(t *testing.T, r *servertest.Rig, attacks ...attack) {
	t.Helper()
	before := r.Last()
	ids := map[string]string{}
	for _, a := range attacks {
		switch a.token {
		case "":
			a.token = r.Root
		case nobody:
			a.token = ""
		}
		if a.method == "" {
			a.method = http.MethodPost
		}
		mark := r.Mark()
		got, err := patient(r, a.token, a)
		if err != nil {
			t.Fatalf("%s: %s %.120s: %v", a.what, a.method, a.path, err)
		}
		if !isExpected(got.Status, a.status) {
			t.Errorf("%s: %s %.120s %.120s = %d %.300s; want %v", a.what, a.method, a.path, a.body, got.Status, got.Body, a.status)
		}
		if !isGeneric(got.Body) {
			t.Errorf("%s: %s %.120s %.120s answered %.800s; want few words and none of what was sent", a.what, a.method, a.path, a.body, got.Body)
		}
		if got.Status >= 400 && !a.settles {
			if changed := r.Changed(mark); len(changed) > 0 {
				t.Errorf("%s: %s %.120s %.120s = %d and changed %v", a.what, a.method, a.path, a.body, got.Status, changed)
			}
		}
		ids[got.ID] = a.what
	}
	recorded(t, r, before, ids)
	alive(t, r)
}

// patient makes a request that is to be refused, and again where a machine
// that is busy could not record it in time.
func patient(r *servertest.Rig, token string, a attack) (got *servertest.Answer, err error) {
	for range 10 {
		got, err = r.Try(token, a.method, a.path, a.body, a.headers...)
		if err != nil || got.Status != http.StatusServiceUnavailable {
			break
		}
	}
	return got, err
}

func isExpected(status int, want []int) bool {
	if len(want) == 0 {
		return status >= 400 && status <= 499 && status != http.StatusTooManyRequests
	}
	return slices.Contains(want, status)
}

func isGeneric(body []byte) bool {
	return len(body) <= 600 && !strings.Contains(string(body), canary)
}

// recorded holds the journal to have a record of each request id, none of
// which shows the canary.
func recorded(t *testing.T, r *servertest.Rig, after uint64, ids map[string]string) []*audit.Record {
	t.Helper()
	records := r.Records(after)
	for _, rec := range records {
		delete(ids, rec.RequestID)
		b, err := rec.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if leaks(string(b)) {
			t.Errorf("the journal shows what was sent: %.400s", b)
		}
	}
	for id, what := range ids {
		t.Errorf("%s: request %q has no record", what, id)
	}
	if leaks(r.Log()) {
		t.Error("the log shows what was sent")
	}
	return records
}

// leaks reports whether s holds the canary, as it is or in a common encoding.
func leaks(s string) bool {
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), "YzRuNHJ5VjRsdTM"} {
		if strings.Contains(s, form) {
			return true
		}
	}
	return false
}

// alive holds the node to answer as ever.
func alive(t *testing.T, r *servertest.Rig) {
	t.Helper()
	if got := r.Do("", http.MethodGet, "sys/health", ""); got.Status != http.StatusOK {
		t.Errorf("GET sys/health = %d %s; want 200", got.Status, got.Body)
	}
}

// quote returns s as JSON text.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case c < ' ':
			b.WriteString(`\u00`)
			b.WriteString(hex.EncodeToString([]byte{byte(c)}))
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
