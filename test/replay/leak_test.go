package replay

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// clean holds a node that has stopped to have kept nothing of the canary in
// the clear: in its store, its journal, its keys and its log.
func clean(t *testing.T, r *servertest.Rig) {
	t.Helper()
	for _, dir := range []string{r.Data, r.Keys} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if leaks(string(b)) {
				t.Errorf("%s holds what was written, in the clear", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if leaks(r.Log()) {
		t.Error("the log holds what was written")
	}
}

// TestH029H062H063H064HeadersAreNotKept sends values in headers and in bodies
// of every kind, at every listener and to every operation.
func TestH029H062H063H064HeadersAreNotKept(t *testing.T) {
	t.Parallel()
	r := servertest.Start(t, servertest.Config{Secondary: true, AuditHeaders: []string{"x-correlation-id"}})
	s := stage(t, r)
	id := canary + "-token"
	r.Must(r.Root, http.MethodPost, "auth/token/create", `{"id":"`+id+`","policies":["default","app"]}`)
	headers := []string{
		"Authorization", "Bearer " + id, "Cookie", "session=" + canary, "Proxy-Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+canary)),
		"X-Api-Key", canary, "X-Vault-Inline-Auth-Path", "auth/userpass/login/" + canary, "X-Vault-Inline-Auth-Operation", "update",
		"X-Vault-Inline-Auth-Parameter-Password", canary, "X-Custom", canary, "User-Agent", canary, "Referer", "https://" + canary, "X-Vault-MFA", canary,
		"X-Correlation-Id", "correlated",
	}
	before := r.Last()
	ids, seen := map[string]string{}, 0
	for _, address := range []string{r.Address, r.Second} {
		client := *r
		client.URL, client.Address = "https://"+address, address
		client.Must("", http.MethodGet, "auth/token/lookup-self", "", headers...)
		for _, o := range operations(t, r) {
			if o.op.Name == "token.revoke-self" || o.op.Name == "system.seal" || o.op.Sealed {
				continue
			}
			path, body := s.usual(o)
			text := ""
			if o.op.Verb.IsWrite() || o.method() == http.MethodPatch {
				text = object(body, field{}, "")
			}
			got := client.Do("", o.method(), o.target(path), text, headers...)
			if got.Status >= 500 || o.op.Name != "token.read-self" && o.op.Name != "token.lookup-self" && o.op.Name != "token.renew-self" && strings.Contains(string(got.Body), canary) {
				t.Errorf("%s with headers = %d %s", o.op.Name, got.Status, got.Body)
			}
			ids[got.ID] = o.op.Name
		}
	}
	for _, rec := range recorded(t, r, before, ids) {
		for _, h := range rec.Headers {
			if !strings.EqualFold(h.Name, "x-correlation-id") {
				t.Errorf("the record holds the header %q, which nobody asked for", h.Name)
			}
			seen++
		}
	}
	if seen == 0 {
		t.Error("no record holds the header that the configuration names")
	}

	// Bodies that are not JSON.
	refused(t, r,
		attack{what: "a form", path: "secret/data/a", body: "data=" + canary, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		attack{what: "XML", path: "secret/data/a", body: "<a>" + canary + "</a>", headers: []string{"Content-Type", "text/xml"}},
		attack{what: "a JWT", path: "secret/data/a", body: canary + "." + canary + "." + canary, headers: []string{"Content-Type", "application/jose+json"}},
		attack{what: "DER", path: "secret/data/a", body: "\x30\x82" + canary, headers: []string{"Content-Type", "application/ocsp-request"}},
		attack{what: "metrics", method: http.MethodGet, token: id + "x", path: "sys/metrics?format=" + canary},
	)
	r.Must(r.Root, http.MethodPost, "cubbyhole/form", "password="+canary, "Content-Type", "application/x-www-form-urlencoded")
	metrics := r.Must(r.Root, http.MethodGet, "sys/metrics", "")
	if leaks(string(metrics.Body)) || !strings.Contains(string(metrics.Body), "rotunda_") {
		t.Errorf("the metrics are %.300s", metrics.Body)
	}
	recorded(t, r, before, nil)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	clean(t, r)
}

// TestH065RedactionKnowsEveryKind redacts a value of each kind of Go.
func TestH065RedactionKnowsEveryKind(t *testing.T) {
	t.Parallel()
	type inner struct {
		Text string `json:"text"`
	}
	type value struct {
		Text   string                     `json:"text"`
		Bytes  []byte                     `json:"bytes"`
		Raw    jsontext.Value             `json:"raw"`
		Named  fmt.Stringer               `json:"named"`
		Err    error                      `json:"err"`
		Any    any                        `json:"any"`
		Map    map[string]any             `json:"map"`
		Deep   map[string][]inner         `json:"deep"`
		Array  [2]string                  `json:"array"`
		Secret secret.Text                `json:"secret"`
		JSON   secret.JSON                `json:"json"`
		Binary secret.Bytes               `json:"binary"`
		Ptr    *string                    `json:"ptr"`
		Slice  []any                      `json:"slice"`
		Self   *value                     `json:"self"`
		Func   func() string              `json:"func"`
		Chan   chan string                `json:"chan"`
		Keys   map[struct{ A string }]int `json:"keys"`
	}
	text := canary
	v := value{
		Text: canary, Bytes: []byte(canary), Raw: jsontext.Value(`{"a":"` + canary + `"}`), Named: named(canary), Err: fmt.Errorf("%s", canary),
		Any: canary, Map: map[string]any{"a": canary, "b": []byte(canary), "c": named(canary)}, Deep: map[string][]inner{"a": {{canary}}},
		Array: [2]string{canary, canary}, Secret: secret.New(canary), JSON: secret.NewJSON([]byte(`"` + canary + `"`)), Binary: secret.NewBytes([]byte(canary)),
		Ptr: &text, Slice: []any{canary, []byte(canary), map[string]any{"x": canary}}, Self: &value{Text: canary}, Func: func() string { return canary },
		Keys: map[struct{ A string }]int{{canary}: 1},
	}
	h := audit.NewHasher(func(parts ...[]byte) [32]byte { return sha256.Sum256(bytes.Join(parts, []byte{0})) })
	if shown := h.Redact(v); leaks(string(shown)) || !strings.Contains(string(shown), "hmac-sha256:") {
		t.Errorf("Redact = %s; want hashes", shown)
	}
	for _, one := range []any{canary, []byte(canary), jsontext.Value(`"` + canary + `"`), named(canary), fmt.Errorf("%s", canary), &text, []any{canary}, map[string]any{"k": canary}, secret.New(canary)} {
		if shown := h.Redact(one); leaks(string(shown)) {
			t.Errorf("Redact(%T) = %s; want a hash", one, shown)
		}
	}
}

type named string

// String implements fmt.Stringer.
func (n named) String() string { return string(n) }

// TestH066MalformedBodiesAreNotEchoed sends malformed bodies to every operation
// that takes one.
func TestH066MalformedBodiesAreNotEchoed(t *testing.T) {
	t.Parallel()
	r := plain(t)
	s := stage(t, r)
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"`+canary+`"}}`)
	var all []attack
	for _, o := range operations(t, r) {
		if !o.op.Verb.IsWrite() && o.method() != http.MethodPatch {
			continue
		}
		path, _ := s.usual(o)
		for what, body := range map[string]string{
			"cut off": `{"data":{"a":"` + canary, "a key twice": `{"a":"` + canary + `","a":"` + canary + `"}`, "an array": `["` + canary + `"]`, "text": `"` + canary + `"`,
			"not JSON": canary, "after it": `{}` + canary, "a bad escape": `{"a":"\x` + canary + `"}`, "a control character": "{\"a\":\"" + canary + "\x01\"}", "a bad number": `{"a":1` + canary + `}`,
			"a key that is long": `{"` + canary + strings.Repeat("k", 300) + `":1}`, "bad UTF-8": "{\"a\":\"" + canary + "\xff\"}",
		} {
			all = append(all, attack{what: o.op.Name + " " + what, method: o.method(), path: o.target(path), body: body})
		}
	}
	refused(t, r, all...)
}

// TestH068EnvironmentIsNotShown starts a node where the environment holds secrets.
func TestH068EnvironmentIsNotShown(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "PG_CONNECTION_URL", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "ROTUNDA_TOKEN"} {
		t.Setenv(name, "http://user:"+canary+"@proxy.invalid:3128")
	}
	r := plain(t)
	for _, path := range []string{"sys/metrics", "sys/health", "sys/seal-status", "sys/ha-status", "sys/internal/specs/openapi", "sys/config/state/sanitized", "sys/host-info", "sys/pprof/cmdline"} {
		if got := r.Do(r.Root, http.MethodGet, path, ""); leaks(string(got.Body)) {
			t.Errorf("GET %s shows the environment", path)
		}
	}
	refused(t, r, attack{what: "something wrong", path: "secret/data/x", body: `{"data":1}`})
	if args, err := os.ReadFile("/proc/self/cmdline"); err == nil && leaks(string(args)) {
		t.Error("the arguments of the process show the environment")
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	clean(t, r)
}

// raw sends bytes on a TLS connection and returns what comes until it is closed.
func raw(t *testing.T, r *servertest.Rig, address, request string) string {
	t.Helper()
	c, err := tls.Dial("tcp", address, r.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c) // the server may reset it
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after %.80q the connection stays open: %.200q", request, b)
	}
	return string(b)
}

// statuses returns the statuses of the answers in what came.
func statuses(came string) (all []string) {
	in := bufio.NewReader(strings.NewReader(came))
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return all
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		all = append(all, resp.Status[:3])
	}
}

// TestH072ErrorsTellNothingOfTheMachine sends what is wrong before any operation.
func TestH072ErrorsTellNothingOfTheMachine(t *testing.T) {
	t.Parallel()
	r := plain(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := raw(t, r, r.Address, "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("a plain request = %.200q", got)
	}
	for what, request := range map[string]string{
		"no Host": "GET /v1/sys/mounts HTTP/1.1\r\n\r\n", "two Hosts": "GET /v1/sys/mounts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "an odd Host": "GET /v1/sys/mounts HTTP/1.1\r\nHost: a b\r\n\r\n",
		"1.0": "GET /v1/sys/mounts HTTP/1.0\r\n\r\n", "0.9": "GET /v1/sys/mounts\r\n\r\n", "2.0": "GET /v1/sys/mounts HTTP/2.0\r\nHost: x\r\n\r\n", "no path": "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
		"not HTTP": "EHLO x\r\n\r\n", "a bad header": "GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", "NUL": "GET /v1/sys/mounts\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
		"a long header":  "GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"many headers":   "GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 300) + "\r\n",
		"directory":      "GET /v1/sys//mounts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"dots":           "GET /v1/../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"not ours":       "GET /ui/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"the root":       "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"absolute":       "GET http://x/v1/sys/mounts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"asterisk":       "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"CONNECT":        "CONNECT x:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"TRACE":          "TRACE /v1/sys/health HTTP/1.1\r\nHost: x\r\nX-Secret: " + canary + "\r\nConnection: close\r\n\r\n",
		"a bad encoding": "GET /v1/secret/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"an expectation": "POST /v1/sys/unseal HTTP/1.1\r\nHost: x\r\nExpect: " + canary + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"an upgrade":     "GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
		"a proxy's":      "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		got := raw(t, r, r.Address, request)
		status := statuses(got)
		if len(status) != 1 || status[0][0] != '4' && status[0] != "505" {
			t.Errorf("%s = %v %.300q; want one 4xx", what, status, got)
		}
		ip, _, _ := strings.Cut(r.Address, ":")
		for _, secretive := range []string{host, ip, "goroutine", ".go:", "Server:", "X-Powered", "Location:", canary, "rotunda", "0.0.0-test", "go1."} {
			if len(secretive) > 2 && strings.Contains(strings.ToLower(got), strings.ToLower(secretive)) {
				t.Errorf("%s: the answer holds %q: %.400q", what, secretive, got)
			}
		}
		if strings.Count(got, "\r\n") > 20 || len(got) > 1200 {
			t.Errorf("%s: the answer is long: %.400q", what, got)
		}
	}
	alive(t, r)
}

// TestH131ReadsReturnNoCredential writes secrets into fields that are for
// writing only, and then reads everything that can be read.
func TestH131ReadsReturnNoCredential(t *testing.T) {
	t.Parallel()
	r := plain(t)
	s := stage(t, r)
	r.Must(r.Root, http.MethodPost, "auth/token/create", `{"id":"`+canary+`","policies":["default"],"display_name":"known"}`)
	r.Must(canary, http.MethodPost, "cubbyhole/mine", `{"password":"`+canary+`"}`)
	r.Must(r.Root, http.MethodPost, "sys/wrapping/wrap", `{"password":"`+canary+`"}`, "X-Vault-Wrap-TTL", "600")
	r.Must(r.Root, http.MethodPost, "secret/data/hidden", `{"data":{"password":"`+canary+`"}}`)
	r.Must(r.Root, http.MethodPost, "sys/audit-hash/journal", `{"input":"`+canary+`"}`)
	if got := r.Must(r.Root, http.MethodGet, "secret/data/hidden", ""); !strings.Contains(string(got.Body), canary) {
		t.Errorf("the value itself is not read: %s", got.Body)
	}
	before := r.Last()
	for _, o := range operations(t, r) {
		if m := o.method(); m != http.MethodGet && m != "LIST" {
			continue
		}
		for _, at := range []string{"", "hidden", "app", "app/one"} {
			path, _ := s.usual(o)
			if at == "hidden" && o.op.Name == "kv.read" {
				continue
			}
			if at != "" {
				path["path"] = at
			}
			got := r.Do(r.Root, o.method(), o.target(path), "")
			if leaks(string(got.Body)) {
				t.Errorf("%s %s %s returns a credential: %.400s", o.op.Name, o.method(), o.target(path), got.Body)
			}
			if bytes.Contains(got.Body, []byte(s.token)) || o.op.Name != "token.read-self" && o.op.Name != "token.read" && bytes.Contains(got.Body, []byte(r.Root)) {
				t.Errorf("%s returns a token: %.400s", o.op.Name, got.Body)
			}
		}
	}
	for _, path := range []string{"sys/raw/core/keyring", "sys/storage/raw/core", "sys/rekey/init", "sys/generate-root/attempt", "sys/config/auditing/request-headers", "sys/config/state/sanitized"} {
		if got := r.Do(r.Root, http.MethodGet, path, ""); got.Status < 400 {
			t.Errorf("GET %s = %d %s; want 4xx", path, got.Status, got.Body)
		}
	}
	recorded(t, r, before, nil)
}

// TestH134StoresHoldNoNames looks for names in the files of a node.
func TestH134StoresHoldNoNames(t *testing.T) {
	t.Parallel()
	r := plain(t)
	lower := strings.ToLower(canary)
	r.Policy(lower, `path "secret/data/`+canary+`" { capabilities = ["read"] }`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/"+lower, `{"allowed_policies":["`+lower+`"],"path_suffix":"`+canary+`"}`)
	r.Must(r.Root, http.MethodPost, "sys/mounts/"+canary, `{"type":"kv","description":"`+canary+`","options":{"version":"2"}}`)
	r.Must(r.Root, http.MethodPost, canary+"/data/"+canary+"/"+canary, `{"data":{"`+canary+`":"`+canary+`"}}`)
	r.Must(r.Root, http.MethodPost, canary+"/metadata/"+canary+"/"+canary, `{"custom_metadata":{"`+canary+`":"`+canary+`"}}`)
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"display_name":"`+canary+`","meta":{"`+canary+`":"`+canary+`"},"policies":["`+lower+`"]}`)
	token, accessor := made.Text("auth.client_token"), made.Text("auth.accessor")
	r.Must(token, http.MethodPost, "cubbyhole/"+canary, `{"`+canary+`":"`+canary+`"}`)
	if got := r.Must(r.Root, http.MethodGet, canary+"/data/"+canary+"/"+canary, ""); !strings.Contains(string(got.Body), canary) {
		t.Errorf("the secret is %s", got.Body)
	}
	r.Restart()
	r.Must(r.Root, http.MethodGet, canary+"/data/"+canary+"/"+canary, "")
	root := r.Root
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	clean(t, r)
	err := filepath.WalkDir(r.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, known := range []string{token, accessor, root, lower} {
			if bytes.Contains(bytes.ToLower(b), []byte(strings.ToLower(known))) {
				t.Errorf("%s holds a token, an accessor or a name", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestH145NothingForDebuggers looks for what shows a process's inside.
func TestH145NothingForDebuggers(t *testing.T) {
	t.Parallel()
	r := plain(t)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/vars", "/metrics", "/v1/sys/pprof/", "/v1/sys/pprof/heap", "/v1/sys/monitor", "/v1/sys/in-flight-req", "/v1/debug/pprof/", "/ui/../debug/pprof/"} {
		got := raw(t, r, r.Address, "GET "+path+" HTTP/1.1\r\nHost: x\r\nX-Vault-Token: "+r.Root+"\r\nConnection: close\r\n\r\n")
		if s := statuses(got); len(s) != 1 || s[0] != "404" && s[0] != "400" && s[0] != "405" {
			t.Errorf("GET %s = %.200q; want 404", path, got)
		}
	}
	r.Must(r.Root, http.MethodPost, "secret/data/known/name", `{"data":{"a":"b"}}`)
	powerless := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["none"],"no_default_policy":true}`).Text("auth.client_token")
	refused(t, r,
		attack{what: "leases", token: powerless, path: "sys/leases/lookup", body: `{"lease_id":"secret/data/known/name"}`, status: []int{403}},
		attack{what: "leases", token: powerless, method: "LIST", path: "sys/leases/lookup/secret"},
		attack{what: "leases", path: "sys/leases/lookup", body: `{"lease_id":"secret/data/known/name"}`},
		attack{what: "a help text", token: nobody, method: http.MethodGet, path: "secret/data/known/name?help=1", status: []int{403}},
		attack{what: "a mount", token: nobody, method: http.MethodGet, path: "sys/internal/ui/mounts/secret/known"},
		attack{what: "a mount", token: powerless, method: http.MethodGet, path: "sys/internal/ui/mounts/secret/known"},
	)
	if got := r.Do("", http.MethodGet, "sys/internal/ui/mounts", ""); strings.Contains(string(got.Body), "secret/") {
		t.Errorf("mounts are listed to nobody: %s", got.Body)
	}
}
