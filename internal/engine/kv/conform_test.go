package kv_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/engine/enginetest"
	"rotunda.dev/rotunda/internal/engine/kv"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

const plain = "correct-horse-battery"

func TestConform(t *testing.T) {
	value := object(`{"password":"` + plain + `","n":1}`)
	write := func(path string) enginetest.Step {
		return enginetest.Request(kv.Write, kv.WriteIn{Path: path, Data: value})
	}
	enginetest.Conform(t, enginetest.Suite{
		Kind: kv.Kind, Options: map[string]string{"version": "2"}, Secret: plain, Observe: observe,
		Steps: []enginetest.Step{
			enginetest.Request(kv.WriteConfig, kv.ConfigIn{MaxVersions: new(3)}),
			enginetest.Request(kv.ReadConfig, op.Nothing{}),
			write("a"), write("a"), write("a/b/c"), write("a/b/d"), write("a"), write("a"),
			enginetest.Request(kv.Write, kv.WriteIn{Path: "e", Data: value, Options: cas(0)}),
			enginetest.Request(kv.Patch, kv.PatchIn{Path: "a", Data: object(`{"n":2}`)}),
			enginetest.Request(kv.Read, kv.ReadIn{Path: "a"}),
			enginetest.Request(kv.Subkeys, kv.SubkeysIn{Path: "a"}),
			enginetest.Request(kv.DeleteVersions, kv.VersionsIn{Path: "a", Versions: wire.Ints{3, 4}}),
			enginetest.Request(kv.Undelete, kv.VersionsIn{Path: "a", Versions: wire.Ints{3}}),
			enginetest.Request(kv.Destroy, kv.VersionsIn{Path: "a", Versions: wire.Ints{4, 5}}),
			enginetest.Request(kv.Read, kv.ReadIn{Path: "a"}),
			enginetest.Request(kv.WriteMetadata, kv.MetadataIn{Path: "a/m", CustomMetadata: &wire.Map{"k": "noted"}}),
			enginetest.Request(kv.PatchMetadata, kv.MetadataPatchIn{Path: "a/m", CustomMetadata: kv.CustomPatch{Set: wire.Map{"l": "x"}}}),
			enginetest.Request(kv.ReadMetadata, kv.PathIn{Path: "a/m"}),
			enginetest.Request(kv.List, kv.ListIn{Path: "a"}),
			enginetest.Request(kv.ListDetailed, kv.ListIn{Path: "a"}),
			enginetest.Request(kv.DeleteMetadata, kv.PathIn{Path: "a/b/c"}),
			enginetest.Request(kv.Delete, kv.PathIn{Path: "a/b/d"}),
			enginetest.Request(kv.DeleteMetadata, kv.PathIn{Path: "a/b/d"}),
		},
	})
}

// A secret with more versions than one transaction removes is gone at once.
func TestConformManyVersions(t *testing.T) {
	steps := []enginetest.Step{enginetest.Request(kv.WriteConfig, kv.ConfigIn{MaxVersions: new(1000)})}
	for n := range 150 {
		steps = append(steps, enginetest.Request(kv.Write, kv.WriteIn{Path: "d/a", Data: object(fmt.Sprintf(`{"n":%d}`, n))}))
	}
	r := enginetest.New(t, kv.Kind, map[string]string{"version": "2"})
	for _, s := range steps {
		if err := s.Run(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	m := mount{r, t}
	m.ok(m.at(kv.DeleteMetadata, "d/a"))
	rows, err := enginetest.Rows(t.Context(), r)
	m.ok(err)
	if len(rows) != 1 {
		t.Errorf("rows are left in %d scopes; want those of the configuration", len(rows))
	}
}

func TestConform1(t *testing.T) {
	value := object(`{"password":"` + plain + `"}`)
	enginetest.Conform(t, enginetest.Suite{
		Kind: kv.Kind, Secret: plain, Observe: observe1,
		Steps: []enginetest.Step{
			enginetest.Request(kv.Write1, kv.WriteIn1{Path: "a", Data: value}),
			enginetest.Request(kv.Write1, kv.WriteIn1{Path: "a/b", Data: value}),
			enginetest.Request(kv.Write1, kv.WriteIn1{Path: "a/b", Data: object(`{"x":"` + plain + `"}`)}),
			enginetest.Request(kv.Read1, kv.PathIn{Path: "a"}),
			enginetest.Request(kv.List1, kv.ListIn{}),
			enginetest.Request(kv.Delete1, kv.PathIn{Path: "a/b"}),
		},
	})
}

// observe shows every secret of a mount of version 2.
func observe(ctx context.Context, r *enginetest.Rig) (string, error) {
	var b strings.Builder
	conf, err := enginetest.Do(ctx, r, kv.ReadConfig, op.Nothing{})
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "%+v\n", conf)
	err = walk(ctx, r, kv.List, "", func(path string) error {
		meta, err := enginetest.Do(ctx, r, kv.ReadMetadata, kv.PathIn{Path: path})
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %+v\n", path, meta)
		for n := range int(meta.CurrentVersion) + 1 {
			out, err := enginetest.Do(ctx, r, kv.Read, kv.ReadIn{Path: path, Version: n})
			fmt.Fprintf(&b, "\t%d %s %+v %v\n", n, out.Data.Reveal(), out.Metadata, fault.KindOf(err))
		}
		return nil
	})
	return b.String(), err
}

// observe1 shows every secret of a mount of version 1.
func observe1(ctx context.Context, r *enginetest.Rig) (string, error) {
	var b strings.Builder
	err := walk(ctx, r, kv.List1, "", func(path string) error {
		out, err := enginetest.Do(ctx, r, kv.Read1, kv.PathIn{Path: path})
		fmt.Fprintf(&b, "%s %s %v\n", path, out.Reveal(), err)
		return nil
	})
	return b.String(), err
}

func walk(ctx context.Context, r *enginetest.Rig, list op.Def[kv.ListIn, kv.ListOut], dir string, fn func(path string) error) error {
	out, err := enginetest.Do(ctx, r, list, kv.ListIn{Path: dir})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	for _, name := range out.Keys {
		if strings.HasSuffix(name, "/") {
			err = walk(ctx, r, list, dir+name, fn)
		} else {
			err = fn(dir + name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
