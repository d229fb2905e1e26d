package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

func (a *app) loginCommand() *cobra.Command {
	var o loginOptions
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
			if o.method != "" && o.method != "token" {
				path := strings.Trim(first(o.path, o.method), "/")
				return failure{err: fmt.Errorf("logging in by %s is not done by this command", show.Clean(o.method)), next: []string{
					"rotunda auth list", "rotunda write auth/" + show.Shell(path) + "/login … --field token > FILE, then: rotunda login @FILE",
				}}
			}
			if len(args) == 1 { // as Vault's command takes it
				args[0] = strings.TrimPrefix(args[0], "token=")
			}
			return a.login(cmd, args, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.method, "method", "", "how to log in; only token")
	f.StringVar(&o.path, "path", "", "where the method is; without, its name is the path")
	f.BoolVar(&o.dry, "no-store", false, "try the token and do not save it")
	f.BoolVar(&o.mute, "no-print", false, "do not print who the token is")
	f.BoolVar(&o.only, "token-only", false, "print the token and nothing else, and do not save it")
	return c
}

// loginOptions are the flags of login.
type loginOptions struct {
	method, path    string
	dry, mute, only bool
}

func (a *app) login(cmd *cobra.Command, args []string, o loginOptions) error {
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
	resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: selfPath, NoWrap: true})
	if api.StatusOf(err) == 403 {
		return failure{err: fmt.Errorf("%s does not know this token, or it has expired", t.address), code: 2, next: []string{"rotunda status"}}
	}
	if err == nil {
		err = expect(resp, "policies", "who the token is")
	}
	if err != nil {
		return err
	}
	if name == "" {
		name = t.name
	}
	if !o.dry && !o.only {
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
	switch {
	case o.only:
		return a.bytes(t.token.Reveal())
	case o.mute:
		return nil
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
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: selfPath, NoWrap: true})
			if api.StatusOf(err) == 403 {
				return failure{err: fmt.Errorf("%s does not know the token from %s, or it has expired", t.address, t.source), code: 2, next: []string{"rotunda login"}}
			}
			if err == nil {
				err = expect(resp, "policies", "who you are")
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
			if _, err := fmt.Fprintln(a.Stdout, t.token.Reveal()); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			return nil
		},
	})
}

// tokenFor returns the saved token of a context, or none.
func (a *app) tokenFor(name string) secret.Text {
	t, err := a.env.profiles().Token(name)
	if err != nil {
		return secret.Text{}
	}
	return t
}
