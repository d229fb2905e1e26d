package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/storage"
)

// BenchmarkScale loads many secrets, starts a node over them, and reads: run it
// by `make prove-scale`. Each number of secrets is loaded, and then served, by a
// process of its own, so that the memory that is measured is the node's.
func BenchmarkScale(b *testing.B) {
	dir, task := os.Getenv("ROTUNDA_SCALE_DIR"), os.Getenv("ROTUNDA_SCALE_TASK")
	switch task {
	case "load":
		loadSecrets(b, dir, scaleOf(b, "ROTUNDA_SCALE_SECRETS", 1000))
		return
	case "serve":
		serveSecrets(b, dir, scaleOf(b, "ROTUNDA_SCALE_SECRETS", 1000))
		return
	}
	for _, secrets := range []int{1000, scaleOf(b, "ROTUNDA_SCALE", 1_000_000)} {
		dir := b.TempDir()
		for _, task := range []string{"load", "serve"} {
			cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkScale$", "-test.benchtime=1x", "-test.timeout=0")
			cmd.Env = append(os.Environ(), "ROTUNDA_SCALE_DIR="+dir, "ROTUNDA_SCALE_TASK="+task, "ROTUNDA_SCALE_SECRETS="+strconv.Itoa(secrets))
			out, err := cmd.CombinedOutput()
			if err != nil {
				b.Fatalf("%s %d secrets: %v\n%s", task, secrets, err, out)
			}
			for line := range bytes.Lines(out) {
				if said, ok := bytes.CutPrefix(line, []byte("scale: ")); ok {
					b.Logf("%d secrets: %s", secrets, bytes.TrimSpace(said))
				}
			}
		}
	}
}

func scaleOf(b *testing.B, variable string, usual int) int {
	b.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q is not a number of secrets", variable, s)
	}
	return n
}

func secretName(i int) string { return fmt.Sprintf("team-%d/app-%d", i/1000, i%1000) }

// homed opens the node whose data are below dir.
func homed(b *testing.B, dir string) (*Node, home) {
	b.Helper()
	h, err := makeHome(filepath.Join(dir, "data"), filepath.Join(dir, "config"))
	if err != nil {
		b.Fatal(err)
	}
	n, err := Open(nodeOfHome(h, slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.Close(); err != nil {
			b.Errorf("Close = %v", err)
		}
	})
	return n, h
}

// loadSecrets writes secrets past the API, 25 in a transaction.
func loadSecrets(b *testing.B, dir string, secrets int) {
	b.Helper()
	n, h := homed(b, dir)
	if _, err := n.adopt(b.Context(), h); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	err := n.gate.With(b.Context(), func(ctx context.Context, br *broker.Broker) error {
		root, err := br.IssueRoot(ctx, n.c.Clock.Now())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "root"), []byte(root.Reveal()), 0o600); err != nil {
			return err
		}
		p := br.Parts()
		moment, err := p.Fence.Arrive(ctx)
		if err != nil {
			return err
		}
		m, _, err := p.Mounts.Find(ctx, moment, "secret/x")
		if err != nil {
			return err
		}
		id, err := barrier.ParseSpaceID(m.Entry.ID)
		if err != nil {
			return err
		}
		space, err := p.Barrier.Space(ctx, id)
		if err != nil {
			return err
		}
		keep := safe.New(space)
		next := make(chan int)
		errs := make(chan error, 64)
		var wg sync.WaitGroup
		for range cap(errs) {
			wg.Go(func() {
				for from := range next {
					if err := loadSome(ctx, space, keep, from, min(from+25, secrets)); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		for from := 0; from < secrets; from += 25 {
			select {
			case next <- from:
			case err := <-errs:
				close(next)
				return err
			}
		}
		close(next)
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
			return nil
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("scale: loaded in %.1f s\n", time.Since(began).Seconds())
}

func loadSome(ctx context.Context, space storage.Store, keep *safe.Safe, from, to int) error {
	first := secretName(from)
	dir := first[:strings.IndexByte(first, '/')+1]
	locks := storage.Locks{Own: []string{directory.Scope(dir)}}
	return space.Update(ctx, locks, func(tx storage.Tx) error {
		now := tx.Now()
		for i := from; i < to; i++ {
			x, err := keep.FindOrMake(tx, secretName(i), now)
			if err != nil {
				return err
			}
			value := fmt.Sprintf(`{"user":"app","password":"%0128d"}`, i)
			if _, err := keep.Add(tx, x, safe.Draft{Kind: safe.JSON, Value: []byte(value)}, now); err != nil {
				return err
			}
			if err := keep.Save(tx, x); err != nil {
				return err
			}
		}
		return nil
	})
}

// serveSecrets starts a node and reads from it by its handler.
func serveSecrets(b *testing.B, dir string, secrets int) {
	b.Helper()
	root, err := os.ReadFile(filepath.Join(dir, "root"))
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	n, _ := homed(b, dir)
	if err := n.gate.AutoUnseal(b.Context()); err != nil {
		b.Fatal(err)
	}
	h := n.handler(Listener{})
	read := func(i int) error {
		r := httptest.NewRequest(http.MethodGet, "/v1/secret/data/"+secretName(i), nil)
		r.Header.Set("X-Vault-Token", string(root))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return errors.New(w.Body.String())
		}
		return nil
	}
	if err := read(secrets / 2); err != nil {
		b.Fatal(err)
	}
	fmt.Printf("scale: first answer after %.0f ms, RssAnon %s, store of %d MB\n", float64(time.Since(began).Microseconds())/1000, rssAnon(b), sizeMB(n))
	ctx, cancel := context.WithCancel(b.Context())
	go tendHeap(ctx, n.c.Clock)
	const readers, each = 64, 2000
	var cpu time.Duration
	for range 2 { // the first time to warm up
		before := processCPU(b)
		var wg sync.WaitGroup
		for w := range readers {
			wg.Go(func() {
				for i := range each {
					if err := read((w*7_368_787 + i*104_729) % secrets); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		cpu = processCPU(b) - before
	}
	cancel()
	fmt.Printf("scale: %.1f µs of CPU per read, RssAnon %s\n", float64(cpu.Microseconds())/(readers*each), rssAnon(b))
}

func sizeMB(n *Node) int64 {
	info, err := os.Stat(filepath.Join(storeDir(n.c.Data), "store.db"))
	if err != nil {
		return 0
	}
	return info.Size() >> 20
}

// rssAnon returns what of the process is in memory and in no file; "unknown" elsewhere than on Linux.
func rssAnon(b *testing.B) string {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if said, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return strings.TrimSpace(said)
		}
	}
	return "unknown"
}

// processCPU returns the CPU time of this process; 0 elsewhere than on Linux.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
