package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(commands...)
	return c
}

// noCommand refuses arguments of a command that only holds others, and says
// which of them may be meant.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	err := fmt.Errorf("there is no command %q", c.CommandPath()+" "+show.Clean(args[0]))
	next := []string{}
	for _, s := range c.SuggestionsFor(args[0]) {
		next = append(next, c.CommandPath()+" "+s)
	}
	return failure{err: err, code: 1, next: append(next, c.CommandPath()+" --help")}
}

func (a *app) kvCommand() *cobra.Command {
	return group("kv", "Vault's commands for key/value mounts",
		a.kvPut(), a.kvGet(), a.kvPatch(), a.kvList(), a.kvVersions("delete"), a.kvVersions("undelete"), a.kvVersions("destroy"),
		a.kvRollback(), a.kvMetadata(), a.kvEnableVersioning())
}

// kvRun does what every command of kv begins with.
func (a *app) kvRun(mount *string, do func(cmd *cobra.Command, c *api.Client, m mountInfo, rel string, rest []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		m, rel, err := a.kv(cmd.Context(), cl, *mount, args[0])
		if err != nil {
			return err
		}
		return do(cmd, cl, m, rel, args[1:])
	}
}

func (a *app) kvFlag(c *cobra.Command, mount *string) *cobra.Command {
	c.Flags().StringVar(mount, "mount", "", "the mount; without, PATH begins with it")
	_ = c.RegisterFlagCompletionFunc("mount", a.completeMounts) // the flag is the one defined above
	c.ValidArgsFunction = a.completeKV(mount)
	return c
}

// needV2 refuses cmd where the mount keeps no versions; next are commands that
// do what can be done there.
func needV2(cmd *cobra.Command, m mountInfo, next ...string) error {
	if m.v2 {
		return nil
	}
	return m.noVersions(pathOf(cmd), next...)
}

func (a *app) kvPut() *cobra.Command {
	var mount string
	var cas int64
	c := &cobra.Command{
		Use:   "put PATH KEY=VALUE...",
		Short: "Store a secret",
		Long:  "Store a secret.\n\n" + dataHelp,
		Args:  atLeast(2, "PATH or KEY=VALUE"),
	}
	c.Flags().Int64Var(&cas, "cas", -1, "only if the current version is this `number`; 0 is none")
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, rest []string) error {
		a.warnOfValues(rest)
		data, err := a.parseData(commandFor(cmd, cmd.Flags().Arg(0)), rest)
		if err != nil {
			return err
		}
		var expect *int64
		if cas >= 0 {
			expect = &cas
		}
		_, resp, err := a.write(cmd.Context(), cl, m, rel, data, expect)
		if err != nil {
			return err
		}
		return a.kvWritten(m, rel, resp)
	})
	return a.kvFlag(c, &mount)
}

const dataHelp = `What to write is KEY=VALUE, KEY=@FILE, KEY=- (standard input), @FILE or - (a
JSON object). A key that comes twice becomes a list.`

// kvWritten prints what a write answered.
func (a *app) kvWritten(m mountInfo, rel string, resp *api.Response) error {
	if len(resp.Data) == 0 || resp.Data.Kind() == 'n' {
		if resp.WrapInfo != nil {
			return a.printResponse(resp)
		}
		a.note("Success! Data written to: %s", show.Clean(m.at("data", rel)))
		return nil
	}
	return a.print(view{doc: envelope(resp), data: resp.Data, people: func(w io.Writer) error {
		if err := section(w, "Secret Path", show.Clean(m.at("data", rel))); err != nil {
			return err
		}
		return a.titled(w, "Metadata", resp.Data)
	}})
}

func section(w io.Writer, title, text string) error {
	line := strings.Repeat("=", len(title)/2+3)
	if _, err := fmt.Fprintf(w, "%s %s %s\n%s\n\n", line, title, line, text); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

func (a *app) titled(w io.Writer, title string, v jsontext.Value) error {
	line := strings.Repeat("=", len(title)/2+3)
	if _, err := fmt.Fprintf(w, "%s %s %s\n", line, title, line); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return a.object(w, v)
}

func (a *app) kvGet() *cobra.Command {
	var mount string
	var version int64
	c := &cobra.Command{Use: "get PATH", Short: "Print a secret", Args: exactly(1, "PATH")}
	c.Flags().Int64Var(&version, "version", 0, "the version to print instead of the current one")
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		s, err := a.handOver(cmd.Context(), cl, m, rel, version)
		if err != nil {
			return err
		}
		a.warn(s.resp)
		if s.resp.WrapInfo != nil {
			return a.printResponse(s.resp)
		}
		return a.print(view{doc: envelope(s.resp), data: s.data, people: func(w io.Writer) error {
			if m.v2 {
				if err := section(w, "Secret Path", show.Clean(m.at("data", rel))); err != nil {
					return err
				}
				if err := a.titled(w, "Metadata", s.metadata); err != nil {
					return err
				}
				if _, err := fmt.Fprintln(w); err != nil {
					return fmt.Errorf("writing: %w", err)
				}
			}
			return a.titled(w, "Data", s.data)
		}})
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvPatch() *cobra.Command {
	var mount, method string
	var cas int64
	var remove []string
	c := &cobra.Command{
		Use:   "patch PATH KEY=VALUE...",
		Short: "Change some fields of a secret and keep the others",
		Long:  "Change some fields of a secret and keep the others.\n\n" + dataHelp,
		Args:  atLeast(1, "PATH"),
	}
	f := c.Flags()
	f.StringVar(&method, "method", "", "patch (one request; needs the patch capability) or rw (read, then write); without, patch and then rw")
	f.Int64Var(&cas, "cas", 0, "only if the current version is this `number`")
	f.StringSliceVar(&remove, "remove-data", nil, "a `key` to take out")
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, rest []string) error {
		if err := needV2(cmd, m, "rotunda set -m "+show.Shell(strings.TrimSuffix(m.path, "/"))+" "+show.Shell(rel)+" KEY=-   (the other fields keep their values)"); err != nil {
			return err
		}
		if method != "" && method != "patch" && method != "rw" {
			return usageError{errors.New("--method is patch or rw"), cmd.CommandPath()}
		}
		a.warnOfValues(rest)
		data, err := a.parseData(commandFor(cmd, cmd.Flags().Arg(0)), rest)
		if err != nil {
			return err
		}
		for _, k := range remove {
			data.put(k, jsontext.Value("null"))
		}
		if len(data) == 0 {
			return usageError{errors.New("there is nothing to change"), cmd.CommandPath()}
		}
		ctx := cmd.Context()
		var expect *int64
		if cas > 0 {
			expect = &cas
		}
		var resp *api.Response
		if method != "rw" {
			_, resp, err = a.merge(ctx, cl, m, rel, data, expect)
			if s := api.StatusOf(err); err == nil || method == "patch" || s != 403 && s != 405 {
				if s == 404 {
					return a.nothing(ctx, cl, m, rel, 0)
				}
				if err != nil {
					return err
				}
				return a.kvWritten(m, rel, resp)
			}
		}
		old, err := a.read(ctx, cl, m, rel, 0)
		if err != nil {
			return err
		}
		if expect == nil {
			expect = &old.version
		}
		merged := object(show.Members(old.data))
		for _, d := range data {
			if d.Value.Kind() == 'n' {
				merged = slices.DeleteFunc(merged, func(m show.Member) bool { return m.Name == d.Name })
				continue
			}
			merged.put(d.Name, d.Value)
		}
		if _, resp, err = a.write(ctx, cl, m, rel, merged, expect); err != nil {
			return err
		}
		return a.kvWritten(m, rel, resp)
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvList() *cobra.Command {
	var mount string
	c := &cobra.Command{Use: "list [PATH]", Short: "List names", Args: atMost(1)}
	list := a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		return a.listing(cmd.Context(), cl, m.at("metadata", rel))
	})
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if mount == "" {
				return usageError{errors.New("PATH is missing, or --mount"), cmd.CommandPath()}
			}
			args = []string{""}
		}
		return list(cmd, args)
	}
	return a.kvFlag(c, &mount)
}

// listing lists what is at a path of the API.
func (a *app) listing(ctx context.Context, c *api.Client, path string) error {
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: strings.TrimSuffix(path, "/"), Query: url.Values{"list": {"true"}}})
	if e, ok := errors.AsType[*api.Error](err); ok && e.Status == 404 && len(e.Messages) == 0 {
		return failure{err: fmt.Errorf("there is nothing at %s", show.Clean(path)), code: 2}
	}
	if err != nil {
		return asList(err)
	}
	a.warn(resp)
	if resp.WrapInfo != nil {
		return a.printResponse(resp)
	}
	keys, _ := show.Field(resp.Data, "keys")
	return a.print(view{doc: keys, data: resp.Data, people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Keys"}}
		for _, k := range show.Items(keys) {
			t.Add(show.Text(k))
		}
		return a.table(w, &t)
	}, raw: new(strings.Join(texts(keys), "\n")), enter: true})
}

// asList makes the advice for a refused list be about lists.
func asList(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		e.Method = "LIST"
	}
	return err
}

func texts(v jsontext.Value) []string {
	items := show.Items(v)
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = show.Text(it)
	}
	return out
}

// kvVersions is kv delete, undelete or destroy.
func (a *app) kvVersions(verb string) *cobra.Command {
	var mount string
	var versions []string
	c := &cobra.Command{Use: verb + " PATH", Args: exactly(1, "PATH"), Short: map[string]string{
		"delete":   "Delete the current version, or those of --versions",
		"undelete": "Bring deleted versions back",
		"destroy":  "Destroy versions for good",
	}[verb]}
	c.Flags().StringSliceVar(&versions, "versions", nil, "the `numbers` of the versions")
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		if len(versions) == 0 && verb != "delete" {
			return usageError{errors.New("--versions is missing"), cmd.CommandPath()}
		}
		req := api.Request{Method: "DELETE", Path: m.at("data", rel)}
		if len(versions) > 0 {
			if err := needV2(cmd, m); err != nil {
				return err
			}
			method := "PUT"
			req = api.Request{Method: method, Path: m.at(verb, rel), Body: new(object).set("versions", versions).json()}
		}
		resp, err := cl.Do(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.warn(resp)
		a.note("Success! Data %s: %s", map[string]string{"delete": "deleted (if it existed) at", "undelete": "written to", "destroy": "destroyed at"}[verb], show.Clean(m.at(verb, rel)))
		return nil
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvRollback() *cobra.Command {
	var mount string
	var version int64
	c := &cobra.Command{Use: "rollback PATH -version=N", Short: "Make an older version the current one again", Args: exactly(1, "PATH")}
	c.Flags().Int64Var(&version, "version", 0, "the `number` of the version to bring back")
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		if version < 1 {
			return usageError{errors.New("--version is missing"), cmd.CommandPath()}
		}
		if err := needV2(cmd, m); err != nil {
			return err
		}
		ctx := cmd.Context()
		_, current, err := a.history(ctx, cl, m, rel)
		if err != nil {
			return err
		}
		s, err := a.read(ctx, cl, m, rel, version)
		if err != nil {
			return err
		}
		_, resp, err := a.write(ctx, cl, m, rel, object(show.Members(s.data)), &current)
		if err != nil {
			return err
		}
		return a.kvWritten(m, rel, resp)
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvMetadata() *cobra.Command {
	return group("metadata", "Read and change what is kept about a secret", a.kvMetadataGet(), a.kvMetadataWrite("put"), a.kvMetadataWrite("patch"), a.kvMetadataDelete())
}

func (a *app) kvMetadataGet() *cobra.Command {
	var mount string
	c := &cobra.Command{Use: "get PATH", Short: "Print what is kept about a secret, and its versions", Args: exactly(1, "PATH")}
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		if err := needV2(cmd, m); err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: m.at("metadata", rel)})
		if err != nil {
			return err
		}
		a.warn(resp)
		return a.print(view{doc: envelope(resp), data: resp.Data, people: func(w io.Writer) error {
			if err := section(w, "Metadata Path", show.Clean(m.at("metadata", rel))); err != nil {
				return err
			}
			var rest object
			versions := map[string]jsontext.Value{}
			for _, mem := range show.Members(resp.Data) {
				if mem.Name != "versions" {
					rest = append(rest, mem)
				} else if err := unpack(mem.Value, &versions, "versions"); err != nil {
					return err
				}
			}
			if err := a.titled(w, "Metadata", rest.json()); err != nil {
				return err
			}
			numbers := make([]int64, 0, len(versions))
			for k := range versions {
				n, err := strconv.ParseInt(k, 10, 64)
				if err != nil {
					return fmt.Errorf("reading versions: %w", err)
				}
				numbers = append(numbers, n)
			}
			slices.Sort(numbers)
			for _, n := range numbers {
				k := strconv.FormatInt(n, 10)
				if _, err := fmt.Fprintln(w); err != nil {
					return fmt.Errorf("writing: %w", err)
				}
				if err := a.titled(w, "Version "+k, versions[k]); err != nil {
					return err
				}
			}
			return nil
		}})
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvMetadataWrite(verb string) *cobra.Command {
	var mount, after string
	var maxVersions int
	var casRequired bool
	var custom, remove []string
	c := &cobra.Command{Use: verb + " PATH", Args: exactly(1, "PATH"), Short: map[string]string{"put": "Set what is kept about a secret", "patch": "Change some of what is kept about a secret"}[verb]}
	f := c.Flags()
	f.IntVar(&maxVersions, "max-versions", 0, "how many versions to keep; 0 is what the mount says")
	f.BoolVar(&casRequired, "cas-required", false, "refuse writes that do not say which version they replace")
	f.StringVar(&after, "delete-version-after", "", "delete each version so `long` after it was made")
	f.StringArrayVar(&custom, "custom-metadata", nil, "`KEY=VALUE` to keep; may be given more than once")
	if verb == "patch" {
		f.StringArrayVar(&remove, "remove-custom-metadata", nil, "`key` to take out; may be given more than once")
	}
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		if err := needV2(cmd, m); err != nil {
			return err
		}
		body := object{}
		if cmd.Flags().Changed("max-versions") {
			body.set("max_versions", maxVersions)
		}
		if cmd.Flags().Changed("cas-required") {
			body.set("cas_required", casRequired)
		}
		if after != "" {
			body.set("delete_version_after", after)
		}
		meta := object{}
		for _, kv := range custom {
			k, v, ok := strings.Cut(kv, "=")
			if !ok || k == "" {
				return usageError{errors.New("--custom-metadata is KEY=VALUE"), cmd.CommandPath()}
			}
			meta.set(k, v)
		}
		for _, k := range remove {
			meta.set(k, nil)
		}
		if len(meta) > 0 {
			body.set("custom_metadata", meta)
		}
		req := api.Request{Method: "PUT", Path: m.at("metadata", rel), Body: body.json()}
		if verb == "patch" {
			req.Method, req.ContentType = "PATCH", api.MergePatch
		}
		resp, err := cl.Do(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.warn(resp)
		a.note("Success! Data written to: %s", show.Clean(req.Path))
		return nil
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvMetadataDelete() *cobra.Command {
	var mount string
	c := &cobra.Command{Use: "delete PATH", Short: "Destroy a secret with all its versions", Args: exactly(1, "PATH")}
	c.RunE = a.kvRun(&mount, func(cmd *cobra.Command, cl *api.Client, m mountInfo, rel string, _ []string) error {
		if err := needV2(cmd, m); err != nil {
			return err
		}
		if _, err := cl.Do(cmd.Context(), api.Request{Method: "DELETE", Path: m.at("metadata", rel)}); err != nil {
			return err
		}
		a.note("Success! Data deleted (if it existed) at: %s", show.Clean(m.at("metadata", rel)))
		return nil
	})
	return a.kvFlag(c, &mount)
}

func (a *app) kvEnableVersioning() *cobra.Command {
	return &cobra.Command{
		Use: "enable-versioning MOUNT", Short: "Have a mount keep versions from here on", Args: exactly(1, "MOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			mount := strings.Trim(args[0], "/")
			body := new(object).set("options", map[string]string{"version": "2"}).json()
			if _, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: "sys/mounts/" + mount + "/tune", Body: body}); err != nil {
				return err
			}
			a.note("Success! Tuned the secrets engine at: %s/", show.Clean(mount))
			return nil
		},
	}
}
