package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// told returns what the journal tells of each request behind a sequence: the
// kinds of its records, in order.
func told(r *servertest.Rig, after uint64) map[string][]*audit.Record {
	r.Node.Journal().Sync(r.Context()) //nolint:errcheck // what is read then shows it
	out := map[string][]*audit.Record{}
	for _, rec := range r.Records(after) {
		if rec.Kind != audit.Event {
			out[rec.RequestID] = append(out[rec.RequestID], rec)
		}
	}
	return out
}

// wantOnce reports a request that is not told of once: by one record, or by an
// intent and its outcome.
func wantOnce(t *testing.T, what string, a *servertest.Answer, recs []*audit.Record) {
	t.Helper()
	kinds := make([]audit.Kind, 0, len(recs))
	for _, rec := range recs {
		kinds = append(kinds, rec.Kind)
	}
	one := slices.Equal(kinds, []audit.Kind{audit.Request})
	pair := slices.Equal(kinds, []audit.Kind{audit.Intent, audit.Outcome})
	if !one && !pair {
		t.Errorf("%s = %d %.100s: records %q, want one, or an intent and an outcome", what, a.Status, a.Body, kinds)
		return
	}
	last := recs[len(recs)-1]
	if (last.Outcome == audit.OutcomeOK) != (a.Status < 400) {
		t.Errorf("%s = %d %.100s: recorded as %q", what, a.Status, a.Body, last.Outcome)
	}
}

// methods are how an operation of each verb is called.
var methods = map[string]string{"read": http.MethodGet, "list": "LIST", "delete": http.MethodDelete, "patch": http.MethodPatch}

// TestEachRequestIsToldOnce calls every operation by root, by a token that may
// nothing, by nobody, and for an answer that is wrapped: each request is in the
// journal once, with what was answered.
func TestEachRequestIsToldOnce(t *testing.T) {
	r := servertest.Start(t, servertest.Config{AuditFiles: t.TempDir()})
	nobody := r.Token("default")
	r.Must(r.Root, http.MethodPost, "secret/data/before", `{"data":{"a":"b"}}`)
	mounts, err := r.Node.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{path...}", "before", "{name}", "default", "...}", "", "{", "", "}", "")
	asked := 0
	for _, m := range mounts {
		for _, o := range m.Ops {
			if o.Sealed || o.Name == "system.seal" {
				continue // beside the broker, or the end of the test
			}
			method := methods[o.Verb.String()]
			if method == "" {
				method = http.MethodPost
			}
			path := string(m.Mount.Path) + fill.Replace(o.Path)
			body := "{}"
			if method == http.MethodGet || method == "LIST" {
				body = ""
			}
			for who, call := range map[string]struct {
				token   string
				headers []string
			}{
				"root": {r.Root, nil}, "a token that may nothing": {nobody, nil}, "nobody": {"", nil},
				"root, wrapped": {r.Root, []string{"X-Vault-Wrap-TTL", "60"}},
			} {
				what := fmt.Sprintf("%s %s (%s) by %s", method, path, o.Name, who)
				before := r.Last()
				a := r.Do(call.token, method, path, body, call.headers...)
				asked++
				all := told(r, before)
				if len(all) != 1 {
					t.Errorf("%s = %d %.100s: %d requests are told of, want 1", what, a.Status, a.Body, len(all))
				}
				for id, recs := range all {
					if a.ID != "" && id != a.ID {
						t.Errorf("%s has id %s: recorded as %s", what, a.ID, id)
					}
					wantOnce(t, what, a, recs)
				}
			}
		}
	}
	if asked < 300 {
		t.Errorf("asked %d times, want every operation four times", asked)
	}
}

// TestWhatIsDoneIsToldOnce does what a server is for, each in a request that
// is good: of one transaction, of several, with effects outside, and wrapped.
func TestWhatIsDoneIsToldOnce(t *testing.T) {
	files := t.TempDir()
	r := servertest.Start(t, servertest.Config{AuditFiles: files})
	wrap := []string{"X-Vault-Wrap-TTL", "60"}
	for _, c := range []struct {
		method, path, body string
		headers            []string
		pair               bool // an intent comes first
	}{
		{http.MethodPost, "secret/data/app", `{"data":{"a":"1"}}`, nil, false},
		{http.MethodPost, "secret/data/app", `{"data":{"a":"2"}}`, wrap, true},
		{http.MethodPatch, "secret/data/app", `{"data":{"b":"3"}}`, nil, false},
		{http.MethodGet, "secret/data/app", "", nil, false},
		{http.MethodGet, "secret/data/app", "", wrap, false},
		{http.MethodDelete, "secret/data/app", "", nil, false},
		{http.MethodDelete, "secret/data/app", "", wrap, true},
		{http.MethodPost, "secret/undelete/app", `{"versions":[3]}`, nil, false},
		{http.MethodPost, "secret/destroy/app", `{"versions":[1]}`, nil, false},
		{http.MethodPost, "secret/metadata/app", `{"custom_metadata":{"a":"b"}}`, nil, false},
		{http.MethodDelete, "secret/metadata/app", "", nil, true},
		{http.MethodPost, "cubbyhole/mine", `{"a":"b"}`, nil, false},
		{http.MethodPost, "auth/token/create", `{"policies":["default"]}`, nil, false},
		{http.MethodPost, "auth/token/create", `{"policies":["default"]}`, wrap, true},
		{http.MethodPut, "sys/policies/acl/some", `{"policy":"path \"a\" { capabilities = [\"read\"] }"}`, nil, false},
		{http.MethodDelete, "sys/policies/acl/some", "", nil, false},
		{http.MethodPost, "sys/mounts/other", `{"type":"kv"}`, nil, true},
		{http.MethodPost, "sys/mounts/other/tune", `{"description":"x"}`, nil, false},
		{http.MethodDelete, "sys/mounts/other", "", nil, true},
		{http.MethodPut, "sys/audit/copy", `{"type":"file","options":{"file_path":"` + files + `/a.log"}}`, nil, true},
		{http.MethodDelete, "sys/audit/copy", "", nil, true},
		{http.MethodPost, "sys/rotate/keyring", "{}", nil, true},
	} {
		what := c.method + " " + c.path
		before := r.Last()
		a := r.Must(r.Root, c.method, c.path, c.body, c.headers...)
		all := told(r, before)
		for _, recs := range all {
			wantOnce(t, what, a, recs)
			if pair := len(recs) == 2; pair != c.pair {
				t.Errorf("%s is told of by %d records; an intent first: want %t", what, len(recs), c.pair)
			}
			if c.headers != nil && len(a.Body) > 0 && !recs[len(recs)-1].Wrapped {
				t.Errorf("%s was wrapped, and the outcome does not say so", what)
			}
		}
		if len(all) != 1 {
			t.Errorf("%s: %d requests are told of, want 1", what, len(all))
		}
	}
}

// TestDamageIsToldWhileServing damages a record under a running node: a search
// gives all others, and says where the damage is, as verifying does.
func TestDamageIsToldWhileServing(t *testing.T) {
	r := servertest.Start(t, servertest.Config{})
	for range 20 {
		r.Must(r.Root, http.MethodPost, "secret/data/app", `{"data":{"a":"b"}}`)
	}
	if err := r.Node.Journal().Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	const segment = "journal-00000000000000000001.seg"
	f, err := os.OpenFile(filepath.Join(r.NodeConfig().Data, "audit", segment), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var was [1]byte
	if _, err = f.ReadAt(was[:], 1500); err == nil {
		_, err = f.WriteAt([]byte{was[0] ^ 1}, 1500)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"true", "false"} {
		a := r.Must(r.Root, http.MethodGet, "sys/audit-journal/search?limit=1000&oldest_first="+order, "")
		found, _ := a.Value("data.records").([]any)
		damage, _ := a.Value("data.damage").([]any)
		if len(damage) != 1 || len(found) < 20 {
			t.Fatalf("search with oldest_first=%s finds %d records and damage %v, want all but one", order, len(found), damage)
		}
		d, _ := damage[0].(map[string]any)
		if d["segment"] != segment || d["what"] != "the checksum is wrong" || d["sequence"] == 0.0 || d["offset"] == 0.0 {
			t.Errorf("damage is told as %v", d)
		}
	}
	a := r.Must(r.Root, http.MethodGet, "sys/audit-journal/verify", "")
	if a.Value("data.whole") != false || a.Text("data.damage.segment") != segment || a.Number("data.damage.sequence") < 1 {
		t.Errorf("verify = %s", a.Body)
	}
}
