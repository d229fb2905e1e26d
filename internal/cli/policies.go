package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/hcl/hcl/printer"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

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
			text, err := a.textFile(strings.TrimPrefix(args[1], "@"))
			if err != nil {
				return err
			}
			body := new(object).set("policy", text).json()
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/policies/acl/" + args[0], Body: body}, "Success! Uploaded policy: "+args[0])
		},
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete a policy", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/policies/acl/" + args[0]}, "Success! Deleted policy: "+args[0])
		},
	}
	for _, c := range []*cobra.Command{read, write, remove} {
		c.ValidArgsFunction = a.completePolicies
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
			text, err := a.textFile(file)
			if err != nil {
				return err
			}
			body.set("policy", text)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: "sys/policy-explain", Body: body.json()})
		if err != nil {
			return err
		}
		if err := expect(resp, "allowed", "whether it is allowed"); err != nil {
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
	if err := unpack(data, &t, "the explanation"); err != nil {
		return err
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
