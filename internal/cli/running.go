package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

// ErrRunning is what [Server.Up] returns where another process has the data
// directory: a node runs there, or is just being started or stopped.
var ErrRunning = errors.New("another process has the data directory")

// patience is how long `up` waits for a node that another process is starting.
const patience = 15 * time.Second

// runUp runs a node until it ends. Where another process has the data directory
// it waits until that has ended, or until its node answers, and says of which.
func (a *app) runUp(ctx context.Context, c UpConfig, name string) (running readyLine, err error) {
	until := a.Clock.Now().Add(patience)
	for {
		if err = a.Server.Up(ctx, c); !errors.Is(err, ErrRunning) {
			return readyLine{}, err
		}
		running, problem := a.lookAt(ctx, c.Data, name)
		if problem == nil {
			return running, nil
		}
		if f, ok := errors.AsType[failure](problem); ok {
			return readyLine{}, f
		}
		if !a.Clock.Now().Before(until) {
			return readyLine{}, advise(
				fmt.Errorf("another process has the data in %s, and no node answers there: %w", c.Data, problem),
				"rotunda doctor --data "+show.Shell(c.Data), "lsof "+show.Shell(filepath.Join(c.Data, "lock"))+"   (says which process)")
		}
		if err := a.Clock.Wait(ctx, a.Clock.Now().Add(200*time.Millisecond)); err != nil {
			return readyLine{}, err
		}
	}
}

// lookAt asks the node on data how it is. A failure says what is wrong with it,
// any other error that it does not answer yet.
func (a *app) lookAt(ctx context.Context, data, name string) (readyLine, error) {
	store := a.env.profiles()
	all, err := store.Load()
	if err != nil {
		return readyLine{}, advise(err, "rotunda doctor")
	}
	c, ok := all.Contexts[name]
	if !ok || c.Address == "" {
		return readyLine{}, errors.New("it was never started by this user")
	}
	out := readyLine{Name: name, Address: c.Address, Running: true, PID: runningPID(a.pidFile(name))}
	who := ""
	if out.PID != 0 {
		who = fmt.Sprintf(" (process %d)", out.PID)
	}
	out.Done = []string{"A node runs on " + data + " already" + who}
	cl, err := api.New(api.Config{Address: c.Address, Token: a.tokenFor(name), CACert: []byte(c.CACert), UserAgent: "rotunda/" + version().Version, Clock: a.Clock, Timeout: 5 * time.Second})
	if err != nil {
		return readyLine{}, advise(err, "rotunda context show "+show.Shell(name))
	}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", NoWrap: true, NoRetry: true})
	if err != nil {
		return readyLine{}, err
	}
	var s sealStatus
	if err := json.Unmarshal(resp.Body, &s); err != nil {
		return readyLine{}, advise(fmt.Errorf("reading the status: %w", err), "rotunda status")
	}
	if !s.Initialized {
		return readyLine{}, errors.New("it is just being made")
	}
	if s.Sealed {
		return readyLine{}, advise(fmt.Errorf("a node runs on %s already%s, at %s, and it is sealed", data, who, c.Address), a.reopen(c.Data, s)...)
	}
	if _, err := cl.Do(ctx, api.Request{Method: "GET", Path: "auth/token/lookup-self", NoWrap: true, NoRetry: true}); err != nil {
		return readyLine{}, advise(fmt.Errorf("a node runs on %s already%s, at %s, and your token for it is not accepted: %w", data, who, c.Address, err),
			"rotunda login --address "+c.Address, "rotunda operator recover --data "+show.Shell(data)+"   (when the node is stopped)")
	}
	if all.Current != name {
		all.Current = name
		if err := store.Save(all); err != nil {
			return readyLine{}, advise(err, "rotunda context use "+show.Shell(name))
		}
	}
	return out, nil
}

// reopen returns what opens a server that is sealed. data is the directory of a
// node of `up` on this machine; empty for any other server.
func (a *app) reopen(data string, s sealStatus) []string {
	switch {
	case !s.OpensItself:
		return []string{"rotunda operator unseal"}
	case data == "":
		return []string{
			"systemctl restart rotunda   (or however it is started: it opens itself then, by its " + s.Type + " seal)",
			"rotunda operator unseal   (with its recovery shares, if it was given any)",
		}
	}
	stop := "stop the node (Ctrl-C where it runs)"
	if all, err := a.env.profiles().Load(); err == nil {
		if pid := runningPID(a.pidFile(nodeName(all, data, a.env.dataDir()))); pid != 0 {
			stop = fmt.Sprintf("kill %d   (stops the node)", pid)
		}
	}
	return []string{stop, "rotunda up --data " + show.Shell(data) + "   (it opens itself when it starts)"}
}

// dataOf returns the data directory of the server that is asked, if it is a node
// of `up` on this machine.
func (a *app) dataOf() string {
	t, err := a.target()
	if err != nil {
		return ""
	}
	return t.context.Data
}

// sealStatus asks the server how its seal stands.
func (a *app) sealStatus(ctx context.Context) (s sealStatus, ok bool) {
	if a.curl || a.policy {
		return s, false // a request that is only shown asks nothing beside it
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cl, err := a.client()
	if err != nil {
		return s, false
	}
	none := secret.Text{}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none, NoWrap: true, NoRetry: true})
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(resp.Body, &s) == nil
}

// elsewhere reports whether a node that listens at address is not where listen
// asks for; a port of 0 asks for none.
func elsewhere(address, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return false
	}
	at := strings.TrimPrefix(address, "https://")
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		_, its, err := net.SplitHostPort(at)
		return err == nil && its != port
	}
	return at != net.JoinHostPort(host, port)
}

func (a *app) pidFile(name string) string {
	return filepath.Join(a.env.stateDir(), "nodes", name+".pid")
}

// runningPID returns what keepPID has written; 0 for none.
func runningPID(path string) int {
	b, err := os.ReadFile(path) //nolint:gosec // a file of ours
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}
