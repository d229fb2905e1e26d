package listen_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/listen"
)

// send sends text and reads until the server has ended the connection.
func send(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	go func() { _, _ = io.WriteString(c, text) }() // the server may end it first
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, _ := io.ReadAll(c) // reset is as good as an end
	return string(b)
}

func http1(s *secured, t *testing.T) net.Conn {
	t.Helper()
	config := s.client()
	config.NextProtos = []string{"http/1.1"}
	c, err := s.dial(t, config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bare(s *secured, t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEachRefusalIsCounted(t *testing.T) {
	t.Parallel()
	const good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range []struct {
		kind   listen.Refusal
		limits listen.Limits
		do     func(t *testing.T, s *secured)
	}{
		{listen.RefusedPlain, listen.Limits{}, func(t *testing.T, s *secured) { send(t, bare(s, t), good) }},
		{listen.RefusedHandshake, listen.Limits{}, func(t *testing.T, s *secured) { send(t, bare(s, t), "\x16\x03\x01\x00\x02no") }},
		{listen.RefusedHandshake, listen.Limits{}, func(t *testing.T, s *secured) { send(t, bare(s, t), "SSH-2.0\r\n\r\n") }},
		{listen.RefusedHandshake, listen.Limits{Handshake: 20 * time.Millisecond}, func(t *testing.T, s *secured) { send(t, bare(s, t), "") }},
		{listen.RefusedConnection, listen.Limits{PerIP: 1}, func(t *testing.T, s *secured) {
			http1(s, t)
			send(t, bare(s, t), "")
		}},
		{listen.RefusedMalformed, listen.Limits{}, func(t *testing.T, s *secured) {
			if said := send(t, http1(s, t), good+"nonsense\r\n\r\n"); !strings.Contains(said, "200 OK") || !strings.Contains(said, " 400 ") {
				t.Errorf("a request and nonsense are answered %q; want 200 and 400", said)
			}
		}},
		{listen.RefusedLarge, listen.Limits{}, func(t *testing.T, s *secured) {
			send(t, http1(s, t), "GET / HTTP/1.1\r\nHost: a\r\nA: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
		}},
		{listen.RefusedLine, listen.Limits{}, func(t *testing.T, s *secured) {
			send(t, http1(s, t), "GET /"+strings.Repeat("a", 64<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n")
		}},
		{listen.RefusedMany, listen.Limits{}, func(t *testing.T, s *secured) {
			send(t, http1(s, t), "GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("A: b\r\n", 101)+"\r\n")
		}},
		{listen.RefusedSlow, listen.Limits{ReadHeader: 200 * time.Millisecond}, func(t *testing.T, s *secured) {
			send(t, http1(s, t), "GET / HTTP/1.1\r\nHost")
		}},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(config *listen.Config, _ *listen.TLSConfig) {
				config.Limits, config.Refusals = c.limits, new(listen.Refusals)
				s := config.Refusals
				t.Cleanup(func() { counted(t, s, c.kind) })
			})
			c.do(t, s)
		})
	}
}

// counted waits until there is one refusal, which is of kind and of loopback.
func counted(t *testing.T, r *listen.Refusals, kind listen.Refusal) {
	t.Helper()
	until := time.Now().Add(20 * time.Second)
	for r.Totals()[kind] == 0 && time.Now().Before(until) {
		<-time.After(time.Millisecond)
	}
	if got := fmt.Sprint(r.Take()); got != fmt.Sprintf("[{%s 127.0.0.0/24 1 false}]", kind) {
		t.Errorf("Take() = %s; want one %s from 127.0.0.0/24", got, kind)
	}
}

func TestGoodRequestsAreNoRefusals(t *testing.T) {
	t.Parallel()
	refusals := new(listen.Refusals)
	s := serve(t, func(c *listen.Config, _ *listen.TLSConfig) {
		c.Refusals, c.Limits.Idle = refusals, 200*time.Millisecond
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil {
				t.Error("a request over TLS has no state of TLS")
			}
			http.Error(w, "no", http.StatusForbidden)
		})
	})
	c := http1(s, t)
	from := bufio.NewReader(c)
	for range 3 {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if status, _ := answer(t, from); status != http.StatusForbidden {
			t.Fatalf("status %d; want 403", status)
		}
	}
	send(t, c, "")                             // until it was idle for too long
	if err := bare(s, t).Close(); err != nil { // who only looks whether the port is open
		t.Fatal(err)
	}
	if got := refusals.Take(); len(got) != 0 {
		t.Errorf("Take() = %v; want nothing", got)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	const clients = 200
	r := new(listen.Refusals)
	for i := range clients {
		r.Return([]listen.Refused{{Kind: listen.RefusedPlain, From: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i), 0}), 24), Count: 1}})
	}
	taken := r.Take()
	if len(taken) != 65 || taken[0].Count+taken[1].Count == 0 {
		t.Errorf("%d clients make %d entries; want 65", clients, len(taken))
	}
	r.Return(taken)
	sum := uint64(0)
	for _, x := range r.Take() {
		sum += x.Count
	}
	if sum != clients {
		t.Errorf("what was given back counts %d; want %d", sum, clients)
	}
}
