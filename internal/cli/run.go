package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/child"
	"rotunda.dev/rotunda/internal/cli/mask"
	"rotunda.dev/rotunda/internal/cli/show"
)

// injected is one secret on its way into an environment.
type injected struct {
	name, value, from string
}

func (a *app) runCommand() *cobra.Command {
	var paths, allow []string
	var prefix string
	var recursive, preserve, plain bool
	c := &cobra.Command{
		Use:   "run [-p PATH]... -- COMMAND [ARGUMENT...]",
		Short: "Run a program with secrets in its environment",
		Long: `Run a program with secrets in its environment.

A path that names a secret gives one variable, called as the last segment of
the path in upper case; a secret with fields gives one for each field, called as
the field. A path that names a directory gives all secrets in it. Without -p it
is everything at the top of the mount. Where two give the same variable, that of
the later -p counts. In a directory, what has no value (its current version is
deleted, or it has only metadata) is left out, with a line that says so; where
-p names it alone, nothing is run.

What the program prints, on both streams, is passed on with the secrets masked,
also where it prints one in pieces; line by line, where a line has 8 bytes or
more; in base64, alone or in the middle of something, and in lines of 64 or 76; in
hexadecimal; and escaped for JSON, URLs, HTML or a shell. Values shorter than 4
bytes, and true and false, are not masked; of values that are very large together
(some 25 KiB) only they themselves and their lines are. Everything else comes
byte for byte, and a prompt comes at once. Masking keeps secrets from standing in logs
by accident; it does not hold back a program that wants to show them.

Where standard output is a terminal the program has one, too.

Signals are passed on, and the exit code is the program's: 128+n where it died
by signal n, 127 where there is no such program, 126 where it cannot be run. Where
rotunda itself is killed, the program is told to end (on Linux). It does not
inherit your token.`,
		Example: `  rotunda run -- ./app
  rotunda run -p app/db -p app/smtp -- ./app --verbose
  rotunda run -p app --prefix APP_ -- env`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash > 0 || dash < 0 && len(args) > 0:
				return usageError{errors.New("put -- before the command: rotunda run -- COMMAND"), cmd.CommandPath()}
			case len(args) == 0:
				return usageError{errors.New("the command is missing: rotunda run -- COMMAND"), cmd.CommandPath()}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			secrets, err := a.inject(cmd.Context(), paths, prefix, recursive)
			if err != nil {
				return err
			}
			env, used, err := a.childEnv(secrets, preserve, allow)
			if err != nil {
				return err
			}
			run := child.Command{Args: args, Env: env, Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr, Clock: a.Clock}
			if !plain {
				var values []string
				for _, s := range used {
					if s.value != "true" && s.value != "false" {
						values = append(values, s.value)
					}
				}
				if set := mask.New(values); !set.Empty() {
					run.Filter = func(w io.Writer) child.Filter { return set.Writer(w) }
				}
			}
			a.release() // from here on signals are the program's
			code, err := child.Run(run)
			if err != nil {
				return failure{err: err, code: code}
			}
			if code != 0 {
				return silent(code)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&paths, "path", "p", nil, "a secret or a directory of them; may be given more than once")
	f.StringVar(&prefix, "prefix", "", "put this before the name of every variable")
	f.BoolVarP(&recursive, "recursive", "r", false, "take directories with everything below them")
	f.BoolVar(&preserve, "preserve-env", false, "variables that are set already keep their values")
	f.BoolVar(&plain, "no-masking", false, "pass the program's output on as it is")
	f.StringSliceVar(&allow, "allow-variable", nil, "let a secret set this `variable`, which changes how programs are loaded")
	_ = c.RegisterFlagCompletionFunc("path", a.completePaths(-1)) // the flag is the one defined above
	return a.mountFlagOf(c)
}

// inject reads the secrets at paths and returns them by the names of their
// variables.
func (a *app) inject(ctx context.Context, paths []string, prefix string, recursive bool) ([]injected, error) {
	cl, err := a.plainClient()
	if err != nil {
		return nil, err
	}
	m, err := a.short(ctx, cl)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	var out []injected
	at := map[string]int{}
	for _, p := range paths {
		found, err := a.gather(ctx, cl, m, p, recursive)
		if err != nil {
			return nil, err
		}
		mine := map[string]string{}
		for _, s := range found {
			s.name = show.EnvName(prefix + s.name)
			if other, twice := mine[s.name]; twice {
				return nil, advise(fmt.Errorf("%s and %s would both be %s", show.Clean(other), show.Clean(s.from), s.name), "name one of them with -p, or give them different names")
			}
			mine[s.name] = s.from
			if i, again := at[s.name]; again {
				out[i] = s
				continue
			}
			at[s.name] = len(out)
			out = append(out, s)
		}
	}
	return out, nil
}

// gather returns the secrets that a path names: itself, or where it is a
// directory those in it. What has no value in a directory is left out, and
// said.
func (a *app) gather(ctx context.Context, c *api.Client, m mountInfo, path string, recursive bool) ([]injected, error) {
	rel, err := directory(path)
	if err != nil {
		return nil, usageError{err, ""}
	}
	single := rel != "" && !strings.HasSuffix(path, "/")
	if single {
		s, err := a.find(ctx, c, m, rel, 0)
		if err == nil {
			return variables(m, s)
		}
		if !errors.Is(err, errMissing) {
			return nil, err
		}
	}
	files, err := a.files(ctx, c, m, rel, recursive)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 && single {
		return nil, a.nothing(ctx, c, m, rel, 0)
	}
	next := []string{"rotunda ls" + a.mountFlag() + " -r", "rotunda set" + a.mountFlag() + " NAME"}
	where := show.Clean(first(rel, "the top"))
	if len(files) == 0 {
		return nil, failure{err: fmt.Errorf("there are no secrets at %s of %s", where, m.path), code: 2, next: next}
	}
	bar := a.progress("reading secrets", len(files))
	defer bar.end()
	var out []injected
	left := 0
	for _, f := range files {
		s, err := a.find(ctx, c, m, f, 0)
		if why := withoutValue(err); why != "" {
			a.note("%s is left out: %s", show.Clean(f), why)
			left++
			continue
		}
		if err != nil {
			return nil, err
		}
		vars, err := variables(m, s)
		if err != nil {
			return nil, err
		}
		out = append(out, vars...)
		bar.step()
	}
	if left == len(files) {
		return nil, failure{err: fmt.Errorf("no secret at %s of %s has a value", where, m.path), code: 2, next: next}
	}
	return out, nil
}

// withoutValue says why a name that was listed gives nothing, where err is that
// it does.
func withoutValue(err error) string {
	if d, ok := errors.AsType[deletedError](err); ok {
		return d.Error()
	}
	if errors.Is(err, errMissing) {
		return "it has metadata and no value yet"
	}
	return ""
}

// files returns the paths of the secrets in a directory; with recursive, of
// all below it.
func (a *app) files(ctx context.Context, c *api.Client, m mountInfo, dir string, recursive bool) ([]string, error) {
	if recursive {
		return a.walk(ctx, c, m, dir)
	}
	names, err := a.list(ctx, c, m, dir)
	if err != nil && api.StatusOf(err) != 404 {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "/") })
	for i, n := range names {
		names[i] = join(dir, n)
	}
	return names, nil
}

// variables returns what a secret gives to an environment.
func variables(m mountInfo, s stored) ([]injected, error) {
	from := m.path + s.path
	members := show.Members(s.data)
	if len(members) == 1 && members[0].Name == "value" {
		members = []show.Member{{Name: envNameOf(s.path), Value: members[0].Value}}
	}
	out := make([]injected, 0, len(members))
	for _, mem := range members {
		text := envText(mem.Value)
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("%s holds a NUL byte, which no environment can", show.Clean(from))
		}
		out = append(out, injected{mem.Name, text, from})
	}
	return out, nil
}

func envText(v jsontext.Value) string {
	if v.Kind() == 'n' {
		return ""
	}
	return show.Text(v)
}

// loaders are variables by which whoever may write a secret could make the
// program load code of theirs.
var loaders = []string{
	"PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "PS4", "NODE_OPTIONS", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PERL5LIB", "PERL5OPT",
	"RUBYLIB", "RUBYOPT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "GIT_SSH_COMMAND", "GCONV_PATH", "COMSPEC", "PATHEXT",
}

func loader(name string) bool {
	up := strings.ToUpper(name)
	return strings.HasPrefix(up, "LD_") || strings.HasPrefix(up, "DYLD_") || slices.Contains(loaders, up)
}

// childEnv returns the environment of the program: ours without tokens, and
// the secrets. Used are the secrets that are in it.
func (a *app) childEnv(secrets []injected, preserve bool, allow []string) (env []string, used []injected, err error) {
	set := map[string]bool{}
	for _, s := range secrets {
		if loader(s.name) && !slices.Contains(allow, s.name) {
			return nil, nil, advise(fmt.Errorf("%s would set %s, which changes how programs are loaded", show.Clean(s.from), s.name), "rotunda run --allow-variable "+s.name+" -- …", "rotunda run --prefix APP_ -- …")
		}
		if _, has := a.env[s.name]; has && preserve && !scrubbed(s.name) {
			continue
		}
		used = append(used, s)
		set[s.name] = true
	}
	for _, kv := range a.Environ {
		name, _, _ := strings.Cut(kv, "=")
		if !set[name] && !scrubbed(name) {
			env = append(env, kv)
		}
	}
	for _, s := range used {
		env = append(env, s.name+"="+s.value)
	}
	return env, used, nil
}
