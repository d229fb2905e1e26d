package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"testing"
	"time"
)

// The limit serves what the load asks, and a line is in its file for every answer.
func TestTheLimitUnderLoad(t *testing.T) {
	stdinR, stdinW := io.Pipe()
	stdoutR, stdoutW := io.Pipe()
	ended := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		ended <- serveLimit(t.Context(), dir, 100, 50, stdinR, stdoutW, slog.New(slog.DiscardHandler))
	}()
	addr, certificate, err := readLimit(bufio.NewReader(stdoutR))
	if err != nil {
		t.Fatalf("readLimit: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	tgt := target{addr: addr, host: addr, tls: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}}}
	got, err := load(t.Context(), tgt, 4, 100*time.Millisecond, func(buf []byte, _, n int, _ []byte) []byte {
		if n%2 == 0 {
			return tgt.request(buf, "POST", "/x", []byte("body"))
		}
		return tgt.request(buf, "GET", "/x", nil)
	})
	if err != nil || got.failures > 0 || got.requests < 4 || len(got.latency) == 0 {
		t.Errorf("load = %d requests, %d failures, %d latencies, %v; want some, none, some", got.requests, got.failures, len(got.latency), err)
	}
	if err := stdinW.Close(); err != nil {
		t.Errorf("closing the limit's input: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serveLimit: %v", err)
	}
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		in     string
		status int
		ok     bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, true},
		{"HTTP/1.1 204 No Content\r\n\r\n", 204, true},
		{"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi", 0, false},
		{"HTTP/1.1 200 OK\r\n\r\n", 0, false},
		{"nonsense\r\n", 0, false},
		{"", 0, false},
	} {
		got, _, err := answer(bufio.NewReader(bytes.NewBufferString(c.in)), nil)
		if got != c.status || (err == nil) != c.ok {
			t.Errorf("answer(%q) = %d, %v; want %d, ok %t", c.in, got, err, c.status, c.ok)
		}
	}
}

func TestBatchRate(t *testing.T) {
	rate, err := batchRate(t.TempDir(), 4, 100, 50*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Errorf("batchRate = %v, %v; want some writes", rate, err)
	}
}
