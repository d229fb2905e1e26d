package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
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
	if a.env.configDir() == "rotunda" || data == "rotunda" {
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
			if detach {
				return a.detach(cmd.Context(), dir, listen, logFile)
			}
			err = a.up(cmd.Context(), dir, config, listen, logFile, ready)
			if err != nil && ready {
				return a.tell(err)
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
	_ = f.MarkHidden("ready-line") //nolint:errcheck // the flag is the one defined above
	return c
}

// readyLine is what a detached node tells the command that started it.
type readyLine struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Created bool     `json:"created"`
	Done    []string `json:"done"`
	Problem string   `json:"problem,omitempty"` // why the node did not start, as it would stand on a screen
}

func (a *app) up(ctx context.Context, data, config, listen, logFile string, ready bool) error {
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
	defer log.Close() //nolint:errcheck // nothing more is written
	pidFile := filepath.Join(a.env.stateDir(), "nodes", name+".pid")
	defer os.Remove(pidFile) //nolint:errcheck // it may not be there yet
	err = a.Server.Up(ctx, UpConfig{
		Data: data, Config: config, Listen: listen, Owner: a.tokenFor(name), Log: log,
		Ready: func(n Node) error {
			if err := a.keepNode(store, name, data, n); err != nil {
				return err
			}
			if err := keepPID(pidFile); err != nil {
				return err
			}
			if ready {
				b, err := json.Marshal(readyLine{Name: name, Address: n.Address, Created: n.Created, Done: n.Done})
				if err != nil {
					return fmt.Errorf("encoding: %w", err)
				}
				_, err = fmt.Fprintf(a.Stdout, "%s\n", b)
				return err
			}
			a.greet(readyLine{Name: name, Address: n.Address, Created: n.Created, Done: n.Done}, path, 0)
			return nil
		},
	})
	if err != nil {
		return err
	}
	a.note("Stopped; the data is kept.")
	return nil
}

// tell gives err to the command that started this one in the background, in
// place of the line that says that the node answers.
func (a *app) tell(err error) error {
	var text bytes.Buffer
	errs := a.Stderr
	a.Stderr = &text
	code := a.exit(err)
	a.Stderr = errs
	b, err := json.Marshal(readyLine{Problem: text.String()})
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

// greet says what was done and what can be done next.
func (a *app) greet(r readyLine, log string, pid int) {
	tick := "✓"
	if strings.ToUpper(a.env["LC_ALL"]) == "C" || a.env["TERM"] == "dumb" {
		tick = "*"
	}
	for _, d := range r.Done {
		a.note("  %s %s", tick, show.Clean(d))
	}
	a.note("  %s Listening at %s", tick, r.Address)
	a.note("  %s You are signed in as the owner (context %s)", tick, r.Name)
	a.note("")
	if r.Created {
		a.note("  Store a secret:      rotunda set DB_PASSWORD")
	} else {
		a.note("  See what is there:   rotunda ls")
	}
	a.note("  Run with secrets:    rotunda run -- COMMAND")
	a.note("  Use other clients:   eval \"$(rotunda env)\"")
	a.note("  Look for problems:   rotunda doctor")
	if pid != 0 {
		a.note("  Stop the node:       kill %d", pid)
	} else {
		a.note("  Stop the node:       Ctrl-C")
	}
	a.note("  Log:                 %s", log)
}

// detach starts `up` again in the background and waits until it answers.
func (a *app) detach(ctx context.Context, data, listen, logFile string) error {
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
	defer log.Close() //nolint:errcheck // the node has its own
	args := []string{"up", "--ready-line", "--data", data, "--listen", listen, "--log", path}
	// Not CommandContext: the node outlives this command.
	node := exec.Command(self, args...) //nolint:gosec,noctx // ourselves; see above
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
		line, _ := bufio.NewReader(out).ReadString('\n') //nolint:errcheck // empty where the node ended
		lines <- line
	}()
	select {
	case line := <-lines:
		var r readyLine
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Problem != "" {
			_ = node.Wait() //nolint:errcheck // what it said says more
			if r.Problem == "" {
				return advise(errors.New("the node ended before it answered"), "less "+show.Shell(path))
			}
			fmt.Fprint(a.Stderr, r.Problem)
			return silent(1)
		}
		pid := node.Process.Pid
		if err := node.Process.Release(); err != nil {
			return fmt.Errorf("letting go of the node: %w", err)
		}
		a.greet(r, path, pid)
		format, err := a.format()
		if err != nil || format == "table" {
			return err
		}
		return a.print(view{doc: document().set("address", r.Address).set("context", r.Name).set("pid", pid).set("log", path).json()})
	case <-ctx.Done():
		_ = node.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
		return ctx.Err()
	}
}

func (a *app) serverCommand() *cobra.Command {
	var file string
	var check bool
	c := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run a server as its configuration says",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Server.Serve == nil {
				return errNoServer
			}
			if file == "" {
				return usageError{errors.New("--config is missing; for a node on this machine there is rotunda up"), cmd.CommandPath()}
			}
			return a.Server.Serve(cmd.Context(), ServeConfig{File: file, Check: check, Out: a.Stdout, Log: a.Stderr})
		},
	}
	c.Flags().StringVar(&file, "config", "", "`FILE` of the configuration, in HCL")
	c.Flags().BoolVar(&check, "check", false, "only check it")
	return c
}

// sealStatus is what sys/seal-status answers.
type sealStatus struct {
	Type        string `json:"type"`
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
	T           int    `json:"t"`
	N           int    `json:"n"`
	Progress    int    `json:"progress"`
	Version     string `json:"version"`
	StorageType string `json:"storage_type"`
	ClusterName string `json:"cluster_name"`
	ClusterID   string `json:"cluster_id"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print whether the server is ready",
		Long:  "Print whether the server is ready. Exit code 0: unsealed. 1: no answer. 2: sealed.",
		Args:  atMost(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	none := secret.Text{}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none, NoWrap: true})
	if err != nil {
		if errors.Is(err, api.ErrShown) {
			return err
		}
		return failure{err: err, code: 1}
	}
	return a.printStatus(ctx, cl, resp.Body, true)
}

// printStatus prints what sys/seal-status or sys/unseal answered; with exit, a
// sealed server is exit code 2.
func (a *app) printStatus(ctx context.Context, cl *api.Client, body []byte, exit bool) error {
	var s sealStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("reading the status: %w", err)
	}
	doc := object(show.Members(body))
	if !s.Sealed && s.Initialized {
		none := secret.Text{}
		if resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/leader", Token: &none, NoWrap: true, NoRetry: true}); err == nil {
			for _, m := range show.Members(resp.Body) {
				doc.put(m.Name, m.Value)
			}
		}
	}
	err := a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		t.Add("Seal Type", s.Type)
		t.Add("Initialized", strconv.FormatBool(s.Initialized))
		t.Add("Sealed", strconv.FormatBool(s.Sealed))
		t.Add("Total Shares", strconv.Itoa(s.N))
		t.Add("Threshold", strconv.Itoa(s.T))
		if s.Sealed {
			t.Add("Unseal Progress", fmt.Sprintf("%d/%d", s.Progress, s.T))
		}
		t.Add("Version", s.Version)
		t.Add("Storage Type", s.StorageType)
		if s.ClusterName != "" {
			t.Add("Cluster Name", s.ClusterName)
		}
		if s.ClusterID != "" {
			t.Add("Cluster ID", s.ClusterID)
		}
		for _, extra := range []struct{ label, key string }{{"HA Enabled", "ha_enabled"}, {"Active Node Address", "leader_address"}} {
			if v, ok := show.Field(doc.json(), extra.key); ok && show.Text(v) != "" {
				t.Add(extra.label, show.Text(v))
			}
		}
		if err := a.table(w, &t); err != nil {
			return err
		}
		switch {
		case !s.Initialized:
			a.note("  next: rotunda operator init")
		case s.Sealed:
			a.note("  next: rotunda operator unseal")
		}
		return nil
	}})
	if err == nil && exit && s.Sealed {
		return silent(2)
	}
	return err
}

func (a *app) operatorCommand() *cobra.Command {
	status := a.statusCommand()
	seal := &cobra.Command{
		Use: "seal", Short: "Seal the server: nothing is answered until it is unsealed", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/seal", NoRetry: true}, "Success! The server is sealed.")
		},
	}
	keyStatus := &cobra.Command{
		Use: "key-status", Short: "Print the age and use of the encryption key", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.keyStatus(cmd) },
	}
	return group("operator", "Care for a server: init, unseal, seal, keys, recovery", a.operatorInit(), a.operatorUnseal(), seal, status, keyStatus, a.operatorRecover())
}

func (a *app) keyStatus(cmd *cobra.Command) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/key-status"})
	if err != nil {
		return err
	}
	data := resp.Data
	if data == nil {
		data = jsontext.Value(resp.Body)
	}
	return a.print(view{doc: data, people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		for _, k := range []struct{ label, key string }{{"Key Term", "term"}, {"Install Time", "install_time"}, {"Encryption Count", "encryptions"}} {
			if v, ok := show.Field(data, k.key); ok {
				t.Add(k.label, show.Text(v))
			}
		}
		return a.table(w, &t)
	}})
}

// initAnswer is what sys/init answers.
type initAnswer struct {
	Keys               []string `json:"keys"`
	KeysBase64         []string `json:"keys_base64"`
	RecoveryKeys       []string `json:"recovery_keys"`
	RecoveryKeysBase64 []string `json:"recovery_keys_base64"`
	RootToken          string   `json:"root_token"`
}

func (a *app) operatorInit() *cobra.Command {
	var shares, threshold, recoveryShares, recoveryThreshold int
	var pgp, recoveryPGP []string
	var rootPGP string
	var status bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the store of a new server, and print its keys once",
		Long: `Make the store of a new server. The key shares and the root token are printed
once and kept nowhere: give each share to another person.`,
		Example: "  rotunda operator init -key-shares=5 -key-threshold=3 -format=json",
		Args:    atMost(0),
	}
	f := c.Flags()
	f.IntVar(&shares, "key-shares", 5, "into how many shares the unseal key is split")
	f.IntVar(&threshold, "key-threshold", 3, "how many shares unseal")
	f.IntVar(&recoveryShares, "recovery-shares", 5, "into how many shares the recovery key is split, where the server unseals itself")
	f.IntVar(&recoveryThreshold, "recovery-threshold", 3, "how many of those are needed")
	f.StringSliceVar(&pgp, "pgp-keys", nil, "`keys` to encrypt the shares to, in base64, one for each share")
	f.StringSliceVar(&recoveryPGP, "recovery-pgp-keys", nil, "`keys` to encrypt the recovery shares to, in base64")
	f.StringVar(&rootPGP, "root-token-pgp-key", "", "`key` to encrypt the root token to, in base64")
	f.BoolVar(&status, "status", false, "only say whether it is done already: exit code 0 yes, 2 no")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		none := secret.Text{}
		if status {
			resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/init", Token: &none})
			if err != nil {
				return failure{err: err, code: 1}
			}
			if v, _ := show.Field(resp.Body, "initialized"); v.Kind() == 't' {
				a.note("The server is initialized.")
				return nil
			}
			a.note("The server is not initialized.")
			return silent(2)
		}
		resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none})
		if err != nil {
			return err
		}
		auto, _ := show.Field(resp.Body, "recovery_seal")
		body := object{}
		if auto.Kind() == 't' {
			body.set("recovery_shares", recoveryShares).set("recovery_threshold", recoveryThreshold)
			if len(recoveryPGP) > 0 {
				body.set("recovery_pgp_keys", recoveryPGP)
			}
		} else {
			body.set("secret_shares", shares).set("secret_threshold", threshold)
			if len(pgp) > 0 {
				body.set("pgp_keys", pgp)
			}
		}
		if rootPGP != "" {
			body.set("root_token_pgp_key", rootPGP)
		}
		if resp, err = cl.Do(ctx, api.Request{Method: "PUT", Path: "sys/init", Body: body.json(), Token: &none, NoWrap: true, NoRetry: true}); err != nil {
			return err
		}
		return a.printInit(resp.Body, shares, threshold, recoveryShares, recoveryThreshold)
	}
	return c
}

func (a *app) printInit(raw []byte, shares, threshold, recoveryShares, recoveryThreshold int) error {
	var ans initAnswer
	if err := json.Unmarshal(raw, &ans); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	list := func(v []string) []string {
		if v == nil {
			return []string{}
		}
		return v
	}
	doc := object{}
	doc.set("unseal_keys_b64", list(ans.KeysBase64)).set("unseal_keys_hex", list(ans.Keys)).
		set("unseal_shares", shares).set("unseal_threshold", threshold).
		set("recovery_keys_b64", list(ans.RecoveryKeysBase64)).set("recovery_keys_hex", list(ans.RecoveryKeys)).
		set("recovery_keys_shares", recoveryShares).set("recovery_keys_threshold", recoveryThreshold).
		set("root_token", ans.RootToken)
	return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		var b strings.Builder
		for i, k := range ans.KeysBase64 {
			fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, k)
		}
		for i, k := range ans.RecoveryKeysBase64 {
			fmt.Fprintf(&b, "Recovery Key %d: %s\n", i+1, k)
		}
		fmt.Fprintf(&b, "\nInitial Root Token: %s\n", ans.RootToken)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if len(ans.KeysBase64) > 0 {
			a.note("\nThese %d key shares are kept nowhere. Give each to another person: any %d of them\nunseal the server, and without them it stays sealed for ever.", shares, threshold)
			a.note("  next: rotunda operator unseal   (%d times, each with another share)", threshold)
		}
		a.note("  next: rotunda login             (with the root token; then make one that may less)")
		return nil
	}})
}

func (a *app) operatorUnseal() *cobra.Command {
	var reset, migrate bool
	c := &cobra.Command{
		Use:   "unseal [- | @FILE]",
		Short: "Give one key share; enough of them unseal the server",
		Long:  "Give one key share; enough of them unseal the server. It is asked for and not\nshown, or comes from standard input (-) or a file (@FILE).",
		Args:  atMost(1),
	}
	c.Flags().BoolVar(&reset, "reset", false, "forget the shares that were given so far")
	c.Flags().BoolVar(&migrate, "migrate", false, "move to the seal that the configuration names")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body := object{}
		if reset {
			body.set("reset", true)
		} else {
			key, err := a.secretArgument(args, "key share")
			if err != nil {
				return err
			}
			body.set("key", key.Reveal())
			if migrate {
				body.set("migrate", true)
			}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		none := secret.Text{}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "PUT", Path: "sys/unseal", Body: body.json(), Token: &none, NoWrap: true})
		if err != nil {
			return err
		}
		return a.printStatus(cmd.Context(), cl, resp.Body, false)
	}
	return c
}

func (a *app) operatorRecover() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "recover [--data DIR]",
		Short: "Make a new owner token for a node that is stopped, with its key file",
		Long: `Make a new owner token for a node of this machine, with the key file that seals
it: for when the owner's token is lost or has expired. The node must be stopped.
It is recorded in the audit journal.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Server.Recover == nil {
				return errNoServer
			}
			dir, config, err := a.nodeDirs(data)
			if err != nil {
				return err
			}
			if err := a.confirm("Make a token that may do everything on the node in " + dir + "?"); err != nil {
				return err
			}
			n, err := a.Server.Recover(cmd.Context(), RecoverConfig{Data: dir, Config: config})
			if err != nil {
				return err
			}
			store := a.env.profiles()
			all, err := store.Load()
			if err != nil {
				return err
			}
			name := nodeName(all, dir, a.env.dataDir())
			if n.Address == "" {
				n.Address = first(all.Contexts[name].Address, defaultAddress)
			}
			if len(n.CACert) == 0 {
				n.CACert = []byte(all.Contexts[name].CACert)
			}
			if err := a.keepNode(store, name, dir, n); err != nil {
				return err
			}
			for _, d := range n.Done {
				a.note("  %s", show.Clean(d))
			}
			a.note("You are signed in as the owner (context %s).", name)
			a.note("  next: rotunda up --data %s", show.Shell(dir))
			return nil
		},
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of the data (default: $XDG_DATA_HOME/rotunda)")
	return c
}

// moreCommand makes a command of one that another package performs.
func (a *app) moreCommand(m Command) *cobra.Command {
	return &cobra.Command{
		Use: m.Name, Short: m.Short, Long: m.Long,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			if code := m.Run(cmd.Context(), Call{Args: args, Stdin: a.stdin, Stdout: a.Stdout, Stderr: a.Stderr, Address: t.address, Token: t.token, CACert: t.caCert}); code != 0 {
				return silent(code)
			}
			return nil
		},
	}
}

// since reads a time as people give it: RFC 3339, or how long ago.
func (a *app) since(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	d, err := duration(s)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%q is no time: use 2026-01-31T10:00:00Z, 2026-01-31, or how long ago, such as 2h or 7d", show.Clean(s)), ""}
	}
	return a.Clock.Now().Add(-d), nil
}
