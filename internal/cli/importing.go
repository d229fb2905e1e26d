package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/intake"
	"rotunda.dev/rotunda/internal/cli/show"
)

// planned is one secret that an import or a restore would write.
type planned struct {
	Path   string `json:"path"`
	Action string `json:"action"` // new, changed, same; of a restore newer or lost, too
	data   object
	cas    *int64
	revive int64 // the version whose data comes back, which is deleted; 0 for none
}

// writes reports whether there is something to write.
func (p planned) writes() bool { return p.Action == "new" || p.Action == "changed" }

func (a *app) importCommand() *cobra.Command {
	var as string
	var dryRun, whole bool
	c := &cobra.Command{
		Use:   "import FILE [PATH]",
		Short: "Store the secrets of a .env, JSON or YAML file",
		Long: `Store what a file holds: one secret for each name, under PATH. Nested objects
become directories. With --map the whole file becomes one secret at PATH, with a
field for each name.

First comes a preview: which secrets are new, which change, which stay the same;
it shows no values. Then a question, unless --yes answers it. What stays the
same is not written, so that a run that was cut off goes on when it is given
again. A secret that someone else changes after the preview is left as it is, and
the import ends there (a mount of version 1 cannot tell). FILE may be - for
standard input.

In a .env file, $NAME outside of single quotes is the value of a line before it;
where there is none the file is refused, because readers do not agree on it.`,
		Example: `  rotunda import .env
  rotunda import .env app/prod --dry-run
  rotunda import config.yaml app --map --yes
  sops -d secrets.json | rotunda import - --as json --yes`,
		Args: between(1, 2, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 1 {
				var err error
				if dir, err = directory(args[1]); err != nil {
					return usageError{err, cmd.CommandPath()}
				}
			}
			if whole && dir == "" {
				return usageError{errors.New("--map needs a PATH for the one secret that it makes"), cmd.CommandPath()}
			}
			items, err := a.intake(args[0], as, !whole)
			if err != nil {
				return err
			}
			if len(items) == 0 {
				return fmt.Errorf("%s holds no secrets", show.Clean(args[0]))
			}
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			m, err := a.short(cmd.Context(), cl)
			if err != nil {
				return err
			}
			plan, err := a.plan(cmd.Context(), cl, m, dir, items, whole)
			if err != nil {
				return err
			}
			return a.carryOut(cmd.Context(), cl, m, plan, dryRun)
		},
	}
	f := c.Flags()
	f.StringVar(&as, "as", "", "what the file is written in: env, json or yaml; without, its name tells")
	f.BoolVar(&dryRun, "dry-run", false, "only show the preview")
	f.BoolVar(&whole, "map", false, "make one secret with a field for each name")
	_ = c.RegisterFlagCompletionFunc("as", fixed("env", "json", "yaml")) // the flag is the one defined above
	return a.mountFlagOf(c)
}

// intake reads the secrets of a file.
func (a *app) intake(file, as string, flat bool) ([]intake.Item, error) {
	format := intake.Format(strings.ToLower(as))
	if format == "" {
		if format = intake.FormatOf(file); format == "" {
			return nil, usageError{errors.New("the name does not say what the file is written in: add --as env, --as json or --as yaml"), ""}
		}
	}
	var raw []byte
	var err error
	if file == "-" {
		raw, err = a.readAll()
	} else {
		raw, err = a.readFile(file)
	}
	if err != nil {
		return nil, err
	}
	items, err := intake.Parse(raw, format, flat)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", show.Clean(file), err)
	}
	return items, nil
}

// plan compares what a file holds with what is stored.
func (a *app) plan(ctx context.Context, c *api.Client, m mountInfo, dir string, items []intake.Item, whole bool) ([]planned, error) {
	var plan []planned
	if whole {
		var data object
		for _, it := range items {
			data.put(it.Path, it.Value)
		}
		plan = []planned{{Path: dir, data: data}}
	} else {
		for _, it := range items {
			plan = append(plan, planned{Path: join(dir, it.Path), data: object{{Name: "value", Value: it.Value}}})
		}
	}
	return plan, a.compare(ctx, c, m, plan)
}

// compare says what is to be done for each of a plan.
func (a *app) compare(ctx context.Context, c *api.Client, m mountInfo, plan []planned) error {
	bar := a.progress("comparing", len(plan))
	defer bar.end()
	for i := range plan {
		p := &plan[i]
		old, err := a.find(ctx, c, m, p.Path, 0)
		switch deleted, gone := errors.AsType[deletedError](err); {
		case err == nil && same(old.data, p.data.json()):
			p.Action = "same"
		case err == nil:
			p.Action, p.cas = "changed", &old.version
		case gone:
			p.Action, p.cas = "new", &deleted.version
		case errors.Is(err, errMissing):
			p.Action, p.cas = "new", new(int64)
		default:
			return err
		}
		if !m.v2 {
			p.cas = nil
		}
		bar.step()
	}
	return nil
}

// carryOut shows a plan, asks, and writes.
func (a *app) carryOut(ctx context.Context, c *api.Client, m mountInfo, plan []planned, dryRun bool) error {
	count := map[string]int{}
	for _, p := range plan {
		count[p.Action]++
	}
	parts := []string{fmt.Sprintf("%d new, %d changed, %d the same", count["new"], count["changed"], count["same"])}
	for _, action := range []string{"newer", "lost"} {
		if count[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[action], action))
		}
	}
	summary := strings.Join(parts, ", ")
	format, err := a.format()
	if err != nil {
		return err
	}
	people := func(w io.Writer) error {
		t := show.Table{Header: []string{"Secret", "Action"}}
		for _, p := range plan {
			t.Add(p.Path, p.Action)
		}
		return a.table(w, &t)
	}
	doc := document().set("mount", m.path).set("dry_run", dryRun).set("secrets", plan).json()
	todo := count["new"] + count["changed"]
	if dryRun {
		if err := a.print(view{doc: doc, people: people}); err != nil {
			return err
		}
		a.note("%s in %s; nothing was written", summary, m.path)
		return nil
	}
	if format == "table" && !a.quiet {
		if err := people(show.Screen(a.Stderr)); err != nil {
			return err
		}
	}
	if todo == 0 {
		a.note("everything is stored already (%s)", summary)
	} else {
		if err := a.confirm(fmt.Sprintf("Store %d secrets in %s (%s)?", todo, m.path, summary)); err != nil {
			return err
		}
		bar := a.progress("storing", todo)
		done := 0
		for _, p := range plan {
			if !p.writes() {
				continue
			}
			if err := a.carryOne(ctx, c, m, p); err != nil {
				bar.end()
				a.note("%d of %d were stored; to go on, give the same command again", done, todo)
				return err
			}
			done++
			bar.step()
		}
		bar.end()
		a.note("Stored %d secrets in %s (%s)", todo, m.path, summary)
	}
	if format != "table" {
		return a.print(view{doc: doc, data: doc})
	}
	return nil
}
