package listen_test

import (
	"bufio"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/localca"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, "slow", http.StatusRequestTimeout)
		return
	}
	_, _ = io.WriteString(w, "hello")
})

// secured is a server with a certificate of its own.
type secured struct {
	ca   *localca.CA
	tls  *listen.TLS
	addr string
	srv  *listen.Server
}

func authority(t *testing.T) *localca.CA {
	t.Helper()
	ca, err := localca.Ensure(t.TempDir(), []string{"localhost", "127.0.0.1"}, clocktest.New(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func serve(t *testing.T, change func(*listen.Config, *listen.TLSConfig)) *secured {
	t.Helper()
	ca := authority(t)
	config, tlsConfig := listen.Config{Handler: hello}, listen.TLSConfig{CertFile: ca.CertFile(), KeyFile: ca.KeyFile()}
	if change != nil {
		change(&config, &tlsConfig)
	}
	loaded, err := listen.LoadTLS(tlsConfig)
	if err != nil {
		t.Fatal(err)
	}
	config.TLS = loaded
	s := &secured{ca: ca, tls: loaded, srv: listen.New(config)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // cut off at once
		_ = s.srv.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve = %v; want nil after Shutdown", err)
		}
	})
	return s
}

func (s *secured) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Certificate())
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func (s *secured) dial(t *testing.T, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.addr, c)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func (s *secured) transport(t *testing.T) *http.Transport {
	tr := &http.Transport{TLSClientConfig: s.client(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func get(t *testing.T, tr http.RoundTripper, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(r)
}

// answer reads one answer.
func answer(t *testing.T, from *bufio.Reader) (status int, body string) {
	t.Helper()
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("reading the body of an answer: %v", err)
	}
	return r.StatusCode, string(b)
}

func TestHandshakeIsPostQuantum(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, err := s.dial(t, s.client())
	if err != nil {
		t.Fatal(err)
	}
	if state := c.ConnectionState(); state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("handshake = %x with %v; want TLS 1.3 with X25519MLKEM768", state.Version, state.CurveID)
	}
}

func TestWhatIsNegotiated(t *testing.T) {
	t.Parallel()
	strict := serve(t, nil)
	older := serve(t, func(_ *listen.Config, c *listen.TLSConfig) { c.AllowTLS12 = true })
	for _, tt := range []struct {
		name   string
		server *secured
		change func(*tls.Config)
		ok     bool
	}{
		{"1.3", strict, func(*tls.Config) {}, true},
		{"1.3 with X25519", strict, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, !fips140.Enabled()},
		{"1.3 with P-256", strict, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, true},
		{"1.3 with P-384", strict, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} }, false},
		{"1.3 with P-521", strict, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }, false},
		{"1.2", strict, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"1.1", strict, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"1.3 where 1.2 is allowed", older, func(*tls.Config) {}, true},
		{"1.2 where it is allowed", older, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"1.1 where 1.2 is allowed", older, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"1.0 where 1.2 is allowed", older, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, false},
		{"ECDHE-GCM", older, suite(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), true},
		{"ECDHE-ChaCha20", older, suite(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), !fips140.Enabled()},
		{"ECDHE-CBC", older, suite(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA), false},
		{"ECDHE-CBC-SHA256", older, suite(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256), false},
		{"ECDHE-RC4", older, suite(tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA), false},
		{"RSA-GCM", older, suite(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), false},
		{"RSA-3DES", older, suite(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA), false},
	} {
		c := tt.server.client()
		tt.change(c)
		_, err := tt.server.dial(t, c)
		if (err == nil) != tt.ok {
			t.Errorf("%s: handshake = %v; want success = %v", tt.name, err, tt.ok)
		}
	}
}

func suite(id uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{id} }
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	r, err := get(t, s.transport(t), "https://"+s.addr+"/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	if b, _ := io.ReadAll(r.Body); r.ProtoMajor != 2 || string(b) != "hello" {
		t.Errorf("GET = %s, %q; want HTTP/2 and hello", r.Proto, b)
	}
}

func TestPlainHTTPIsToldAboutTLS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, url, request, want string }{
		{"configured", "https://vault.example.org", "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n", "use https://vault.example.org\""},
		{"by host", "", "GET / HTTP/1.1\r\nHost: vault.internal:8200\r\n\r\n", "use https://vault.internal:8200\""},
		{"hostile host", "", "GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", `{"errors":["this port speaks HTTPS"]}`},
		{"put", "", "PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "https://a"},
	} {
		s := serve(t, func(c *listen.Config, _ *listen.TLSConfig) { c.URL = tt.url })
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, tt.request); err != nil {
			t.Fatal(err)
		}
		status, body := answer(t, bufio.NewReader(c))
		if status != http.StatusBadRequest || !strings.Contains(body, tt.want) || strings.Contains(body, "<") {
			t.Errorf("%s: plain HTTP = %d %s; want 400 with %q", tt.name, status, body, tt.want)
		}
		_ = c.Close()
	}
}

func TestReloadDropsNoConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	stands, err := s.dial(t, s.client())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		if _, err := io.WriteString(stands, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if status, body := answer(t, bufio.NewReader(stands)); status != http.StatusOK || body != "hello" {
			t.Fatalf("answer on a connection that stands = %d %q; want 200 hello", status, body)
		}
	}
	ask()
	before := s.tls.Leaf().SerialNumber
	if err := os.Remove(s.ca.CertFile()); err != nil {
		t.Fatal(err)
	}
	if err := s.tls.Reload(); err == nil {
		t.Error("Reload without a certificate = nil; want an error")
	}
	ask()
	if _, err := s.dial(t, s.client()); err != nil {
		t.Errorf("handshake after a reload that failed = %v; want the certificate that there was", err)
	}
	if renewed, err := s.ca.Renew(); !renewed || err != nil {
		t.Fatalf("Renew = %v, %v", renewed, err)
	}
	if err := s.tls.Reload(); err != nil {
		t.Fatal(err)
	}
	ask()
	c, err := s.dial(t, s.client())
	if err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(before) == 0 {
		t.Error("a new connection has the certificate from before the reload")
	}
	if stands.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(before) != 0 {
		t.Error("the connection that stands has another certificate")
	}
}

func TestWatchReloads(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	before := s.tls.Leaf().SerialNumber
	if err := os.Remove(s.ca.CertFile()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := clocktest.New(time.Now())
	done := make(chan struct{})
	go func() { defer close(done); s.tls.Watch(ctx, c, time.Minute, slog.New(slog.DiscardHandler)) }()
	tick := func() {
		for c.Waiting() == 0 {
			runtime.Gosched()
		}
		c.Advance(time.Minute)
		for c.Waiting() == 0 {
			runtime.Gosched()
		}
	}
	tick()
	if s.tls.Leaf().SerialNumber.Cmp(before) != 0 {
		t.Error("a certificate that is gone changed the one in use")
	}
	if _, err := s.ca.Renew(); err != nil {
		t.Fatal(err)
	}
	tick()
	cancel()
	<-done
	if s.tls.Leaf().SerialNumber.Cmp(before) == 0 {
		t.Error("Watch did not load the new certificate")
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	clients := authority(t)
	s := serve(t, func(_ *listen.Config, c *listen.TLSConfig) { c.ClientCAFile, c.RequireCert = clients.CAFile(), true })
	c, err := s.dial(t, s.client())
	if err == nil { // in TLS 1.3 the server's refusal comes with the first answer
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a client without a certificate = %v; want an alert", err)
	}
	if _, err := listen.LoadTLS(listen.TLSConfig{CertFile: s.ca.CertFile(), KeyFile: s.ca.KeyFile(), RequireCert: true}); err == nil {
		t.Error("LoadTLS with certificates required of nobody = nil; want an error")
	}
	if _, err := listen.LoadTLS(listen.TLSConfig{CertFile: s.ca.CertFile(), KeyFile: clients.KeyFile()}); err == nil {
		t.Error("LoadTLS with the key of another certificate = nil; want an error")
	}
}

func TestCheckPlain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		network, address string
		ok               bool
	}{
		{"tcp", "127.0.0.1:8200", true},
		{"tcp", "[::1]:8200", true},
		{"tcp", "localhost:8200", true},
		{"tcp", "127.9.9.9:1", true},
		{"tcp", "[::ffff:127.0.0.1]:1", true},
		{"unix", "/run/rotunda.sock", true},
		{"tcp", "0.0.0.0:8200", false},
		{"tcp", "[::]:8200", false},
		{"tcp", ":8200", false},
		{"tcp", "10.0.0.1:8200", false},
		{"tcp", "localhost.example.org:8200", false},
		{"tcp", "127.0.0.1", false},
	} {
		if err := listen.CheckPlain(tt.network, tt.address); (err == nil) != tt.ok {
			t.Errorf("CheckPlain(%q, %q) = %v; want nil = %v", tt.network, tt.address, err, tt.ok)
		}
	}
}

// pipes is a listener whose connections stay in memory, so that a test can
// hold the time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// inBubble runs fn with a server whose time is fake.
func inBubble(t *testing.T, config listen.Config, fn func(t *testing.T, p *pipes, s *listen.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, s := newPipes(), listen.New(config)
		done := make(chan error, 1)
		go func() { done <- s.Serve(p) }()
		fn(t, p, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve = %v; want nil after Shutdown", err)
		}
		pass(time.Second) // net/http waits before it closes a connection that it refused
	})
}

// pass lets d of the bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

// cutAfter returns how long the server lets c stand.
func cutAfter(c net.Conn) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(began)
}

func TestIdleHandshakeIsCutAndDelaysNobody(t *testing.T) {
	ca := authority(t)
	loaded, err := listen.LoadTLS(listen.TLSConfig{CertFile: ca.CertFile(), KeyFile: ca.KeyFile()})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	inBubble(t, listen.Config{Handler: hello, TLS: loaded}, func(t *testing.T, p *pipes, _ *listen.Server) {
		idle := make([]net.Conn, 50)
		for i := range idle {
			idle[i] = p.dial()
		}
		began := time.Now()
		client := tls.Client(p.dial(), &tls.Config{RootCAs: roots, ServerName: "localhost", Time: func() time.Time { return ca.Certificate().NotBefore.Add(time.Hour) }})
		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if status, _ := answer(t, bufio.NewReader(client)); status != http.StatusOK {
			t.Errorf("GET beside idle handshakes = %d; want 200", status)
		}
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("GET beside idle handshakes took %v; want nothing", took)
		}
		for _, c := range idle {
			cutAfter(c)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("idle handshakes were cut after %v; want 5s", took)
		}
	})
}

func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first string        // what is sent at once
		drip  string        // what is sent again and again
		every time.Duration // at these times
		cut   time.Duration // when the server has had enough, about
	}{
		{"nothing at all", "", "", 0, 5 * time.Second},
		{"headers", "GET / HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", time.Second, 5 * time.Second},
		{"a body that does not come", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", "", 0, 5 * time.Second},
		{"a body that drips", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "x", time.Second, 5 * time.Second},
		{"a body that comes steadily but too long", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", strings.Repeat("x", 2000), time.Second, 10 * time.Second},
		{"a chunked body", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", time.Second, 5 * time.Second},
		{"a connection that is not used again", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", 0, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, listen.Config{Handler: hello}, func(t *testing.T, p *pipes, s *listen.Server) {
				c := p.dial()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					_, err := io.WriteString(c, tt.first)
					for err == nil && tt.drip != "" {
						select {
						case <-time.After(tt.every):
							_, err = io.WriteString(c, tt.drip)
						case <-ctx.Done():
							return
						}
					}
				})
				got := cutAfter(c)
				cancel()
				_ = c.Close()
				wg.Wait()
				if got < tt.cut-time.Second || got > tt.cut+2*time.Second {
					t.Errorf("the connection was cut after %v; want about %v", got, tt.cut)
				}
				synctest.Wait()
				if n := s.Connections(); n != 0 {
					t.Errorf("Connections = %d; want 0", n)
				}
			})
		})
	}
}

func TestBodyInTimeIsTakenAndTheConnectionUsedAgain(t *testing.T) {
	inBubble(t, listen.Config{Handler: hello}, func(t *testing.T, p *pipes, _ *listen.Server) {
		c := p.dial()
		in := bufio.NewReader(c)
		for range 3 {
			if _, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				pass(900 * time.Millisecond)
				if _, err := io.WriteString(c, "xx"); err != nil {
					t.Fatal(err)
				}
			}
			if status, _ := answer(t, in); status != http.StatusOK {
				t.Fatalf("PUT = %d; want 200", status)
			}
			pass(30 * time.Second) // less than the connection may idle
		}
		_ = c.Close()
	})
}

func TestConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *listen.Config, _ *listen.TLSConfig) { c.Limits.PerIP = 2 })
	for range 2 {
		if _, err := s.dial(t, s.client()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.dial(t, s.client()); err == nil {
		t.Error("a third connection from an address = nil; want it closed")
	}
	if n, refused := s.srv.Connections(), s.srv.Refused(); n != 2 || refused != 1 {
		t.Errorf("Connections, Refused = %d, %d; want 2, 1", n, refused)
	}
}

func TestConnectionsInAllAreCounted(t *testing.T) {
	inBubble(t, listen.Config{Handler: hello, Limits: listen.Limits{Connections: 3}}, func(t *testing.T, p *pipes, s *listen.Server) {
		var held []net.Conn
		for range 3 {
			held = append(held, p.dial())
		}
		if got := cutAfter(p.dial()); got != 0 {
			t.Errorf("a connection too many was cut after %v; want at once", got)
		}
		_ = held[0].Close()
		synctest.Wait()
		c := p.dial()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if status, _ := answer(t, bufio.NewReader(c)); status != http.StatusOK {
			t.Errorf("GET once there is room = %d; want 200", status)
		}
		for _, c := range append(held, c) {
			_ = c.Close()
		}
		synctest.Wait()
		if n := s.Connections(); n != 0 {
			t.Errorf("Connections = %d; want 0", n)
		}
	})
}

func TestHeaders(t *testing.T) {
	many := strings.Repeat("X-A: b\r\n", 101)
	large := "X-A: " + strings.Repeat("b", 40<<10) + "\r\n"
	for name, tt := range map[string]struct {
		headers string
		status  int
	}{
		"few":            {"", 200},
		"many":           {many, 431},
		"large":          {large, 431},
		"two lengths":    {"Content-Length: 1\r\nContent-Length: 2\r\n", 400},
		"bad length":     {"Content-Length: -1\r\n", 400},
		"unknown coding": {"Transfer-Encoding: gzip\r\n", 501},
	} {
		inBubble(t, listen.Config{Handler: hello}, func(t *testing.T, p *pipes, _ *listen.Server) {
			c := p.dial()
			go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n"+tt.headers+"\r\n") }()
			if status, _ := answer(t, bufio.NewReader(c)); status != tt.status {
				t.Errorf("%s headers = %d; want %d", name, status, tt.status)
			}
			_ = c.Close()
		})
	}
}

func TestLengthAndChunksTogetherAreNoTwoRequests(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.RequestURI)
	})
	inBubble(t, listen.Config{Handler: h}, func(_ *testing.T, p *pipes, _ *listen.Server) {
		c := p.dial()
		go func() {
			_, _ = io.WriteString(c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
		}()
		cutAfter(c)
	})
	for _, uri := range seen {
		if uri == "/smuggled" {
			t.Errorf("requests seen = %q; want no second one out of the first one's body", seen)
		}
	}
}

func TestStreamsThatAreGivenUpEndTheConnection(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 1)
	waits := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	refusals := new(listen.Refusals)
	s := serve(t, func(c *listen.Config, _ *listen.TLSConfig) {
		c.Handler, c.Limits.Resets, c.Refusals = waits, 10, refusals
	})
	dials := 0
	tr := s.transport(t)
	tr.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		c := s.client()
		c.NextProtos = []string{"h2"}
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, addr)
	}
	for i := range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.addr+fmt.Sprintf("/%d", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			resp, err := tr.RoundTrip(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			done <- err
		}()
		select {
		case <-entered:
		case err := <-done:
			if err == nil {
				t.Fatal("a request that nobody answers was answered")
			}
		}
		cancel()
	}
	if dials < 2 {
		t.Errorf("%d connections for 40 requests that were given up; want more than one", dials)
	}
	if n := refusals.Totals()[listen.RefusedResets]; n == 0 || n > uint64(dials) {
		t.Errorf("%d refusals of %d connections; want some", n, dials)
	}
}

func TestOptionsAsteriskReachesTheHandler(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	inBubble(t, listen.Config{Handler: h}, func(t *testing.T, p *pipes, _ *listen.Server) {
		c := p.dial()
		if _, err := io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if status, _ := answer(t, bufio.NewReader(c)); status != http.StatusTeapot {
			t.Errorf("OPTIONS * = %d; want the handler's answer", status)
		}
	})
}

func TestPlainListenerNeedsLoopback(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.New(listen.Config{Handler: hello}).Serve(l); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Serve on %v without TLS = %v; want an error", l.Addr(), err)
	}
}

// What a client is told of a request that cannot be read says nothing of the
// machine that it was sent to.
func TestRefusalsSayNothingOfTheMachine(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{
		"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\r\n\r\n", "\x00\x01\x02\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		inBubble(t, listen.Config{Handler: http.NotFoundHandler()}, func(t *testing.T, p *pipes, _ *listen.Server) {
			c := p.dial()
			go func() { _, _ = io.WriteString(c, raw) }()
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("%q: reading the answer: %v", raw, err)
			}
			for _, secret := range []string{host, "127.0.0.1", "goroutine", "/go/", "Server:"} {
				if strings.Contains(string(b), secret) {
					t.Errorf("%q is answered with %q, which says %q", raw, b, secret)
				}
			}
			_ = c.Close()
		})
	}
}
