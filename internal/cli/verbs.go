package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
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
			data, err := a.parseData(args[1:])
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
			data, err := a.parseData(args[1:])
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

func (a *app) leaseCommand() *cobra.Command {
	var increment string
	renew := &cobra.Command{
		Use: "renew ID", Short: "Make a lease last longer", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := object{}
			body.set("lease_id", args[0])
			if increment != "" {
				body.set("increment", increment)
			}
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/renew", Body: body.json()}, "Success! The lease is renewed")
		},
	}
	renew.Flags().StringVar(&increment, "increment", "", "ask for so `long` from this moment on")

	var prefix, force, sync bool
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "End a lease", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := trimPath(args[0])
			switch {
			case force && !prefix:
				return usageError{errors.New("--force goes with --prefix"), cmd.CommandPath()}
			case force:
				return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke-force/" + id}, "Success! Forgot all leases under: "+id)
			case prefix:
				return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke-prefix/" + id, Body: new(object).set("sync", sync).json()}, "Success! Revoked all leases under: "+id)
			}
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke", Body: new(object).set("lease_id", id).set("sync", sync).json()}, "Success! Revoked the lease (if it existed): "+id)
		},
	}
	revoke.Flags().BoolVar(&prefix, "prefix", false, "all leases whose ids begin with ID")
	revoke.Flags().BoolVar(&force, "force", false, "forget them even where taking back fails")
	revoke.Flags().BoolVar(&sync, "sync", false, "wait until it is done")

	lookup := &cobra.Command{
		Use: "lookup ID", Short: "Print a lease", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/lookup", Body: new(object).set("lease_id", args[0]).json()}, "")
		},
	}
	return group("lease", "Look at leases, make them longer, end them", lookup, renew, revoke)
}

// mount is what sys/mounts and sys/auth say of one mount.
type mount struct {
	Type        string         `json:"type"`
	Accessor    string         `json:"accessor"`
	Description string         `json:"description"`
	UUID        string         `json:"uuid"`
	Options     map[string]any `json:"options"`
	Config      struct {
		DefaultLeaseTTL int64 `json:"default_lease_ttl"`
		MaxLeaseTTL     int64 `json:"max_lease_ttl"`
	} `json:"config"`
}

// mountList lists what sys/mounts or sys/auth says.
func (a *app) mountList(path string) *cobra.Command {
	var detailed bool
	c := &cobra.Command{Use: "list", Short: "List what is mounted", Args: atMost(0)}
	c.Flags().BoolVar(&detailed, "detailed", false, "print more of each")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: path})
		if err != nil {
			return err
		}
		a.warn(resp)
		return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
			t := show.Table{Header: []string{"Path", "Type", "Accessor", "Description"}}
			if detailed {
				t.Header = []string{"Path", "Type", "Accessor", "Default TTL", "Max TTL", "Options", "UUID", "Description"}
			}
			for _, m := range show.Sorted(resp.Data) {
				var one mount
				if err := json.Unmarshal(m.Value, &one); err != nil {
					return fmt.Errorf("reading what is mounted: %w", err)
				}
				if !detailed {
					t.Add(m.Name, one.Type, one.Accessor, first(one.Description, "n/a"))
					continue
				}
				options, _ := show.Field(m.Value, "options")
				t.Add(m.Name, one.Type, one.Accessor, ttl(one.Config.DefaultLeaseTTL), ttl(one.Config.MaxLeaseTTL), show.Text(options), one.UUID, first(one.Description, "n/a"))
			}
			return a.table(w, &t)
		}})
	}
	return c
}

func ttl(n int64) string {
	if n == 0 {
		return "system"
	}
	return (time.Duration(n) * time.Second).String()
}

func (a *app) authCommand() *cobra.Command {
	return group("auth", "How people and programs log in", a.mountList("sys/auth"))
}

func (a *app) secretsCommand() *cobra.Command {
	disable := &cobra.Command{
		Use: "disable PATH", Short: "Take a mount away with everything in it", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(args[0], "/")
			if a.canAsk() {
				if err := a.confirm("Destroy everything in " + show.Clean(path) + "/? It cannot be brought back."); err != nil {
					return err
				}
			}
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/mounts/" + path}, "Success! Disabled the secrets engine (if it existed) at: "+path+"/")
		},
	}
	move := &cobra.Command{
		Use: "move FROM TO", Short: "Give a mount another path", Args: exactly(2, "FROM or TO"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.move(cmd, args[0], args[1]) },
	}
	return group("secrets", "What is mounted: list, enable, tune, move, disable", a.mountList("sys/mounts"), a.secretsEnable(), a.secretsTune(), move, disable)
}

// mountFlags are the settings of a mount.
type mountFlags struct {
	description, defaultTTL, maxTTL, visibility string
	options                                     []string
	auditIn, auditOut                           []string
}

func (m *mountFlags) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&m.description, "description", "", "what it is for")
	f.StringVar(&m.defaultTTL, "default-lease-ttl", "", "how `long` leases last where nothing else is said")
	f.StringVar(&m.maxTTL, "max-lease-ttl", "", "how `long` leases may last")
	f.StringVar(&m.visibility, "listing-visibility", "", "unauth or hidden: whether it is listed for those who are not logged in")
	f.StringArrayVar(&m.options, "options", nil, "an option of the engine, as `KEY=VALUE`")
	f.StringSliceVar(&m.auditIn, "audit-non-hmac-request-keys", nil, "`keys` of requests that are audited in clear")
	f.StringSliceVar(&m.auditOut, "audit-non-hmac-response-keys", nil, "`keys` of answers that are audited in clear")
}

func (m *mountFlags) config(cmd *cobra.Command) object {
	var o object
	if m.defaultTTL != "" {
		o.set("default_lease_ttl", m.defaultTTL)
	}
	if m.maxTTL != "" {
		o.set("max_lease_ttl", m.maxTTL)
	}
	if m.visibility != "" {
		o.set("listing_visibility", m.visibility)
	}
	if cmd.Flags().Changed("audit-non-hmac-request-keys") {
		o.set("audit_non_hmac_request_keys", m.auditIn)
	}
	if cmd.Flags().Changed("audit-non-hmac-response-keys") {
		o.set("audit_non_hmac_response_keys", m.auditOut)
	}
	return o
}

func (a *app) secretsEnable() *cobra.Command {
	var m mountFlags
	var path string
	var version int
	var local, sealWrap bool
	c := &cobra.Command{
		Use: "enable TYPE", Short: "Mount a secrets engine", Args: exactly(1, "TYPE"),
		Example: "  rotunda secrets enable -path=team -version=2 kv",
	}
	f := c.Flags()
	m.define(c)
	f.StringVar(&path, "path", "", "where; without, the type is the path")
	f.IntVar(&version, "version", 0, "of the engine: 1 or 2 for kv")
	f.BoolVar(&local, "local", false, "do not replicate it")
	f.BoolVar(&sealWrap, "seal-wrap", false, "wrap its values with the seal, too")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		kind := args[0]
		if path == "" {
			path = kind
		}
		path = strings.Trim(path, "/")
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		if version != 0 {
			options.set("version", strconv.Itoa(version))
		}
		body := object{}
		body.set("type", kind).set("description", m.description).set("local", local).set("seal_wrap", sealWrap)
		body.set("config", m.config(cmd))
		if len(options) > 0 {
			body.set("options", options)
		}
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/mounts/" + path, Body: body.json()}, fmt.Sprintf("Success! Enabled the %s secrets engine at: %s/", kind, path))
	}
	return c
}

func pairs(args []string) (object, error) {
	o := object{}
	for _, kv := range args {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usageError{fmt.Errorf("%q is not KEY=VALUE", show.Clean(kv)), ""}
		}
		o.set(k, v)
	}
	return o, nil
}

func (a *app) secretsTune() *cobra.Command {
	var m mountFlags
	var version int
	c := &cobra.Command{Use: "tune PATH", Short: "Change the settings of a mount", Args: exactly(1, "PATH")}
	m.define(c)
	c.Flags().IntVar(&version, "version", 0, "have kv keep versions from here on: 2")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path := strings.Trim(args[0], "/")
		body := m.config(cmd)
		if cmd.Flags().Changed("description") {
			body.set("description", m.description)
		}
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		if version != 0 {
			options.set("version", strconv.Itoa(version))
		}
		if len(options) > 0 {
			body.set("options", options)
		}
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/mounts/" + path + "/tune", Body: body.json()}, "Success! Tuned the secrets engine at: "+path+"/")
	}
	return c
}

// move moves a mount and waits until it answers at its new path.
func (a *app) move(cmd *cobra.Command, from, to string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	from, to = strings.Trim(from, "/"), strings.Trim(to, "/")
	resp, err := cl.Do(ctx, api.Request{Method: "POST", Path: "sys/remount", Body: new(object).set("from", from).set("to", to).json()})
	if err != nil {
		return err
	}
	id, _ := show.Field(resp.Data, "migration_id")
	for id.Kind() == '"' {
		resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/remount/status/" + show.Text(id)})
		if err != nil {
			return err
		}
		status, _ := show.Field(resp.Data, "migration_info.status")
		switch show.Text(status) {
		case "success":
			a.note("Success! Finished moving %s/ to %s/", show.Clean(from), show.Clean(to))
			return nil
		case "failure":
			return failure{err: fmt.Errorf("moving %s/ to %s/ did not work", show.Clean(from), show.Clean(to)), code: 2, next: []string{"rotunda secrets list"}}
		}
		if err := a.Clock.Wait(ctx, a.Clock.Now().Add(200*time.Millisecond)); err != nil {
			return fmt.Errorf("waiting for the move: %w", err)
		}
	}
	a.note("Success! Moved %s/ to %s/", show.Clean(from), show.Clean(to))
	return nil
}
