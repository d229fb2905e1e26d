package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/listen"
	"rotunda.dev/rotunda/internal/localca"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/seal/passphrase"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
)

// serve runs a node by a configuration file, or only checks the file.
func serve(ctx context.Context, c cli.ServeConfig) error {
	config, warnings, err := conf.Load(c.File)
	if err != nil {
		return err
	}
	if c.Check {
		for _, w := range warnings {
			fmt.Fprintln(c.Out, "warning: "+w.String())
		}
		if err := check(ctx, config); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s is good.\n", c.File)
		return err
	}
	surviveFileLimit()
	to, err := logTo(config, c.Log)
	if err != nil {
		return err
	}
	defer to.close()
	log := newLogger(to, config.LogLevel, config.LogFormat)
	for _, w := range warnings {
		log.LogAttrs(ctx, slog.LevelWarn, "configuration", slog.String("at", w.Pos.String()), slog.String("warning", w.Text))
	}
	node, err := nodeOf(config, log)
	if err != nil {
		return err
	}
	node.Reopen = to.reopen
	remove, err := writePID(config.PIDFile)
	if err != nil {
		return err
	}
	defer remove()
	n, listeners, certificates, err := prepare(ctx, config, node)
	if err != nil {
		return err
	}
	for _, t := range certificates {
		go t.Watch(ctx, clock.System{}, 2*time.Second, log)
	}
	go n.reloadOnSignal(ctx, certificates...)
	defer daemon.SdNotify(false, daemon.SdNotifyStopping) //nolint:errcheck // nobody is listening where there is no systemd
	return n.Serve(ctx, listeners, func([]net.Addr) error {
		_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
		return err
	})
}

// prepare opens the node of a configuration, unsealed where that needs no
// people, and loads what its listeners need.
func prepare(ctx context.Context, config conf.Server, node Config) (*Node, []Listener, []*listen.TLS, error) {
	listeners, certificates, err := listenersOf(config, node.Keys)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := makeKeyFiles(config); err != nil {
		return nil, nil, nil, err
	}
	n, err := Open(node)
	if err != nil {
		return nil, nil, nil, err
	}
	err = n.gate.AutoUnseal(ctx)
	if errors.Is(err, gate.ErrPeople) {
		n.c.Log.LogAttrs(ctx, slog.LevelError, "the store stays sealed until its key shares are brought: rotunda operator unseal", slog.Any("cause", err))
		err = nil
	}
	if err != nil && !errors.Is(err, barrier.ErrUninitialized) {
		return nil, nil, nil, errors.Join(err, n.Close())
	}
	return n, listeners, certificates, nil
}

func nodeOf(config conf.Server, log *slog.Logger) (Config, error) {
	seals := sealsOf(config.Seals)
	keys, err := keysDir(config)
	if err != nil {
		return Config{}, err
	}
	sinks, err := sinksOf(config.Audits)
	if err != nil {
		return Config{}, err
	}
	backups, err := scheduleOf(config.Backup)
	if err != nil {
		return Config{}, err
	}
	name := config.ClusterName
	if name == "" {
		name = "rotunda"
	}
	l := config.Limits
	return Config{
		Data: config.Storage.Path, Keys: keys, Seals: seals, Info: infoOf(name, config.APIAddr, config.CompatVersion),
		TTL: mount.TTL{Default: config.DefaultLeaseTTL, Max: config.MaxLeaseTTL}, MaxSize: int64(config.Storage.MaxSize),
		Ceremonies: system.Ceremonies{GenerateRoot: config.EnableGenerateRoot, OpenRekey: config.EnableUnauthenticatedRekey},
		Clock:      clock.System{}, Log: log, Backups: backups,
		Audit: AuditConfig{
			Dir: config.Journal.Path, FileDir: config.AuditFileDir, Sinks: sinks, Others: othersOf(config), KeepAge: config.Journal.Retention, KeepBytes: int64(config.Journal.MaxSize),
			SegmentBytes: int64(config.Journal.SegmentSize), SegmentAge: config.Journal.SegmentAge,
		},
		Engines: engine.Limits{
			SecretBytes: int(l.SecretBytes), SecretVersions: l.SecretVersions, MetadataItems: l.MetadataItems, MetadataBytes: int(l.MetadataBytes),
			ListPage: l.ListPage, BatchItems: l.BatchItems,
		},
		Policies: policy.Config{MaxBytes: int(l.PolicyBytes)},
		Tokens:   token.Config{Policies: l.PoliciesPerToken, MetadataItems: l.MetadataItems, MetadataBytes: int(l.MetadataBytes)},
		Door: DoorConfig{
			Guard: door.GuardConfig{
				InFlight: l.InFlight, Target: l.InFlightTarget, LoginRate: l.LoginRate, LoginBurst: l.LoginBurst,
				AccountFailures: l.AccountFailures, AccountWindow: l.AccountWindow,
				TokenRate: l.TokenRate, GlobalRate: l.GlobalRate, RefusalRate: l.RefusalRate,
			},
			Limits: door.Limits{
				URLBytes: int(l.URLBytes), Segments: l.PathSegments, SegmentBytes: int(l.SegmentBytes),
				TokenBytes: int(l.TokenBytes), BatchTokenBytes: int(l.BatchTokenBytes),
				JSONDepth: l.JSONDepth, JSONTokens: l.JSONTokens, JSONKeyBytes: int(l.JSONKeyBytes), ListItems: l.BatchItems,
			},
			BodyLimit: int64(l.Body), OpenLimit: int64(l.BodyUnauthenticated), Timeout: l.RequestTimeout, LongTimeout: l.LongRequestTimeout,
		},
	}, nil
}

// keysDir returns the directory of the node's keys, which must not lie in the data.
func keysDir(config conf.Server) (string, error) {
	dir := config.KeysDir
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("finding a directory for this node's keys; name one with keys_dir: %w", err)
		}
		dir = filepath.Join(base, "rotunda", "keys", "server")
	}
	rel, err := filepath.Rel(config.Storage.Path, dir)
	if err == nil && filepath.IsLocal(rel) {
		return "", fmt.Errorf("keys_dir %s lies in the data; keep them apart, so that who reads one does not have the other", dir)
	}
	return dir, nil
}

func sealsOf(configured []conf.Seal) []gate.Auto {
	var autos []gate.Auto
	for _, s := range configured {
		switch s.Kind {
		case keyfile.Kind:
			autos = append(autos, gate.Auto{Kind: s.Kind, Sealer: keyfile.New(keyfile.Config{Path: s.Path})})
		case passphrase.Kind:
			from := s.Passphrase
			autos = append(autos, gate.Auto{Kind: s.Kind, Sealer: passphrase.New(passphrase.Config{
				Passphrase: func(context.Context) (secret.Text, error) { return from.Read() },
			})})
		case age.Kind:
			autos = append(autos, gate.Auto{Kind: s.Kind, Sealer: age.New(age.Config{Recipients: s.Recipients, IdentityFile: s.Identity.Path})})
		}
	}
	return autos
}

// makeKeyFiles makes the key files of a node that has no store yet. Those of a
// store that is there must be there too: made anew, they would not open it.
func makeKeyFiles(config conf.Server) error {
	if _, err := os.Stat(storeDir(config.Storage.Path)); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, s := range config.Seals {
		if s.Kind != keyfile.Kind {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(s.Path), 0o700); err != nil {
			return fmt.Errorf("making the key file's directory: %w", err)
		}
		if err := keyfile.Create(s.Path); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func tlsOf(l conf.Listener) listen.TLSConfig {
	c := listen.TLSConfig{
		CertFile: l.TLSCertFile, KeyFile: l.TLSKeyFile, ClientCAFile: l.TLSClientCAFile,
		RequireCert: l.TLSRequireAndVerifyClientCert, AllowTLS12: l.TLSMinVersion == "tls12",
	}
	if l.TLSDisableClientCerts {
		c.ClientCAFile = ""
	}
	return c
}

func listenersOf(config conf.Server, keys string) (all []Listener, certificates []*listen.TLS, err error) {
	l := config.Limits
	for _, x := range config.Listeners {
		longest := config.DefaultMaxRequestDuration
		if x.MaxRequestDuration > 0 {
			longest = x.MaxRequestDuration
		}
		out := Listener{Network: x.Kind, Address: x.Address, BodyLimit: int64(x.MaxRequestSize), MaxTime: longest, OpenMetrics: x.Telemetry.UnauthenticatedMetricsAccess || config.Telemetry.UnauthenticatedMetricsAccess, Socket: Socket{x.SocketMode, x.SocketUser, x.SocketGroup}, Limits: listen.Limits{
			Connections: l.Connections, PerIP: l.ConnectionsPerIP, Handshake: l.HandshakeTimeout, ReadHeader: l.HeaderTimeout,
			HeaderBytes: int(l.HeaderBytes), HeaderCount: l.HeaderCount, BodyRead: l.BodyTimeout, BodyGrace: l.BodyGrace, BodyRate: int(l.BodyRate),
			Write: l.WriteTimeout, Idle: l.IdleTimeout, LongestRequest: longest, Streams: l.HTTP2Streams, WindowBytes: int(l.HTTP2Window),
			Resets: l.HTTP2Resets, ResetWindow: l.HTTP2ResetWindow, PendingHandshake: l.PendingHandshakes,
		}}
		switch {
		case x.TLSDisable || x.Kind == "unix" && x.TLSCertFile == "":
			if err := listen.CheckPlain(x.Kind, x.Address); err != nil {
				return nil, nil, err
			}
		case x.TLSAuto:
			host, _, err := net.SplitHostPort(x.Address)
			if err != nil {
				return nil, nil, fmt.Errorf("listener address %q: %w", x.Address, err)
			}
			ca, err := localca.Ensure(filepath.Join(keys, caDir), hostsFor(host), clock.System{})
			if err != nil {
				return nil, nil, err
			}
			x.TLSCertFile, x.TLSKeyFile = ca.CertFile(), ca.KeyFile()
			fallthrough
		default:
			if out.TLS, err = listen.LoadTLS(tlsOf(x)); err != nil {
				return nil, nil, fmt.Errorf("loading the certificate of %s: %w", x.Address, err)
			}
			certificates = append(certificates, out.TLS)
		}
		all = append(all, out)
	}
	return all, certificates, nil
}

// logFile is where the log goes: a file that can be opened again after it was
// rotated, or a stream.
type logFile struct {
	path string // empty for a stream

	mu   sync.Mutex // guards w and file
	w    io.Writer
	file *os.File // what w is, once the file is open
}

func logTo(config conf.Server, usual io.Writer) (*logFile, error) {
	l := &logFile{path: config.LogFile, w: usual}
	return l, l.reopen()
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// reopen opens the file again. Where that fails, the one before stays in use.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close() // what was written to it is there
	}
	l.w, l.file = f, f
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close() // what was written to it is there
	}
}

// reload reads certificates again, and opens the log and the files of sinks
// again, which may have been rotated.
func (n *Node) reload(ctx context.Context, certificates ...*listen.TLS) {
	if n.c.Reopen != nil {
		if err := n.c.Reopen(); err != nil {
			n.c.Log.LogAttrs(ctx, slog.LevelError, "opening the log again; the one before stays in use", slog.Any("cause", err))
		}
	}
	for _, c := range certificates {
		if c == nil {
			continue
		}
		if err := c.Reload(); err != nil {
			n.c.Log.LogAttrs(ctx, slog.LevelError, "reloading a certificate; the one before stays in use", slog.Any("cause", err))
		}
	}
	if err := n.reopenSinks(); err != nil {
		n.c.Log.LogAttrs(ctx, slog.LevelError, "opening a sink again", slog.Any("cause", err))
	}
	n.c.Log.LogAttrs(ctx, slog.LevelInfo, "reloaded")
}

func writePID(file string) (remove func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil { //nolint:gosec // a process's number is no secret
		return nil, fmt.Errorf("writing the number of the process: %w", err)
	}
	return func() { _ = os.Remove(file) }, nil
}
