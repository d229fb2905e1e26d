package server

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/localca"
	"rotunda.dev/rotunda/internal/op"
)

// soon bounds how long a test waits for what a limit brings about. Every
// default that a test changes is longer.
const soon = 3 * time.Second

// running is a node of a configuration file, initialized, with an engine for
// tests at probe/ and KV v2 at secret/.
type running struct {
	t       *testing.T
	node    *Node
	address string
	client  *http.Client
	tls     *tls.Config
	root    string
	entered chan struct{} // one element for each call of probe/wait
}

// start runs a node with what is given added to the stanza of the listener, to
// the configuration and to its limits.
func start(t *testing.T, listener, whole, limits string) *running {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("listener \"tcp\" {\naddress = \"127.0.0.1:0\"\ntls_auto = true\n%s\n}\nstorage \"bolt\" { path = %q }\nseal \"keyfile\" { path = %q }\nkeys_dir = %q\n%s\nlimits {\n%s\n}\n",
		listener, filepath.Join(dir, "data"), filepath.Join(dir, "keys", "seal.key"), filepath.Join(dir, "keys"), whole, limits)
	config, _, err := conf.Parse("test.hcl", text)
	if err != nil {
		t.Fatalf("reading the configuration: %v", err)
	}
	return run(t, config)
}

// run is start by a configuration.
func run(t *testing.T, config conf.Server) *running {
	t.Helper()
	made, err := nodeOf(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, entered: make(chan struct{}, 1000)}
	made.more = []engine.Kind{r.probe()}
	n, listeners, _, err := prepare(t.Context(), config, made)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan []net.Addr, 1), make(chan error, 1)
	go func() {
		done <- n.Serve(ctx, listeners, func(a []net.Addr) error { ready <- a; return nil })
	}()
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	r.node, r.address = n, (<-ready)[0].String()
	ca, err := localca.Ensure(filepath.Join(made.Keys, caDir), []string{"127.0.0.1"}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	r.tls = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: r.tls.Clone(), ForceAttemptHTTP2: true}, Timeout: time.Minute}
	_, init := r.ask("", http.MethodPut, "sys/init", `{"recovery_shares":0}`)
	var out struct {
		Root string `json:"root_token"`
	}
	if err := json.Unmarshal(init, &out); err != nil || out.Root == "" {
		t.Fatalf("PUT sys/init = %s, %v", init, err)
	}
	r.root = out.Root
	for path, body := range map[string]string{"secret": `{"type":"kv","options":{"version":"2"}}`, "probe": `{"type":"probe"}`} {
		if status, b := r.ask(r.root, http.MethodPost, "sys/mounts/"+path, body); status/100 != 2 {
			t.Fatalf("mounting %s = %d %s", path, status, b)
		}
	}
	return r
}

type (
	probeOut struct {
		Left int64 `json:"left" doc:"Milliseconds that are left for the request."`
	}
	probeIn struct {
		Name string `path:"name" doc:"Whose account."`
	}
)

// probe is an engine whose operations tell how long they may take, wait until
// they are given up, and fail to sign in.
func (r *running) probe() engine.Kind {
	left := func(ctx context.Context, _ *op.Call, _ op.Nothing) (probeOut, error) {
		at, _ := ctx.Deadline()
		return probeOut{time.Until(at).Milliseconds()}, nil
	}
	return engine.Kind{Name: "probe", Does: "For tests.", Open: func(context.Context, engine.Env) (engine.Instance, error) {
		return engine.Instance{Ops: []op.Op{
			op.Def[op.Nothing, probeOut]{Name: "probe.time", Verb: op.Read, Path: "time", Does: "Tell the time that is left."}.With(left),
			op.Def[op.Nothing, probeOut]{Name: "probe.long", Verb: op.Read, Path: "long", Does: "Tell the time that is left.", Limit: op.Limit{Long: true}}.With(left),
			op.Def[op.Nothing, op.Empty]{Name: "probe.wait", Verb: op.Read, Path: "wait", Does: "Wait."}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (op.Empty, error) {
				r.entered <- struct{}{}
				<-ctx.Done()
				return op.Empty{}, ctx.Err()
			}),
			op.Def[probeIn, op.Empty]{Name: "probe.login", Verb: op.Update, Path: "login/{name}", Auth: op.Login, Does: "Fail."}.With(func(context.Context, *op.Call, probeIn) (op.Empty, error) {
				return op.Empty{}, fault.New(fault.Denied, "permission denied")
			}),
		}}, nil
	}}
}

// send makes a request below /v1/; the headers are pairs of name and value.
func (r *running) send(token, method, path, body string, headers ...string) (status int, head http.Header, answer []byte) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, "https://"+r.address+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		q.Header.Set("X-Vault-Token", token)
	}
	for pair := range slices.Chunk(headers, 2) {
		q.Header.Set(pair[0], pair[1])
	}
	resp, err := r.client.Do(q)
	if err != nil {
		r.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, b
}

func (r *running) ask(token, method, path, body string, headers ...string) (int, []byte) {
	r.t.Helper()
	status, _, b := r.send(token, method, path, body, headers...)
	return status, b
}

// want asks as root and holds the answer to a status and a part of its text.
func (r *running) want(t *testing.T, status int, part, method, path, body string, headers ...string) {
	t.Helper()
	got, b := r.ask(r.root, method, path, body, headers...)
	if got != status || !strings.Contains(string(b), part) {
		t.Errorf("%s %.100s %.60s = %d %.300s; want %d and %q", method, path, body, got, b, status, part)
	}
}

// left asks how many milliseconds are left for a request to path.
func (r *running) left(t *testing.T, path string) int {
	t.Helper()
	_, b := r.ask(r.root, http.MethodGet, path, "")
	var out struct {
		Data struct {
			Left int `json:"left"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("GET %s = %s: %v", path, b, err)
	}
	return out.Data.Left
}

// dial connects by TLS, speaking HTTP/1.1 unless told otherwise.
func (r *running) dial(t *testing.T, protocols ...string) *tls.Conn {
	t.Helper()
	c := r.tls.Clone()
	c.NextProtos = protocols
	conn, err := tls.Dial("tcp", r.address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw connects and does not shake hands.
func (r *running) raw(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.address) //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// cut reports whether the server ends a connection soon, and what it said before.
func cut(t *testing.T, c net.Conn) (said string, ended bool) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	var late net.Error
	return string(b), !errors.As(err, &late) || !late.Timeout()
}

// settled reports whether there come to be as many connections as are wanted,
// without those of the client.
func (r *running) settled(want int) bool {
	for range 2000 {
		r.client.CloseIdleConnections()
		if (*r.node.connections.Load())[0].Connections() == want {
			return true
		}
		if (clock.System{}).Wait(r.t.Context(), time.Now().Add(10*time.Millisecond)) != nil {
			return false
		}
	}
	return false
}

// slowly sends the head of a request with a long body and some of the body.
func (r *running) slowly(t *testing.T, some int) net.Conn {
	t.Helper()
	c := r.dial(t)
	if _, err := fmt.Fprintf(c, "POST /v1/secret/data/slow HTTP/1.1\r\nHost: x\r\nX-Vault-Token: %s\r\nContent-Length: 9000\r\n\r\n%s", r.root, strings.Repeat(" ", some)); err != nil {
		t.Fatal(err)
	}
	return c
}

// announced returns the settings of HTTP/2 and the window of the connection
// that the server announces.
func (r *running) announced(t *testing.T) (settings map[uint16]uint32, window uint32) {
	t.Helper()
	c := r.dial(t, "h2")
	_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	_ = c.SetReadDeadline(time.Now().Add(soon))
	settings, window = map[uint16]uint32{}, 65535
	head := make([]byte, 9)
	for range 3 { // settings, the window, and the acknowledgement of ours, in some order
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		switch head[3] {
		case 4:
			for ; len(b) >= 6; b = b[6:] {
				settings[binary.BigEndian.Uint16(b)] = binary.BigEndian.Uint32(b[2:])
			}
		case 8:
			window += binary.BigEndian.Uint32(b)
		}
	}
	return settings, window
}

// giveUp asks n times for what nobody answers, gives each up, and returns how
// many connections that and a last request took.
func (r *running) giveUp(t *testing.T, n int) (dials int) {
	t.Helper()
	var mu sync.Mutex
	transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dials++
		mu.Unlock()
		c := r.tls.Clone()
		c.NextProtos = []string{"h2"}
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	for range n {
		ctx, cancel := context.WithCancel(t.Context())
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.address+"/v1/probe/wait", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Vault-Token", r.root)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := transport.RoundTrip(q); err == nil {
				_ = resp.Body.Close()
			}
		}()
		select {
		case <-r.entered:
		case <-done: // the connection has just been ended
		}
		cancel()
		<-done
		for busy := int64(1); busy > 0; busy, _ = r.node.guard.InFlight() {
			if err := (clock.System{}).Wait(t.Context(), time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.address+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	mu.Lock()
	defer mu.Unlock()
	return dials
}

// limited asks until it is told to wait, at most n times, and returns how many
// requests were let in before and how long it was told to wait.
func (r *running) limited(token, method, path string, n int) (in int, wait time.Duration) {
	r.t.Helper()
	for in = range n {
		status, head, _ := r.send(token, method, path, "")
		if status == http.StatusTooManyRequests {
			seconds, _ := strconv.Atoi(head.Get("Retry-After"))
			return in, time.Duration(seconds) * time.Second
		}
	}
	return n, 0
}

// effect is a limit at work: what a configuration says, and what comes of it
// at a node. Limits that leave one another alone share the node of a name.
type effect struct {
	node string // empty for one of its own
	set  string
	see  func(t *testing.T, r *running)
}

// effects is every limit, by its field in the configuration.
func effects() map[string]effect {
	many := func(n int, format string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return strings.Join(all, ",")
	}
	field := func(i int) string { return `{"data":{"x":"` + strings.Repeat("x", i) + `"}}` }
	refused := func(t *testing.T, r *running, let int) {
		t.Helper()
		if !r.settled(0) {
			t.Fatal("connections that were closed are counted")
		}
		for range let {
			r.raw(t)
		}
		if said, ended := cut(t, r.raw(t)); !ended || said != "" {
			t.Errorf("connection %d says %q and is kept open; want it closed at once", let+1, said)
		}
	}
	return map[string]effect{
		"Connections":       {"", "connections = 3\nhandshake_timeout = \"1m\"", func(t *testing.T, r *running) { refused(t, r, 3) }},
		"ConnectionsPerIP":  {"", "connections_per_ip = 3\nhandshake_timeout = \"1m\"", func(t *testing.T, r *running) { refused(t, r, 3) }},
		"PendingHandshakes": {"", "pending_handshakes = 2\nhandshake_timeout = \"1m\"", func(t *testing.T, r *running) { refused(t, r, 2) }},
		"HandshakeTimeout": {"impatient", `handshake_timeout = "100ms"`, func(t *testing.T, r *running) {
			if _, ended := cut(t, r.raw(t)); !ended {
				t.Error("who does not shake hands is waited for")
			}
		}},
		"HeaderTimeout": {"impatient", `header_timeout = "100ms"`, func(t *testing.T, r *running) {
			c := r.dial(t)
			_, _ = io.WriteString(c, "GET /v1/sys/health HTTP/1.1\r\nHost:")
			if _, ended := cut(t, c); !ended {
				t.Error("headers that do not come are waited for")
			}
		}},
		"IdleTimeout": {"impatient", `idle_timeout = "100ms"`, func(t *testing.T, r *running) {
			c := r.dial(t)
			_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
			if said, ended := cut(t, c); !ended || !strings.Contains(said, "200 OK") {
				t.Errorf("an idle connection says %q and is kept open", said)
			}
		}},
		"BodyTimeout": {"", `body_timeout = "200ms"`, func(t *testing.T, r *running) {
			if said, ended := cut(t, r.slowly(t, 10)); !ended || !strings.Contains(said, "came too slowly") {
				t.Errorf("a body that does not come is answered %q, the connection ended: %v", said, ended)
			}
		}},
		"BodyGrace": {"slow", `body_grace = "200ms"`, func(t *testing.T, r *running) {
			if said, ended := cut(t, r.slowly(t, 10)); !ended || !strings.Contains(said, "came too slowly") {
				t.Errorf("a body that comes slowly is answered %q, the connection ended: %v", said, ended)
			}
		}},
		"BodyRate": {"slow", `body_rate = "1MiB"`, func(t *testing.T, r *running) {
			if said, ended := cut(t, r.slowly(t, 8000)); !ended || !strings.Contains(said, "came too slowly") {
				t.Errorf("a body that stops is answered %q, the connection ended: %v", said, ended)
			}
		}},
		"WriteTimeout": {"", `write_timeout = "200ms"`, func(t *testing.T, r *running) {
			r.want(t, 200, "", http.MethodPost, "secret/data/large", field(500<<10))
			if !r.settled(0) {
				t.Fatal("connections that were closed are counted")
			}
			c := r.raw(t)
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(4 << 10)
			}
			secured := tls.Client(c, r.tls)
			for range 64 {
				_, _ = fmt.Fprintf(secured, "GET /v1/secret/data/large HTTP/1.1\r\nHost: x\r\nX-Vault-Token: %s\r\n\r\n", r.root)
			}
			if !r.settled(0) {
				t.Error("who takes no answers is waited for")
			}
		}},
		"RequestTimeout": {"times", `request_timeout = "7s"`, func(t *testing.T, r *running) {
			if left := r.left(t, "probe/time"); left > 7000 || left < 5000 {
				t.Errorf("a request has %d ms", left)
			}
		}},
		"LongRequestTimeout": {"times", `long_request_timeout = "17s"`, func(t *testing.T, r *running) {
			if left := r.left(t, "probe/long"); left > 17_000 || left < 15_000 {
				t.Errorf("a request that takes long has %d ms", left)
			}
		}},
		"HTTP2Streams": {"times", `http2_streams = 7`, func(t *testing.T, r *running) {
			if settings, _ := r.announced(t); settings[3] != 7 {
				t.Errorf("the server announces %d streams", settings[3])
			}
		}},
		"HTTP2Window": {"times", `http2_window = "128KiB"`, func(t *testing.T, r *running) {
			if _, window := r.announced(t); window != 128<<10 {
				t.Errorf("the server announces a window of %d", window)
			}
		}},
		"HTTP2Resets": {"", `http2_resets = 5`, func(t *testing.T, r *running) {
			if n := r.giveUp(t, 20); n < 2 {
				t.Errorf("20 requests that are given up take %d connection; want more", n)
			}
		}},
		"HTTP2ResetWindow": {"", "http2_resets = 5\nhttp2_reset_window = \"1us\"", func(t *testing.T, r *running) {
			if n := r.giveUp(t, 20); n != 1 {
				t.Errorf("20 requests that are given up, each long after the one before, take %d connections; want 1", n)
			}
		}},

		"HeaderBytes": {"strict", `header_bytes = "2KiB"`, func(t *testing.T, r *running) {
			c := r.dial(t)
			_, _ = fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 8<<10))
			if said, _ := cut(t, c); !strings.Contains(said, " 431 ") {
				t.Errorf("8 KiB of headers = %q; want 431", said)
			}
		}},
		"HeaderCount": {"strict", `header_count = 20`, func(t *testing.T, r *running) {
			var headers []string
			for i := range 25 {
				headers = append(headers, fmt.Sprintf("X-%d", i), "x")
			}
			r.want(t, http.StatusRequestHeaderFieldsTooLarge, "", http.MethodGet, "sys/health", "", headers...)
		}},
		"TokenBytes": {"strict", `token_bytes = 100`, func(t *testing.T, r *running) {
			if status, b := r.ask(strings.Repeat("x", 101), http.MethodGet, "secret/data/x", ""); status != 400 || !strings.Contains(string(b), "at most 100 bytes") {
				t.Errorf("a token of 101 bytes = %d %s", status, b)
			}
		}},
		"BatchTokenBytes": {"strict", `batch_token_bytes = 600`, func(t *testing.T, r *running) {
			if status, b := r.ask("rtb_"+strings.Repeat("x", 597), http.MethodGet, "secret/data/x", ""); status != 400 || !strings.Contains(string(b), "at most 600 bytes") {
				t.Errorf("a batch token of 601 bytes = %d %s", status, b)
			}
			if status, b := r.ask("rtb_"+strings.Repeat("x", 500), http.MethodGet, "secret/data/x", ""); status != 403 {
				t.Errorf("a batch token of 504 bytes = %d %s; want that it is looked at", status, b)
			}
		}},
		"URLBytes": {"strict", `url_bytes = 300`, func(t *testing.T, r *running) {
			r.want(t, 400, "longer than 300 bytes", http.MethodGet, "secret/data/x?version="+strings.Repeat("0", 300), "")
		}},
		"PathSegments": {"strict", `path_segments = 7`, func(t *testing.T, r *running) {
			r.want(t, 404, "", http.MethodGet, "secret/data/1/2/3/4/5", "")
			r.want(t, 400, "at most 7 segments", http.MethodGet, "secret/data/1/2/3/4/5/6", "")
		}},
		"SegmentBytes": {"strict", `segment_bytes = 20`, func(t *testing.T, r *running) {
			r.want(t, 404, "", http.MethodGet, "secret/data/"+strings.Repeat("x", 20), "")
			r.want(t, 400, "at most 20 bytes", http.MethodGet, "secret/data/"+strings.Repeat("x", 21), "")
		}},
		"Body": {"strict", `body = "4KiB"`, func(t *testing.T, r *running) {
			r.want(t, 413, "", http.MethodPost, "secret/data/x", strings.Repeat(" ", 5000))
		}},
		"BodyUnauthenticated": {"strict", `body_unauthenticated = "1KiB"`, func(t *testing.T, r *running) {
			r.want(t, 413, "", http.MethodPost, "sys/wrapping/unwrap", strings.Repeat(" ", 2000))
			r.want(t, 400, "no data", http.MethodPost, "secret/data/x", strings.Repeat(" ", 2000))
		}},
		"JSONDepth": {"strict", `json_depth = 6`, func(t *testing.T, r *running) {
			r.want(t, 200, "", http.MethodPost, "secret/data/deep", `{"data":{"x":[[[[]]]]}}`)
			r.want(t, 400, "more than 6 deep", http.MethodPost, "secret/data/deep", `{"data":{"x":[[[[[]]]]]}}`)
		}},
		"JSONTokens": {"strict", `json_tokens = 100`, func(t *testing.T, r *running) {
			r.want(t, 400, "more than 100 tokens", http.MethodPost, "secret/data/wide", `{"data":{"x":[`+many(100, "%d")+`]}}`)
		}},
		"JSONKeyBytes": {"strict", `json_key_bytes = 24`, func(t *testing.T, r *running) {
			r.want(t, 400, "longer than 24 bytes", http.MethodPost, "secret/data/key", `{"data":{"`+strings.Repeat("x", 25)+`":1}}`)
		}},
		"BatchItems": {"strict", `batch_items = 3`, func(t *testing.T, r *running) {
			r.want(t, 200, "", http.MethodPost, "sys/capabilities-self", `{"paths":["a","b","c"]}`)
			r.want(t, 400, "at most 3 paths", http.MethodPost, "sys/capabilities-self", `{"path":["a","b"],"paths":["c","d"]}`)
			r.want(t, 400, "at most 3 items", http.MethodPost, "sys/capabilities-self", `{"paths":["a","b","c","d"]}`)
			for _, how := range []string{"delete", "undelete", "destroy"} {
				r.want(t, 400, "at most 3 items", http.MethodPut, "secret/"+how+"/a", `{"versions":[1,2,3,4]}`)
				r.want(t, 400, "at most 3 items", http.MethodPut, "secret/"+how+"/a", `{"versions":"1,2,3,4"}`)
			}
			for _, list := range []string{"allowed_policies_glob", "token_bound_cidrs", "allowed_entity_aliases"} {
				r.want(t, 400, "at most 3 items", http.MethodPost, "auth/token/roles/r", `{"`+list+`":"10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"}`)
			}
		}},
		"ListPage": {"strict", `list_page = 2`, func(t *testing.T, r *running) {
			for i := range 4 {
				r.want(t, 200, "", http.MethodPost, "secret/data/list/"+strconv.Itoa(i), field(1))
			}
			r.want(t, 200, `["0","1"]`, "LIST", "secret/metadata/list?limit=2", "")
			r.want(t, 200, `["0","1","2","3"]`, "LIST", "secret/metadata/list", "")
			for _, path := range []string{"secret/metadata/list", "secret/detailed-metadata/list", "sys/policies/acl", "auth/token/accessors"} {
				r.want(t, 400, "limit is at most 2", "LIST", path+"?limit=3", "")
			}
		}},
		"PolicyBytes": {"strict", `policy_bytes = 256`, func(t *testing.T, r *running) {
			long := `{"policy":"# ` + strings.Repeat("x", 255) + `"}`
			r.want(t, 400, "at most 256 bytes", http.MethodPut, "sys/policies/acl/long", long)
			r.want(t, 400, "at most 256 bytes", http.MethodPut, "sys/policy/long", long)
			r.want(t, 400, "at most 256 bytes", http.MethodPost, "sys/policy-explain", `{"path":"x",`+long[1:])
		}},
		"PoliciesPerToken": {"strict", `policies_per_token = 3`, func(t *testing.T, r *running) {
			r.want(t, 200, "", http.MethodPost, "auth/token/create", `{"policies":["a","b","c"]}`)
			r.want(t, 400, "at most 3 policies", http.MethodPost, "auth/token/create", `{"policies":["a","b","c","d"]}`)
		}},
		"MetadataItems": {"strict", `metadata_items = 2`, func(t *testing.T, r *running) {
			r.want(t, 204, "", http.MethodPost, "secret/metadata/m", `{"custom_metadata":{"a":"a","b":"b"}}`)
			r.want(t, 400, "at most 2 keys", http.MethodPost, "secret/metadata/m", `{"custom_metadata":{"a":"a","b":"b","c":"c"}}`)
			r.want(t, 400, "at most 2 keys", http.MethodPatch, "secret/metadata/m", `{"custom_metadata":{"c":"c"}}`, "Content-Type", "application/merge-patch+json")
			r.want(t, 400, "at most 2 entries", http.MethodPost, "auth/token/create", `{"meta":{"a":"a","b":"b","c":"c"}}`)
		}},
		"MetadataBytes": {"strict", `metadata_bytes = 16`, func(t *testing.T, r *running) {
			long := strings.Repeat("x", 17)
			r.want(t, 400, "len(value) <= 16", http.MethodPost, "secret/metadata/m", `{"custom_metadata":{"a":"`+long+`"}}`)
			r.want(t, 400, "at most 16 bytes", http.MethodPost, "auth/token/create", `{"meta":{"a":"`+long+`"}}`)
		}},
		"SecretBytes": {"strict", `secret_bytes = "1KiB"`, func(t *testing.T, r *running) {
			r.want(t, 200, "", http.MethodPost, "secret/data/s", field(1000))
			r.want(t, 413, "at most 1024 bytes", http.MethodPost, "secret/data/s", field(1100))
			r.want(t, 413, "at most 1024 bytes", http.MethodPatch, "secret/data/s", `{"data":{"y":"`+strings.Repeat("y", 100)+`"}}`, "Content-Type", "application/merge-patch+json")
			r.want(t, 413, "at most 1024 bytes", http.MethodPost, "cubbyhole/s", `{"x":"`+strings.Repeat("x", 1100)+`"}`)
		}},
		"SecretVersions": {"strict", `secret_versions = 2`, func(t *testing.T, r *running) {
			for range 4 {
				r.want(t, 200, "", http.MethodPost, "secret/data/v", field(1))
			}
			r.want(t, 200, "", http.MethodGet, "secret/data/v?version=3", "")
			r.want(t, 404, "", http.MethodGet, "secret/data/v?version=2", "")
		}},

		"InFlight": {"", `in_flight = 1`, func(t *testing.T, r *running) {
			ctx, cancel := context.WithCancel(t.Context())
			q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.address+"/v1/probe/wait", nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("X-Vault-Token", r.root)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := r.client.Do(q); err == nil {
					_ = resp.Body.Close()
				}
			}()
			<-r.entered
			r.want(t, 429, "busy", http.MethodGet, "secret/data/x", "")
			r.want(t, 200, "", http.MethodGet, "sys/health", "")
			cancel()
			<-done
		}},
		"InFlightTarget": {"", `in_flight_target = "1ns"`, func(t *testing.T, r *running) {
			for range 20 {
				r.want(t, 404, "", http.MethodGet, "secret/data/x", "")
			}
			if _, limit := r.node.guard.InFlight(); limit > 128 {
				t.Errorf("%d requests at once where each is late; want fewer than at first", limit)
			}
		}},
		"LoginBurst": {"", "login_burst = 3\nlogin_rate = 0.001", func(t *testing.T, r *running) {
			for i := range 3 {
				if status, _ := r.ask("", http.MethodPost, fmt.Sprintf("probe/login/%d", i), ""); status != 403 {
					t.Errorf("login %d = %d; want 403", i+1, status)
				}
			}
			if status, _ := r.ask("", http.MethodPost, "probe/login/x", ""); status != 429 {
				t.Errorf("login 4 = %d; want 429", status)
			}
		}},
		"LoginRate": {"", "login_rate = 0.001\nlogin_burst = 1", func(t *testing.T, r *running) {
			if in, wait := r.limited("", http.MethodPost, "probe/login/x", 5); in != 1 || wait < 500*time.Second {
				t.Errorf("after %d logins it is %v until the next; want 1 and a quarter of an hour", in, wait)
			}
		}},
		"AccountFailures": {"", "account_failures = 2\nlogin_rate = 0", func(t *testing.T, r *running) {
			if in, wait := r.limited("", http.MethodPost, "probe/login/x", 10); in != 2 || wait == 0 {
				t.Errorf("%d logins of one account, then %v; want 2 and some time", in, wait)
			}
			if status, _ := r.ask("", http.MethodPost, "probe/login/y", ""); status != 403 {
				t.Errorf("a login of another account = %d; want 403", status)
			}
		}},
		"AccountWindow": {"", "account_failures = 2\naccount_window = \"1ns\"\nlogin_rate = 0", func(t *testing.T, r *running) {
			if in, _ := r.limited("", http.MethodPost, "probe/login/x", 20); in != 20 {
				t.Errorf("%d logins of one account, each long after the one before; want 20", in)
			}
		}},
		"TokenRate": {"", `token_rate = 5`, func(t *testing.T, r *running) {
			if in, wait := r.limited(r.root, http.MethodGet, "secret/data/x", 200); in > 150 || wait == 0 {
				t.Errorf("%d requests of one token, then %v; want 5 a second", in, wait)
			}
			if status, _ := r.ask("another", http.MethodGet, "secret/data/x", ""); status != 403 {
				t.Errorf("a request of another token = %d; want 403", status)
			}
		}},
		"GlobalRate": {"", `global_rate = 5`, func(t *testing.T, r *running) {
			if in, wait := r.limited("", http.MethodGet, "sys/internal/ui/mounts", 200); in > 150 || wait == 0 {
				t.Errorf("%d requests, then %v; want 5 a second", in, wait)
			}
			if status, _ := r.ask("", http.MethodGet, "sys/health", ""); status != 200 {
				t.Errorf("sys/health = %d; want that it is never shed", status)
			}
		}},
		"RefusalRate": {"", `refusal_rate = 0.2`, func(t *testing.T, r *running) {
			if in, wait := r.limited(r.root, http.MethodGet, "secret//x", 20); in != 2 || wait == 0 {
				t.Errorf("%d malformed requests are recorded, then %v; want 2 and some time", in, wait)
			}
		}},
	}
}

// TestEveryLimitHasAnEffect holds that no limit can be configured that nothing
// heeds: each is set to an unusual value in a configuration text and seen at a
// node that runs.
func TestEveryLimitHasAnEffect(t *testing.T) {
	t.Parallel()
	all := effects()
	fields := reflect.TypeFor[conf.Limits]()
	for f := range fields.Fields() {
		if _, ok := all[f.Name]; !ok {
			t.Errorf("conf.Limits.%s has no effect that this test sees: add one, or take the limit out", f.Name)
		}
	}
	usual := reflect.ValueOf(conf.DefaultLimits())
	nodes := map[string][]string{} // by their names, the fields
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f, ok := fields.FieldByName(name)
		if !ok {
			t.Errorf("conf.Limits has no %s", name)
			continue
		}
		if !strings.Contains(all[name].set, f.Tag.Get("hcl")+" = ") {
			t.Errorf("the effect of %s does not set %s", name, f.Tag.Get("hcl"))
		}
		node := cmp.Or(all[name].node, name)
		nodes[node] = append(nodes[node], name)
	}
	for node, names := range nodes {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			var text bytes.Buffer
			for _, name := range names {
				fmt.Fprintln(&text, all[name].set)
			}
			config, _, err := conf.Parse("test.hcl", "listener \"tcp\" { tls_auto = true }\nstorage \"bolt\" { path = \"/x\" }\nlimits {\n"+text.String()+"}\n")
			if err != nil {
				t.Fatal(err)
			}
			whole := ""
			if node == "WriteTimeout" { // which begins where the longest request ends
				whole = `default_max_request_duration = "1s"`
			}
			r := start(t, "", whole, text.String())
			for _, name := range names {
				if now := reflect.ValueOf(config.Limits).FieldByName(name); now.Equal(usual.FieldByName(name)) {
					t.Errorf("the effect of %s leaves it at its default, %v", name, now)
				}
				if len(names) == 1 {
					all[name].see(t, r)
					continue
				}
				t.Run(name, func(t *testing.T) { all[name].see(t, r) })
			}
		})
	}
}

// TestListenersHaveBoundsOfTheirOwn holds what a listener says of bodies, times
// and metrics.
func TestListenersHaveBoundsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := start(t, "max_request_size = 2048\nmax_request_duration = \"9s\"\ntelemetry { unauthenticated_metrics_access = true }", "", "")
	r.want(t, 413, "", http.MethodPost, "secret/data/x", strings.Repeat(" ", 3000))
	r.want(t, 413, "", http.MethodPost, "sys/wrapping/unwrap", strings.Repeat(" ", 3000))
	for _, path := range []string{"probe/time", "probe/long"} {
		if left := r.left(t, path); left > 9000 || left < 7000 {
			t.Errorf("%s has %d ms; want 9 s", path, left)
		}
	}
	if status, b := r.ask("", http.MethodGet, "sys/metrics", ""); status != 200 || !bytes.Contains(b, []byte("rotunda_sealed 0")) {
		t.Errorf("GET sys/metrics without a token = %d %.100s; want the metrics", status, b)
	}
	usual := start(t, "", "default_max_request_duration = \"8s\"", "")
	if left := usual.left(t, "probe/long"); left > 8000 || left < 6000 {
		t.Errorf("probe/long has %d ms; want 8 s", left)
	}
	if status, _ := usual.ask("", http.MethodGet, "sys/metrics", ""); status == 200 {
		t.Error("GET sys/metrics without a token = 200; want that it is denied")
	}
}

// TestLogIsOpenedAgain holds that a log that was rotated is written anew.
func TestLogIsOpenedAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	l, err := logTo(conf.Server{LogFile: file}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	n := &Node{c: Config{Log: newLogger(l, "info", "standard"), Reopen: l.reopen}}
	n.c.Log.LogAttrs(t.Context(), slog.LevelInfo, "before")
	rotate(t, file)
	n.reload(t.Context())
	n.c.Log.LogAttrs(t.Context(), slog.LevelInfo, "after")
	for path, want := range map[string]string{file: "after", file + ".1": "before"} {
		if !logged(t, path, want) {
			t.Errorf("%s does not hold %q", path, want)
		}
	}
}

func rotate(t *testing.T, file string) {
	t.Helper()
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
}

func logged(t *testing.T, file, want string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), want) {
			return true
		}
	}
	return false
}
