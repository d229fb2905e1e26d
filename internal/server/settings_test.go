package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/localca"
)

// TestEverySettingIsSeen holds that no setting is added that no test sees: every
// field but for those of limits stands here beside the test that sees what
// comes of it.
func TestEverySettingIsSeen(t *testing.T) {
	t.Parallel()
	settings := map[string]map[string]any{
		"Server": {
			"Listeners": TestSettings, "Storage": TestSettings, "Seals": TestSeals, "Audits": TestSettings, "Journal": TestSettings, "Backup": TestScheduledBackups,
			"Telemetry": TestSettings, "Limits": TestEveryLimitHasAnEffect, "AuditFileDir": TestSettings, "KeysDir": TestSettings, "APIAddr": TestSettings,
			"ClusterAddr": "warned of by package conf", "ClusterName": TestSettings, "UI": "warned of by package conf",
			"LogLevel": TestSettings, "LogFormat": TestSettings, "LogFile": TestSettings, "PIDFile": TestSettings,
			"DefaultLeaseTTL": TestSettings, "MaxLeaseTTL": TestSettings, "DefaultMaxRequestDuration": TestListenersHaveBoundsOfTheirOwn,
			"EnableGenerateRoot": TestCeremoniesAreEnabled, "EnableUnauthenticatedRekey": TestCeremoniesAreEnabled,
			"CompatVersion": TestSettings, "File": "not a setting", "places": "not a setting",
		},
		"Listener": {
			"Kind": TestSettings, "Address": TestSettings, "TLSDisable": TestSettings, "TLSAuto": TestEveryLimitHasAnEffect,
			"TLSCertFile": TestTLSSettings, "TLSKeyFile": TestTLSSettings, "TLSMinVersion": TestTLSSettings, "TLSClientCAFile": TestTLSSettings,
			"TLSRequireAndVerifyClientCert": TestTLSSettings, "TLSDisableClientCerts": TestTLSSettings,
			"SocketMode": TestSettings, "SocketUser": TestSettings, "SocketGroup": TestSettings,
			"MaxRequestSize": TestListenersHaveBoundsOfTheirOwn, "MaxRequestDuration": TestListenersHaveBoundsOfTheirOwn, "Telemetry": TestListenersHaveBoundsOfTheirOwn,
		},
		"ListenerTelemetry": {"UnauthenticatedMetricsAccess": TestListenersHaveBoundsOfTheirOwn},
		"Telemetry":         {"UnauthenticatedMetricsAccess": TestSettings},
		"Storage":           {"Kind": TestSettings, "Path": TestSettings, "MaxSize": TestStoreHasABound},
		"Audit": {
			"Kind": TestSettings, "Name": TestSettings, "Description": TestSettings, "FilePath": TestSettings, "Mode": TestSettings,
			"Format": "there is one", "HMACAccessor": TestSettings,
		},
		"Seal":    {"Kind": TestSeals, "Path": TestSeals, "Passphrase": TestSeals, "Identity": TestSeals, "Recipients": TestSeals},
		"Backup":  {"Dir": TestScheduledBackups, "Interval": TestScheduledBackups, "Schedule": TestScheduledBackups, "Keep": TestScheduledBackups, "KeepFor": TestScheduledBackups},
		"Journal": {"Path": TestSettings, "Retention": TestSettings, "MaxSize": TestSettings, "SegmentSize": TestSettings, "SegmentAge": TestSettings},
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[conf.Server](), reflect.TypeFor[conf.Listener](), reflect.TypeFor[conf.ListenerTelemetry](), reflect.TypeFor[conf.Telemetry](),
		reflect.TypeFor[conf.Storage](), reflect.TypeFor[conf.Seal](), reflect.TypeFor[conf.Audit](), reflect.TypeFor[conf.Journal](), reflect.TypeFor[conf.Backup](),
	} {
		for f := range typ.Fields() {
			if settings[typ.Name()][f.Name] == nil {
				t.Errorf("conf.%s.%s is in no test here: add it to one, or take the setting out", typ.Name(), f.Name)
			}
		}
	}
}

// TestSettings runs a server by a file, as the command does.
func TestSettings(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "rotunda") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	text := fmt.Sprintf(`
listener "unix" {
  address      = %q
  tls_disable  = true
  socket_mode  = "0660"
  socket_user  = %q
  socket_group = %q
}
storage "bolt" { path = %q }
seal "keyfile" { path = %q }
keys_dir = %q
journal {
  path         = %q
  segment_size = "64KiB"
  max_size     = "128KiB"
  segment_age  = "1h"
  retention    = "48h"
}
audit "file" "lines" {
  description   = "for others"
  file_path     = %q
  mode          = "0640"
  format        = "json"
  hmac_accessor = false
}
audit_file_dir = %q
telemetry { unauthenticated_metrics_access = true }
api_addr          = "https://vault.example.org:8200"
cluster_name      = "blue"
log_level         = "debug"
log_format        = "json"
log_file          = %q
pid_file          = %q
default_lease_ttl = "1h"
max_lease_ttl     = "2h"
compat_version    = "1.18.7"
`, in("s"), me.Username, me.Gid, in("data"), in("keys/seal.key"), in("keys"), in("journal"), in("lines.json"), in("sinks"), in("log"), in("pid"))
	if err := os.WriteFile(in("c.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in("sinks"), 0o700); err != nil {
		t.Fatal(err)
	}
	config, _, err := conf.Load(in("c.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, cli.ServeConfig{File: in("c.hcl"), Log: io.Discard, Out: io.Discard}) }()
	r := &running{t: t, address: "x", client: &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", in("s"))
	}}}}
	for up := false; !up; {
		select {
		case err := <-done:
			t.Fatalf("serving ends with %v", err)
		default:
		}
		if c, err := new(net.Dialer).DialContext(ctx, "unix", in("s")); err == nil {
			up = true
			_ = c.Close()
		} else if err := (clock.System{}).Wait(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	has := func(path string, mode os.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || mode != 0 && info.Mode().Perm() != mode {
			t.Errorf("Stat(%s) = %v, %v; want mode %o", path, info, err, mode)
		}
	}
	has(in("s"), 0o660)
	has(in("data"), 0o700)
	if pid, err := os.ReadFile(in("pid")); err != nil || strings.TrimSpace(string(pid)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("pid_file holds %q, %v", pid, err)
	}
	_, init := r.ask("", http.MethodPut, "sys/init", `{"recovery_shares":0}`)
	var made struct {
		Root string `json:"root_token"`
	}
	if err := json.Unmarshal(init, &made); err != nil {
		t.Fatalf("PUT sys/init = %s: %v", init, err)
	}
	r.root = made.Root
	has(in("lines.json"), 0o640)
	r.want(t, 200, `"version":"1.18.7"`, http.MethodGet, "sys/seal-status", "")
	r.want(t, 200, `"cluster_name":"blue"`, http.MethodGet, "sys/seal-status", "")
	r.want(t, 200, "https://vault.example.org:8200", http.MethodGet, "sys/leader", "")
	r.want(t, 200, `"lease_duration":3600`, http.MethodPost, "auth/token/create", `{"policies":["default"]}`)
	r.want(t, 200, `"lease_duration":7200`, http.MethodPost, "auth/token/create", `{"policies":["default"],"ttl":"10h"}`)
	r.want(t, 200, `"for others"`, http.MethodGet, "sys/audit", "")
	r.want(t, 204, "", http.MethodPut, "sys/audit/more", `{"type":"file","options":{"file_path":"more.json"}}`)
	has(in("sinks/more.json"), 0)
	if status, _ := r.ask("", http.MethodGet, "sys/metrics", ""); status != 200 {
		t.Errorf("GET sys/metrics without a token = %d; want 200", status)
	}
	var last struct {
		Data struct {
			First    uint64 `json:"first_sequence"`
			Segments int    `json:"segments"`
		} `json:"data"`
	}
	for range 4000 { // until the oldest segments are removed, which some may be behind with
		_, b := r.ask(r.root, http.MethodGet, "sys/audit-journal", "")
		if err := json.Unmarshal(b, &last); err != nil {
			t.Fatalf("GET sys/audit-journal = %s: %v", b, err)
		}
		if last.Data.First > 1 {
			break
		}
	}
	if last.Data.First <= 1 || last.Data.Segments < 2 {
		t.Errorf("the journal has %d segments from record %d; want several, and the oldest removed", last.Data.Segments, last.Data.First)
	}
	rotate(t, in("log"))
	rotate(t, in("lines.json"))
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{in("log"), in("lines.json")} {
		for there := false; !there; { // the test's own time bounds it
			_, err := os.Stat(file)
			there = err == nil
			if err := (clock.System{}).Wait(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.want(t, 404, "", http.MethodGet, "cubbyhole/x", "")
	node, err := nodeOf(config, newLogger(io.Discard, "info", "standard"))
	if err != nil {
		t.Fatal(err)
	}
	if c := node.journalConfig(); c.SegmentAge != time.Hour || c.KeepAge != 48*time.Hour || c.SegmentBytes != 64<<10 || c.KeepBytes != 128<<10 || c.KeysDir != in("keys") {
		t.Errorf("the journal is configured as %+v", c)
	}
	r.client.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve = %v", err)
	}
	if _, err := os.Stat(in("pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid_file is there after the server has ended: %v", err)
	}
	if !logged(t, in("log"), `"level":"DEBUG"`) {
		t.Error("log_file holds no entry of debugging in JSON")
	}
	if entries, err := os.ReadDir(in("journal")); err != nil || len(entries) == 0 {
		t.Errorf("journal.path holds %v, %v", entries, err)
	}
	if _, err := os.Stat(in("data/audit")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a journal in the data, too: %v", err)
	}
	lines, err := os.ReadFile(in("lines.json.1"))
	if err != nil || !strings.Contains(string(lines), `"accessor":"`) || strings.Contains(string(lines), `"accessor":"hmac-sha256:`) {
		t.Errorf("lines.json does not show accessors as they are: %v", err)
	}
}

func TestStoreHasABound(t *testing.T) {
	t.Parallel()
	r := start(t, "", "", "")
	text := func(config string) conf.Server {
		c, _, err := conf.Parse("test.hcl", config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dir := t.TempDir()
	c := text(fmt.Sprintf("listener \"tcp\" {\naddress = \"127.0.0.1:0\"\ntls_auto = true\n}\nstorage \"bolt\" {\npath = %q\nmax_size = \"8MiB\"\n}\nseal \"keyfile\" { path = %q }\nkeys_dir = %q\n",
		filepath.Join(dir, "data"), filepath.Join(dir, "keys", "seal.key"), filepath.Join(dir, "keys")))
	bounded := run(t, c)
	value := `{"data":{"x":"` + strings.Repeat("x", 500<<10) + `"}}`
	full := func(r *running) bool {
		for i := range 40 {
			if status, _ := r.ask(r.root, http.MethodPost, "secret/data/"+strconv.Itoa(i), value); status != 200 {
				return true
			}
		}
		return false
	}
	if full(r) {
		t.Error("a store without a bound does not take 20 MiB")
	}
	if !full(bounded) {
		t.Error("a store of 8 MiB takes 20 MiB")
	}
	bounded.want(t, 200, "", http.MethodGet, "secret/data/0", "")
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := localca.Ensure(dir, []string{"127.0.0.1"}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	files := fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n", ca.CertFile(), ca.KeyFile())
	clients := fmt.Sprintf("tls_client_ca_file = %q\n", ca.CAFile())
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	for name, c := range map[string]struct {
		listener    string
		most        uint16
		fails       bool
		wantsToKnow bool // who the client is
	}{
		"usual":                 {files, tls.VersionTLS13, false, false},
		"older is refused":      {files, tls.VersionTLS12, true, false},
		"older is let in":       {files + "tls_min_version = \"tls12\"\n", tls.VersionTLS12, false, false},
		"clients may show":      {files + clients, tls.VersionTLS13, false, true},
		"clients must show":     {files + clients + "tls_require_and_verify_client_cert = true\n", tls.VersionTLS13, true, true},
		"clients are not asked": {files + clients + "tls_disable_client_certs = true\n", tls.VersionTLS13, false, false},
	} {
		config, _, err := conf.Parse("test.hcl", "listener \"tcp\" {\naddress = \"127.0.0.1:0\"\n"+c.listener+"}\nstorage \"bolt\" { path = \"/x\" }\n")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		listeners, _, err := listenersOf(config, dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		asked := false
		client, server := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- tls.Server(server, listeners[0].TLS.Server()).HandshakeContext(t.Context()) }()
		conn := tls.Client(client, &tls.Config{
			RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12, MaxVersion: c.most,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return new(tls.Certificate), nil
			},
		})
		go func() { _, _ = io.Copy(io.Discard, conn) }() // a refusal is read, too
		_ = conn.HandshakeContext(t.Context())
		if err := <-served; (err != nil) != c.fails {
			t.Errorf("%s: the handshake ends with %v; want that it fails: %v", name, err, c.fails)
		}
		if asked != c.wantsToKnow {
			t.Errorf("%s: the client is asked for a certificate: %v", name, asked)
		}
		_ = client.Close()
		_ = server.Close()
	}
}

// TestSeals holds that each seal of a configuration opens the server alone.
func TestSeals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"identity": identity.String(), "passphrase": "correct horse battery staple"} {
		if err := os.WriteFile(in(file), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seals := map[string]string{
		"keyfile":    fmt.Sprintf("seal \"keyfile\" { path = %q }\n", in("keys/seal.key")),
		"passphrase": fmt.Sprintf("seal \"passphrase\" { passphrase = %q }\n", "file:"+in("passphrase")),
		"age":        fmt.Sprintf("seal \"age\" {\nidentity = %q\nrecipients = [%q]\n}\n", "file:"+in("identity"), identity.Recipient()),
	}
	open := func(stanzas string) *Node {
		t.Helper()
		config, _, err := conf.Parse("test.hcl", fmt.Sprintf("listener \"tcp\" {\naddress = \"127.0.0.1:0\"\ntls_auto = true\n}\nstorage \"bolt\" { path = %q }\nkeys_dir = %q\n", in("data"), in("keys"))+stanzas)
		if err != nil {
			t.Fatal(err)
		}
		made, err := nodeOf(config, newLogger(io.Discard, "info", "standard"))
		if err != nil {
			t.Fatal(err)
		}
		n, _, _, err := prepare(t.Context(), config, made)
		if err != nil {
			t.Fatalf("with %s: %v", stanzas, err)
		}
		return n
	}
	n := open(seals["keyfile"] + seals["passphrase"] + seals["age"])
	if _, err := n.gate.Init(t.Context(), gate.InitIn{NoRootToken: true}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, stanza := range seals {
		n := open(stanza)
		if n.gate.Sealed() {
			t.Errorf("%s does not open the server", kind)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCeremoniesAreEnabled holds that what shares can do without a token is
// there where the configuration says so, and nowhere else.
func TestCeremoniesAreEnabled(t *testing.T) {
	t.Parallel()
	usual := start(t, "", "", "")
	for setting, path := range map[string]string{"enable_generate_root": "sys/generate-root/attempt", "enable_unauthenticated_rekey": "sys/rekey/init"} {
		usual.want(t, http.StatusNotFound, "", http.MethodGet, path, "")
		if status, b := start(t, "", setting+" = true", "").ask("", http.MethodGet, path, ""); status != http.StatusOK {
			t.Errorf("GET %s with %s = %d %s; want 200", path, setting, status, b)
		}
	}
}
