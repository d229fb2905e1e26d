package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/storage"
)

// The bounds of a filtered list: names that are looked at for one that is
// asked for, and a page of a directory. Where nobody says how many names are
// asked for, it is the server's page.
const (
	filterFactor = 10
	pageNames    = 512
	hiddenPages  = 64 // that a filtered list looks through with nothing to show
)

// List lists the names in a directory, in the order of their bytes. The names
// of directories end in a slash.
//
// A filtered list shows a secret that the caller may read under data/ or
// metadata/, and a directory that the caller may list. Once it has something to
// show it looks at no more than ten names for one that is asked for, and a page;
// where it stopped before the end it says in "next" what to send as "after" to go
// on, which is the last name that it shows: of those that it hides it says none.
// Of a directory whose first 32,768 names are all hidden it is refused.
var List = op.Def[ListIn, ListOut]{
	Name: "kv.list", Verb: op.List, Path: "metadata/{path...}",
	Does: "List the names of secrets and directories in a directory.",
}

// ListIn asks for names.
type ListIn struct {
	Path   string `path:"path" doc:"Path of the directory; empty is the whole mount."`
	After  string `query:"after" doc:"List what follows this name, which need not exist."`
	Limit  int    `query:"limit" doc:"How many names to list; 0 is all."`
	Filter bool   `query:"filter" doc:"Show only what the caller may see."`
}

// Validate reports a request that can never be right.
func (in ListIn) Validate() error {
	if in.Limit < 0 {
		return fault.New(fault.Invalid, "limit must not be negative")
	}
	return nil
}

// ListOut is names in a directory.
type ListOut struct {
	Keys []string `json:"keys" doc:"The names, in the order of their bytes."`
	Next string   `json:"next,omitzero" doc:"Where a filtered list stopped: send it as after to go on."`
}

func dirOf(path string) string {
	if path == "" || strings.HasSuffix(path, "/") {
		return path
	}
	return path + "/"
}

func (m *mounted) list(ctx context.Context, c *op.Call, in ListIn) (ListOut, error) {
	may := func(name string, path string) bool {
		mount := string(c.Mount.Path)
		if strings.HasSuffix(name, "/") {
			return c.May(op.List, mount+"metadata/"+path)
		}
		return c.May(op.Read, mount+"data/"+path) || c.May(op.Read, mount+"metadata/"+path)
	}
	return m.listNames(ctx, c, in, may)
}

// listNames lists a directory; may says of a name in it and its path whether
// the caller may see it.
func (m *mounted) listNames(ctx context.Context, c *op.Call, in ListIn, may func(name, path string) bool) (ListOut, error) {
	if err := m.env.Limits.Page(in.Limit); err != nil {
		return ListOut{}, err
	}
	dir := dirOf(in.Path)
	var out ListOut
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		var err error
		if m.filter || in.Filter {
			out, err = filtered(ctx, r, c, dir, in, m.env.Limits.ListPage, may)
			return err
		}
		out.Keys, _, err = directory.List(r, dir, in.After, in.Limit)
		return err
	})
	if err != nil {
		return ListOut{}, err
	}
	if len(out.Keys) == 0 && out.Next == "" {
		return ListOut{}, errNone()
	}
	if out.Next != "" {
		c.Warn("the list stops before the end of the directory; send after=%q to go on", out.Next)
	}
	if out.Keys == nil {
		out.Keys = []string{}
	}
	return out, nil
}

func filtered(ctx context.Context, r storage.Reader, c *op.Call, dir string, in ListIn, page int, may func(name, path string) bool) (ListOut, error) {
	var out ListOut
	if c.May == nil {
		return out, nil
	}
	limit := in.Limit
	if limit == 0 {
		limit = page
	}
	after := in.After
	for looked := 0; looked < filterFactor*limit || len(out.Keys) == 0; looked += pageNames {
		if len(out.Keys) == 0 && looked >= hiddenPages*pageNames {
			return ListOut{}, fault.New(fault.Invalid, "too many names are hidden here; list a directory below it")
		}
		names, more, err := directory.List(r, dir, after, pageNames)
		if err != nil {
			return ListOut{}, err
		}
		if err := ctx.Err(); err != nil {
			return ListOut{}, fmt.Errorf("listing names: %w", err)
		}
		for i, n := range names {
			after = n
			if may(n, dir+n) {
				out.Keys = append(out.Keys, n)
			}
			if in.Limit > 0 && len(out.Keys) == in.Limit {
				if more || i+1 < len(names) {
					out.Next = n
				}
				return out, nil
			}
		}
		if !more {
			return out, nil
		}
	}
	out.Next = out.Keys[len(out.Keys)-1]
	return out, nil
}

// ListDetailed is [List] with what is known of each secret that the caller may
// read the metadata of.
var ListDetailed = op.Def[ListIn, DetailedOut]{
	Name: "kv.list-detailed", Verb: op.List, Path: "detailed-metadata/{path...}",
	Does: "List the names in a directory with what is known of each secret.",
}

// DetailedOut is names in a directory and what is known of them.
type DetailedOut struct {
	Keys    []string               `json:"keys" doc:"The names, in the order of their bytes; at most as many as a page of the server has."`
	KeyInfo map[string]MetadataOut `json:"key_info" doc:"What is known of each secret, by its name, where the caller may read it."`
	Next    string                 `json:"next,omitzero" doc:"Where the list stopped: send it as after to go on."`
}

func (m *mounted) listDetailed(ctx context.Context, c *op.Call, in ListIn) (DetailedOut, error) {
	out := DetailedOut{KeyInfo: map[string]MetadataOut{}}
	if err := m.env.Limits.Page(in.Limit); err != nil {
		return DetailedOut{}, err
	}
	dir := dirOf(in.Path)
	limit := in.Limit
	if limit == 0 {
		limit = m.env.Limits.ListPage
	}
	may := func(name, path string) bool {
		verb := op.Read
		if strings.HasSuffix(name, "/") {
			verb = op.List
		}
		return c.May != nil && c.May(verb, string(c.Mount.Path)+"metadata/"+path)
	}
	err := m.env.Store.View(ctx, func(r storage.Reader) error {
		names, next, err := m.detailed(ctx, r, c, dir, in, limit, may)
		if err != nil {
			return err
		}
		out.Keys, out.Next = names, next
		for _, n := range names {
			if strings.HasSuffix(n, "/") || !may(n, dir+n) {
				continue
			}
			x, err := m.safe.Find(r, dir+n)
			if errors.Is(err, safe.ErrNone) {
				continue
			}
			if err != nil {
				return err
			}
			out.KeyInfo[n] = metadataOut(x)
		}
		return nil
	})
	if err != nil {
		return DetailedOut{}, err
	}
	if len(out.Keys) == 0 && out.Next == "" {
		return DetailedOut{}, errNone()
	}
	return out, nil
}

// detailed returns the names of a detailed list, and where it stopped.
func (m *mounted) detailed(ctx context.Context, r storage.Reader, c *op.Call, dir string, in ListIn, limit int, may func(name, path string) bool) (names []string, next string, err error) {
	if m.filter || in.Filter {
		in.Limit = limit
		out, err := filtered(ctx, r, c, dir, in, limit, may)
		return out.Keys, out.Next, err
	}
	names, more, err := directory.List(r, dir, in.After, limit)
	if more && in.Limit != limit && len(names) > 0 {
		next = names[len(names)-1]
	}
	return names, next, err
}
