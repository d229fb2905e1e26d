package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func (a *app) historyCommand() *cobra.Command {
	return a.mountFlagOf(&cobra.Command{
		Use:               "history PATH",
		Short:             "List the versions of a secret",
		Args:              exactly(1, "PATH"),
		ValidArgsFunction: a.completePaths(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath(args[0])
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
			versions, current, err := a.history(cmd.Context(), cl, m, path)
			if err != nil {
				return err
			}
			if len(versions) == 0 {
				a.note("%s has metadata and no value yet: rotunda set%s %s", show.Clean(path), a.mountFlag(), show.Shell(path))
			}
			return a.print(view{
				doc: document().set("mount", m.path).set("path", path).set("current_version", current).set("versions", versions).json(),
				people: func(w io.Writer) error {
					t := show.Table{Header: []string{"Version", "Created", "State"}}
					for _, v := range slices.Backward(versions) {
						t.Add(strconv.FormatInt(v.Number, 10), a.when(v.CreatedTime), v.state(current, a.Clock.Now()))
					}
					return a.table(w, &t)
				},
			})
		},
	})
}

// when returns a time as people read it.
func (a *app) when(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// change is one difference between two versions.
type change struct {
	Field string          `json:"field"`
	Kind  string          `json:"change"` // added, removed or changed
	Old   *jsontext.Value `json:"old,omitempty"`
	New   *jsontext.Value `json:"new,omitempty"`
}

// changes returns what differs between two objects, in the order of fields.
func changes(before, after jsontext.Value, values bool) []change {
	old, fresh := map[string]jsontext.Value{}, map[string]jsontext.Value{}
	var names []string
	for _, m := range show.Members(before) {
		old[m.Name] = m.Value
		names = append(names, m.Name)
	}
	for _, m := range show.Members(after) {
		fresh[m.Name] = m.Value
		names = append(names, m.Name)
	}
	slices.Sort(names)
	out := []change{}
	for _, n := range slices.Compact(names) {
		o, had := old[n]
		f, has := fresh[n]
		c := change{Field: n}
		switch {
		case !had:
			c.Kind = "added"
		case !has:
			c.Kind = "removed"
		case same(o, f):
			continue
		default:
			c.Kind = "changed"
		}
		if values && had {
			c.Old = &o
		}
		if values && has {
			c.New = &f
		}
		out = append(out, c)
	}
	return out
}

// same reports whether two JSON values are one when spelled canonically, but
// for numbers: 1.0 and 1 are stored differently and so differ.
func same(a, b jsontext.Value) bool {
	x, y := slices.Clone(a), slices.Clone(b)
	opts := []jsontext.Options{jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)}
	return x.Canonicalize(opts...) == nil && y.Canonicalize(opts...) == nil && bytes.Equal(x, y)
}

func (a *app) diffCommand() *cobra.Command {
	var with string
	var values bool
	c := &cobra.Command{
		Use:   "diff PATH [OLD [NEW]]",
		Short: "Compare two versions of a secret, without showing values",
		Long: `Compare two versions of a secret: the current one with the one before it, with
version OLD, or version OLD with version NEW. With --with another secret takes
the place of the older version.

Exit code 0: no difference. 2: they differ. 1: they could not be compared.`,
		Args:              between(1, 3, "PATH"),
		ValidArgsFunction: a.completePaths(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			differ, err := a.diff(cmd, args, with, values)
			switch {
			case err != nil:
				return failure{err: err, code: 1, next: nextOf(err)}
			case differ:
				return silent(2)
			}
			return nil
		},
	}
	c.Flags().StringVar(&with, "with", "", "compare with this secret instead of an older version")
	c.Flags().BoolVar(&values, "show", false, "show the values that differ")
	return a.mountFlagOf(c)
}

// nextOf returns the advice that err carries.
func nextOf(err error) []string {
	if f, ok := errors.AsType[failure](err); ok {
		return f.next
	}
	return nil
}

func (a *app) diff(cmd *cobra.Command, args []string, with string, values bool) (bool, error) {
	numbers := make([]int64, 2) // old, new
	for i, arg := range args[1:] {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n < 1 {
			return false, usageError{fmt.Errorf("%q is not the number of a version", show.Clean(arg)), cmd.CommandPath()}
		}
		numbers[i] = n
	}
	if with != "" && len(args) > 1 {
		return false, usageError{errors.New("--with compares current versions, so no numbers go with it"), cmd.CommandPath()}
	}
	path, err := secretPath(args[0])
	if err != nil {
		return false, usageError{err, cmd.CommandPath()}
	}
	ctx := cmd.Context()
	cl, err := a.plainClient()
	if err != nil {
		return false, err
	}
	m, err := a.short(ctx, cl)
	if err != nil {
		return false, err
	}
	if !m.v2 && with == "" {
		return false, m.noVersions("diff", "rotunda diff"+a.mountFlag()+" "+show.Shell(args[0])+" --with OTHER")
	}
	other := path
	if with != "" {
		if other, err = secretPath(with); err != nil {
			return false, usageError{err, cmd.CommandPath()}
		}
	} else if numbers[0] == 0 {
		if numbers[0], numbers[1], err = a.lastTwo(ctx, cl, m, path); err != nil {
			return false, err
		}
	}
	before, err := a.read(ctx, cl, m, other, numbers[0])
	if err != nil {
		return false, err
	}
	after, err := a.read(ctx, cl, m, path, numbers[1])
	if err != nil {
		return false, err
	}
	diffs := changes(before.data, after.data, values)
	doc := document().set("mount", m.path).
		set("old", new(object).set("path", other).set("version", before.version)).
		set("new", new(object).set("path", path).set("version", after.version)).
		set("changes", diffs)
	err = a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		if len(diffs) == 0 {
			a.note("no difference between %s and %s", before.called(), after.called())
			return nil
		}
		a.note("from %s to %s:", before.called(), after.called())
		t := show.Table{Header: []string{"Change", "Field"}}
		if values {
			t.Header = append(t.Header, "Old", "New")
		}
		for _, d := range diffs {
			row := []string{d.Kind, d.Field}
			if values {
				row = append(row, optional(d.Old), optional(d.New))
			}
			t.Add(row...)
		}
		return a.table(w, &t)
	}})
	return len(diffs) > 0, err
}

// called is what a person calls s: in a mount that keeps versions, one of them.
func (s stored) called() string {
	if s.version == 0 {
		return show.Clean(s.path)
	}
	return fmt.Sprintf("version %d of %s", s.version, show.Clean(s.path))
}

func optional(v *jsontext.Value) string {
	if v == nil {
		return ""
	}
	return show.Text(*v)
}

// lastTwo returns the current version and the newest before it that can be read.
func (a *app) lastTwo(ctx context.Context, c *api.Client, m mountInfo, path string) (old, current int64, err error) {
	versions, current, err := a.history(ctx, c, m, path)
	if err != nil {
		return 0, 0, err
	}
	if len(versions) == 0 {
		return 0, 0, a.valueless(m, path)
	}
	next := []string{"rotunda history" + a.mountFlag() + " " + show.Shell(path)}
	for _, v := range slices.Backward(versions) {
		if v.readable(a.Clock.Now()) && v.Number < current {
			return v.Number, current, nil
		}
		if v.Number == current && !v.Destroyed && v.deleted(a.Clock.Now()) {
			next = append(next, undelete(m, path, current))
		}
	}
	return 0, 0, failure{err: fmt.Errorf("%s has no older version that can be read", show.Clean(path)), code: 2, next: next}
}

func (a *app) rollbackCommand() *cobra.Command {
	var to int64
	c := &cobra.Command{
		Use:   "rollback PATH [--to VERSION]",
		Short: "Make an older version of a secret the current one again",
		Long: `Store the value of an older version as a new version. Without --to it is the
newest before the current one that can be read. Nothing is taken out of the
history.`,
		Args:              exactly(1, "PATH"),
		ValidArgsFunction: a.completePaths(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath(args[0])
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			ctx := cmd.Context()
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			m, err := a.short(ctx, cl)
			if err != nil {
				return err
			}
			if !m.v2 {
				return m.noVersions("rollback")
			}
			old, current, err := a.lastTwo(ctx, cl, m, path)
			if to != 0 {
				_, current, err = a.history(ctx, cl, m, path)
				old = to
			}
			if err != nil {
				return err
			}
			s, err := a.read(ctx, cl, m, path, old)
			if err != nil {
				return err
			}
			v, _, err := a.write(ctx, cl, m, path, object(show.Members(s.data)), &current)
			if err != nil {
				return err
			}
			return a.saved(m, path, v, "", false, fmt.Sprintf("Brought back version %d of", old))
		},
	}
	c.Flags().Int64Var(&to, "to", 0, "the `version` to bring back")
	return a.mountFlagOf(c)
}
