// Package listen accepts connections and keeps clients from holding more of
// the server than is theirs.
//
// Every listener of a [Server] shares one TLS configuration and one set of
// limits. A connection passes three doors: it is counted, in all and by
// address; it shakes hands, in a goroutine of its own so that a slow client
// delays no other; it sends requests, whose headers and bodies must come in
// time. What speaks plain HTTP to a TLS listener is told so, and not served.
package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// now is the time by which deadlines of connections are set: the machine's.
func now() time.Time { return clock.System{}.Now() }

// Config is what a Server is made of.
type Config struct {
	Handler http.Handler
	TLS     *TLS // nil for plain HTTP, which only [CheckPlain] addresses may have
	Limits  Limits
	Log     *slog.Logger

	// URL is told to those who speak plain HTTP to a TLS listener:
	// "https://vault.example.org:8200". Where it is empty, the Host that they
	// asked for stands in it.
	URL string

	// Refusals counts what never becomes a request. Several servers may share
	// one; nil stands for one of this server's own.
	Refusals *Refusals
}

// Server serves HTTP on any number of listeners. Make it with [New].
type Server struct {
	config Config
	limits Limits
	http   *http.Server
	tls    *tls.Config // for handshakes
	conns  counter

	handshakes chan struct{} // one element for each handshake under way
	refused    atomic.Uint64
	refusals   *Refusals
}

// New returns a server that listens nowhere yet.
func New(config Config) *Server {
	s := &Server{config: config, limits: config.Limits.withDefaults()}
	if s.config.Log == nil {
		s.config.Log = slog.New(slog.DiscardHandler)
	}
	s.handshakes = make(chan struct{}, min(s.limits.PendingHandshake, s.limits.Connections))
	if s.refusals = config.Refusals; s.refusals == nil {
		s.refusals = new(Refusals)
	}
	s.conns.byIP = map[netip.Addr]int{}
	s.http = &http.Server{
		Handler:                      s.guard(config.Handler),
		ReadHeaderTimeout:            s.limits.ReadHeader,
		IdleTimeout:                  s.limits.Idle,
		MaxHeaderBytes:               s.limits.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug), // it may hold what a client sent
		ConnContext:                  s.connContext,
		ConnState:                    s.changed,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          s.limits.Streams,
			MaxReceiveBufferPerConnection: s.limits.WindowBytes,
			MaxReceiveBufferPerStream:     min(s.limits.WindowBytes, 1<<20),
			WriteByteTimeout:              s.limits.Write,
			SendPingTimeout:               s.limits.Idle,
		},
	}
	if config.TLS != nil {
		s.tls, s.http.TLSConfig = config.TLS.Server(), config.TLS.Server() // net/http changes its own
	}
	return s
}

// CheckPlain reports an address that must not be served without TLS: all but
// loopback addresses and unix sockets.
func CheckPlain(network, address string) error {
	if network == "unix" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading the address %q: %w", address, err)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("TLS can be disabled only on a loopback address or a unix socket, and %s is neither", address)
}

// Serve accepts connections from l until it is closed or the server shut down;
// the error is then nil. It may be called for several listeners at once.
func (s *Server) Serve(l net.Listener) error {
	if s.config.TLS == nil {
		if err := CheckPlain(l.Addr().Network(), l.Addr().String()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	ctx, cancel := context.WithCancel(context.Background()) // ends with the listener
	defer cancel()
	in := &intake{Listener: l, ready: make(chan net.Conn), done: ctx.Done(), close: cancel}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		s.accept(ctx, in)
	}()
	err := s.http.Serve(in)
	cancel()
	_ = l.Close() // ends accept; it may be closed already
	<-accepting
	in.handshakes.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits for the requests under way, no longer
// than ctx lasts; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("waiting for requests: %w", err), s.http.Close())
	}
	return nil
}

// Connections returns how many connections there are.
func (s *Server) Connections() int { return s.conns.total() }

// Refused returns how many connections were closed because there were too many.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// intake is a listener that gives out connections that have shaken hands.
type intake struct {
	net.Listener
	ready      chan net.Conn
	done       <-chan struct{}
	close      context.CancelFunc
	handshakes sync.WaitGroup
	failed     error // why accepting ended; set before done is closed
}

// Accept implements net.Listener.
func (in *intake) Accept() (net.Conn, error) {
	select {
	case c := <-in.ready:
		return c, nil
	case <-in.done:
		if in.failed != nil {
			return nil, in.failed
		}
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (in *intake) Close() error {
	in.close()
	return in.Listener.Close()
}

// accept takes connections until the listener is closed, counts them and sends
// each to its handshake.
func (s *Server) accept(ctx context.Context, in *intake) {
	defer in.close()
	pause := time.Duration(0)
	for {
		c, err := in.Listener.Accept()
		if err != nil {
			var again interface{ Temporary() bool }
			if errors.As(err, &again) && again.Temporary() { // out of file descriptors, mostly
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				if (clock.System{}).Wait(ctx, now().Add(pause)) != nil {
					return
				}
				continue
			}
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				in.failed = fmt.Errorf("accepting connections: %w", err)
			}
			return
		}
		pause = 0
		counted, ok := s.conns.add(c, s.limits)
		if !ok {
			s.refused.Add(1)
			s.refusals.note(RefusedConnection, addressOf(c.RemoteAddr()))
			_ = c.Close() // there is nobody to tell
			continue
		}
		select {
		case s.handshakes <- struct{}{}:
		default: // too many are shaking hands
			s.refused.Add(1)
			s.refusals.note(RefusedConnection, counted.from)
			_ = counted.Close()
			continue
		}
		in.handshakes.Go(func() { s.welcome(ctx, in, counted) })
	}
}

// welcome shakes hands and hands the connection to the server.
func (s *Server) welcome(ctx context.Context, in *intake, c *conn) {
	ready, err := s.handshake(ctx, c)
	<-s.handshakes
	if err != nil {
		_ = c.Close() // it is of no use
		return
	}
	select {
	case in.ready <- s.watch(ready, c):
	case <-ctx.Done():
		_ = c.Close()
	}
}

var errPlain = errors.New("plain HTTP on a TLS listener")

func (s *Server) handshake(ctx context.Context, c *conn) (net.Conn, error) {
	if s.config.TLS == nil {
		return c, nil
	}
	if err := c.SetDeadline(now().Add(s.limits.Handshake)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(now()) }) // the listener has closed
	defer stop()
	first := make([]byte, 1)
	if _, err := io.ReadFull(c.Conn, first); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			s.refusals.note(RefusedHandshake, c.from)
		}
		return nil, err // who has said nothing was refused nothing
	}
	c.first = first
	if first[0] != recordHandshake {
		s.plain(c)
		return nil, errPlain
	}
	secured := tls.Server(c, s.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		if ctx.Err() == nil {
			s.refusals.note(RefusedHandshake, c.from)
		}
		return nil, err
	}
	return secured, c.SetDeadline(time.Time{})
}

// recordHandshake is the first byte of every TLS connection.
const recordHandshake = 0x16

// plain answers a client that speaks HTTP without TLS.
func (s *Server) plain(c *conn) {
	url := s.config.URL
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, int64(s.limits.HeaderBytes))))
	if err != nil {
		s.refusals.note(RefusedHandshake, c.from)
		return // not HTTP either
	}
	s.refusals.note(RefusedPlain, c.from)
	if url == "" && plausibleHost(r.Host) {
		url = "https://" + r.Host
	}
	say := "this port speaks HTTPS"
	if url != "" {
		say += ": use " + url
	}
	body := `{"errors":["` + say + `"]}` + "\n"
	_, _ = fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, 64<<10) // so that the answer is read before the connection is reset
	}
}

// plausibleHost reports whether host can be shown: it came from a client.
func plausibleHost(host string) bool {
	if host == "" || len(host) > 255 {
		return false
	}
	for i := range len(host) {
		c := host[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-:[]", rune(c)) {
			return false
		}
	}
	return true
}

// conn is a counted connection, whose first byte may have been read.
type conn struct {
	net.Conn
	first  []byte
	from   netip.Addr
	counts *counter
	once   sync.Once
	cut    atomic.Bool // for too many resets

	mu     sync.Mutex // guards resets and since
	resets int
	since  time.Time
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.counts.remove(c.from) })
	return c.Conn.Close()
}

// reset counts a request that the client gave up, and reports whether there
// were too many of them.
func (c *conn) reset(now time.Time, l Limits) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) > l.ResetWindow {
		c.since, c.resets = now, 0
	}
	c.resets++
	return c.resets > l.Resets
}

// counter counts connections.
type counter struct {
	mu   sync.Mutex // guards n and byIP
	n    int
	byIP map[netip.Addr]int
}

func (k *counter) add(c net.Conn, l Limits) (*conn, bool) {
	from := addressOf(c.RemoteAddr())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n >= l.Connections || from.IsValid() && k.byIP[from] >= l.PerIP {
		return nil, false
	}
	k.n++
	if from.IsValid() {
		k.byIP[from]++
	}
	return &conn{Conn: c, from: from, counts: k}, true
}

func (k *counter) remove(from netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n--
	if !from.IsValid() {
		return
	}
	if k.byIP[from]--; k.byIP[from] == 0 {
		delete(k.byIP, from)
	}
}

func (k *counter) total() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n
}

// addressOf returns what connections are counted by: an IPv4 address, or the
// first address of the /64 that an IPv6 address is in. Unix sockets have none.
func addressOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	ip := p.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if whole, err := ip.Prefix(64); err == nil {
			return whole.Addr()
		}
	}
	return ip
}
