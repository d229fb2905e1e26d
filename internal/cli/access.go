package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/hcl/hcl/printer"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

func (a *app) loginCommand() *cobra.Command {
	var method string
	var printOnly bool
	c := &cobra.Command{
		Use:   "login [- | @FILE]",
		Short: "Save a token for a server, after trying it",
		Long: `Save a token for a server, after trying it. The token is asked for and not
shown, or comes from standard input (-) or a file (@FILE).

With --address the server becomes a context of its own, with the certificates of
--ca-cert: later commands need neither.`,
		Example: `  rotunda login
  rotunda login --address https://vault.example.com --ca-cert ca.pem --context work
  print-token | rotunda login -`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if method != "" && method != "token" {
				return failure{err: fmt.Errorf("logging in by %s is not done by this command", show.Clean(method)), next: []string{
					"rotunda auth list", "rotunda write auth/" + show.Shell(method) + "/login … --field token > FILE, then: rotunda login @FILE",
				}}
			}
			if len(args) == 1 && args[0] != "-" && !strings.HasPrefix(args[0], "@") {
				a.note("warning: a token on the command line is seen by other users and kept in the shell's history: rotunda login asks for it, rotunda login - reads it")
			}
			return a.login(cmd, args, printOnly)
		},
	}
	c.Flags().StringVar(&method, "method", "", "how to log in; only token")
	c.Flags().BoolVar(&printOnly, "no-store", false, "try the token and do not save it")
	return c
}

func (a *app) login(cmd *cobra.Command, args []string, dry bool) error {
	store := a.env.profiles()
	name := a.context
	if name != "" {
		if err := profile.CheckName(name); err != nil {
			return err
		}
		all, err := store.Load()
		if err != nil {
			return err
		}
		if _, ok := all.Contexts[name]; !ok {
			a.context = "" // it is made below
		}
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	if t.token, err = a.secretArgument(args, "token"); err != nil {
		return err
	}
	cl, err := a.clientFor(t)
	if err != nil {
		return err
	}
	resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "auth/token/lookup-self", NoWrap: true})
	if api.StatusOf(err) == 403 {
		return failure{err: fmt.Errorf("%s does not know this token, or it has expired", t.address), code: 2, next: []string{"rotunda status"}}
	}
	if err != nil {
		return err
	}
	if name == "" {
		name = t.name
	}
	if !dry {
		all, err := store.Load()
		if err != nil {
			return err
		}
		if name == "" {
			name = contextName(all, t.address)
		}
		c, known := all.Contexts[name]
		if known && t.name != name && c.Address != "" && c.Address != t.address {
			if err := a.confirm(fmt.Sprintf("Context %s is for %s. Make it one for %s?", name, c.Address, t.address)); err != nil {
				return err
			}
			c = profile.Context{}
		}
		c.Address = t.address
		c.Namespace = first(a.namespace, c.Namespace)
		if len(t.caCert) > 0 {
			c.CACert = string(t.caCert)
		}
		all.Contexts[name], all.Current = c, name
		if err := store.SaveToken(name, t.token); err != nil {
			return err
		}
		if err := store.Save(all); err != nil {
			return err
		}
		a.note("You are logged in to %s (context %s).", t.address, name)
		if _, variable := a.env.settingFrom("TOKEN"); variable != "" {
			a.note("warning: the variable %s is set and is used instead of what was saved", variable)
		}
	}
	return a.printSelf(t, name, resp.Data)
}

// contextName returns a name that is free for an address.
func contextName(all profile.Contexts, address string) string {
	base := "server"
	if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
		base = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
				return r
			}
			return '_'
		}, u.Hostname())
		base = strings.TrimLeft(base, ".-")
		if base = base[:min(len(base), 48)]; base == "" {
			base = "server"
		}
	}
	name := base
	for i := 2; ; i++ {
		if c, taken := all.Contexts[name]; !taken || c.Address == address {
			return name
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
}

func (a *app) printSelf(t target, name string, data jsontext.Value) error {
	var o object
	o.set("address", t.address)
	if name != "" {
		o.set("context", name)
	}
	for _, k := range []string{"display_name", "entity_id", "policies", "identity_policies", "type", "ttl", "expire_time", "renewable", "num_uses", "orphan", "accessor", "path", "meta"} {
		if v, ok := show.Field(data, k); ok {
			if v.Kind() == 'n' && k != "expire_time" || v.Kind() == '"' && show.Text(v) == "" {
				continue
			}
			o.set(k, v)
		}
	}
	doc := append(object{{Name: "schema_version", Value: jsontext.Value("1")}}, o...)
	return a.print(view{doc: doc.json(), data: o.json(), people: func(w io.Writer) error {
		tbl := show.Table{Header: []string{"Key", "Value"}}
		for _, m := range o {
			text := show.Cell(m.Value)
			if m.Name == "expire_time" && m.Value.Kind() == 'n' {
				text = "never"
			}
			tbl.Add(m.Name, text)
		}
		return a.table(w, &tbl)
	}})
}

func (a *app) logoutCommand() *cobra.Command {
	var revoke bool
	c := &cobra.Command{
		Use: "logout", Short: "Forget the saved token", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			if t.name == "" {
				return fmt.Errorf("no token is saved for %s", t.address)
			}
			store := a.env.profiles()
			saved, err := store.Token(t.name)
			if errors.Is(err, profile.ErrNoToken) {
				a.note("You were not logged in (context %s).", t.name)
				return nil
			}
			if err == nil && revoke {
				t.token = saved
				cl, err := a.clientFor(t)
				if err != nil {
					return err
				}
				if _, err := cl.Do(cmd.Context(), api.Request{Method: "PUT", Path: "auth/token/revoke-self"}); err != nil {
					return err
				}
			}
			if t.context.Data != "" {
				if err := a.confirm("This is the owner of the node in " + t.context.Data + ". Forget its token? Only rotunda operator recover makes another."); err != nil {
					return err
				}
			}
			if err := store.DropToken(t.name); err != nil {
				return err
			}
			a.note("You are logged out (context %s).", t.name)
			return nil
		},
	}
	c.Flags().BoolVar(&revoke, "revoke", false, "end the token on the server, too")
	return c
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Print who you are to the server", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			if t.token.Empty() {
				return advise(fmt.Errorf("you are not logged in to %s", t.address), "rotunda login")
			}
			cl, err := a.clientFor(t)
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "auth/token/lookup-self", NoWrap: true})
			if api.StatusOf(err) == 403 {
				return failure{err: fmt.Errorf("%s does not know the token from %s, or it has expired", t.address, t.source), code: 2, next: []string{"rotunda login"}}
			}
			if err != nil {
				return err
			}
			return a.printSelf(t, t.name, resp.Data)
		},
	}
}

func (a *app) printCommand() *cobra.Command {
	return group("print", "Print what commands would use", &cobra.Command{
		Use: "token", Short: "Print the token", Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			if t.token.Empty() {
				return advise(fmt.Errorf("there is no token for %s", t.address), "rotunda login")
			}
			fmt.Fprintln(a.Stdout, t.token.Reveal())
			return nil
		},
	})
}

func (a *app) contextCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the servers that are saved", Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			store := a.env.profiles()
			all, err := store.Load()
			if err != nil {
				return err
			}
			names := make([]string, 0, len(all.Contexts))
			for n := range all.Contexts {
				names = append(names, n)
			}
			slices.Sort(names)
			doc := []*object{}
			t := show.Table{Header: []string{"Current", "Name", "Address", "Token", "Data"}}
			for _, n := range names {
				c := all.Contexts[n]
				_, err := store.Token(n)
				mark, token := "", "saved"
				if n == all.Current {
					mark = "*"
				}
				if errors.Is(err, profile.ErrNoToken) {
					token = "none"
				} else if err != nil {
					token = "unusable: " + err.Error()
				}
				doc = append(doc, new(object).set("name", n).set("current", n == all.Current).set("address", c.Address).set("token", token).set("data", c.Data))
				t.Add(mark, n, c.Address, token, c.Data)
			}
			if len(names) == 0 {
				a.note("no server is saved yet: rotunda up, or rotunda login --address URL")
			}
			return a.print(view{doc: document().set("contexts", doc).json(), people: func(w io.Writer) error { return a.table(w, &t) }})
		},
	}
	use := &cobra.Command{
		Use: "use NAME", Short: "Make a server the one that commands use", Args: exactly(1, "NAME"), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			store := a.env.profiles()
			all, err := store.Load()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return advise(fmt.Errorf("there is no context %q", show.Clean(args[0])), "rotunda context list")
			}
			all.Current = args[0]
			if err := store.Save(all); err != nil {
				return err
			}
			a.note("Commands use %s (%s).", args[0], all.Contexts[args[0]].Address)
			return nil
		},
	}
	showOne := &cobra.Command{
		Use: "show", Short: "Print the server that commands use", Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			o := document()
			o.set("name", t.name).set("address", t.address).set("token_from", first(t.source, "none"))
			if t.token.Empty() {
				o.set("token_from", "none")
			}
			o.set("namespace", t.context.Namespace).set("mount", first(t.context.Mount, "secret")).set("data", t.context.Data).set("ca_pinned", len(t.caCert) > 0)
			return a.print(view{doc: o.json()})
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Forget a server and its token", Args: exactly(1, "NAME"), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			store := a.env.profiles()
			all, err := store.Load()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return advise(fmt.Errorf("there is no context %q", show.Clean(args[0])), "rotunda context list")
			}
			if err := a.confirm("Forget context " + args[0] + " and its token?"); err != nil {
				return err
			}
			delete(all.Contexts, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			if err := store.DropToken(args[0]); err != nil {
				return err
			}
			return store.Save(all)
		},
	}
	return group("context", "The servers that are saved: list, use, show, remove", list, use, showOne, remove)
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := a.env.profiles().Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for n := range all.Contexts {
		names = append(names, n)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) envCommand() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "env [--data DIR]",
		Short: "Print the settings that make any Vault client work here",
		Long: `Print the settings that make any Vault client use the server and the token that
this one uses, as commands of a shell:

  eval "$(rotunda env)"

With --data it is the node that rotunda up started with this directory. The token
is printed: do not run this where others look on.`,
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			store := a.env.profiles()
			if data != "" {
				name, err := a.contextOf(data)
				if err != nil {
					return err
				}
				a.context = name // this node, whatever the variables of the shell name
			}
			t, err := a.target()
			if err != nil {
				return err
			}
			if t.token.Empty() {
				return advise(fmt.Errorf("there is no token for %s", t.address), "rotunda login")
			}
			ca := first(a.caCert, a.whichValue("CACERT"))
			if ca == "" && t.name != "" && t.context.CACert != "" {
				ca = store.CAFile(t.name)
			}
			vars := object{}
			for _, p := range []string{"VAULT_", "ROTUNDA_"} {
				vars.set(p+"ADDR", t.address)
				if ca != "" {
					vars.set(p+"CACERT", ca)
				}
				if ns := first(a.namespace, a.whichValue("NAMESPACE"), t.context.Namespace); ns != "" {
					vars.set(p+"NAMESPACE", ns)
				}
				vars.set(p+"TOKEN", t.token.Reveal())
			}
			return a.print(view{doc: vars.json(), people: func(w io.Writer) error {
				for _, m := range vars {
					if _, err := fmt.Fprintf(w, "export %s=%s\n", m.Name, show.Shell(show.Text(m.Value))); err != nil {
						return fmt.Errorf("writing: %w", err)
					}
				}
				return nil
			}})
		},
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of a node that rotunda up started")
	return c
}

// contextOf returns the name of the context of a node's data directory.
func (a *app) contextOf(data string) (string, error) {
	abs, err := absolute(data)
	if err != nil {
		return "", err
	}
	all, err := a.env.profiles().Load()
	if err != nil {
		return "", err
	}
	for name, c := range all.Contexts {
		if c.Data == abs {
			return name, nil
		}
	}
	return "", advise(fmt.Errorf("no node was started here with the data directory %s", abs), "rotunda up --data "+show.Shell(data))
}

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Make tokens, look at them, renew and revoke them",
		a.tokenCreate(), a.tokenLookup(), a.tokenRenew(), a.tokenRevoke(), a.tokenCapabilities())
}

func (a *app) tokenCreate() *cobra.Command {
	var policies, meta []string
	var ttl, maxTTL, period, display, kind, role, id, alias string
	var uses int
	var orphan, noDefault, renewable bool
	c := &cobra.Command{
		Use: "create", Short: "Make a token, a child of yours", Args: atMost(0),
		Example: "  rotunda token create --policy app-read --ttl 1h\n  rotunda token create --policy ci --use-limit 1 --wrap-ttl 5m",
	}
	f := c.Flags()
	f.StringArrayVar(&policies, "policy", nil, "a policy that it has; may be given more than once")
	f.StringVar(&ttl, "ttl", "", "how `long` it lives before it must be renewed")
	f.StringVar(&maxTTL, "explicit-max-ttl", "", "how `long` it may live at most")
	f.StringVar(&period, "period", "", "renew it for so `long` each time, without end")
	f.StringVar(&display, "display-name", "", "name for lists and the audit journal")
	f.StringVar(&kind, "type", "", "service or batch")
	f.StringVar(&role, "role", "", "make it as this role says")
	f.StringVar(&id, "id", "", "use this as the token, from - or @FILE; needs root")
	f.StringVar(&alias, "entity-alias", "", "alias to make it with; needs a role that allows it")
	f.IntVar(&uses, "use-limit", 0, "how often it may be used; 0 is any number of times")
	f.BoolVar(&orphan, "orphan", false, "do not make it a child of yours")
	f.BoolVar(&noDefault, "no-default-policy", false, "without the default policy")
	f.BoolVar(&renewable, "renewable", true, "let it be renewed")
	f.StringArrayVar(&meta, "metadata", nil, "`KEY=VALUE` for the audit journal; may be given more than once")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		body := object{}
		if len(policies) > 0 {
			body.set("policies", policies)
		}
		for _, kv := range []struct{ key, value string }{{"ttl", ttl}, {"explicit_max_ttl", maxTTL}, {"period", period}, {"display_name", display}, {"type", kind}, {"entity_alias", alias}} {
			if kv.value != "" {
				body.set(kv.key, kv.value)
			}
		}
		if uses != 0 {
			body.set("num_uses", uses)
		}
		if noDefault {
			body.set("no_default_policy", true)
		}
		if kind != "batch" {
			body.set("renewable", renewable)
		}
		if len(meta) > 0 {
			m, err := pairs(meta)
			if err != nil {
				return err
			}
			body.set("meta", m)
		}
		if id != "" {
			if id != "-" && !strings.HasPrefix(id, "@") {
				a.note("warning: a token on the command line is seen by other users and kept in the shell's history: --id - reads it")
			}
			t, err := a.secretArgument([]string{id}, "token")
			if err != nil {
				return err
			}
			body.set("id", t.Reveal())
		}
		path := "auth/token/create"
		switch {
		case role != "":
			path += "/" + role
			if orphan {
				body.set("no_parent", true)
			}
		case orphan:
			path = "auth/token/create-orphan"
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: path, Body: body.json()})
		if err != nil {
			return err
		}
		return a.printResponse(resp)
	}
	return c
}

func (a *app) tokenLookup() *cobra.Command {
	var accessor bool
	c := &cobra.Command{Use: "lookup [TOKEN | -]", Short: "Print what a token is; without one, yours", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		req := api.Request{Method: "GET", Path: "auth/token/lookup-self"}
		switch {
		case accessor && len(args) == 0:
			return usageError{errors.New("the accessor is missing"), cmd.CommandPath()}
		case accessor:
			req = api.Request{Method: "POST", Path: "auth/token/lookup-accessor", Body: new(object).set("accessor", args[0]).json()}
		case len(args) == 1:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req = api.Request{Method: "POST", Path: "auth/token/lookup", Body: new(object).set("token", t.Reveal()).json()}
		}
		return a.send(cmd, req, "")
	}
	return c
}

func (a *app) tokenRenew() *cobra.Command {
	var accessor bool
	var increment string
	c := &cobra.Command{Use: "renew [TOKEN | -]", Short: "Make a token live longer; without one, yours", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags().StringVar(&increment, "increment", "", "ask for so `long` from this moment on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body := object{}
		req := api.Request{Method: "PUT", Path: "auth/token/renew-self"}
		switch {
		case accessor && len(args) == 0:
			return usageError{errors.New("the accessor is missing"), cmd.CommandPath()}
		case accessor:
			req = api.Request{Method: "POST", Path: "auth/token/renew-accessor"}
			body.set("accessor", args[0])
		case len(args) == 1:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req.Path = "auth/token/renew"
			body.set("token", t.Reveal())
		}
		if increment != "" {
			body.set("increment", increment)
		}
		req.Body = body.json()
		return a.send(cmd, req, "")
	}
	return c
}

func (a *app) tokenRevoke() *cobra.Command {
	var accessor, self bool
	var mode string
	c := &cobra.Command{Use: "revoke [TOKEN | - | --self]", Short: "End a token and its children", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags().BoolVar(&self, "self", false, "end the token that you use")
	c.Flags().StringVar(&mode, "mode", "", "orphan: its children live on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var req api.Request
		switch {
		case mode != "" && mode != "orphan":
			return usageError{errors.New("--mode is orphan, or is left out"), cmd.CommandPath()}
		case self && (accessor || len(args) > 0), !self && len(args) == 0:
			return usageError{errors.New("give a token, an --accessor, or --self"), cmd.CommandPath()}
		case self && mode == "":
			req = api.Request{Method: "PUT", Path: "auth/token/revoke-self"}
		case self:
			return usageError{errors.New("--mode goes with a token"), cmd.CommandPath()}
		case accessor:
			if mode != "" {
				return usageError{errors.New("--mode goes with a token"), cmd.CommandPath()}
			}
			req = api.Request{Method: "POST", Path: "auth/token/revoke-accessor", Body: new(object).set("accessor", args[0]).json()}
		default:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			path := "auth/token/revoke"
			if mode == "orphan" {
				path = "auth/token/revoke-orphan"
			}
			req = api.Request{Method: "PUT", Path: path, Body: new(object).set("token", t.Reveal()).json()}
		}
		return a.send(cmd, req, "Success! Revoked the token (if it existed)")
	}
	return c
}

func (a *app) tokenCapabilities() *cobra.Command {
	var accessor bool
	c := &cobra.Command{Use: "capabilities [TOKEN | -] PATH", Short: "Print what a token may do at a path; without one, yours", Args: between(1, 2, "PATH")}
	c.Flags().BoolVar(&accessor, "accessor", false, "the first argument is an accessor")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path := args[len(args)-1]
		body := object{}
		body.set("path", path)
		req := api.Request{Method: "POST", Path: "sys/capabilities-self"}
		switch {
		case accessor && len(args) < 2:
			return usageError{errors.New("the accessor or the path is missing"), cmd.CommandPath()}
		case accessor:
			req.Path = "sys/capabilities-accessor"
			body.set("accessor", args[0])
		case len(args) == 2:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req.Path = "sys/capabilities"
			body.set("token", t.Reveal())
		}
		req.Body = body.json()
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.warn(resp)
		data := resp.Data
		if data == nil {
			data = jsontext.Value(resp.Body)
		}
		caps, ok := show.Field(data, "capabilities")
		if !ok {
			caps, _ = show.Field(data, path)
		}
		return a.print(view{doc: caps, people: func(w io.Writer) error {
			_, err := fmt.Fprintln(w, show.Clean(strings.Join(texts(caps), ", ")))
			return err
		}})
	}
	return c
}

func (a *app) policyCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the policies", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/policies/acl", Query: url.Values{"list": {"true"}}})
			if err != nil {
				return asList(err)
			}
			keys, _ := show.Field(resp.Data, "keys")
			lines := strings.Join(texts(keys), "\n")
			return a.print(view{doc: keys, raw: &lines, enter: true, people: func(w io.Writer) error {
				_, err := fmt.Fprintln(w, cleanHelp(lines))
				return err
			}})
		},
	}
	read := &cobra.Command{
		Use: "read NAME", Short: "Print a policy", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/policies/acl/" + args[0]})
			if api.StatusOf(err) == 404 {
				return failure{err: fmt.Errorf("there is no policy named %s", show.Clean(args[0])), code: 2, next: []string{"rotunda policy list"}}
			}
			if err != nil {
				return err
			}
			text, _ := show.Field(resp.Data, "policy")
			plain := show.Text(text)
			return a.print(view{doc: resp.Data, raw: &plain, people: func(w io.Writer) error {
				_, err := fmt.Fprintln(w, strings.TrimRight(cleanHelp(strings.ReplaceAll(plain, "\t", "    ")), "\n"))
				return err
			}})
		},
	}
	write := &cobra.Command{
		Use: "write NAME FILE", Short: "Store a policy from a file, or from standard input (-)", Args: exactly(2, "NAME or FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var text []byte
			var err error
			if args[1] == "-" {
				text, err = a.readAll()
			} else {
				text, err = a.readFile(strings.TrimPrefix(args[1], "@"))
			}
			if err != nil {
				return err
			}
			body := new(object).set("policy", string(text)).json()
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/policies/acl/" + args[0], Body: body}, "Success! Uploaded policy: "+args[0])
		},
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete a policy", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/policies/acl/" + args[0]}, "Success! Deleted policy: "+args[0])
		},
	}
	format := &cobra.Command{
		Use: "fmt FILE", Short: "Lay out the text of a policy in a file", Args: exactly(1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			var text []byte
			var err error
			if args[0] == "-" {
				text, err = a.readAll()
			} else {
				text, err = a.readFile(args[0])
			}
			if err != nil {
				return err
			}
			out, err := printer.Format(text)
			if err != nil {
				return fmt.Errorf("reading %s: %w", show.Clean(args[0]), err)
			}
			out = append(bytes.TrimSpace(out), '\n')
			if args[0] == "-" {
				_, err := a.Stdout.Write(out)
				return err
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return fmt.Errorf("looking at %s: %w", args[0], err)
			}
			if err := os.WriteFile(args[0], out, info.Mode().Perm()); err != nil {
				return fmt.Errorf("writing %s: %w", args[0], err)
			}
			a.note("Success! Formatted policy: %s", show.Clean(args[0]))
			return nil
		},
	}
	return group("policy", "Who may do what: list, read, write, delete, fmt, explain", list, read, write, remove, format, a.policyExplain())
}

// verbs are what a policy allows.
var verbs = []string{"create", "read", "update", "patch", "delete", "list", "sudo"}

func (a *app) policyExplain() *cobra.Command {
	var accessor, file string
	var policies []string
	c := &cobra.Command{
		Use:   "explain CAPABILITY PATH",
		Short: "Say which rule of which policy allows or denies something",
		Long: `Say which rule of which policy allows or denies something, and what would be
needed. The path is one of the API: for a secret of kv version 2 it has data/ or
metadata/ after the mount. Without a flag it is about yourself.`,
		Example: `  rotunda policy explain read secret/data/app
  rotunda policy explain update secret/data/app --policy app-read --policy ci
  rotunda policy explain list secret/metadata --accessor ACCESSOR`,
		Args: between(1, 2, "PATH"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return verbs, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().StringVar(&accessor, "accessor", "", "about the token with this accessor")
	c.Flags().StringSliceVar(&policies, "policy", nil, "about someone who has these policies and no others")
	c.Flags().StringVar(&file, "file", "", "about someone who has the policy in this file and no other")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		verb, path := "read", args[len(args)-1]
		if len(args) == 2 {
			verb = args[0]
			if slices.Contains(verbs, path) && !slices.Contains(verbs, verb) {
				verb, path = path, verb
			}
		}
		if !slices.Contains(verbs, verb) {
			return usageError{fmt.Errorf("%q is not one of %s", show.Clean(verb), strings.Join(verbs, ", ")), cmd.CommandPath()}
		}
		body := object{}
		body.set("path", strings.TrimPrefix(path, "/")).set("capability", verb)
		if accessor != "" {
			body.set("accessor", accessor)
		}
		if len(policies) > 0 {
			body.set("policies", policies)
		}
		if file != "" {
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			body.set("policy", string(text))
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: "sys/policy-explain", Body: body.json()})
		if err != nil {
			return err
		}
		a.warn(resp)
		return a.print(view{doc: resp.Data, people: func(w io.Writer) error { return a.explanation(w, resp.Data) }})
	}
	return c
}

// trace is what sys/policy-explain answers.
type trace struct {
	Path     string   `json:"path"`
	Verb     string   `json:"verb"`
	Sudo     bool     `json:"sudo"`
	Allowed  bool     `json:"allowed"`
	Missing  []string `json:"missing"`
	Needed   string   `json:"needed"`
	Stanza   string   `json:"stanza"`
	Note     string   `json:"note"`
	Policies []string `json:"policies"`
	Policy   string   `json:"policy"`
	Rule     string   `json:"rule"`
	Reason   string   `json:"reason"`
	Rules    []struct {
		Policy       string   `json:"policy"`
		Path         string   `json:"path"`
		Line         int      `json:"line"`
		Capabilities []string `json:"capabilities"`
		Decided      bool     `json:"decided"`
		Why          string   `json:"why"`
	} `json:"rules"`
}

// explanation prints a verdict for people: first whether, then why, then what
// would be needed.
func (a *app) explanation(w io.Writer, data jsontext.Value) error {
	var t trace
	if err := json.Unmarshal(data, &t); err != nil {
		return fmt.Errorf("reading the explanation: %w", err)
	}
	word := "denied"
	if t.Allowed {
		word = "allowed"
	}
	verb := t.Verb
	if t.Sudo {
		verb += " (with sudo)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s\n", word, verb, t.Path)
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", label+":", text)
		}
	}
	line("why", t.Reason)
	line("rule", t.Rule)
	line("policies", strings.Join(t.Policies, ", "))
	line("missing", strings.Join(t.Missing, ", "))
	line("needed", t.Needed)
	line("note", t.Note)
	if t.Stanza != "" && !t.Allowed {
		b.WriteString("\nThis rule would give it:\n\n")
		for l := range strings.SplitSeq(strings.TrimSpace(t.Stanza), "\n") {
			b.WriteString("  " + l + "\n")
		}
	}
	if _, err := io.WriteString(w, cleanHelp(strings.ReplaceAll(b.String(), "\t", "  "))); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if len(t.Rules) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	table := show.Table{Header: []string{"Decides", "Policy", "Line", "Path", "Capabilities", "Why"}}
	for _, r := range t.Rules {
		mark := ""
		if r.Decided {
			mark = "*"
		}
		table.Add(mark, r.Policy, strconv.Itoa(r.Line), r.Path, strings.Join(r.Capabilities, ","), r.Why)
	}
	return a.table(w, &table)
}

// tokenFor returns the saved token of a context, or none.
func (a *app) tokenFor(name string) secret.Text {
	t, err := a.env.profiles().Token(name)
	if err != nil {
		return secret.Text{}
	}
	return t
}
