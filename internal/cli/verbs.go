package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

// envelope returns an answer as Vault's commands print it as JSON.
func envelope(r *api.Response) jsontext.Value {
	o := object{}
	o.set("request_id", r.RequestID).set("lease_id", r.LeaseID).set("lease_duration", r.LeaseDuration).set("renewable", r.Renewable)
	o.set("data", r.Data)
	if r.Warnings == nil {
		o.set("warnings", nil)
	} else {
		o.set("warnings", r.Warnings)
	}
	if r.Auth != nil {
		o.set("auth", r.Auth)
	}
	if r.WrapInfo != nil {
		o.set("wrap_info", r.WrapInfo)
	}
	if r.MountType != "" {
		o.set("mount_type", r.MountType)
	}
	return o.json()
}

// printResponse prints an answer: its wrapping, its token, its lease and its
// data, whichever it has.
func (a *app) printResponse(r *api.Response) error {
	a.warn(r)
	var rows object
	switch {
	case r.WrapInfo != nil:
		w := r.WrapInfo
		rows.set("wrapping_token", w.Token).set("wrapping_accessor", w.Accessor).set("wrapping_token_ttl", seconds(w.TTL)).
			set("wrapping_token_creation_time", w.CreationTime).set("wrapping_token_creation_path", w.CreationPath)
		if w.WrappedAccessor != "" {
			rows.set("wrapped_accessor", w.WrappedAccessor)
		}
	case r.Auth != nil:
		t := r.Auth
		rows.set("token", t.ClientToken).set("token_accessor", t.Accessor).set("token_duration", seconds(t.LeaseDuration)).
			set("token_renewable", t.Renewable).set("token_policies", t.TokenPolicies).set("identity_policies", t.IdentityPolicies).set("policies", t.Policies)
		for _, m := range show.Sorted(t.Metadata) {
			rows.set("token_meta_"+m.Name, m.Value)
		}
	default:
		if r.LeaseID != "" {
			rows.set("lease_id", r.LeaseID).set("lease_duration", seconds(r.LeaseDuration)).set("lease_renewable", r.Renewable)
		} else if r.LeaseDuration > 0 {
			rows.set("refresh_interval", seconds(r.LeaseDuration))
		}
		rows = append(rows, show.Sorted(r.Data)...)
	}
	return a.print(view{doc: envelope(r), data: rows.json(), people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		for _, m := range rows {
			t.Add(m.Name, show.Cell(m.Value))
		}
		return a.table(w, &t)
	}})
}

// seconds spells a lease's length.
func seconds(n int64) string {
	if n == 0 {
		return "∞"
	}
	return (time.Duration(n) * time.Second).String()
}

// query reads arguments KEY=VALUE into a query.
func query(args []string) (url.Values, error) {
	q := url.Values{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return nil, usageError{fmt.Errorf("%q is not KEY=VALUE", show.Clean(arg)), ""}
		}
		q.Add(k, v)
	}
	return q, nil
}

func (a *app) readCommand() *cobra.Command {
	return &cobra.Command{
		Use: "read PATH [KEY=VALUE...]", Short: "Read a path of the API", Args: atLeast(1, "PATH"),
		Long: "Read a path of the API. KEY=VALUE are parameters of the query.",
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := query(args[1:])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: trimPath(args[0]), Query: q})
			if e, ok := errors.AsType[*api.Error](err); ok && e.Status == 404 && len(e.Messages) == 0 {
				return failure{err: fmt.Errorf("there is nothing at %s", show.Clean(args[0])), code: 2}
			}
			if err != nil {
				return err
			}
			return a.printAny(resp)
		},
	}
}

func trimPath(p string) string { return strings.TrimPrefix(p, "/") }

// printAny prints an answer that may not have the common envelope.
func (a *app) printAny(r *api.Response) error {
	v := jsontext.Value(r.Body)
	switch {
	case len(r.Body) == 0:
		return nil
	case !v.IsValid():
		return a.print(view{doc: string(r.Body), people: func(io.Writer) error { return a.bytes(string(r.Body)) }})
	case r.RequestID == "" && r.WrapInfo == nil && r.Auth == nil:
		return a.print(view{doc: v})
	}
	return a.printResponse(r)
}

func (a *app) writeCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "write PATH [KEY=VALUE...]", Short: "Write to a path of the API", Args: atLeast(1, "PATH"),
		Long: "Write to a path of the API.\n\n" + dataHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && !force {
				return usageError{errors.New("what to write is missing; to send nothing, add --force"), cmd.CommandPath()}
			}
			data, err := a.parseData(commandFor(cmd, args[0]), args[1:])
			if err != nil {
				return err
			}
			body := jsontext.Value("null")
			if len(data) > 0 {
				body = data.json()
			}
			return a.send(cmd, api.Request{Method: "PUT", Path: trimPath(args[0]), Body: body}, "Success! Data written to: "+args[0])
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "send nothing")
	return c
}

// send sends a request and prints what it answers, or did where that is nothing.
func (a *app) send(cmd *cobra.Command, req api.Request, did string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(cmd.Context(), req)
	if err != nil {
		return err
	}
	if len(resp.Body) == 0 || resp.WrapInfo == nil && resp.Auth == nil && resp.RequestID != "" && (len(resp.Data) == 0 || resp.Data.Kind() == 'n') {
		a.warn(resp)
		a.note("%s", show.Clean(did))
		return nil
	}
	return a.printAny(resp)
}

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list PATH", Short: "List what is at a path of the API", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			return a.listing(cmd.Context(), cl, trimPath(args[0]))
		},
	}
}

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete PATH [KEY=VALUE...]", Short: "Delete what is at a path of the API", Args: atLeast(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := query(args[1:])
			if err != nil {
				return err
			}
			return a.send(cmd, api.Request{Method: "DELETE", Path: trimPath(args[0]), Query: q}, "Success! Data deleted (if it existed) at: "+args[0])
		},
	}
}

func (a *app) patchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "patch PATH KEY=VALUE...", Short: "Change some of what is at a path of the API", Args: atLeast(2, "PATH or KEY=VALUE"),
		Long: "Change some of what is at a path of the API.\n\n" + dataHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.parseData(commandFor(cmd, args[0]), args[1:])
			if err != nil {
				return err
			}
			return a.send(cmd, api.Request{Method: "PATCH", Path: trimPath(args[0]), Body: data.json(), ContentType: api.MergePatch}, "Success! Data written to: "+args[0])
		},
	}
}

func (a *app) pathHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "path-help PATH", Short: "Print what a path of the API is for", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: trimPath(args[0]), Query: url.Values{"help": {"1"}}})
			if err != nil {
				return err
			}
			text, ok := show.Field(resp.Body, "help")
			if !ok {
				text, _ = show.Field(resp.Data, "help")
			}
			return a.print(view{doc: jsontext.Value(resp.Body), people: func(w io.Writer) error {
				_, err := fmt.Fprintln(w, strings.TrimRight(cleanHelp(show.Text(text)), "\n"))
				return err
			}})
		},
	}
}

func cleanHelp(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = show.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// secretArgument returns a token or key that an argument gives: "-" reads it
// from standard input, and without it a person is asked.
func (a *app) secretArgument(args []string, what string) (secret.Text, error) {
	t, err := a.secretFrom(args, what)
	if err == nil {
		err = checkSecret(t, what)
	}
	return t, err
}

// checkSecret refuses a token or key that is not text: none is.
func checkSecret(t secret.Text, what string) error {
	if !utf8.ValidString(t.Reveal()) {
		return fmt.Errorf("the %s is not UTF-8 text", what)
	}
	if strings.ContainsFunc(t.Reveal(), unicode.IsControl) {
		return fmt.Errorf("the %s holds a line end or another control character, which none does", what)
	}
	return nil
}

func (a *app) secretFrom(args []string, what string) (secret.Text, error) {
	switch {
	case len(args) == 0:
		return a.ask(what)
	case args[0] == "-":
		line, err := a.stdin.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return secret.Text{}, fmt.Errorf("reading standard input: %w", err)
		}
		if line = strings.TrimSpace(line); line == "" {
			return secret.Text{}, fmt.Errorf("standard input holds no %s", what)
		}
		return secret.New(line), nil
	case strings.HasPrefix(args[0], "@"):
		b, err := a.readFile(args[0][1:])
		return secret.New(strings.TrimSpace(string(b))), err
	}
	a.note("warning: a %s on the command line is seen by other users and kept in the shell's history: leave it out to be asked, or give - or @FILE", what)
	return secret.New(args[0]), nil
}

func (a *app) unwrapCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unwrap [TOKEN | -]", Short: "Open a wrapped answer, once", Args: atMost(1),
		Long: "Open a wrapped answer. The token comes from the argument, from standard input (-),\nor, without either, is the one of the context.",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			req := api.Request{Method: "PUT", Path: "sys/wrapping/unwrap", NoWrap: true, NoRetry: true}
			if len(args) > 0 {
				wrapped, err := a.secretArgument(args, "wrapping token")
				if err != nil {
					return err
				}
				if t.token.Empty() {
					req.Token = &wrapped // the wrapping token is enough by itself
				} else {
					req.Body = new(object).set("token", wrapped.Reveal()).json()
				}
			}
			cl, err := a.clientFor(t)
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printAny(resp)
		},
	}
}
