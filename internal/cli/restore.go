package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func (a *app) restoreCommand() *cobra.Command {
	var at, from string
	var f restoreFlags
	var dryRun bool
	c := &cobra.Command{
		Use:   "restore [PATH] (--at TIME | --from BACKUP)",
		Short: "Bring back a secret, or all secrets below a path, as they were",
		Long: `Bring back a secret, or all secrets below PATH, as they were: with --at from the
versions that the server keeps, with --from from a backup. TIME is RFC 3339, or how
long ago: 90m.

What comes back is stored as a new version by your token: policies decide, each
write is recorded, and nothing is taken out of the history. First comes a preview
without values, then a question, unless --yes answers it. A secret that someone
else changes after the preview is left as it is, and the restore ends there; given
again, it goes on.

Secrets that there were not at the time are newer, and left as they are. A secret is
lost where the version of the time is destroyed, or is no longer kept: then a backup
may have it. A version that was deleted since is undeleted.

With --from, what unseals the store is needed: its key file, the seals of a
configuration, or key shares.`,
		Example: "  rotunda restore app --at 2026-01-02T15:04:05Z --dry-run\n  rotunda restore app/db --at 2h\n  rotunda restore app --from rotunda.backup --key-file seal.key",
		Args:    atMost(1),
	}
	c.Flags().StringVar(&at, "at", "", "the `time` as of which secrets come back: RFC 3339, or how long ago")
	c.Flags().StringVar(&from, "from", "", "the `backup` from which secrets come back")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show the preview")
	f.define(c)
	c.ValidArgsFunction = a.completePaths(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path := ""
		if len(args) > 0 {
			var err error
			if path, err = directory(args[0]); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
		}
		if (at == "") == (from == "") {
			return usageError{errors.New("give --at TIME or --from BACKUP: one of them"), cmd.CommandPath()}
		}
		when := time.Time{}
		if at != "" {
			var err error
			if when, err = a.pastTime(at); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
		}
		return a.restore(cmd.Context(), path, when, from, f, dryRun)
	}
	return a.mountFlagOf(c)
}

// pastTime reads a time, or how long ago it was.
func (a *app) pastTime(text string) (time.Time, error) {
	now := a.Clock.Now()
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		ago, err := time.ParseDuration(text)
		if err != nil || ago <= 0 {
			return time.Time{}, fmt.Errorf("--at %q is neither a time such as 2026-01-02T15:04:05Z nor how long ago, such as 90m", show.Clean(text))
		}
		return now.Add(-ago), nil
	}
	if t.After(now) {
		return time.Time{}, fmt.Errorf("--at %s has not come yet", show.Clean(text))
	}
	return t, nil
}

func (a *app) restore(ctx context.Context, path string, at time.Time, from string, f restoreFlags, dryRun bool) error {
	cl, err := a.plainClient()
	if err != nil {
		return err
	}
	m, err := a.short(ctx, cl)
	if err != nil {
		return err
	}
	var plan []planned
	if from != "" {
		plan, err = a.planFromBackup(ctx, cl, m, path, from, f)
	} else {
		plan, err = a.planOfTime(ctx, cl, m, path, at)
	}
	if err != nil {
		return err
	}
	if len(plan) == 0 {
		return failure{err: fmt.Errorf("there is nothing at %s or below it in %s", show.Clean(first(path, "the top")), m.path), code: 2}
	}
	if err := a.carryOut(ctx, cl, m, plan, dryRun); err != nil {
		return err
	}
	if !dryRun && slices.ContainsFunc(plan, func(p planned) bool { return p.Action == "lost" }) {
		return failure{
			err: errors.New("what is lost is not kept any more as it was then"), code: 2,
			next: []string{"rotunda restore" + a.mountFlag() + " " + show.Shell(path) + " --from BACKUP"},
		}
	}
	return nil
}

// planFromBackup compares what a backup holds with what is stored.
func (a *app) planFromBackup(ctx context.Context, c *api.Client, m mountInfo, path, from string, f restoreFlags) ([]planned, error) {
	if a.Server.Backups.Tree == nil {
		return nil, errNoServer
	}
	in, err := a.restoreConfig(f, from, "")
	if err != nil {
		return nil, err
	}
	found, err := a.Server.Backups.Tree(ctx, in, Tree{Mount: m.path, V2: m.v2, Path: path})
	if err != nil {
		return nil, err
	}
	var plan []planned
	for _, s := range found {
		plan = append(plan, planned{Path: s.Path, data: object(show.Members(s.Data.Reveal()))})
	}
	return plan, a.compare(ctx, c, m, plan)
}

// planOfTime compares what secrets were at a time with what they are.
func (a *app) planOfTime(ctx context.Context, c *api.Client, m mountInfo, path string, at time.Time) (plan []planned, err error) {
	if !m.v2 {
		return nil, m.noVersions("restore --at", "rotunda restore"+a.mountFlag()+" "+show.Shell(path)+" --from BACKUP")
	}
	paths, err := a.walk(ctx, c, m, path)
	if err != nil {
		return nil, err
	}
	if path != "" { // a secret may have the name of what is above others
		paths = append([]string{path}, paths...)
	}
	bar := a.progress("comparing", len(paths))
	defer bar.end()
	for _, p := range paths {
		versions, current, err := a.versions(ctx, c, m, p)
		bar.step()
		if api.StatusOf(err) == 404 {
			continue
		}
		if err != nil {
			return nil, err
		}
		one, err := a.planOne(ctx, c, m, p, versions, current, at)
		if err != nil {
			return nil, err
		}
		plan = append(plan, one)
	}
	return plan, nil
}

// planOne says what is to be done for one secret, by its versions.
func (a *app) planOne(ctx context.Context, c *api.Client, m mountInfo, path string, versions []versionInfo, current int64, at time.Time) (planned, error) {
	p := planned{Path: path, Action: "newer", cas: &current}
	now := a.Clock.Now()
	var then, newest versionInfo
	for _, v := range versions {
		made, err := time.Parse(time.RFC3339Nano, v.CreatedTime)
		if err != nil {
			return p, fmt.Errorf("reading when version %d of %s was made: %w", v.Number, show.Clean(path), err)
		}
		if !made.After(at) {
			then = v
		}
		newest = v
	}
	switch {
	case then.Number == 0 && len(versions) > 0 && versions[0].Number > 1: // older ones are no longer kept
		p.Action = "lost"
	case then.Number == 0, !then.Destroyed && then.deleted(at): // there was none
	case then.Destroyed:
		p.Action = "lost"
	case then.Number == current && then.readable(now):
		p.Action = "same"
	case then.deleted(now):
		p.Action, p.revive = "changed", then.Number
		if !newest.readable(now) {
			p.Action = "new"
		}
	default:
		old, err := a.read(ctx, c, m, path, then.Number)
		if err != nil {
			return p, err
		}
		p.data, p.Action = object(show.Members(old.data)), "new"
		if newest.readable(now) {
			is, err := a.read(ctx, c, m, path, 0)
			if err != nil {
				return p, err
			}
			if p.Action = "changed"; same(is.data, old.data) {
				p.Action = "same"
			}
		}
	}
	return p, nil
}

// carryOne does what is planned for one secret.
func (a *app) carryOne(ctx context.Context, c *api.Client, m mountInfo, p planned) error {
	if p.revive != 0 {
		// What is undeleted takes no check-and-set, so it is looked at just before.
		_, current, err := a.history(ctx, c, m, p.Path)
		if err != nil {
			return err
		}
		if current != *p.cas {
			return fmt.Errorf("someone else has changed %s since the preview: it is at version %d, not %d", show.Clean(p.Path), current, *p.cas)
		}
		body := new(object).set("versions", []string{strconv.FormatInt(p.revive, 10)})
		if _, err := c.Do(ctx, api.Request{Method: "PUT", Path: m.at("undelete", p.Path), Body: body.json()}); err != nil {
			return err
		}
		if p.revive == *p.cas {
			return nil
		}
		old, err := a.read(ctx, c, m, p.Path, p.revive)
		if err != nil {
			return err
		}
		p.data = object(show.Members(old.data))
	}
	_, _, err := a.write(ctx, c, m, p.Path, p.data, p.cas)
	return err
}
