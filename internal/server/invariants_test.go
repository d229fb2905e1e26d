package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/fault"
)

// ask sends one request to a node.
func ask(n *Node, token, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	w := httptest.NewRecorder()
	n.handler(Listener{}).ServeHTTP(w, r)
	return w
}

// TestNothingIsAnsweredWithoutItsRecord takes the journal away: no operation
// gives an answer, be it a read, a write, a denial or a path that is not there,
// and no write leaves a trace.
func TestNothingIsAnsweredWithoutItsRecord(t *testing.T) {
	n, root := wired(t)
	if w := ask(n, root, http.MethodPost, "secret/data/before", `{"data":{"marker":"kept"}}`); w.Code != http.StatusOK {
		t.Fatalf("writing while there is a journal = %d %s", w.Code, w.Body)
	}
	n.journal.Lock()
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, m := range mounts {
		for _, o := range m.Ops {
			if o.Sealed || o.Name == "system.seal" {
				continue
			}
			method := map[string]string{"read": http.MethodGet, "list": "LIST", "delete": http.MethodDelete, "patch": http.MethodPatch}[o.Verb.String()]
			if method == "" {
				method = http.MethodPost
			}
			path := strings.NewReplacer("{path...}", "before", "{name}", "default", "...}", "", "{", "", "}", "").Replace(o.Path)
			for _, token := range []string{root, "", "rts_" + strings.Repeat("x", 49)} {
				asked++
				if w := ask(n, token, method, string(m.Mount.Path)+path, "{}"); w.Code < http.StatusInternalServerError || strings.Contains(w.Body.String(), "kept") {
					t.Errorf("%s %s%s without a journal = %d %s; want nothing but 5xx", method, m.Mount.Path, path, w.Code, w.Body)
				}
			}
		}
	}
	if asked < 150 {
		t.Errorf("asked for %d operations", asked)
	}
	for _, c := range [][3]string{
		{http.MethodPost, "secret/data/without", `{"data":{"a":"b"}}`},
		{http.MethodPost, "auth/token/create", `{}`},
		{http.MethodPost, "sys/mounts/without", `{"type":"kv"}`},
		{http.MethodGet, "secret/data/before", ""},
		{http.MethodGet, "no/such/path", ""},
	} {
		if w := ask(n, root, c[0], c[1], c[2]); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s without a journal = %d %s; want 503", c[0], c[1], w.Code, w.Body)
		}
	}
	if err := n.gate.Shut(); err != nil {
		t.Logf("Shut = %v", err)
	}
	if err := n.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := ask(n, root, http.MethodGet, "secret/data/before", ""); w.Code != http.StatusOK {
		t.Errorf("reading with a journal again = %d %s", w.Code, w.Body)
	}
	if w := ask(n, root, http.MethodGet, "secret/data/without", ""); w.Code != http.StatusNotFound {
		t.Errorf("what was written without a journal = %d %s; want 404", w.Code, w.Body)
	}
	if w := ask(n, root, http.MethodGet, "sys/mounts", ""); strings.Contains(w.Body.String(), "without/") {
		t.Error("a mount was made without a record of it")
	}
}

// TestSealedIsTheAbsenceOfABroker seals a node: whoever asks for the broker
// gets none, and every operation but those that need no key is refused.
func TestSealedIsTheAbsenceOfABroker(t *testing.T) {
	n, root := wired(t)
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inside, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- n.gate.With(t.Context(), func(ctx context.Context, _ *broker.Broker) error {
			close(inside)
			<-ctx.Done() // sealing asks who is inside to leave, and waits
			return nil
		})
	}()
	<-inside
	if err := n.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("With = %v; want nil for who was inside", err)
		}
	default:
		t.Error("Shut returned while a request was inside")
	}
	err = n.gate.With(t.Context(), func(context.Context, *broker.Broker) error {
		t.Error("there is a broker while sealed")
		return nil
	})
	if !fault.Is(err, fault.Sealed) {
		t.Errorf("With while sealed = %v; want Sealed", err)
	}
	for _, m := range mounts {
		for _, o := range m.Ops {
			if o.Sealed {
				continue
			}
			path := strings.TrimSuffix(string(m.Mount.Path)+strings.NewReplacer("...}", "", "{", "", "}", "").Replace(o.Path), "/")
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPatch, "LIST"} {
				if w := ask(n, root, method, path, "{}"); w.Code != http.StatusServiceUnavailable {
					t.Errorf("%s %s while sealed = %d %s; want 503", method, path, w.Code, w.Body)
				}
			}
		}
	}
	if w := ask(n, "", http.MethodGet, "sys/seal-status", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"sealed":true`) {
		t.Errorf("seal-status while sealed = %d %s", w.Code, w.Body)
	}
}
