package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/cli/show"
)

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
