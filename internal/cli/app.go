package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

// app is the state of one run.
type app struct {
	Program
	env     environment
	root    *cobra.Command
	stdin   *bufio.Reader   // of Stdin, for what is not a terminal
	release func()          // stops turning signals into the end of the context
	done    <-chan struct{} // closed when the person has had enough

	// Flags that every command has.
	output, field                       string
	quiet, noInput, yes, curl, noColour bool
	address, namespace, caCert, caPath  string
	clientCert, clientKey, serverName   string
	wrapTTL, context, mount             string
	skipVerify, noRedirect              bool
	policy, override                    bool
	headers, mfa                        []string

	mounts map[string]mountInfo // preflights of this run
}

func newApp(p Program) *app {
	a := &app{Program: p, env: newEnvironment(p.Environ), mounts: map[string]mountInfo{}, release: func() {}}
	if a.Stdin == nil {
		a.Stdin = strings.NewReader("")
	}
	a.stdin = bufio.NewReader(a.Stdin)
	a.root = a.commands()
	return a
}

func (a *app) run(ctx context.Context) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a.release, a.done = stop, ctx.Done()
	for _, err := range []error{refuseToken(a.Args), checkArgs(a.Args), checkSettings(a.env)} {
		if err != nil {
			return a.exit(ctx, err)
		}
	}
	a.root.SetArgs(normalise(a.Args, longFlags(a.root)))
	return a.exit(ctx, a.root.ExecuteContext(ctx))
}

// commands returns the tree of commands.
func (a *app) commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "rotunda",
		Short: "Keep secrets, hand them to programs, and know who read them",
		Long: `Rotunda keeps secrets, hands them to programs, and knows who read them.

  rotunda up                    start a server on this machine and sign in
  rotunda set DB_PASSWORD       store a secret; asks for it without showing it
  rotunda run -- ./app          run a program with the secrets in its environment

It speaks the Vault API, so it is also a client for any server that does, and
takes Vault's commands and flags: rotunda kv get -mount=secret app.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		Version:       version().Version,
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetVersionTemplate("rotunda {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w", err), c.CommandPath()}
	})

	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "", "how to print: table, json, yaml, env or raw")
	f.StringVar(&a.output, "format", "", "the same as --output")
	f.StringVar(&a.field, "field", "", "print only this field")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print only data, errors and what was asked for")
	f.BoolVar(&a.noInput, "no-input", false, "never ask; fail where a question would be needed")
	f.BoolVarP(&a.yes, "yes", "y", false, "answer yes to every question")
	f.BoolVar(&a.noColour, "no-color", false, "print without colour")
	f.StringVar(&a.address, "address", "", "address of the server, such as https://127.0.0.1:8200")
	f.StringVar(&a.context, "context", "", "the saved context to use; see rotunda context")
	f.StringVar(&a.namespace, "namespace", "", "namespace of the server (also -ns)")
	f.StringVar(&a.caCert, "ca-cert", "", "`file` of the certificates to trust, in PEM")
	f.StringVar(&a.caPath, "ca-path", "", "`directory` of the certificates to trust, in PEM")
	f.StringVar(&a.clientCert, "client-cert", "", "`file` of the certificate to show to the server, in PEM")
	f.StringVar(&a.clientKey, "client-key", "", "`file` of its key, in PEM")
	f.StringVar(&a.serverName, "tls-server-name", "", "name that the server's certificate must have")
	f.BoolVar(&a.skipVerify, "tls-skip-verify", false, "do not check the server's certificate: whoever is in between can read everything")
	f.StringVar(&a.wrapTTL, "wrap-ttl", "", "have the answer wrapped in a token that lives so `long` and opens it once")
	f.StringArrayVar(&a.headers, "header", nil, "another header to send, as `NAME=VALUE`")
	f.BoolVar(&a.curl, "output-curl-string", false, "print the request as a curl command and do not send it")
	f.BoolVar(&a.policy, "output-policy", false, "print the rule that a policy needs for the request, and do not send it")
	f.BoolVar(&a.noRedirect, "disable-redirects", false, "do not follow a redirect")
	f.BoolVar(&a.override, "policy-override", false, "ask a server with Sentinel policies to override those that may be; others have no such thing")
	f.StringArrayVar(&a.mfa, "mfa", nil, "`credential` of a second factor, for servers that ask for one; MFA is the variable")
	_ = root.RegisterFlagCompletionFunc("output", fixed(formats...)) // the flag is the one defined above
	_ = root.RegisterFlagCompletionFunc("format", fixed(formats...))
	_ = root.RegisterFlagCompletionFunc("context", a.completeContexts)

	groups := []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"start", "Start here:", []*cobra.Command{a.upCommand(), a.setCommand(), a.getCommand(), a.runCommand(), a.lsCommand(), a.importCommand()}},
		{"secrets", "Secrets and their history:", []*cobra.Command{a.rmCommand(), a.historyCommand(), a.diffCommand(), a.rollbackCommand(), a.restoreCommand()}},
		{"access", "Who you are, who may do what:", []*cobra.Command{a.loginCommand(), a.logoutCommand(), a.whoamiCommand(), a.contextCommand(), a.envCommand(), a.tokenCommand(), a.policyCommand(), a.authCommand()}},
		{"server", "The server:", []*cobra.Command{a.serverCommand(), a.statusCommand(), a.operatorCommand(), a.auditCommand(), a.doctorCommand(), a.secretsCommand()}},
		{"vault", "Vault's verbs:", []*cobra.Command{a.kvCommand(), a.readCommand(), a.writeCommand(), a.listCommand(), a.deleteCommand(), a.patchCommand(), a.unwrapCommand(), a.leaseCommand(), a.pathHelpCommand()}},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	for _, m := range a.Server.More {
		root.AddCommand(a.moreCommand(m))
	}
	root.AddCommand(a.printCommand(), a.versionCommand(), a.versionHistoryCommand(), exitCodesTopic(), environmentTopic(), pathsTopic())
	addAbsent(root)
	root.InitDefaultCompletionCmd()
	addExamples(root)
	return root
}

// A usageError is a command line that cannot be understood.
type usageError struct {
	err     error
	command string
}

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// A failure is an error with what to do about it.
type failure struct {
	err  error
	code int // 0 is what the error says by itself
	next []string
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// advise returns err with commands that help; nil stays nil.
func advise(err error, next ...string) error {
	if err == nil {
		return nil
	}
	return failure{err: err, next: next}
}

// Advise returns err with the commands that help, for who starts a server; nil
// stays nil.
func Advise(err error, next ...string) error { return advise(err, next...) }

// A silent is an exit code that needs no word.
type silent int

func (s silent) Error() string { return "exit code " + strconv.Itoa(int(s)) }

// exit prints err, what may be done about it, and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil || errors.Is(err, api.ErrShown) {
		return 0
	}
	if s, ok := errors.AsType[silent](err); ok {
		return int(s)
	}
	if errors.Is(err, context.Canceled) {
		a.say("rotunda: interrupted\n")
		return 130
	}
	a.say("rotunda: %s\n", strings.TrimSpace(cleanLines(err.Error())))
	why, next := a.explain(ctx, err)
	if why != "" {
		a.say("  why:  %s\n", why)
	}
	for _, n := range next {
		a.say("  next: %s\n", n)
	}
	if f, ok := errors.AsType[failure](err); ok && f.code != 0 {
		return f.code
	}
	if _, odd := errors.AsType[oddAnswer](err); odd || api.StatusOf(err) != 0 {
		return 2
	}
	if _, ok := errors.AsType[*api.Unreachable](err); ok {
		return 2
	}
	return 1
}

func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = show.Clean(lines[i])
	}
	return strings.Join(lines, "\n  | ") // so that no line of it looks like ours
}

// target is the server that a command talks to.
type target struct {
	name    string // of the context; empty where there is none
	context profile.Context
	address string
	token   secret.Text
	source  string // where the token comes from
	plain   bool   // answers are not wrapped
	caCert  []byte
}

// fromVariable begins the source of a token that a variable holds.
const fromVariable = "the variable "

// defaultAddress is where `up` listens.
const defaultAddress = "https://127.0.0.1:8200"

// which returns a setting that says which server is meant or who asks it.
// Where a context is named by a flag, only the context says that: a variable
// that is meant for another server must not mix with it.
func (a *app) which(name string) (value, variable string) {
	if a.context != "" {
		return "", ""
	}
	return a.env.settingFrom(name)
}

func (a *app) whichValue(name string) string {
	v, _ := a.which(name)
	return v
}

// target finds the server, and the token for it. A token that is saved for a
// context is for its address and is sent nowhere else.
func (a *app) target() (target, error) {
	var t target
	store := a.env.profiles()
	all, err := store.Load()
	if err != nil {
		return t, err
	}
	t.name = first(a.context, a.env.setting("CONTEXT"), all.Current)
	if t.name != "" {
		c, ok := all.Contexts[t.name]
		if !ok {
			return t, advise(fmt.Errorf("there is no context %q", t.name), "rotunda context list")
		}
		t.context = c
	}
	t.address = strings.TrimSuffix(first(a.address, a.whichValue("AGENT_ADDR"), a.whichValue("ADDR"), t.context.Address, defaultAddress), "/")
	ours := t.name != "" && t.address == strings.TrimSuffix(t.context.Address, "/")
	if !ours && a.context == "" {
		// The address is another's: what is saved for the context is not for it.
		for name, c := range all.Contexts {
			if strings.TrimSuffix(c.Address, "/") == t.address {
				t.name, t.context, ours = name, c, true
				break
			}
		}
	}
	if !ours {
		t.name, t.context = "", profile.Context{}
	}

	token, variable := a.which("TOKEN")
	switch {
	case token != "":
		t.token, t.source = secret.New(strings.TrimSpace(token)), fromVariable+variable
	case a.whichValue("TOKEN_PATH") != "":
		t.source = a.whichValue("TOKEN_PATH")
		if t.token, err = profile.ReadToken(t.source); err != nil && !errors.Is(err, profile.ErrNoToken) {
			return t, err
		}
	case ours:
		t.source = "context " + t.name
		if t.token, err = store.Token(t.name); err != nil && !errors.Is(err, profile.ErrNoToken) {
			return t, err
		}
	}

	if err := checkSecret(t.token, "token of "+t.source); err != nil {
		return t, err
	}

	switch file := first(a.caCert, a.whichValue("CACERT")); {
	case file != "":
		if t.caCert, err = os.ReadFile(file); err != nil { //nolint:gosec // the person names the file
			return t, fmt.Errorf("reading the CA certificate: %w", err)
		}
	case a.whichValue("CACERT_BYTES") != "":
		t.caCert = []byte(a.whichValue("CACERT_BYTES"))
	case ours:
		t.caCert = []byte(t.context.CACert)
	}
	return t, nil
}

// client returns a client for the server that flags, environment and context
// name, in this order.
func (a *app) client() (*api.Client, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	return a.clientFor(t)
}

// plainClient is client for commands that need what is in the answers: nothing
// is wrapped for them, whatever the environment says.
func (a *app) plainClient() (*api.Client, error) {
	if a.wrapTTL != "" {
		return nil, usageError{errors.New("--wrap-ttl does not go with this command, which reads the answers itself: get, read, write and kv have theirs wrapped"), ""}
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	t.plain = true
	return a.clientFor(t)
}

func (a *app) clientFor(t target) (*api.Client, error) {
	c := api.Config{
		Address:    t.address,
		Token:      t.token,
		Namespace:  first(a.namespace, a.whichValue("NAMESPACE"), t.context.Namespace),
		WrapTTL:    first(a.wrapTTL, a.env.setting("WRAP_TTL")),
		UserAgent:  "rotunda/" + version().Version,
		CACert:     t.caCert,
		CAPath:     first(a.caPath, a.whichValue("CAPATH")),
		ClientCert: first(a.clientCert, a.env.setting("CLIENT_CERT")),
		ClientKey:  first(a.clientKey, a.env.setting("CLIENT_KEY")),
		ServerName: first(a.serverName, a.whichValue("TLS_SERVER_NAME")),
		SkipVerify: a.skipVerify || a.env.flag("SKIP_VERIFY"),
		Proxy:      first(a.env.setting("PROXY_ADDR"), a.env.setting("HTTP_PROXY")),
		NoRedirect: a.noRedirect || a.env.flag("DISABLE_REDIRECTS"),
		Retries:    2,
		Headers:    http.Header{},
		Clock:      a.Clock,
	}
	if t.plain {
		c.WrapTTL = ""
	}
	if v := a.env.setting("MAX_RETRIES"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 100 {
			return nil, fmt.Errorf("MAX_RETRIES is %q and must be a number from 0 to 100", v)
		}
		c.Retries = n
	}
	if v := a.env.setting("CLIENT_TIMEOUT"); v != "" {
		d, err := wire.ParseDuration(v)
		if err != nil || d == 0 {
			return nil, fmt.Errorf("CLIENT_TIMEOUT is %q and must be like 60s", v)
		}
		c.Timeout = time.Duration(d)
	}
	for _, h := range a.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok || k == "" {
			return nil, errors.New("a --header is NAME=VALUE")
		}
		c.Headers.Add(k, v)
	}
	mfa := a.mfa
	if v := a.env.setting("MFA"); len(mfa) == 0 && v != "" {
		mfa = []string{v}
	}
	for _, m := range mfa {
		c.Headers.Add("X-Vault-MFA", m)
	}
	if a.override {
		c.Headers.Set("X-Vault-Policy-Override", "true")
	}
	switch {
	case a.curl:
		c.Show = func(_ api.Request, curl string) { _, _ = fmt.Fprintln(a.Stdout, curl) } // nobody reads it
	case a.policy:
		c.Show = func(r api.Request, _ string) { _, _ = fmt.Fprintln(a.Stdout, policyFor(r)) } // nobody reads it
	}
	return api.New(c)
}

// say prints for people, on standard error. Where that is closed there is
// nobody to tell.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(show.Screen(a.Stderr), format, args...)
}

// note prints a line for people, on standard error.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.say(format+"\n", args...)
	}
}

// warn prints the server's warnings.
func (a *app) warn(r *api.Response) {
	if r == nil || a.quiet {
		return
	}
	for _, w := range r.Warnings {
		a.say("warning: %s\n", show.Clean(w))
	}
}

func (a *app) terminal(s any) bool {
	f, ok := s.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// colour reports whether w may get colour.
func (a *app) colour(w io.Writer) bool {
	switch {
	case a.noColour, a.env["NO_COLOR"] != "":
		return false
	case a.env.setting("CLI_NO_COLOR") != "":
		return false
	case a.env["CLICOLOR_FORCE"] != "" && a.env["CLICOLOR_FORCE"] != "0":
		return true
	case a.env["TERM"] == "dumb":
		return false
	}
	return a.terminal(w)
}

// canAsk reports whether a person is there to answer.
func (a *app) canAsk() bool { return !a.noInput && a.terminal(a.Stdin) && a.terminal(a.Stderr) }

// ask reads a secret that is not shown while it is typed.
func (a *app) ask(what string) (secret.Text, error) {
	if !a.canAsk() {
		return secret.Text{}, usageError{fmt.Errorf("%s is needed and nobody can be asked: give it on standard input with -, or in a file with @FILE", what), ""}
	}
	in, ok := a.Stdin.(*os.File)
	if !ok {
		return secret.Text{}, errors.New("standard input is no terminal")
	}
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Text{}, fmt.Errorf("reading the terminal's state: %w", err)
	}
	a.say("%s (not shown): ", what)
	b, err := a.answer(func() ([]byte, error) { return term.ReadPassword(fd) })
	a.say("\n")
	if err != nil {
		_ = term.Restore(fd, before) // nothing more can be done
		return secret.Text{}, fmt.Errorf("reading %s: %w", what, err)
	}
	defer clear(b)
	return secret.New(string(b)), nil
}

// answer waits for what a person types, and no longer than the person wants to.
func (a *app) answer(read func() ([]byte, error)) ([]byte, error) {
	type line struct {
		text []byte
		err  error
	}
	lines := make(chan line, 1)
	go func() {
		text, err := read() // ends with this program where nobody answers
		lines <- line{text, err}
	}()
	select {
	case l := <-lines:
		return l.text, l.err
	case <-a.done:
		return nil, context.Canceled
	}
}

// confirm asks a question that is answered by yes or no. Where nobody can be
// asked it is refused, naming --yes.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	if !a.canAsk() {
		return usageError{errors.New(question + " Nobody can be asked: add --yes to go on"), ""}
	}
	a.say("%s [y/N] ", question)
	line, err := a.answer(func() ([]byte, error) { return a.stdin.ReadBytes('\n') })
	if err != nil && len(line) == 0 {
		return fmt.Errorf("reading an answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(string(line))) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// maxInput bounds what is read from standard input and from files, in bytes.
const maxInput = 32 << 20

// readAll reads standard input to its end.
func (a *app) readAll() ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(a.stdin, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("standard input has more than %d MiB", maxInput>>20)
	}
	return b, nil
}

// readFile reads a file that an argument names.
func (a *app) readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the person names the file
	if err != nil {
		return nil, fmt.Errorf("reading a file: %w", err)
	}
	defer f.Close() // it is only read
	b, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("%s has more than %d MiB", path, maxInput>>20)
	}
	return b, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// fixed completes to one of the given words.
func fixed(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}
