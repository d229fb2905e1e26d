// Package servertest runs a whole node inside a test: its store and journal in
// a directory of the test's, its keys in another, TLS with a local certificate
// authority, and a listener on a loopback port. What a test asks of it goes
// over the wire; what came of it is read from the node's own store and journal.
package servertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/localca"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/server"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// Config says how a node differs from the plain one: sealed by a key file,
// initialized, unsealed, with a mount of KV v2 at secret/, and no bound on how
// often it is asked.
type Config struct {
	Dir    string      // of all that the node keeps; one of the test's own if empty, in memory where the machine has such
	Clock  clock.Clock // the machine's if nil
	Guard  *door.GuardConfig
	Limits listen.Limits

	Shares, Threshold int  // of the root key; 0 for a key file
	Uninitialized     bool // leave the store empty

	AuditFiles   string   // directory below which sinks may be enabled
	AuditHeaders []string // that are recorded
	ClientCA     string   // PEM file: clients must show a certificate of it
	Secondary    bool     // a second listener, at Rig.Second
	MaxStore     int64    // bytes; 0 for no bound
	Change       func(*server.Config)
}

// Rig is a node that runs.
type Rig struct {
	URL, Address string
	Second       string // address of the second listener
	Root         string // token of root
	Shares       []string
	Data, Keys   string
	Node         *server.Node
	Client       *http.Client
	TLS          *tls.Config // that clients need

	t       testing.TB
	config  Config
	log     *lines
	stop    func() error
	handler http.Handler
}

// lines is what the node has logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Start runs a node until the test ends.
func Start(t testing.TB, c Config) *Rig {
	t.Helper()
	if c.Dir == "" {
		c.Dir = storagetest.MemoryDir(t)
	}
	r := &Rig{t: t, config: c, log: new(lines), Data: filepath.Join(c.Dir, "data"), Keys: filepath.Join(c.Dir, "keys")}
	r.start()
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("stopping the node: %v", err)
		}
	})
	if c.Uninitialized {
		return r
	}
	r.initialize()
	return r
}

// NodeConfig returns what the node is made of.
func (r *Rig) NodeConfig() server.Config {
	c := server.Config{
		Data: r.Data, Keys: r.Keys, Clock: r.config.Clock, MaxSize: r.config.MaxStore,
		Info:  system.Info{Version: "0.0.0-test", CompatVersion: "1.19.0", ClusterName: "test", StorageType: "bolt"},
		Log:   slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Audit: server.AuditConfig{FileDir: r.config.AuditFiles, Headers: r.config.AuditHeaders, Patience: time.Minute},
		Door:  server.DoorConfig{Guard: door.GuardConfig{LoginRate: -1, LoginBurst: -1, AccountFailures: -1, RefusalRate: -1, GlobalRate: -1, Target: -1}},
	}
	c.TTL.Default, c.TTL.Max = 768*time.Hour, 768*time.Hour
	if r.config.Guard != nil {
		c.Door.Guard = *r.config.Guard
	}
	if r.config.Shares == 0 {
		c.Seals = []gate.Auto{{Kind: keyfile.Kind, Sealer: keyfile.New(keyfile.Config{Path: filepath.Join(r.Keys, "seal.key")})}}
	}
	if r.config.Change != nil {
		r.config.Change(&c)
	}
	return c
}

func (r *Rig) start() {
	t := r.t
	t.Helper()
	if err := os.MkdirAll(r.Keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(filepath.Join(r.Keys, "seal.key")); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	ca, err := localca.Ensure(filepath.Join(r.Keys, "tls"), []string{"127.0.0.1", "localhost"}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	wire, err := listen.LoadTLS(listen.TLSConfig{
		CertFile: ca.CertFile(), KeyFile: ca.KeyFile(), ClientCAFile: r.config.ClientCA, RequireCert: r.config.ClientCA != "",
	})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	r.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
	r.Client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: r.TLS.Clone(), MaxIdleConnsPerHost: 64, ExpectContinueTimeout: 20 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
	if r.Node, err = server.Open(r.NodeConfig()); err != nil {
		t.Fatal(err)
	}
	r.handler = r.Node.Handler()
	listeners := []server.Listener{{Network: "tcp", Address: "127.0.0.1:0", TLS: wire, Limits: r.config.Limits}}
	if r.config.Secondary {
		listeners = append(listeners, listeners[0])
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan []net.Addr, 1), make(chan error, 1)
	go func() {
		done <- r.Node.Serve(ctx, listeners, func(a []net.Addr) error { ready <- a; return nil })
	}()
	select {
	case a := <-ready:
		r.Address = a[0].String()
		r.URL = "https://" + r.Address
		if len(a) > 1 {
			r.Second = a[1].String()
		}
	case err := <-done:
		cancel()
		t.Fatalf("starting the node: %v", err)
	}
	r.stop = sync.OnceValue(func() error {
		cancel()
		r.Client.CloseIdleConnections()
		return <-done
	})
}

func (r *Rig) initialize() {
	r.t.Helper()
	body := `{"recovery_shares":0}`
	if r.config.Shares > 0 {
		body = fmt.Sprintf(`{"secret_shares":%d,"secret_threshold":%d}`, r.config.Shares, r.config.Threshold)
	}
	made := r.Do("", http.MethodPut, "sys/init", body)
	r.Root = made.Text("root_token")
	if made.Status != http.StatusOK || r.Root == "" {
		r.t.Fatalf("PUT sys/init = %d %s", made.Status, made.Body)
	}
	keys, _ := made.Value("keys").([]any)
	for _, k := range keys {
		r.Shares = append(r.Shares, fmt.Sprint(k))
	}
	if r.config.Shares > 0 {
		r.Unseal()
	}
	r.Must(r.Root, http.MethodPost, "sys/mounts/secret", `{"type":"kv","options":{"version":"2"}}`)
}

// Unseal brings as many shares as are needed.
func (r *Rig) Unseal() {
	r.t.Helper()
	for _, s := range r.Shares[:r.config.Threshold] {
		r.Must("", http.MethodPut, "sys/unseal", `{"key":"`+s+`"}`)
	}
}

// Stop ends the node in order.
func (r *Rig) Stop() error { return r.stop() }

// Restart ends the node and starts it again with what it has kept. A node
// that is sealed by a key file is unsealed; one of shares is not.
func (r *Rig) Restart() {
	r.t.Helper()
	r.Again()
	if r.config.Shares == 0 {
		if err := r.Node.Unseal(r.t.Context()); err != nil {
			r.t.Fatalf("unsealing: %v", err)
		}
	}
}

// Again ends the node and starts it again, sealed.
func (r *Rig) Again() {
	r.t.Helper()
	if err := r.Stop(); err != nil {
		r.t.Fatalf("stopping the node: %v", err)
	}
	r.start()
}

// Handler returns what answers at the node's listener, for who needs none.
func (r *Rig) Handler() http.Handler { return r.handler }

// Context returns the test's.
func (r *Rig) Context() context.Context { return context.WithoutCancel(r.t.Context()) }

// Ask makes a request of a node that listens nowhere.
func Ask(n *server.Node, token, method, path string) *Answer {
	req := httptest.NewRequest(method, "/v1/"+path, nil)
	req.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	n.Handler().ServeHTTP(w, req)
	return &Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes(), ID: w.Header().Get("X-Request-Id")}
}

// Log returns what the node has logged, at the level of debugging.
func (r *Rig) Log() string { return r.log.String() }

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	ID     string // of the request, in the node's journal
}

// Value returns what is at a path of names and indices with dots between; nil for nothing.
func (a *Answer) Value(path string) any {
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// Text returns the text that is at a path; "" for none.
func (a *Answer) Text(path string) string {
	s, _ := a.Value(path).(string)
	return s
}

// Number returns the number that is at a path; -1 for none.
func (a *Answer) Number(path string) float64 {
	if n, ok := a.Value(path).(float64); ok {
		return n
	}
	return -1
}

// Do makes a request below /v1/. The headers are pairs of name and value.
func (r *Rig) Do(token, method, path, body string, headers ...string) *Answer {
	r.t.Helper()
	a, err := r.Try(token, method, path, body, headers...)
	if err != nil {
		r.t.Fatalf("%s %.200s: %v", method, path, err)
	}
	return a
}

// Try is [Rig.Do] for requests that may get no answer. It may be called from
// any goroutine.
func (r *Rig) Try(token, method, path, body string, headers ...string) (*Answer, error) {
	var payload io.Reader
	if body != "" {
		payload = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.t.Context()), method, r.URL+"/v1/", payload)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(path, "?")
	req.URL.Opaque, req.URL.RawQuery = "/v1/"+path, query // as it is, whatever it is
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header[http.CanonicalHeaderKey(pair[0])] = append(req.Header[http.CanonicalHeaderKey(pair[0])], pair[1])
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: b, ID: resp.Header.Get("X-Request-Id")}, nil
}

// Must is [Rig.Do] for what has to be done: anything but 2xx ends the test.
func (r *Rig) Must(token, method, path, body string, headers ...string) *Answer {
	r.t.Helper()
	a := r.Do(token, method, path, body, headers...)
	if a.Status/100 != 2 {
		r.t.Fatalf("%s %s %.200s = %d %.500s; want 2xx", method, path, body, a.Status, a.Body)
	}
	return a
}

// Token makes a token with the policies given, which root may give.
func (r *Rig) Token(policies ...string) string {
	r.t.Helper()
	b, err := json.Marshal(map[string]any{"policies": policies})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Must(r.Root, http.MethodPost, "auth/token/create", string(b)).Text("auth.client_token")
}

// Policy keeps a policy.
func (r *Rig) Policy(name, text string) {
	r.t.Helper()
	b, err := json.Marshal(map[string]any{"policy": text})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Must(r.Root, http.MethodPut, "sys/policies/acl/"+name, string(b))
}

// Mark is a moment in the store's history; see [Rig.Changed].
func (r *Rig) Mark() storage.Mark {
	r.t.Helper()
	var m storage.Mark
	err := r.Node.Store().View(r.t.Context(), func(s storage.Reader) error {
		m = s.Mark()
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// outboxTable is the table of the rows in which records of writes wait for the
// journal. They come with writes and go later.
const outboxTable = "\x02"

// countsTable is the core's table of how often keys have been used, which are
// counted in blocks that are reserved in the background.
var countsTable = "n" + string(core[:])

var core = barrier.Core

// Changed returns the scopes that were written to since a mark, but for those
// of records on their way to the journal and of counts of keys.
func (r *Rig) Changed(since storage.Mark) []string {
	r.t.Helper()
	c, err := r.Node.Store().Changes(r.t.Context(), since)
	if err != nil {
		r.t.Fatal(err)
	}
	if c.All {
		return []string{"all"}
	}
	var changed []string
	for _, s := range c.Scopes {
		if !strings.HasPrefix(s, outboxTable) && !strings.HasPrefix(s, countsTable) {
			changed = append(changed, fmt.Sprintf("%q", s))
		}
	}
	return changed
}

// Last returns the sequence of the newest record.
func (r *Rig) Last() uint64 {
	r.t.Helper()
	n, err := r.Node.Journal().Reader().Last(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// Records returns the records behind a sequence, oldest first.
func (r *Rig) Records(after uint64) []*audit.Record {
	r.t.Helper()
	var all []*audit.Record
	for rec, err := range r.Node.Journal().Reader().Records(r.t.Context(), after+1) {
		if err != nil {
			r.t.Fatalf("reading the journal: %v", err)
		}
		kept := *rec
		all = append(all, &kept)
	}
	return all
}
