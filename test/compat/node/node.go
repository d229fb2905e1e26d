// Package node starts the real server for tests that drive it with the
// clients of others: the program is built once, and each node is a process
// with a data directory and a home of its own.
package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rotunda-compat-*")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "rotunda")
	build := exec.Command("go", "build", "-o", bin, "./cmd/rotunda")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return bin, nil
})

// Program returns the path of the built program.
func Program(t testing.TB) string {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Node is a running server.
type Node struct {
	Address string
	CACert  string // path of the certificate to trust
	Token   string // of the owner; empty for a node that is to be initialized
	Data    string
	Home    string

	cmd  *exec.Cmd
	done chan error
	out  *bytes.Buffer
	mu   *sync.Mutex
}

func environ(home string) []string {
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1"}
	for _, name := range []string{"CONFIG", "STATE", "CACHE", "DATA", "RUNTIME"} {
		dir := "HOME"
		env = append(env, "XDG_"+name+"_"+dir+"="+filepath.Join(home, strings.ToLower(name)))
	}
	env[len(env)-1] = "XDG_RUNTIME_DIR=" + filepath.Join(home, "runtime")
	return env
}

// Up starts `rotunda up` and returns when it answers; the test ends it.
func Up(t testing.TB) *Node {
	t.Helper()
	home := t.TempDir()
	n := &Node{Home: home, Data: filepath.Join(home, "node")}
	n.Start(t)
	t.Cleanup(func() { n.Stop(t) })
	return n
}

// Start starts the node again, after Stop or Kill.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	n.run(t, regexp.MustCompile(`https://[0-9.:\[\]a-z]+`), "up", "--data", n.Data, "--listen", listenAt(n.Address))
	for line := range strings.Lines(n.CLI(t, "env", "--data", n.Data)) {
		assign, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
		if !ok {
			continue
		}
		key, value, _ := strings.Cut(assign, "=")
		value = strings.Trim(value, `'"`)
		switch key {
		case "VAULT_ADDR":
			n.Address = value
		case "VAULT_CACERT":
			n.CACert = value
		case "VAULT_TOKEN":
			n.Token = value
		}
	}
	if n.Address == "" || n.CACert == "" || n.Token == "" {
		t.Fatalf("rotunda env left something out: address %q, certificate %q, token given %t", n.Address, n.CACert, n.Token != "")
	}
}

func listenAt(address string) string {
	if host, ok := strings.CutPrefix(address, "https://"); ok {
		return host
	}
	return "127.0.0.1:0"
}

// Configured starts `rotunda server` with the seal stanza given, and returns
// when it listens. It is neither initialized nor unsealed.
func Configured(t testing.TB, sealStanza, more string) *Node {
	t.Helper()
	home := t.TempDir()
	n := &Node{Home: home, Data: filepath.Join(home, "data")}
	cert, key := certificate(t, home)
	n.CACert = cert
	file := filepath.Join(home, "rotunda.hcl")
	config := fmt.Sprintf(`
storage "bolt" {
  path = %q
}
listener "tcp" {
  address       = %q
  tls_cert_file = %q
  tls_key_file  = %q
}
%s
%s
`, n.Data, "127.0.0.1:0", cert, key, sealStanza, more)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Address = "https://" + n.run(t, regexp.MustCompile(`listening address=([0-9.:]+)`), "server", "--config", file)
	t.Cleanup(func() { n.Stop(t) })
	return n
}

// run starts the program and returns what the group of ready matched, if it has
// one, once a line of its output does.
func (n *Node) run(t testing.TB, ready *regexp.Regexp, args ...string) (matched string) {
	t.Helper()
	n.out, n.mu, n.done = new(bytes.Buffer), new(sync.Mutex), make(chan error, 1)
	n.cmd = exec.Command(Program(t), args...)
	n.cmd.Env = environ(n.Home)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("starting rotunda %v: %v", args, err)
	}
	_ = w.Close()
	found := make(chan string, 1)
	var read sync.WaitGroup
	read.Go(func() {
		lines, once := bufio.NewScanner(r), sync.Once{}
		for lines.Scan() {
			n.mu.Lock()
			n.out.WriteString(lines.Text() + "\n")
			n.mu.Unlock()
			if m := ready.FindStringSubmatch(lines.Text()); m != nil {
				once.Do(func() { found <- m[len(m)-1] })
			}
		}
	})
	cmd, done := n.cmd, n.done
	go func() {
		err := cmd.Wait()
		read.Wait()
		_ = r.Close()
		done <- err
	}()
	select {
	case matched = <-found:
	case err := <-n.done:
		n.done <- err
		t.Fatalf("rotunda %v ended: %v\n%s", args, err, n.Output())
	case <-time.After(60 * time.Second):
		_ = n.cmd.Process.Kill()
		t.Fatalf("rotunda %v was not ready within a minute\n%s", args, n.Output())
	}
	return matched
}

// Output returns what the server has printed.
func (n *Node) Output() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.out.String()
}

// Stop ends the server as an operator does, and waits for it.
func (n *Node) Stop(t testing.TB) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(30 * time.Second):
		_ = n.cmd.Process.Kill()
		t.Errorf("the server did not stop within 30 s of SIGTERM\n%s", n.Output())
	}
	n.cmd = nil
}

// Kill ends the server with SIGKILL, and waits for it.
func (n *Node) Kill(t testing.TB) {
	t.Helper()
	_ = n.cmd.Process.Kill()
	<-n.done
	n.cmd = nil
}

// CLI runs the program as a client of the node and returns its standard output.
func (n *Node) CLI(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Program(t), args...)
	cmd.Env = environ(n.Home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rotunda %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Run runs a program of somebody else as a client of the node, which is told
// where it is as all clients are. What it printed is shown where it fails.
func (n *Node) Run(t testing.TB, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(environ(n.Home), "VAULT_ADDR="+n.Address, "VAULT_CACERT="+n.CACert, "VAULT_TOKEN="+n.Token, "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", program, args, err, out)
	}
}
