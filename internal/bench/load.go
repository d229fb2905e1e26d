package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// target is a server under load.
type target struct {
	addr  string // host:port
	tls   *tls.Config
	host  string
	token string
}

// maker returns the n-th request of a worker, ready to be written, into buf.
// Last is the body of the answer before.
type maker func(buf []byte, worker, n int, last []byte) []byte

// result is what a load measured.
type result struct {
	requests int
	failures int
	status   int // of the first failure
	took     time.Duration
	latency  []time.Duration // sorted; a sample
}

func (r result) rate() float64 { return float64(r.requests) / r.took.Seconds() }

func (r result) quantile(q float64) time.Duration {
	if len(r.latency) == 0 {
		return 0
	}
	return r.latency[min(int(q*float64(len(r.latency))), len(r.latency)-1)]
}

// load sends requests over the connections given for the time given. Each
// connection is one TLS session that waits for each answer before it sends the
// next request; requests are written and answers read with as little work as
// HTTP/1.1 allows, so that the load costs less than what it measures.
func load(ctx context.Context, t target, connections int, length time.Duration, next maker) (result, error) {
	conns := make([]net.Conn, connections)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	dialer := tls.Dialer{Config: t.tls}
	for i := range conns {
		c, err := dialer.DialContext(ctx, "tcp", t.addr)
		if err != nil {
			return result{}, fmt.Errorf("connecting to %s: %w", t.addr, err)
		}
		conns[i] = c
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		total   result
		failure error
		stop    atomic.Bool
	)
	begun := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for w, c := range conns {
		wg.Go(func() {
			r, err := worker(ctx, c, &stop, w, next)
			mu.Lock()
			defer mu.Unlock()
			total.requests += r.requests
			total.failures += r.failures
			total.latency = append(total.latency, r.latency...)
			if r.status != 0 {
				total.status = r.status
			}
			failure = errors.Join(failure, err)
		})
	}
	wg.Wait()
	total.took = time.Since(begun)
	slices.Sort(total.latency)
	return total, failure
}

func worker(ctx context.Context, c net.Conn, stop *atomic.Bool, w int, next maker) (result, error) {
	var r result
	in := bufio.NewReaderSize(c, 16<<10)
	var buf, body []byte
	for n := 0; !stop.Load() && ctx.Err() == nil; n++ {
		buf = next(buf[:0], w, n, body)
		sent := time.Now()
		if _, err := c.Write(buf); err != nil {
			return r, fmt.Errorf("sending a request: %w", err)
		}
		var status int
		var err error
		status, body, err = answer(in, body)
		if err != nil {
			return r, fmt.Errorf("reading an answer: %w", err)
		}
		r.requests++
		if n%8 == 0 {
			r.latency = append(r.latency, time.Since(sent))
		}
		if status >= 300 {
			r.failures++
			r.status = status
		}
	}
	return r, nil
}

var contentLength = []byte("content-length:")

// answer reads one HTTP/1.1 answer with a Content-Length into body, and returns
// its status and the body.
func answer(in *bufio.Reader, body []byte) (int, []byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, errors.New("short status line")
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the status: %w", err)
	}
	length := -1
	for {
		line, err = in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, nil, fmt.Errorf("reading the length: %w", err)
			}
		}
	}
	if length < 0 {
		if status == 204 || status == 304 {
			return status, nil, nil
		}
		return 0, nil, errors.New("the answer has no Content-Length")
	}
	body = slices.Grow(body[:0], length)[:length]
	if _, err := io.ReadFull(in, body); err != nil {
		return 0, nil, err
	}
	return status, body, nil
}

// request appends an HTTP/1.1 request to buf.
func (t target) request(buf []byte, method, path string, body []byte) []byte {
	buf = append(buf, method...)
	buf = append(buf, ' ')
	buf = append(buf, path...)
	buf = append(buf, " HTTP/1.1\r\nHost: "...)
	buf = append(buf, t.host...)
	if t.token != "" {
		buf = append(buf, "\r\nX-Vault-Token: "...)
		buf = append(buf, t.token...)
	}
	buf = append(buf, "\r\nX-Vault-Request: true\r\n"...)
	if body != nil {
		buf = append(buf, "Content-Type: application/json\r\nContent-Length: "...)
		buf = strconv.AppendInt(buf, int64(len(body)), 10)
		buf = append(buf, "\r\n"...)
	}
	buf = append(buf, "\r\n"...)
	return append(buf, body...)
}
