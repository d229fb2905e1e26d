package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/server"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// What a server that has a store answers to another initialization is that,
// whatever else is wrong with the request.
func TestSecondInitIsToldSo(t *testing.T) {
	r := servertest.Start(t, servertest.Config{})
	for _, body := range []string{`{}`, `{"recovery_shares":1,"recovery_threshold":1}`, `{"secret_shares":1,"secret_threshold":1,"pgp_keys":["a"]}`, `{"root_token_pgp_key":"a"}`} {
		a := r.Do("", http.MethodPut, "sys/init", body)
		if a.Status != http.StatusBadRequest || strings.TrimSpace(string(a.Body)) != `{"errors":["Vault is already initialized"]}` {
			t.Errorf("PUT sys/init %s = %d %s", body, a.Status, a.Body)
		}
	}
}

// deaf is a connection that breaks when an answer is sent.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) FlushError() error { return errors.New("connection reset by peer") }

func (d deaf) Flush() {}

// A node whose answer did not arrive is initialized again, and serves only who
// was told.
func TestInitThatDidNotArrive(t *testing.T) {
	for name, body := range map[string]string{"key file": `{"recovery_shares":0}`, "shares": `{"secret_shares":3,"secret_threshold":2}`} {
		t.Run(name, func(t *testing.T) {
			c := servertest.Config{Uninitialized: true}
			if name == "shares" {
				c.Shares, c.Threshold = 3, 2
			}
			r := servertest.Start(t, c)
			w := deaf{httptest.NewRecorder()}
			r.Node.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v1/sys/init", strings.NewReader(body)))
			if w.Code != http.StatusOK {
				t.Fatalf("PUT sys/init = %d %s", w.Code, w.Body)
			}
			if a := r.Do("", http.MethodGet, "sys/init", ""); string(a.Body) != `{"initialized":false}` {
				t.Fatalf("GET sys/init = %s; want it uninitialized", a.Body)
			}
			r.Again()
			made := r.Do("", http.MethodPut, "sys/init", body)
			if made.Status != http.StatusOK || made.Text("root_token") == "" {
				t.Fatalf("PUT sys/init again = %d %s", made.Status, made.Body)
			}
			keys, _ := made.Value("keys").([]any)
			for _, k := range keys {
				key, _ := k.(string)
				r.Shares = append(r.Shares, key)
			}
			if len(r.Shares) > 0 {
				r.Unseal()
			}
			r.Must(made.Text("root_token"), http.MethodGet, "sys/mounts", "")
			if a := r.Do("", http.MethodPut, "sys/init", body); a.Status != http.StatusBadRequest {
				t.Errorf("PUT sys/init of a node in use = %d %s; want it refused", a.Status, a.Body)
			}
		})
	}
}

// A sink that cannot be written is found before there are keys.
func TestInitTriesSinksFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	r := servertest.Start(t, servertest.Config{Uninitialized: true, Change: func(c *server.Config) {
		c.Audit.Sinks = []audit.SinkConfig{{Name: "lines", Kind: "file", Declared: true, Options: map[string]string{"file_path": filepath.Join(dir, "audit.json")}}}
	}})
	const body = `{"recovery_shares":0}`
	if a := r.Do("", http.MethodPut, "sys/init", body); a.Status != http.StatusServiceUnavailable || !strings.Contains(string(a.Body), `\"lines\"`) {
		t.Fatalf("PUT sys/init = %d %s; want 503 that names the sink", a.Status, a.Body)
	}
	if !strings.Contains(r.Log(), dir) {
		t.Errorf("the log does not say which directory is missing: %s", r.Log())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made := r.Must("", http.MethodPut, "sys/init", body)
	r.Must(made.Text("root_token"), http.MethodGet, "sys/mounts", "")
}
