package chaos

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/test/chaos/disk"
)

// readyWithin bounds how long a node may take until it answers, whatever was
// done to it before.
const readyWithin = 5 * time.Second

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rotunda-chaos-*")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "rotunda")
	build := exec.Command("go", "build", "-o", bin, "./cmd/rotunda")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// node is the real server as a process, with a data directory and a home of
// its own, that is killed and started again.
type node struct {
	t    testing.TB
	bin  string
	home string
	data string
	log  string
	args []string // of `rotunda up`, besides the data directory

	config string // a file; with it the node is one of `rotunda server`

	disk  *disk.Disk  // that home is on; nil for the machine's own
	mount *disk.Mount // of it

	root string // token of the owner, from the first start
	pool *x509.CertPool

	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	status error         // that it ended with; read it then
	said   *lines        // what the process has printed
	client *http.Client
	url    string
}

func newNode(t testing.TB) *node {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	n := &node{t: t, bin: bin, home: home, data: filepath.Join(home, "data"), log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(n.kill)
	return n
}

// newNodeOn returns a node all of whose files are on d.
func newNodeOn(t testing.TB, d *disk.Disk) *node {
	t.Helper()
	n := newNode(t)
	n.disk = d
	if err := n.plug(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if err := n.unplug(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// keep copies the node's files to ROTUNDA_CHAOS_KEEP, where that is set, for who
// looks into a failure.
func (n *node) keep() {
	if to := os.Getenv("ROTUNDA_CHAOS_KEEP"); to != "" {
		n.kill()
		n.t.Logf("files are kept in %s: %v", to, os.CopyFS(to, os.DirFS(n.home)))
	}
}

func (n *node) plug() (err error) {
	n.mount, err = n.disk.Mount(n.home)
	return err
}

func (n *node) unplug() error {
	if n.mount == nil {
		return nil
	}
	m := n.mount
	n.mount = nil
	return m.Unmount()
}

// cut lets the power fail, and come back. Without r nothing is kept but what was synced.
func (n *node) cut(r *rand.Rand) error {
	n.kill()
	if err := n.unplug(); err != nil {
		return err
	}
	n.disk.PowerCut(r)
	return n.plug()
}

func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.bin, args...)
	cmd.Env = []string{
		"HOME=" + n.home, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1",
		"XDG_CONFIG_HOME=" + filepath.Join(n.home, "config"), "XDG_STATE_HOME=" + filepath.Join(n.home, "state"),
		"XDG_CACHE_HOME=" + filepath.Join(n.home, "cache"), "XDG_DATA_HOME=" + filepath.Join(n.home, "share"),
		"XDG_RUNTIME_DIR=" + filepath.Join(n.home, "run"),
	}
	return cmd
}

// run runs the program to its end.
func (n *node) run(args ...string) (stdout string, code int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.t.Context()), time.Minute)
	defer cancel()
	cmd := n.command(ctx, args...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String() + msg.String(), exit.ExitCode(), nil
	}
	return out.String() + msg.String(), 0, err
}

// launch starts the process and does not wait until it answers.
func (n *node) launch() (stdout io.Reader, err error) {
	args := append([]string{"up", "--data", n.data, "--listen", "127.0.0.1:0", "--log", n.log}, n.args...)
	if n.config != "" {
		args = []string{"server", "--config", n.config}
	}
	n.cmd = n.command(context.WithoutCancel(n.t.Context()), args...)
	n.said = new(lines)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	n.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan<- struct{}) {
		n.status = cmd.Wait()
		close(ended)
	}(n.cmd, n.ended)
	return r, nil
}

// lines is what a process has printed.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.WriteString(line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var address = regexp.MustCompile(`https://(127\.0\.0\.1:[0-9]+)|msg=listening address=(127\.0\.0\.1:[0-9]+)`)

// start starts the node and returns how long it took until it answered.
func (n *node) start() (took time.Duration, err error) {
	began := time.Now()
	out, err := n.launch()
	if err != nil {
		return 0, err
	}
	found, said := make(chan string, 1), n.said
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said.add(lines.Text())
			if a := address.FindStringSubmatch(lines.Text()); a != nil {
				url := "https://" + a[1]
				if a[1] == "" {
					url = "http://" + a[2]
				}
				select {
				case found <- url:
				default: // it was said before
				}
			}
		}
	}()
	deadline := time.NewTimer(4 * readyWithin)
	defer deadline.Stop()
	select {
	case a, ok := <-found:
		if !ok {
			<-n.ended
			return 0, fmt.Errorf("the node ended before it answered: %w: %s%s", n.status, n.said, n.logTail())
		}
		n.url = a
	case <-deadline.C:
		n.kill()
		return 0, fmt.Errorf("the node does not answer after %v: %s%s", 4*readyWithin, n.said, n.logTail())
	}
	if n.pool == nil && n.config == "" {
		if err := n.learn(); err != nil {
			return 0, err
		}
	}
	n.client = &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: n.pool, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32,
		},
	}
	return time.Since(began), nil
}

// learn asks the program how to talk to the node.
func (n *node) learn() error {
	out, code, err := n.run("env", "--data", n.data)
	if err != nil || code != 0 {
		return fmt.Errorf("rotunda env: code %d, %w: %s", code, err, out)
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.Trim(value, `'"`)
		switch key {
		case "VAULT_TOKEN":
			n.root = value
		case "VAULT_CACERT":
			pem, err := os.ReadFile(value)
			if err != nil {
				return err
			}
			n.pool = x509.NewCertPool()
			n.pool.AppendCertsFromPEM(pem)
		}
	}
	if n.root == "" || n.pool == nil {
		return errors.New("rotunda env names no token or no certificate")
	}
	return nil
}

// kill ends the process by SIGKILL and waits until it is gone.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.ended
	n.cmd = nil
	if n.client != nil {
		n.client.CloseIdleConnections()
	}
}

// stop ends the process in order.
func (n *node) stop() error {
	n.client.CloseIdleConnections() // or it waits for them
	_ = n.cmd.Process.Signal(os.Interrupt)
	<-n.ended
	n.cmd = nil
	n.client.CloseIdleConnections()
	return n.status
}

// logTail is the end of what the node has logged.
func (n *node) logTail() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return ""
	}
	return "\n" + string(b[max(0, len(b)-4000):])
}

// answer is what came back for a request.
type answer struct {
	status int
	id     string // of the request, in the node's journal
	body   []byte
	value  any
}

// at returns what is at a path of names and indices with dots between; nil for nothing.
func (a *answer) at(path string) any {
	v := a.value
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (a *answer) text(path string) string { s, _ := a.at(path).(string); return s }

func (a *answer) number(path string) int { f, _ := a.at(path).(float64); return int(f) }

func (a *answer) object(path string) map[string]any { m, _ := a.at(path).(map[string]any); return m }

// do makes a request. An error says that no whole answer came.
func (n *node) do(token, method, path string, body any) (*answer, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(n.t.Context()), method, n.url+"/v1/"+path, payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", token)
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, id: resp.Header.Get("X-Request-Id")}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &a.value); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return a, nil
}

// must is do for what has to work.
func (n *node) must(method, path string, body any) *answer {
	n.t.Helper()
	a, err := n.do(n.root, method, path, body)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status/100 != 2 {
		n.t.Fatalf("%s %s = %d %s", method, path, a.status, a.body)
	}
	return a
}
