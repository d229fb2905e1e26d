package system

import (
	"context"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
)

// The types of plugins that clients ask for. The engines of this server are
// shown as plugins that are part of it: no other can be added.
const (
	pluginAuth     = "auth"
	pluginDatabase = "database"
	pluginSecret   = "secret"
)

// CatalogEntry is an engine among all that can be mounted.
type CatalogEntry struct {
	Builtin           bool   `json:"builtin"`
	DeprecationStatus string `json:"deprecation_status"`
	Name              string `json:"name" audit:"clear"`
	Type              string `json:"type" audit:"clear"`
	Version           string `json:"version" audit:"clear"`
}

type catalogOut struct {
	Auth     []string       `json:"auth"`
	Database []string       `json:"database"`
	Secret   []string       `json:"secret"`
	Detailed []CatalogEntry `json:"detailed"`
}

type catalogTypeIn struct {
	Type string `path:"type" doc:"auth, database or secret."`
}

type catalogNamesOut struct {
	Keys []string `json:"keys"`
}

type catalogNameIn struct {
	Type string `path:"type" doc:"auth, database or secret."`
	Name string `path:"name" doc:"Name of the engine."`
}

type catalogNameOut struct {
	Args              []string `json:"args"`
	Builtin           bool     `json:"builtin"`
	Command           string   `json:"command"`
	DeprecationStatus string   `json:"deprecation_status"`
	Name              string   `json:"name" audit:"clear"`
	SHA256            string   `json:"sha256"`
	Version           string   `json:"version" audit:"clear"`
}

// catalogOps say which engines there are.
func catalogOps(p *Parts) []op.Op {
	names := func(_ context.Context, _ *op.Call, in catalogTypeIn) (catalogNamesOut, error) {
		all, err := p.catalog(in.Type)
		out := catalogNamesOut{Keys: []string{}}
		for i := range all {
			out.Keys = append(out.Keys, all[i].Name)
		}
		if err == nil && len(all) == 0 {
			err = fault.New(fault.NotFound, "") // as of any list that is empty
		}
		return out, err
	}
	return []op.Op{
		op.Def[op.Nothing, catalogOut]{
			Name: "system.catalog", Verb: op.Read, Path: "plugins/catalog", Does: "List the engines that can be mounted.",
		}.With(func(context.Context, *op.Call, op.Nothing) (catalogOut, error) {
			out := catalogOut{Auth: []string{}, Database: []string{}, Secret: []string{}, Detailed: p.entriesOf("")}
			for i := range out.Detailed {
				if e := &out.Detailed[i]; e.Type == pluginAuth {
					out.Auth = append(out.Auth, e.Name)
				} else {
					out.Secret = append(out.Secret, e.Name)
				}
			}
			return out, nil
		}),
		op.Def[catalogTypeIn, catalogNamesOut]{
			Name: "system.catalog.list", Verb: op.List, Path: "plugins/catalog/{type}/", Sudo: true, Does: "List the engines of a type.",
		}.With(names),
		op.Def[catalogTypeIn, catalogNamesOut]{
			Name: "system.catalog.names", Verb: op.Read, Path: "plugins/catalog/{type}", Sudo: true, Hidden: true, Does: "List the engines of a type.",
		}.With(names),
		op.Def[catalogNameIn, catalogNameOut]{
			Name: "system.catalog.read", Verb: op.Read, Path: "plugins/catalog/{type}/{name}", Sudo: true, Does: "Read what is known of an engine.",
		}.With(func(_ context.Context, _ *op.Call, in catalogNameIn) (catalogNameOut, error) {
			all, err := p.catalog(in.Type)
			if err != nil {
				return catalogNameOut{}, err
			}
			for i := range all {
				if e := &all[i]; e.Name == in.Name {
					return catalogNameOut{
						Args: []string{}, Builtin: true, DeprecationStatus: e.DeprecationStatus, Name: e.Name, Version: e.Version,
					}, nil
				}
			}
			return catalogNameOut{}, fault.New(fault.NotFound, "")
		}),
	}
}

// catalog returns the engines of a type.
func (p *Parts) catalog(kind string) ([]CatalogEntry, error) {
	switch kind {
	case pluginAuth, pluginDatabase, pluginSecret:
		return p.entriesOf(kind), nil
	}
	return nil, fault.New(fault.Invalid, "the type of a plugin is auth, database or secret")
}

// entriesOf returns the engines of a type, of all types where it is empty.
func (p *Parts) entriesOf(kind string) []CatalogEntry {
	all := []CatalogEntry{}
	for _, k := range p.Mounts.Kinds() {
		if !k.Mountable() {
			continue
		}
		if t := typeOf(&k); kind == "" || kind == t {
			all = append(all, CatalogEntry{Builtin: true, DeprecationStatus: "supported", Name: k.Name, Type: t, Version: "v" + p.Info.CompatVersion + "+builtin"})
		}
	}
	return all
}

func typeOf(k *engine.Kind) string {
	if k.Method {
		return pluginAuth
	}
	return pluginSecret
}
