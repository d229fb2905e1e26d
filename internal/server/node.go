// Package server turns a configuration into a running node, and back into
// nothing: straight-line wiring, listeners, shutdown.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/builtin"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/metrics"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/pin"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
)

// Config is what a node is made of.
type Config struct {
	Data  string // directory of the store and the audit journal
	Keys  string // directory of this node's own keys, apart from the data
	Audit AuditConfig

	Seals []gate.Auto // that open without people; none where people bring shares

	Info system.Info
	TTL  mount.TTL
	Door DoorConfig

	Engines  engine.Limits
	Policies policy.Config
	Tokens   token.Config // its bounds; the rest is of this Config

	Backups backup.Schedule // that are written without being asked; zero for none

	Ceremonies system.Ceremonies // what people may do with their shares

	MaxSize int64 // bytes to which the store may grow; 0 is no bound

	Clock clock.Clock
	Log   *slog.Logger

	// For tests that let disks fail; nil changes nothing.
	testJournal func(*audit.Config)
	testCommit  func(commit func() error) error

	testPatience time.Duration // of the store with its disk; 0 for the usual

	// Reopen opens the log again, after it was rotated; nil where it is no file.
	Reopen func() error

	more []engine.Kind // that can be mounted beside those that a server is built with
}

// AuditConfig is the part of a Config that concerns the audit log.
type AuditConfig struct {
	Dir       string // of the journal; "audit" below the data where it is empty
	FileDir   string // below which sinks may be enabled over the API; empty allows none
	KeepAge   time.Duration
	KeepBytes int64
	Sinks     []audit.SinkConfig // of the configuration
	Headers   []string           // request headers that are recorded
	Others    []string           // files of the node's, besides its directories, that no sink may write to

	SegmentBytes int64
	SegmentAge   time.Duration

	Patience time.Duration // how long a request waits for the journal; 2 s by default, which no setting changes
}

// DoorConfig bounds what is let in.
type DoorConfig struct {
	Guard                door.GuardConfig
	Limits               door.Limits
	BodyLimit, OpenLimit int64
	Timeout, LongTimeout time.Duration
}

// Listener is an address that a node answers at.
type Listener struct {
	Network, Address string      // "tcp", "127.0.0.1:8200"
	TLS              *listen.TLS // nil for plain HTTP on loopback and unix sockets
	Limits           listen.Limits
	BodyLimit        int64         // of requests here; 0 for the node's
	MaxTime          time.Duration // of requests here; 0 for the node's
	OpenMetrics      bool          // sys/metrics needs no token here
	Socket           Socket
}

// Node is a server. Make it with [Open].
type Node struct {
	c       Config
	store   storage.Store
	journal *audit.Journal
	gate    *gate.Gate
	metrics *metrics.Metrics
	guard   *door.Guard
	front   *front

	connections atomic.Pointer[[]*listen.Server] // the listeners that serve, for metrics
	refusals    listen.Refusals
	sinks       live
	backups     backup.Book
}

// Open opens the store and the journal of a node, which is sealed. The caller
// closes it.
func Open(c Config) (_ *Node, err error) {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Audit.Dir == "" {
		c.Audit.Dir = filepath.Join(c.Data, "audit")
	}
	if err := memory.Harden(); err != nil {
		c.Log.LogAttrs(context.Background(), slog.LevelWarn, "memory may be dumped", slog.Any("cause", err))
	}
	for _, dir := range []string{c.Data, c.Keys} {
		if err := privateDir(dir); err != nil {
			return nil, err
		}
	}
	if err := roomToBegin(c); err != nil {
		return nil, err
	}
	n := &Node{c: c, metrics: metrics.New(c.Info.Version)}
	n.c.Info.Troubles = n.troubles
	if n.store, err = openStore(c); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	n.journal, err = audit.Open(c.Audit.Dir, c.journalConfig())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit journal: %w", err), n.store.Close())
	}
	n.gate = gate.New(gate.Config{
		Store: n.store, Journal: n.journal, Auto: c.Seals, Quorum: quorum{}, Recipients: recipients,
		Build: n.build, Ready: n.ready, Pins: c.pins(), Clock: c.Clock, Log: c.Log,
	})
	n.front = newFront(n)
	n.guard = door.NewGuard(c.Door.Guard)
	n.observe()
	return n, nil
}

// pins is what the node remembers of its store, beside its own keys.
func (c Config) pins() *pin.Book {
	return &pin.Book{
		Dir: c.Keys, Clock: c.Clock, Log: c.Log,
		Write: func(path string, text []byte) error { return durable.WriteFile(path, text, 0o600) },
	}
}

func (c Config) journalConfig() audit.Config {
	config := audit.Config{
		Node: c.Info.ClusterName, KeysDir: c.Keys, Clock: c.Clock, Log: c.Log,
		SegmentBytes: c.Audit.SegmentBytes, SegmentAge: c.Audit.SegmentAge, KeepAge: c.Audit.KeepAge, KeepBytes: c.Audit.KeepBytes,
		Patience: c.Audit.Patience,
	}
	if c.testJournal != nil {
		c.testJournal(&config)
	}
	return config
}

// handler returns what answers at l: the Vault dialect, which all listeners share but for their bounds.
func (n *Node) handler(l Listener) http.Handler {
	d := n.c.Door
	if l.BodyLimit > 0 {
		d.BodyLimit = l.BodyLimit
		if d.OpenLimit > 0 {
			d.OpenLimit = min(d.OpenLimit, l.BodyLimit)
		}
	}
	if l.MaxTime > 0 {
		d.Timeout, d.LongTimeout = min(d.Timeout, l.MaxTime), min(d.LongTimeout, l.MaxTime)
	}
	h := vault.Dialect.New(door.Env{
		Handler: n.front, Clock: n.c.Clock, Log: n.c.Log, Guard: n.guard, Limits: d.Limits,
		BodyLimit: d.BodyLimit, OpenLimit: d.OpenLimit, Timeout: d.Timeout, LongTimeout: d.LongTimeout, AuditHeaders: n.c.Audit.Headers,
		Observe: n.metrics.Answered,
	})
	if l.OpenMetrics {
		return n.openMetrics(h)
	}
	return h
}

func openStore(c Config) (storage.Store, error) {
	return builtin.Stores["bolt"](builtin.StoreConfig{Dir: storeDir(c.Data), Clock: c.Clock, Log: c.Log, MaxSize: c.MaxSize, Commit: c.testCommit, Patience: c.testPatience})
}

func storeDir(data string) string { return filepath.Join(data, "store") }

// privateDir makes dir for its owner alone, and refuses one that others can
// read or that is not a directory.
func privateDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
		return os.Chmod(dir, 0o700) //nolint:gosec // a directory for its owner alone
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil { // a crash may have left its name unsynced
		return fmt.Errorf("making %s: %w", dir, err)
	}
	return checkPrivate(dir, info)
}

// Serve answers on the listeners, which it closes, until ctx ends; then it lets
// requests end, seals, and closes the node. Ready is called once every listener
// answers.
func (n *Node) Serve(ctx context.Context, listeners []Listener, ready func(addresses []net.Addr) error) (err error) {
	heap, untend := context.WithCancel(context.WithoutCancel(ctx))
	defer untend()
	go tendHeap(heap, n.c.Clock)
	var (
		servers []*listen.Server
		addrs   []net.Addr
		failed  = make(chan error, len(listeners))
	)
	for _, l := range listeners {
		socket, err := bind(ctx, l)
		if err != nil {
			for _, s := range servers {
				err = errors.Join(err, s.Shutdown(context.WithoutCancel(ctx)))
			}
			return errors.Join(fmt.Errorf("listening at %s: %w", l.Address, err), n.Close())
		}
		s := listen.New(listen.Config{Handler: n.handler(l), TLS: l.TLS, Limits: l.Limits, Log: n.c.Log, URL: urlOf(l, socket.Addr()), Refusals: &n.refusals})
		servers, addrs = append(servers, s), append(addrs, socket.Addr())
		n.connections.Store(&servers)
		go func() { failed <- s.Serve(socket) }()
		n.c.Log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("address", socket.Addr().String()), slog.Bool("tls", l.TLS != nil))
	}
	keeping, book := make(chan struct{}), n.newRefusals()
	recording, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		defer close(keeping)
		book.keep(recording)
	}()
	if err = ready(addrs); err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
			err = fmt.Errorf("serving: %w", err)
		}
	}
	n.c.Log.LogAttrs(ctx, slog.LevelInfo, "shutting down")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(grace))
	}
	stop()
	<-keeping
	book.record(grace)
	return errors.Join(err, n.Close())
}

func urlOf(l Listener, a net.Addr) string {
	if l.Network == "unix" {
		return "unix://" + a.String()
	}
	scheme := "https"
	if l.TLS == nil {
		scheme = "http"
	}
	return scheme + "://" + a.String()
}

// Close seals the node and lets go of its files.
func (n *Node) Close() error {
	return errors.Join(n.gate.Shut(), n.journal.Close(), n.store.Close())
}
