package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// completeFor is how long a shell waits for names.
const completeFor = 2 * time.Second

// completePaths completes the names of secrets, for the first n arguments or,
// where n is negative, for all. It asks the server, and never for values.
func (a *app) completePaths(n int) cobra.CompletionFunc {
	return a.completing(n, func(ctx context.Context, cl *api.Client, typed string) []string {
		m, err := a.short(ctx, cl)
		if err != nil {
			return nil
		}
		return a.below(ctx, cl, m, "", typed)
	})
}

// completeKV is completePaths for the commands of kv: without mount, the path
// begins with one.
func (a *app) completeKV(mount *string) cobra.CompletionFunc {
	return a.completing(1, func(ctx context.Context, cl *api.Client, typed string) []string {
		if *mount != "" {
			m, _, err := a.kv(ctx, cl, *mount, "")
			if err != nil {
				return nil
			}
			return a.below(ctx, cl, m, "", typed)
		}
		mounts := a.mountPaths(ctx, cl)
		for _, path := range mounts {
			if strings.HasPrefix(typed, path) {
				m, _, err := a.kv(ctx, cl, "", path)
				if err != nil {
					return nil
				}
				return a.below(ctx, cl, m, m.path, typed)
			}
		}
		return beginning(mounts, typed)
	})
}

// completeMounts completes the mounts that hold secrets.
func (a *app) completeMounts(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completing(-1, func(ctx context.Context, cl *api.Client, typed string) []string {
		paths := a.mountPaths(ctx, cl)
		for i := range paths {
			paths[i] = strings.TrimSuffix(paths[i], "/")
		}
		return beginning(paths, typed)
	})(cmd, nil, typed)
}

// completing asks the server for what may follow, for the first n arguments.
func (a *app) completing(n int, find func(ctx context.Context, cl *api.Client, typed string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if n >= 0 && len(args) >= n {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
		defer cancel()
		cl, err := a.plainClient()
		if err != nil {
			return nil, none
		}
		return find(ctx, cl, typed), none | cobra.ShellCompDirectiveNoSpace
	}
}

// below returns what typed, which begins with prefix, may go on as in m.
func (a *app) below(ctx context.Context, cl *api.Client, m mountInfo, prefix, typed string) []string {
	dir := typed[:strings.LastIndex(typed, "/")+1]
	keys, err := a.list(ctx, cl, m, strings.TrimPrefix(dir, prefix))
	if err != nil {
		return nil
	}
	for i := range keys {
		keys[i] = dir + keys[i]
	}
	return beginning(keys, typed)
}

// beginning returns the words that begin with typed and that a shell can show.
func beginning(words []string, typed string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) || show.Clean(w) != w })
}

// mountPaths returns the paths of the mounts that hold secrets, those first
// that are longer.
func (a *app) mountPaths(ctx context.Context, cl *api.Client) []string {
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: strings.TrimSuffix(preflightPath, "/"), NoWrap: true})
	if err != nil {
		return nil
	}
	mounts, _ := show.Field(resp.Data, "secret")
	var out []string
	for _, m := range show.Members(mounts) {
		if kind := member(m.Value, "type"); kind == "kv" || kind == "generic" {
			out = append(out, m.Name)
		}
	}
	slices.SortFunc(out, func(x, y string) int { return strings.Compare(y, x) })
	return out
}

// completePolicies completes the names of policies.
func (a *app) completePolicies(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completing(1, func(ctx context.Context, cl *api.Client, typed string) []string {
		resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/policies/acl", Query: listQuery(), NoWrap: true})
		if err != nil {
			return nil
		}
		keys, _ := show.Field(resp.Data, "keys")
		return beginning(texts(keys), typed)
	})(cmd, args, typed)
}

// atLeast, atMost, exactly and between check the number of arguments.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s is missing: %s", what, c.UseLine()), c.CommandPath()}
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("there are too many arguments: %s", c.UseLine()), c.CommandPath()}
		}
		return nil
	}
}

func between(low, high int, what string) cobra.PositionalArgs {
	return cobra.MatchAll(atLeast(low, what), atMost(high))
}

func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }
