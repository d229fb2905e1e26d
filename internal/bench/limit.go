package bench

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// The limit is the least that a server with a durable audit log can do: TLS 1.3
// and net/http, a line appended to a file for each request, and an answer of a
// fixed size once the line has been synced, one sync for all lines that wait.
// It shares no code with the journal that it is compared with.

// lineLog appends lines and syncs them in groups.
type lineLog struct {
	file *os.File
	line []byte

	mu      sync.Mutex
	wake    *sync.Cond
	pending []byte
	waiting []chan error
	closed  bool
	done    chan struct{}
}

func newLineLog(file *os.File, size int) *lineLog {
	l := &lineLog{file: file, line: make([]byte, size), done: make(chan struct{})}
	for i := range l.line {
		l.line[i] = 'a' + byte(i%26)
	}
	l.line[size-1] = '\n'
	l.wake = sync.NewCond(&l.mu)
	go l.run()
	return l
}

func (l *lineLog) append() error {
	done := make(chan error, 1)
	l.mu.Lock()
	l.pending = append(l.pending, l.line...)
	l.waiting = append(l.waiting, done)
	l.mu.Unlock()
	l.wake.Signal()
	return <-done
}

func (l *lineLog) run() {
	defer close(l.done)
	for {
		l.mu.Lock()
		for len(l.waiting) == 0 && !l.closed {
			l.wake.Wait()
		}
		if len(l.waiting) == 0 {
			l.mu.Unlock()
			return
		}
		lines, waiting := l.pending, l.waiting
		l.pending, l.waiting = nil, nil
		l.mu.Unlock()
		_, err := l.file.Write(lines)
		if err == nil {
			err = datasync(l.file)
		}
		for _, w := range waiting {
			w <- err
		}
	}
}

func (l *lineLog) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake.Signal()
	<-l.done
}

// serveLimit is the limit as a process of its own: it prints its address and
// its certificate, serves until its input ends, and then prints the CPU time
// that it took.
func serveLimit(ctx context.Context, dir string, lineSize, answerSize int, stdin io.Reader, stdout io.Writer, logger *slog.Logger) error {
	certificate, public, err := selfSigned()
	if err != nil {
		return fmt.Errorf("making a certificate: %w", err)
	}
	file, err := os.CreateTemp(dir, "limit-*.log")
	if err != nil {
		return fmt.Errorf("making the log: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	lines := newLineLog(file, lineSize)
	defer lines.close()
	body := make([]byte, answerSize)
	for i := range body {
		body[i] = 'x'
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if err := lines.append(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		_ = server.Close()
	}()
	if _, err := fmt.Fprintf(stdout, "%s\n%s\n", listener.Addr(), public); err != nil {
		return fmt.Errorf("saying where the limit is: %w", err)
	}
	if err := server.ServeTLS(listener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "limit"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// readLimit reads what serveLimit printed: an address and a certificate.
func readLimit(r *bufio.Reader) (addr string, certificate []byte, err error) {
	if addr, err = r.ReadString('\n'); err != nil {
		return "", nil, err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		certificate = append(certificate, line...)
		if line == "-----END CERTIFICATE-----\n" {
			return addr[:len(addr)-1], certificate, nil
		}
	}
}

// syncRate measures how many appends of size bytes a second this disk syncs one by one.
func syncRate(dir string, size int, length time.Duration) (float64, error) {
	file, err := os.CreateTemp(dir, "sync-*.log")
	if err != nil {
		return 0, fmt.Errorf("making a file to sync: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	line := make([]byte, size)
	begun := time.Now()
	n := 0
	for time.Since(begun) < length {
		if _, err := file.Write(line); err != nil {
			return 0, fmt.Errorf("appending: %w", err)
		}
		if err := datasync(file); err != nil {
			return 0, fmt.Errorf("syncing: %w", err)
		}
		n++
	}
	return float64(n) / time.Since(begun).Seconds(), nil
}
