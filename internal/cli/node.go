package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
)

var errNoServer = errors.New("this build is only a client")

func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolving %s: %w", dir, err)
	}
	return abs, nil
}

// nodeDirs returns the absolute data directory that a flag names, or the usual
// one, and the configuration directory.
func (a *app) nodeDirs(data string) (string, string, error) {
	if data == "" {
		data = a.env.dataDir()
	}
	if a.env.configDir() == "" || a.env.stateDir() == "" || data == "" {
		return "", "", advise(errors.New("there is no home directory to keep things in"), "set HOME, or XDG_CONFIG_HOME, XDG_STATE_HOME and XDG_DATA_HOME")
	}
	abs, err := absolute(data)
	return abs, a.env.configDir(), err
}

func (a *app) upCommand() *cobra.Command {
	var data, listen, logFile string
	var detach, ready bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a server on this machine and sign in as its owner",
		Long: `Start a server on this machine: a persistent node with TLS from an authority of
its own, sealed by a key file that is kept apart from the data. You are signed
in as its owner. The next time, the node that is there is started again.`,
		Example: "  rotunda up\n  rotunda up --detach --data ./data --listen 127.0.0.1:0",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Server.Up == nil {
				return errNoServer
			}
			dir, config, err := a.nodeDirs(data)
			if err != nil {
				return err
			}
			asked := ""
			if cmd.Flags().Changed("listen") {
				asked = listen
			}
			if detach {
				return a.detach(cmd.Context(), dir, listen, asked, logFile)
			}
			err = a.up(cmd.Context(), dir, config, listen, asked, logFile, ready)
			if err != nil && ready {
				return a.tell(cmd.Context(), err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "`directory` of the data (default: $XDG_DATA_HOME/rotunda)")
	f.StringVar(&listen, "listen", "127.0.0.1:8200", "`HOST:PORT` to listen at; port 0 takes one that is free")
	f.BoolVar(&detach, "detach", false, "go on in the background once the node answers")
	f.StringVar(&logFile, "log", "", "`file` for the log (default: $XDG_STATE_HOME/rotunda/logs)")
	f.BoolVar(&ready, "ready-line", false, "print one line of JSON when the node answers")
	_ = f.MarkHidden("ready-line") // the flag is the one defined above
	return c
}

// readyLine is what a detached node tells the command that started it.
type readyLine struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Created bool     `json:"created"`
	Done    []string `json:"done"`
	Problem string   `json:"problem,omitempty"` // why the node did not start, as it would stand on a screen
	Code    int      `json:"code,omitempty"`    // the exit code that goes with Problem
	Running bool     `json:"running,omitempty"` // it was there before
	PID     int      `json:"pid,omitempty"`     // of a node that was there before
}

func (a *app) up(ctx context.Context, data, config, listen, asked, logFile string, ready bool) error {
	store := a.env.profiles()
	all, err := store.Load()
	if err != nil {
		return err
	}
	name := nodeName(all, data, a.env.dataDir())
	log, path, err := a.openLog(name, logFile)
	if err != nil {
		return err
	}
	defer log.Close() // nothing more is written
	pidFile := a.pidFile(name)
	ours := false // another process may have written it
	defer func() {
		if ours {
			_ = os.Remove(pidFile) // what is left there only misleads
		}
	}()
	running, err := a.runUp(ctx, UpConfig{
		Data: data, Config: config, Listen: listen, Owner: a.tokenFor(name), Log: log,
		Ready: func(n Node) error {
			if err := a.keepNode(store, name, data, n); err != nil {
				return err
			}
			if err := keepPID(pidFile); err != nil {
				return err
			}
			ours = true
			return a.isUp(readyLine{Name: name, Address: n.Address, Created: n.Created, Done: n.Done}, path, asked, ready)
		},
	}, name)
	if err != nil {
		return err
	}
	if running.Running {
		return a.isUp(running, path, asked, ready)
	}
	a.note("Stopped; the data is kept.")
	return nil
}

// isUp says that the node answers: to the person, or as a line to the command
// that started this one.
func (a *app) isUp(r readyLine, log, asked string, ready bool) error {
	if !ready {
		a.greet(r, log, asked, r.PID)
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	if _, err = fmt.Fprintf(a.Stdout, "%s\n", b); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// tell gives err to the command that started this one in the background, in
// place of the line that says that the node answers.
func (a *app) tell(ctx context.Context, err error) error {
	var text bytes.Buffer
	errs := a.Stderr
	a.Stderr = &text
	code := a.exit(ctx, err)
	a.Stderr = errs
	b, err := json.Marshal(readyLine{Problem: text.String(), Code: code})
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	if _, err := fmt.Fprintf(a.Stdout, "%s\n", b); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return silent(code)
}

// nodeName returns the name of the context for a data directory: the one that
// it has, or "local" for the usual directory, or one after the directory.
func nodeName(all profile.Contexts, data, usual string) string {
	for name, c := range all.Contexts {
		if c.Data == data {
			return name
		}
	}
	base := "local"
	if abs, err := filepath.Abs(usual); err != nil || abs != data {
		base = strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, filepath.Base(data)), "-")
		base = first(base[:min(len(base), 48)], "node")
	}
	name := base
	for i := 2; ; i++ {
		if _, taken := all.Contexts[name]; !taken {
			return name
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
}

// keepNode saves what is needed to use a node: its context and its owner's token.
func (a *app) keepNode(store profile.Store, name, data string, n Node) error {
	all, err := store.Load()
	if err != nil {
		return err
	}
	c := all.Contexts[name]
	c.Address, c.CACert, c.Data, c.Cluster = n.Address, string(n.CACert), data, n.ClusterID
	all.Contexts[name], all.Current = c, name
	if !n.Owner.Empty() {
		if err := store.SaveToken(name, n.Owner); err != nil {
			return err
		}
	}
	return store.Save(all)
}

// keepPID writes down which process this is, for those who want to stop it.
func keepPID(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	if err := os.WriteFile(path, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return fmt.Errorf("writing the process id: %w", err)
	}
	return nil
}

// openLog opens the file for a node's log.
func (a *app) openLog(name, path string) (*os.File, string, error) {
	if path == "" {
		dir := filepath.Join(a.env.stateDir(), "logs")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, "", fmt.Errorf("making a directory for logs: %w", err)
		}
		path = filepath.Join(dir, name+".log")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the person names the file
	if err != nil {
		return nil, "", fmt.Errorf("opening the log: %w", err)
	}
	return f, path, nil
}

// greet says what was done and what can be done next. asked is the address that
// the person asked for, if any.
func (a *app) greet(r readyLine, log, asked string, pid int) {
	tick := "✓"
	if strings.ToUpper(a.env["LC_ALL"]) == "C" || a.env["TERM"] == "dumb" {
		tick = "*"
	}
	for _, d := range r.Done {
		a.note("  %s %s", tick, show.Clean(d))
	}
	a.note("  %s Listening at %s", tick, r.Address)
	a.note("  %s You are signed in as the owner (context %s)", tick, r.Name)
	if r.Running && elsewhere(r.Address, asked) {
		a.note("")
		a.note("  It goes on listening there and not at %s: stop it first, and start it again.", asked)
	}
	a.note("")
	if r.Created {
		a.note("  Store a secret:      rotunda set DB_PASSWORD")
	} else {
		a.note("  See what is there:   rotunda ls")
	}
	a.note("  Run with secrets:    rotunda run -- COMMAND")
	a.note("  Use other clients:   eval \"$(rotunda env)\"")
	a.note("  Look for problems:   rotunda doctor")
	switch {
	case pid != 0:
		a.note("  Stop the node:       kill %d", pid)
	case !r.Running:
		a.note("  Stop the node:       Ctrl-C")
	}
	a.note("  Log:                 %s", log)
}

// detach starts `up` again in the background and waits until it answers.
func (a *app) detach(ctx context.Context, data, listen, asked, logFile string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	store := a.env.profiles()
	all, err := store.Load()
	if err != nil {
		return err
	}
	log, path, err := a.openLog(nodeName(all, data, a.env.dataDir()), logFile)
	if err != nil {
		return err
	}
	defer log.Close() // the node has its own
	args := []string{"up", "--ready-line", "--data", data, "--listen", listen, "--log", path}
	// The node outlives this command.
	node := exec.CommandContext(context.WithoutCancel(ctx), self, args...) //nolint:gosec // ourselves
	node.Args[0] = "rotunda"
	node.Env = a.Environ
	node.SysProcAttr = apart()
	node.Stderr = log // a pipe would end with this command, and the node at its next word
	out, err := node.StdoutPipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	if err := node.Start(); err != nil {
		return fmt.Errorf("starting the node: %w", err)
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // empty where the node ended
		lines <- line
	}()
	select {
	case line := <-lines:
		var r readyLine
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Problem != "" {
			_ = node.Wait() // what it said says more
			if r.Problem == "" {
				return advise(errors.New("the node ended before it answered"), "less "+show.Shell(path))
			}
			a.say("%s", r.Problem)
			return silent(max(r.Code, 1))
		}
		pid := node.Process.Pid
		if r.Running {
			pid = r.PID
		}
		if err := node.Process.Release(); err != nil {
			return fmt.Errorf("letting go of the node: %w", err)
		}
		a.greet(r, path, asked, pid)
		format, err := a.format()
		if err != nil || format == "table" {
			return err
		}
		return a.print(view{doc: document().set("address", r.Address).set("context", r.Name).set("pid", pid).set("log", path).json()})
	case <-ctx.Done():
		_ = node.Process.Signal(os.Interrupt) // it may have ended
		return ctx.Err()
	}
}

func (a *app) serverCommand() *cobra.Command {
	var file string
	var check, dev bool
	c := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run a server as its configuration says",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dev {
				return failure{err: errors.New("there is no development mode, which forgets everything: up starts a node in as little time, and keeps what you store"), next: []string{"rotunda up"}}
			}
			if a.Server.Serve == nil {
				return errNoServer
			}
			if file == "" {
				return usageError{errors.New("--config is missing; for a node on this machine there is rotunda up"), cmd.CommandPath()}
			}
			err := a.Server.Serve(cmd.Context(), ServeConfig{File: file, Check: check, Out: a.Stdout, Log: a.Stderr})
			if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
				why, _ := a.explainSystem(err)
				return advise(fmt.Errorf("%w: %s", err, why), "give the listener in "+show.Shell(file)+" another address, or stop the program that has it")
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "", "`FILE` of the configuration, in HCL")
	c.Flags().BoolVar(&check, "check", false, "only check it")
	c.Flags().BoolVar(&dev, "dev", false, "of Vault; refused with what to do instead")
	return c
}
