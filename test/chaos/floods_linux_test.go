package chaos

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowConnections is how many are opened at each kind of slowness.
const slowConnections = 60

// usage is what a process holds at one time.
type usage struct{ rss, threads, files, goroutines int }

var (
	rssLine       = regexp.MustCompile(`(?m)^VmRSS:\s+([0-9]+) kB`)
	threadsLine   = regexp.MustCompile(`(?m)^Threads:\s+([0-9]+)`)
	goroutineLine = regexp.MustCompile(`(?m)^go_goroutines ([0-9]+)`)
)

// usage reads what the node's process holds, of goroutines by its own metrics.
func (n *node) usage() (u usage, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return u, err
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(n.t.Context()), http.MethodGet, n.url+"/v1/sys/metrics?format=prometheus", http.NoBody)
	if err != nil {
		return u, err
	}
	req.Header.Set("X-Vault-Token", n.root)
	resp, err := n.client.Do(req)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	u.files = len(fds)
	for _, f := range []struct {
		to   *int
		line *regexp.Regexp
		in   []byte
	}{{&u.rss, rssLine, status}, {&u.threads, threadsLine, status}, {&u.goroutines, goroutineLine, metrics}} {
		m := f.line.FindSubmatch(f.in)
		if m == nil {
			return u, fmt.Errorf("no %v in %.200s", f.line, f.in)
		}
		if *f.to, err = strconv.Atoi(string(m[1])); err != nil {
			return u, err
		}
	}
	return u, nil
}

// within reports whether u is at most more above before.
func (u usage) within(before, more usage) bool {
	return u.rss <= before.rss+more.rss && u.threads <= before.threads+more.threads &&
		u.files <= before.files+more.files && u.goroutines <= before.goroutines+more.goroutines
}

// from returns how to dial the node from an address of loopback: each flood
// has its own, as clients of one address are bounded together.
func (n *node) from(ip byte) func() (net.Conn, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, ip)}, Timeout: 10 * time.Second}
	return func() (net.Conn, error) {
		return d.DialContext(n.t.Context(), "tcp", strings.TrimPrefix(n.url, "https://"))
	}
}

// encrypted is from with TLS and a protocol.
func (n *node) encrypted(ip byte, protocol string) func() (net.Conn, error) {
	dial := n.from(ip)
	return func() (net.Conn, error) {
		c, err := dial()
		if err != nil {
			return nil, err
		}
		s := tls.Client(c, &tls.Config{RootCAs: n.pool, ServerName: "127.0.0.1", NextProtos: []string{protocol}, MinVersion: tls.VersionTLS13})
		return s, s.HandshakeContext(n.t.Context())
	}
}

// hold opens many connections, says first on each and then drip now and
// again, until the node has cut all of them.
func hold(many int, dial func() (net.Conn, error), first, drip string) error {
	var wg sync.WaitGroup
	errs := make([]error, many)
	for i := range many {
		wg.Go(func() {
			c, err := dial()
			if err != nil {
				return // refused, as is right
			}
			defer c.Close()
			errs[i] = trickle(c, first, drip)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// trickle says first and then drip, until the other end has cut c.
func trickle(c net.Conn, first, drip string) error {
	if err := c.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	cut := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		cut <- err
	}()
	_, _ = io.WriteString(c, first) // a failure is seen by the reader
	every := time.NewTicker(500 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case err := <-cut:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.New("a slow client is not cut off")
			}
			return nil
		case <-every.C:
			_, _ = io.WriteString(c, drip)
		}
	}
}

// http2Frame returns a frame of HTTP/2.
func http2Frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return string(binary.BigEndian.AppendUint32(append(head, flags), stream)) + payload
}

// literal returns a field of a header of HTTP/2, as HPACK writes it without a table.
func literal(name, value string) string {
	return string([]byte{0, byte(len(name))}) + name + string([]byte{byte(len(value))}) + value
}

// resets opens streams and gives them up at once, until it is cut off. They
// ask for what is recorded, so that no answer is there before they are given up.
// Who is told to go is heard for a second more, and then cut off.
func resets(dial func() (net.Conn, error), token string) error {
	request := "\x82\x87" + literal(":path", "/v1/secret/data/flood") + literal(":authority", "x") + literal("x-vault-token", token)
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}()
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+http2Frame(4, 0, 0, "")); err != nil {
		return err
	}
	for i := range uint32(50_000) {
		both := http2Frame(1, 5, 2*i+1, request) + http2Frame(3, 0, 2*i+1, "\x00\x00\x00\x08")
		if _, err := io.WriteString(c, both); err != nil {
			return nil // cut off, as is right
		}
	}
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("50 000 streams were given up and nothing came of it")
	}
	return nil
}

// TestFloods holds that a node under floods of every kind serves who is not
// part of them, stays within bounds, and is afterwards as it was before.
func TestFloods(t *testing.T) {
	n := newNode(t)
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	n.must(http.MethodPost, "secret/data/flood", map[string]any{"data": map[string]any{"a": "b"}})
	before, err := n.usage()
	if err != nil {
		t.Fatal(err)
	}

	head := " /v1/secret/data/flood HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + n.root + "\r\n"
	large := "POST" + head + "Content-Length: 67108864\r\n\r\n" + strings.Repeat("x", 2<<20)
	floods := map[string]func() error{
		"connections":  func() error { return hold(600, n.from(2), "\x16\x03\x01\x02\x00\x01", "") },
		"slow headers": func() error { return hold(slowConnections, n.encrypted(3, "http/1.1"), "GET"+head, "X-A: b\r\n") },
		"slow bodies": func() error {
			return hold(slowConnections, n.encrypted(4, "http/1.1"), "POST"+head+"Content-Length: 100000\r\n\r\n", "x")
		},
		"large bodies": func() error { return hold(slowConnections, n.encrypted(5, "http/1.1"), large, "x") },
		"resets": func() error {
			var all [4]error
			var wg sync.WaitGroup
			for i := range all {
				wg.Go(func() { all[i] = resets(n.encrypted(6, "h2"), n.root) })
			}
			wg.Wait()
			return errors.Join(all[:]...)
		},
	}
	over := make(chan struct{})
	var wg sync.WaitGroup
	for what, flood := range floods {
		wg.Go(func() {
			if err := flood(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	go func() {
		wg.Wait()
		close(over)
	}()

	served, peak := 0, before
	for flooding := true; flooding; served++ {
		n.must(http.MethodPost, "secret/data/honest", map[string]any{"data": map[string]any{"n": served}})
		if got := n.must(http.MethodGet, "secret/data/honest", nil).number("data.data.n"); got != served {
			t.Errorf("under floods %d was read; want %d", got, served)
		}
		u, err := n.usage()
		if err != nil {
			t.Fatal(err)
		}
		peak = usage{max(peak.rss, u.rss), max(peak.threads, u.threads), max(peak.files, u.files), max(peak.goroutines, u.goroutines)}
		select {
		case <-over:
			flooding = false
		default:
		}
	}
	t.Logf("%d rounds were served; before %+v, at most %+v", served, before, peak)
	if bound := (usage{rss: 256 << 10, threads: 100, files: 1000, goroutines: 4000}); !peak.within(before, bound) {
		t.Errorf("under floods the node held %+v; want at most %+v above %+v", peak, bound, before)
	}
	if peak.files < before.files+200 {
		t.Errorf("under floods the node had at most %d files open; want the connections among them", peak.files)
	}

	calm := usage{rss: 192 << 10, threads: 100, files: 10, goroutines: 30}
	after, every := usage{}, time.NewTicker(50*time.Millisecond)
	defer every.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-every.C {
		if after, err = n.usage(); err != nil {
			t.Fatal(err)
		}
		if after.within(before, calm) {
			return
		}
	}
	t.Errorf("after the floods the node holds %+v; want at most %+v above %+v", after, calm, before)
}
