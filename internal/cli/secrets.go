package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func sortBy[T any, K cmp.Ordered](s []T, key func(T) K) {
	slices.SortStableFunc(s, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// mountFlagOf gives c the flag of the short commands.
func (a *app) mountFlagOf(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&a.mount, "mount", "m", "", "the mount to use instead of secret")
	_ = c.RegisterFlagCompletionFunc("mount", a.completeMounts) // the flag is the one defined above
	return c
}

// document begins what the short commands print as JSON and YAML.
func document() *object { return new(object).set("schema_version", 1) }

func (a *app) setCommand() *cobra.Command {
	var field, charset string
	var length int
	var cas int64
	var exact, shown bool
	c := &cobra.Command{
		Use:   "set PATH [- | @FILE | FIELD=VALUE...]",
		Short: "Store a secret; asks for it without showing it",
		Long: `Store a secret, as a new version.

The value is asked for and not shown, or comes from standard input (-), from a
file (@FILE), or is made up (--generate). It never has to stand on the command
line, where other users and the shell's history see it.

One line on standard input is stored without its line end; more lines, and
files, are stored byte for byte (--exact: one line too).

With FIELD=VALUE the secret has fields, and those that are not named keep their
values. VALUE may be - or @FILE as well; FIELD alone is set with --field.`,
		Example: `  rotunda set DB_PASSWORD
  rotunda set DB_PASSWORD --generate 32
  pass db | rotunda set DB_PASSWORD -
  rotunda set tls/key @server.key
  rotunda set app/db user=app password=-
  rotunda set app/db --field password --generate 24`,
		Args:              atLeast(1, "PATH"),
		ValidArgsFunction: a.completePaths(1),
	}
	f := c.Flags()
	f.StringVar(&field, "key", "", "the field to set; the others keep their values (--field does the same here)")
	f.IntVar(&length, "generate", 0, "make up a value of so many `characters`")
	f.StringVar(&charset, "charset", "alnum", "characters to make it up from: "+strings.Join(charsetNames, ", ")+", or of:CHARACTERS")
	f.Int64Var(&cas, "cas", -1, "only if the current version is this `number`; 0 is none")
	f.BoolVar(&exact, "exact", false, "keep the line end of one line on standard input")
	f.BoolVar(&shown, "show", false, "print the value that was made up")
	_ = c.RegisterFlagCompletionFunc("charset", fixed(charsetNames...)) // the flag is the one defined above
	c.RunE = func(cmd *cobra.Command, args []string) error {
		rest := args[1:]
		if field == "" {
			field, a.field = a.field, ""
		}
		path, err := secretPath(args[0])
		if err == nil && strings.HasSuffix(args[0], "/") {
			err = errors.New("a secret needs a name: PATH must not end in a slash")
		}
		if err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		var data object
		var made string
		fields := field != "" || len(rest) > 0 && strings.Contains(rest[0], "=") && rest[0][0] != '@'
		switch {
		case cmd.Flags().Changed("generate"):
			if len(rest) > 0 {
				return usageError{errors.New("--generate makes up the value, so none can be given"), cmd.CommandPath()}
			}
			if made, err = generate(length, charset); err != nil {
				return err
			}
			data, err = valueOf(cmd, path, field, made)
		case fields && field == "":
			for _, r := range rest {
				if strings.HasSuffix(r, "=") && !strings.Contains(strings.TrimRight(r, "="), "=") {
					return usageError{errors.New("a FIELD= without a value is refused, because a value in base64 looks the same: for an empty one write FIELD=@/dev/null"), cmd.CommandPath()}
				}
			}
			a.warnOfValues(rest)
			data, err = a.parseDataFrom(commandFor(cmd, args[0]), rest, func() ([]byte, error) { return a.readValue(exact) })
		case len(rest) > 1:
			return usageError{errors.New("one secret has one value, or FIELD=VALUE for each field"), cmd.CommandPath()}
		default:
			var text string
			if text, err = a.valueFrom(cmd, path, rest, exact); err == nil {
				data, err = valueOf(cmd, path, field, text)
			}
		}
		if err != nil {
			return err
		}
		cl, err := a.plainClient()
		if err != nil {
			return err
		}
		m, err := a.short(cmd.Context(), cl)
		if err != nil {
			return err
		}
		var expect *int64
		if cas >= 0 {
			expect = &cas
		}
		store := a.write
		if fields {
			store = a.mergeOrWrite
		}
		v, _, err := store(cmd.Context(), cl, m, path, data, expect)
		if err != nil {
			return err
		}
		return a.saved(m, path, v, made, shown, "Saved")
	}
	return a.mountFlagOf(c)
}

// mergeOrWrite is merge where there is something to merge with, and write
// where there is not.
func (a *app) mergeOrWrite(ctx context.Context, c *api.Client, m mountInfo, rel string, data object, cas *int64) (int64, *api.Response, error) {
	if cas == nil || *cas > 0 {
		v, resp, err := a.merge(ctx, c, m, rel, data, cas)
		if api.StatusOf(err) != 404 || cas != nil {
			return v, resp, err
		}
		// Nothing is there to merge with: the write must not replace what
		// someone else puts there meanwhile. A token that may not read is
		// trusted to know.
		_, err = a.find(ctx, c, m, rel, 0)
		switch deleted, gone := errors.AsType[deletedError](err); {
		case gone:
			cas = &deleted.version
		case errors.Is(err, errMissing):
			cas = new(int64)
		case err == nil: // it has come meanwhile
			return a.merge(ctx, c, m, rel, data, nil)
		case api.StatusOf(err) != 403:
			return 0, nil, err
		}
	}
	return a.write(ctx, c, m, rel, data, cas)
}

// saved says what became of a write.
func (a *app) saved(m mountInfo, path string, v int64, made string, shown bool, did string) error {
	doc := document().set("mount", m.path).set("path", path)
	if m.v2 {
		doc.set("version", v)
	}
	if shown {
		doc.set("value", made)
	}
	format, err := a.format()
	if err != nil {
		return err
	}
	if format != "table" {
		return a.print(view{doc: doc.json()})
	}
	if strings.HasPrefix(path, m.path) {
		a.note("warning: paths of the short commands are below the mount, so this is %s to other commands: see rotunda help paths", show.Clean(m.path+path))
	}
	if m.v2 {
		a.note("%s %s in %s (version %d)", did, show.Clean(path), m.path, v)
	} else {
		a.note("%s %s in %s", did, show.Clean(path), m.path)
	}
	if shown {
		return a.bytes(made)
	}
	return nil
}

func valueOf(cmd *cobra.Command, path, field, text string) (object, error) {
	instead := "base64 FILE | " + commandFor(cmd, path)
	if field != "" {
		instead += " " + show.Shell(field) + "=-"
	} else {
		instead += " -"
	}
	v, err := jsonText(text, "the value of "+show.Clean(first(field, path)), instead)
	if err != nil {
		return nil, err
	}
	return object{{Name: first(field, "value"), Value: v}}, nil
}

// errNothingRead refuses an empty standard input: what stands before a pipe and
// fails gives one.
var errNothingRead = errors.New("standard input is empty, and nothing was stored; an empty value is @/dev/null")

// readValue reads a value from standard input: one line without its end, unless
// it is to be exact, and more than one byte for byte.
func (a *app) readValue(exact bool) ([]byte, error) {
	b, err := a.readAll()
	if err == nil && len(b) == 0 {
		err = errNothingRead
	}
	if line := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")); !exact && !bytes.Contains(line, []byte("\n")) {
		b = line
	}
	return b, err
}

// valueFrom returns the value that is asked for, or that the argument names.
func (a *app) valueFrom(cmd *cobra.Command, path string, rest []string, exact bool) (string, error) {
	if len(rest) == 0 {
		t, err := a.ask("the value of " + show.Clean(path))
		if err == nil && t.Empty() {
			err = errors.New("nothing was typed, and nothing was stored")
		}
		return t.Reveal(), err
	}
	switch arg := rest[0]; {
	case arg == "-":
		b, err := a.readValue(exact)
		return string(b), err
	case strings.HasPrefix(arg, "@"):
		b, err := a.readFile(arg[1:])
		return string(b), err
	default:
		return "", usageError{errors.New("a value on the command line is seen by other users and kept in the shell's history: leave it out to be asked, or give - or @FILE"), cmd.CommandPath()}
	}
}

func (a *app) getCommand() *cobra.Command {
	var version int64
	c := &cobra.Command{
		Use:   "get PATH",
		Short: "Print a secret",
		Long: `Print a secret. One value is printed as it is: byte for byte in a pipe, with a
line end on a terminal. Fields are printed as a table, one alone with --field.`,
		Example: `  rotunda get DB_PASSWORD
  rotunda get app/db --field password
  rotunda get app/db -o env > .env
  rotunda get DB_PASSWORD --version 2`,
		Args:              exactly(1, "PATH"),
		ValidArgsFunction: a.completePaths(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath(args[0])
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			m, err := a.short(cmd.Context(), cl)
			if err != nil {
				return err
			}
			s, err := a.handOver(cmd.Context(), cl, m, path, version)
			if err != nil {
				return err
			}
			if s.resp.WrapInfo != nil {
				return a.printResponse(s.resp)
			}
			doc := document().set("mount", m.path).set("path", path)
			if m.v2 {
				created, _ := show.Field(s.metadata, "created_time")
				doc.set("version", s.version).set("created_time", created)
			}
			doc.set("data", s.data)
			v := view{doc: doc.json(), data: s.data}
			members := show.Members(s.data)
			if len(members) == 1 && members[0].Name == "value" {
				only := members[0].Value
				v.people = func(io.Writer) error { return a.value(only) }
				text := show.Text(only)
				v.raw = &text
				if f, _ := a.format(); f == "env" && a.field == "" { // print says it
					v.data = object{{Name: envNameOf(path), Value: only}}.json()
				}
			} else if !a.terminal(a.Stdout) && a.field == "" {
				v.people = func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s\n", show.Indent(s.data))
					return err
				}
			}
			return a.print(v)
		},
	}
	c.Flags().Int64Var(&version, "version", 0, "the version to print instead of the current one")
	return a.mountFlagOf(c)
}

// envNameOf returns the name of the environment variable for a secret's path.
func envNameOf(path string) string {
	path = strings.Trim(path, "/")
	return show.EnvName(strings.ToUpper(path[strings.LastIndex(path, "/")+1:]))
}

func (a *app) lsCommand() *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use:     "ls [PATH]",
		Short:   "List the names of secrets",
		Example: "  rotunda ls\n  rotunda ls app -r",
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := directory(strings.Join(args, ""))
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			m, err := a.short(cmd.Context(), cl)
			if err != nil {
				return err
			}
			var keys []string
			if recursive {
				keys, err = a.walk(cmd.Context(), cl, m, dir)
			} else {
				keys, err = a.list(cmd.Context(), cl, m, dir)
			}
			if err != nil && api.StatusOf(err) != 404 {
				return err
			}
			if len(keys) == 0 {
				if dir != "" {
					return failure{err: fmt.Errorf("there is nothing under %s in %s", show.Clean(dir), m.path), code: 2, next: []string{"rotunda ls" + a.mountFlag()}}
				}
				a.note("there is nothing in %s yet: rotunda set%s NAME", m.path, a.mountFlag())
				keys = []string{}
			}
			lines := strings.Join(keys, "\n")
			return a.print(view{
				doc: document().set("mount", m.path).set("path", dir).set("keys", keys).json(),
				people: func(w io.Writer) error {
					for _, k := range keys {
						if _, err := fmt.Fprintln(w, show.Clean(k)); err != nil {
							return fmt.Errorf("writing: %w", err)
						}
					}
					return nil
				},
				raw: &lines, enter: len(keys) > 0,
			})
		},
		ValidArgsFunction: a.completePaths(1),
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "everything below, too")
	return a.mountFlagOf(c)
}

func (a *app) rmCommand() *cobra.Command {
	var versions []string
	var destroy, purge, hard bool
	c := &cobra.Command{
		Use:   "rm PATH...",
		Short: "Delete a secret; it can be brought back",
		Long: `Delete the current version of secrets, or those of --versions. Deleted versions
can be brought back with rotunda kv undelete. With --destroy the versions are
gone for good; with --purge the whole secret is, with its history.

What was destroyed is gone at once from all that the server answers. Free pages of
the store may hold it, and its key under that of the mount, which is replaced by
age. With --hard that begins at once. Backups and other copies of the store hold
both until they are removed.`,
		Args:              atLeast(1, "PATH"),
		ValidArgsFunction: a.completePaths(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if purge && (destroy || len(versions) > 0) {
				return usageError{errors.New("--purge takes the whole secret, so it goes with neither --destroy nor --versions"), cmd.CommandPath()}
			}
			if hard && !destroy && !purge {
				return usageError{errors.New("--hard goes with --destroy or --purge"), cmd.CommandPath()}
			}
			if destroy && len(versions) == 0 {
				return usageError{errors.New("--destroy needs to know which --versions"), cmd.CommandPath()}
			}
			for _, arg := range args {
				if _, err := secretPath(arg); err != nil {
					return usageError{err, cmd.CommandPath()}
				}
			}
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			m, err := a.short(ctx, cl)
			if err != nil {
				return err
			}
			if !m.v2 && (destroy || len(versions) > 0) {
				return m.noVersions("--versions or --destroy", "rotunda rm"+a.mountFlag()+" "+show.Shell(args[0]))
			}
			if destroy || purge || !m.v2 {
				what := "all versions and the history of " + show.Clean(strings.Join(args, ", "))
				if destroy {
					what = "versions " + strings.Join(versions, ", ") + " of " + show.Clean(strings.Join(args, ", "))
				} else if !m.v2 {
					what = show.Clean(strings.Join(args, ", "))
				}
				if err := a.confirm("Destroy " + what + "? They cannot be brought back."); err != nil {
					return err
				}
			}
			for _, arg := range args {
				path := strings.Trim(arg, "/") // checked above
				var req api.Request
				did := "Deleted"
				switch {
				case purge && m.v2:
					req, did = api.Request{Method: "DELETE", Path: m.at("metadata", path)}, "Destroyed"
				case destroy:
					req, did = api.Request{Method: "PUT", Path: m.at("destroy", path), Body: new(object).set("versions", versions).json()}, "Destroyed versions "+strings.Join(versions, ", ")+" of"
				case len(versions) > 0:
					req, did = api.Request{Method: "PUT", Path: m.at("delete", path), Body: new(object).set("versions", versions).json()}, "Deleted versions "+strings.Join(versions, ", ")+" of"
				default:
					req = api.Request{Method: "DELETE", Path: m.at("data", path)}
				}
				// The server answers the same whether or not there was something.
				if m.v2 {
					switch done, err := a.gone(ctx, cl, m, path, len(versions) == 0 && !purge); {
					case err != nil:
						return err
					case done:
						continue
					}
				} else if _, err := a.read(ctx, cl, m, path, 0); err != nil && api.StatusOf(err) != 403 {
					return err
				}
				if _, err := cl.Do(ctx, req); err != nil {
					return err
				}
				a.note("%s %s in %s", did, show.Clean(path), m.path)
			}
			if hard {
				return a.turnMount(ctx, cl, m)
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&versions, "versions", nil, "these `numbers` instead of the current version")
	c.Flags().BoolVar(&destroy, "destroy", false, "for good: the --versions cannot be brought back")
	c.Flags().BoolVar(&purge, "purge", false, "for good: the whole secret with its history")
	c.Flags().BoolVar(&hard, "hard", false, "replace the key of the mount that it was under, too")
	return a.mountFlagOf(c)
}

// turnMount gives a mount another key, so that what was destroyed under the one
// before has no key that is in use.
func (a *app) turnMount(ctx context.Context, c *api.Client, m mountInfo) error {
	again := "rotunda operator rotate --mount " + show.Shell(strings.TrimSuffix(m.path, "/"))
	if _, err := c.Do(ctx, api.Request{Method: "POST", Path: "sys/mounts/" + m.path + "rotate", NoRetry: true}); err != nil {
		return failure{err: fmt.Errorf("what was named is destroyed; replacing the key of the mount: %w", err), code: 1, next: []string{again}}
	}
	a.note("The key of %s is being replaced; the old one is destroyed when that has ended", m.path)
	a.note("  next: %s --status", again)
	return nil
}

// gone looks whether there is something to take away at path. Where only the
// current version is meant and it is deleted already, it says so and reports
// true.
func (a *app) gone(ctx context.Context, c *api.Client, m mountInfo, path string, current bool) (bool, error) {
	versions, newest, err := a.history(ctx, c, m, path)
	if api.StatusOf(err) == 403 {
		return false, nil // it can be deleted without being looked at
	}
	if err != nil || !current {
		return false, err
	}
	if len(versions) == 0 {
		return false, failure{
			err: fmt.Errorf("%s has metadata and no value, so there is no version to delete", show.Clean(path)), code: 2,
			next: []string{"rotunda rm --purge" + a.mountFlag() + " " + show.Shell(path)},
		}
	}
	for _, v := range versions {
		if v.Number == newest && !v.readable(a.Clock.Now()) {
			a.note("%s in %s was %s already (version %d)", show.Clean(path), m.path, first(map[bool]string{true: "destroyed"}[v.Destroyed], "deleted"), newest)
			return true, nil
		}
	}
	return false, nil
}
