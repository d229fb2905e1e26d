//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/clock"
)

// made is what sys/init answers.
type made struct {
	Keys []string `json:"keys"`
	Root string   `json:"root_token"`
}

// process is a server in a process of its own.
type process struct {
	t    *testing.T
	url  string
	cmd  *exec.Cmd
	gone chan error
}

func serve(t *testing.T, dir, seal string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "server.hcl")
	text := fmt.Sprintf("listener \"tcp\" {\n  address = %q\n  tls_disable = true\n}\nstorage \"bolt\" { path = %q }\nkeys_dir = %q\n%s", address, filepath.Join(dir, "data"), filepath.Join(dir, "keys"), seal)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, url: "http://" + address + "/v1/", cmd: exec.Command("rotunda", "server", "--config", config), gone: make(chan error, 1)}
	var said strings.Builder
	p.cmd.Stderr = &said
	p.cmd.Env = append(os.Environ(), "HOME="+dir)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.gone <- p.cmd.Wait() }()
	t.Cleanup(p.kill)
	err = until(func() bool {
		_, err := p.ask(http.MethodGet, "sys/health?uninitcode=200&sealedcode=200", "", "")
		return err == nil
	}, "the server answers")
	if err != nil {
		p.kill()
		t.Fatalf("%v: %s", err, said.String())
	}
	return p
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	p.gone <- <-p.gone
}

// ask returns the whole answer, or an error.
func (p *process) ask(method, path, token, body string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s = %d %s", method, path, resp.StatusCode, b)
	}
	return string(b), err
}

func (p *process) init(body string) (out made, err error) {
	text, err := p.ask(http.MethodPut, "sys/init", "", body)
	if err == nil {
		err = json.Unmarshal([]byte(text), &out)
	}
	return out, err
}

// opens fails unless what was told opens the server.
func (p *process) opens(m made) {
	p.t.Helper()
	for _, k := range m.Keys[:min(2, len(m.Keys))] {
		if _, err := p.ask(http.MethodPut, "sys/unseal", "", `{"key":"`+k+`"}`); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := p.ask(http.MethodGet, "sys/mounts", m.Root, ""); err != nil {
		p.t.Fatal(err)
	}
}

// A server that is killed at any moment of its initialization is initialized,
// and who asked has what opens it, or it can be initialized.
func TestKilledWhileInitialized(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ seal, body string }{
		"shares":   {"", `{"secret_shares":3,"secret_threshold":2}`},
		"key file": {"seal \"keyfile\" { path = %q }\n", `{"recovery_shares":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seal := func(dir string) string {
				if c.seal == "" {
					return ""
				}
				return fmt.Sprintf(c.seal, filepath.Join(dir, "keys", "seal.key"))
			}
			dir := t.TempDir()
			p := serve(t, dir, seal(dir))
			began := clock.System{}.Now()
			out, err := p.init(c.body)
			if err != nil {
				t.Fatal(err)
			}
			took := clock.System{}.Now().Sub(began)
			p.opens(out)
			p.kill()
			ended := map[string]int{}
			for range 16 {
				ended[killed(t, seal, c.body, time.Duration(rand.Int64N(int64(took+took/2))))]++
			}
			t.Logf("an initialization takes %s; killed in it, servers were found %v", took, ended)
		})
	}
}

func killed(t *testing.T, seal func(string) string, body string, after time.Duration) (found string) {
	t.Helper()
	dir := t.TempDir()
	p := serve(t, dir, seal(dir))
	told := make(chan made, 1)
	go func() {
		out, err := p.init(body)
		if err != nil {
			out = made{}
		}
		told <- out
	}()
	c := clock.System{}
	if err := c.Wait(t.Context(), c.Now().Add(after)); err != nil {
		t.Fatal(err)
	}
	p.kill()
	out := <-told
	p = serve(t, dir, seal(dir))
	defer p.kill()
	state, err := p.ask(http.MethodGet, "sys/init", "", "")
	if err != nil {
		t.Fatal(err)
	}
	found = "initialized"
	if state != `{"initialized":true}` {
		found = "empty"
		if out.Root != "" {
			found = "told, and not finished"
		}
		if out, err = p.init(body); err != nil {
			t.Fatalf("killed after %s: initializing again: %v", after, err)
		}
	} else if out.Root == "" {
		t.Fatalf("killed after %s: the server is initialized, and nobody has what opens it", after)
	}
	p.opens(out)
	return found
}

// `up` that is killed at any moment of its first start works the next time.
func TestKilledWhileUp(t *testing.T) {
	t.Parallel()
	began := clock.System{}.Now()
	up(t, t.TempDir(), 0)
	took := clock.System{}.Now().Sub(began)
	for range 12 {
		dir := t.TempDir()
		for range 3 {
			up(t, dir, time.Duration(1+rand.Int64N(int64(took))))
		}
		up(t, dir, 0)
	}
}

// up starts a node, and kills it after so long, or when it answers.
func up(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command("rotunda", "up", "--ready-line", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "XDG_") }), "HOME="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- s
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if after > 0 {
		c := clock.System{}
		if err := c.Wait(ctx, c.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill() // it has not ended by itself
		<-line
		_ = cmd.Wait() // it was killed
		return
	}
	var said string
	select {
	case said = <-line:
	case <-ctx.Done():
	}
	_ = cmd.Process.Kill() // enough is seen
	_ = cmd.Wait()         // it was killed
	if !strings.Contains(said, `"address":"https://127.0.0.1:`) {
		t.Fatalf("up after it was killed says %q; want that it answers", said)
	}
}

// Of two that start at once on one directory one serves, and the other says
// where; neither of them fails.
func TestTwoAreStartedAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	type ready struct {
		Address string `json:"address"`
		Running bool   `json:"running"`
		PID     int    `json:"pid"`
		Problem string `json:"problem"`
	}
	var said [2]ready
	var nodes [2]*exec.Cmd
	var all sync.WaitGroup
	for i := range nodes {
		cmd := exec.Command("rotunda", "up", "--ready-line", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "XDG_") }), "HOME="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
		nodes[i] = cmd
		all.Go(func() {
			line, _ := bufio.NewReader(out).ReadString('\n')
			if err := json.Unmarshal([]byte(line), &said[i]); err != nil {
				said[i].Problem = line + err.Error()
			}
		})
	}
	all.Wait()
	if said[0].Running {
		said[0], said[1], nodes[0], nodes[1] = said[1], said[0], nodes[1], nodes[0]
	}
	if said[0].Problem+said[1].Problem != "" || said[0].Running || !said[1].Running {
		t.Fatalf("two at once say %+v; want one that serves and one that says so", said)
	}
	if said[0].Address != said[1].Address || said[1].PID != nodes[0].Process.Pid {
		t.Errorf("the second says %+v; want process %d at %s", said[1], nodes[0].Process.Pid, said[0].Address)
	}
	if err := nodes[1].Wait(); err != nil {
		t.Errorf("the second ends with %v; want success", err)
	}
	if err := nodes[0].Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].Wait(); err != nil {
		t.Errorf("the first ends with %v; want success", err)
	}
}
