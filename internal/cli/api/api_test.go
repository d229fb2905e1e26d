package api

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/secret"
)

// instant does not wait, and counts.
type instant struct {
	clock.System
	waits atomic.Int32
}

func (i *instant) Wait(ctx context.Context, _ time.Time) error {
	i.waits.Add(1)
	return ctx.Err()
}

func client(t *testing.T, c Config) *Client {
	t.Helper()
	if c.Token.Empty() {
		c.Token = secret.New("rts_token")
	}
	if c.Clock == nil {
		c.Clock = &instant{}
	}
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestDo(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.RequestURI != "/v1/secret/data/a%20b/%25/c%3Fd?x=1" || r.Header.Get("X-Vault-Token") != "rts_token" || r.Header.Get("X-Vault-Request") != "true" ||
			r.Header.Get("X-Vault-Namespace") != "ns" || r.Header.Get("X-Vault-Wrap-TTL") != "60" || string(body) != `{"a":1}` || r.Header.Get("Content-Type") != "" {
			t.Errorf("the server is asked %s %v %s", r.RequestURI, r.Header, body)
		}
		io.WriteString(w, `{"request_id":"r","data":{"n":18446744073709551616},"warnings":["w"],"more":[1]}`) //nolint:errcheck // the client says it
	})
	resp, err := client(t, Config{Address: url + "/", Namespace: "ns", WrapTTL: "60"}).Do(t.Context(),
		Request{Method: "PUT", Path: "/secret/data/a b/%/c?d", Query: map[string][]string{"x": {"1"}}, Body: []byte(`{"a":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if string(resp.Data) != `{"n":18446744073709551616}` || resp.RequestID != "r" || len(resp.Warnings) != 1 {
		t.Errorf("Do = %+v; want the envelope with the number as it was", resp.Secret)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		fails  bool
		text   string
	}{
		{"nothing", 204, "", false, ""},
		{"no envelope", 200, `{"sealed":true,"warnings":"text"}`, false, ""},
		{"no JSON", 200, "# HELP x", false, ""},
		{"a name twice", 200, `{"data":{"a":1,"a":2}}`, true, "strict JSON"},
		{"not whole", 200, `{"data":{"a":1}`, true, "strict JSON"},
		{"refused", 403, `{"errors":["permission denied"]}`, true, "permission denied"},
		{"refused for two reasons", 400, `{"errors":["a","b"]}`, true, "a; b"},
		{"refused without a reason", 404, `{"errors":[]}`, true, "not found"},
		{"refused by a proxy", 400, "<html>\nlong", true, "<html>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body) //nolint:errcheck // the client says it
			})
			resp, err := client(t, Config{Address: url}).Do(t.Context(), Request{Method: "GET", Path: "x"})
			if (err != nil) != tc.fails || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Do = %+v, %v; want an error that says %q: %v", resp, err, tc.text, tc.fails)
			}
			if tc.status >= 300 && StatusOf(err) != tc.status {
				t.Errorf("StatusOf = %d, want %d", StatusOf(err), tc.status)
			}
		})
	}
}

func TestDeletedVersionKeepsItsData(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"request_id":"r","data":{"data":null,"metadata":{"version":3}}}`) //nolint:errcheck // the client says it
	})
	_, err := client(t, Config{Address: url}).Do(t.Context(), Request{Method: "GET", Path: "x"})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Response == nil || !strings.Contains(string(e.Response.Data), `"version":3`) {
		t.Errorf("Do = %v; want a refusal that carries the data", err)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		method string
		want   int32
	}{
		{"internal error", 500, "", "GET", 3},
		{"bad gateway on a write", 502, "", "PUT", 3},
		{"too many", 429, "", "GET", 3},
		{"precondition", 412, "", "GET", 3},
		{"not implemented", 501, "", "GET", 1},
		{"client's mistake", 400, "", "GET", 1},
		{"sealed", 503, `{"errors":["Vault is sealed"]}`, "GET", 1},
		{"good", 200, `{}`, "GET", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body) //nolint:errcheck // the client says it
			})
			_, _ = client(t, Config{Address: url, Retries: 2}).Do(t.Context(), Request{Method: tc.method, Path: "x"}) // not of interest
			if got := asked.Load(); got != tc.want {
				t.Errorf("the server was asked %d times, want %d", got, tc.want)
			}
		})
	}
}

// TestWritesAreNotRepeatedBlindly breaks the connection after the request has
// come: a read is asked again, a write is not.
func TestWritesAreNotRepeatedBlindly(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int32{"GET": 3, "PUT": 1, "POST": 1, "DELETE": 1} {
		var asked atomic.Int32
		url := serve(t, func(http.ResponseWriter, *http.Request) {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		})
		_, err := client(t, Config{Address: url, Retries: 2}).Do(t.Context(), Request{Method: method, Path: "x", Body: []byte("{}")})
		if _, ok := errors.AsType[*Unreachable](err); !ok {
			t.Errorf("%s over a broken connection = %v, want Unreachable", method, err)
		}
		if got := asked.Load(); got != want {
			t.Errorf("%s over a broken connection was sent %d times, want %d", method, got, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	end := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.Header.Get("X-Vault-Token") != "rts_token" {
			t.Errorf("after the redirect comes %s %v", r.Method, r.Header)
		}
		io.WriteString(w, `{"request_id":"end"}`) //nolint:errcheck // the client says it
	})
	var hops atomic.Int32
	start := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hops.Add(1)
		http.Redirect(w, r, end+r.URL.Path, http.StatusTemporaryRedirect)
	})
	resp, err := client(t, Config{Address: start}).Do(t.Context(), Request{Method: "PUT", Path: "x", Body: []byte("{}")})
	if err != nil || resp.RequestID != "end" {
		t.Errorf("Do = %+v, %v; want the answer of the other server", resp, err)
	}
	if _, err := client(t, Config{Address: start, NoRedirect: true}).Do(t.Context(), Request{Method: "GET", Path: "x"}); StatusOf(err) != 307 {
		t.Errorf("Do without redirects = %v, want the redirect itself", err)
	}
	circle := ""
	circle = serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, circle+"/v1/x", http.StatusTemporaryRedirect)
	})
	if _, err := client(t, Config{Address: circle}).Do(t.Context(), Request{Method: "GET", Path: "x"}); StatusOf(err) != 307 {
		t.Errorf("Do in a circle = %v, want it to end", err)
	}

	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, end+"/v1/x", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(secure.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := client(t, Config{Address: secure.URL, CACert: ca}).Do(t.Context(), Request{Method: "PUT", Path: "x"}); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("Do redirected from TLS to plain HTTP = %v, want a refusal", err)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}`) })) //nolint:errcheck // the client says it
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		c    Config
		good bool
	}{
		{"nothing", Config{}, false},
		{"the certificate", Config{CACert: ca}, true},
		{"a directory of it", Config{CAPath: dir}, true},
		{"another name", Config{CACert: ca, ServerName: "other.test"}, false},
		{"the name it has", Config{CACert: ca, ServerName: "example.com"}, true},
		{"anything", Config{SkipVerify: true}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.c.Address = s.URL
			_, err := client(t, tc.c).Do(t.Context(), Request{Method: "GET", Path: "x"})
			if (err == nil) != tc.good {
				t.Errorf("Do = %v, want success: %v", err, tc.good)
			}
		})
	}
	if _, err := New(Config{Address: s.URL, CACert: []byte("no PEM")}); err == nil {
		t.Error("New with no PEM succeeds, want a refusal")
	}
	if _, err := New(Config{Address: s.URL, CAPath: t.TempDir()}); err == nil {
		t.Error("New with an empty directory succeeds, want a refusal")
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"request_id":"s"}`) })) //nolint:errcheck // the client says it
	_ = s.Listener.Close()                                                                                                                       // replaced
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	resp, err := client(t, Config{Address: "unix://" + path}).Do(t.Context(), Request{Method: "GET", Path: "x"})
	if err != nil || resp.RequestID != "s" {
		t.Errorf("Do over a socket = %+v, %v", resp, err)
	}
}

func TestLargeAnswerIsRefused(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range MaxBody>>20 + 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	if _, err := client(t, Config{Address: url}).Do(t.Context(), Request{Method: "GET", Path: "x"}); err == nil || !strings.Contains(err.Error(), "32 MiB") {
		t.Errorf("Do = %v, want a refusal that names the bound", err)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	var got string
	c := client(t, Config{Address: "https://h", Namespace: "n", WrapTTL: "1m", SkipVerify: true, Show: func(_ Request, s string) { got = s }})
	if _, err := c.Do(t.Context(), Request{Method: "PATCH", Path: "a b", Body: []byte(`{"x":"it's"}`), ContentType: MergePatch}); !errors.Is(err, ErrShown) {
		t.Fatalf("Do = %v, want ErrShown", err)
	}
	const want = `curl -X PATCH --insecure -H "X-Vault-Token: $(rotunda print token)" -H 'X-Vault-Request: true' -H 'X-Vault-Namespace: n' -H 'X-Vault-Wrap-TTL: 1m' -H 'Content-Type: application/merge-patch+json' -d '{"x":"it'\''s"}' 'https://h/v1/a%20b'`
	if got != want {
		t.Errorf("the command is\n%s\nwant\n%s", got, want)
	}
}
