package kv_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/engine/enginetest"
	"rotunda.dev/rotunda/internal/engine/kv"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// mount is a mount of version 2 with short ways to its operations.
type mount struct {
	*enginetest.Rig

	t testing.TB
}

func newMount(t testing.TB) mount {
	t.Helper()
	return mount{enginetest.New(t, kv.Kind, map[string]string{"version": "2"}), t}
}

func object(s string) secret.JSON { return secret.NewJSON([]byte(s)) }

func cas(n int) kv.Options { return kv.Options{CAS: &n} }

func (m mount) write(path, data string, o kv.Options) (kv.VersionOut, error) {
	return enginetest.Do(m.t.Context(), m.Rig, kv.Write, kv.WriteIn{Path: path, Data: object(data), Options: o})
}

func (m mount) mustWrite(path, data string) kv.VersionOut {
	m.t.Helper()
	out, err := m.write(path, data, kv.Options{})
	if err != nil {
		m.t.Fatalf("Write(%q) = %v", path, err)
	}
	return out
}

func (m mount) read(path string, version int) (string, kv.VersionOut, error) {
	out, err := enginetest.Do(m.t.Context(), m.Rig, kv.Read, kv.ReadIn{Path: path, Version: version})
	return string(out.Data.Reveal()), out.Metadata, err
}

func (m mount) patch(path, data string, o kv.Options) (kv.VersionOut, error) {
	return enginetest.Do(m.t.Context(), m.Rig, kv.Patch, kv.PatchIn{Path: path, Data: object(data), Options: o})
}

func (m mount) metadata(path string) (kv.MetadataOut, error) {
	return enginetest.Do(m.t.Context(), m.Rig, kv.ReadMetadata, kv.PathIn{Path: path})
}

func (m mount) setMetadata(in kv.MetadataIn) error {
	_, err := enginetest.Do(m.t.Context(), m.Rig, kv.WriteMetadata, in)
	return err
}

func (m mount) config(in kv.ConfigIn) error {
	_, err := enginetest.Do(m.t.Context(), m.Rig, kv.WriteConfig, in)
	return err
}

func (m mount) on(d op.Def[kv.VersionsIn, op.Empty], path string, versions ...int) error {
	_, err := enginetest.Do(m.t.Context(), m.Rig, d, kv.VersionsIn{Path: path, Versions: versions})
	return err
}

func (m mount) at(d op.Def[kv.PathIn, op.Empty], path string) error {
	_, err := enginetest.Do(m.t.Context(), m.Rig, d, kv.PathIn{Path: path})
	return err
}

func (m mount) list(in kv.ListIn) (kv.ListOut, error) {
	return enginetest.Do(m.t.Context(), m.Rig, kv.List, in)
}

func (m mount) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m mount) wantFault(err error, k fault.Kind, public string) {
	m.t.Helper()
	if !fault.Is(err, k) || fault.Public(err) != public {
		m.t.Errorf("got error %v (%v); want %v %q", err, fault.KindOf(err), k, public)
	}
}

func wantSame(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b wire.Time) bool { return time.Time(a).Equal(time.Time(b)) })); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, d)
	}
}

//go:fix inline
func ptr[T any](v T) *T { return new(v) }

const (
	day      = 24 * time.Hour
	maxValue = 512 << 10
)

// A secret is written, read, changed, deleted, recovered and destroyed.
func TestLifeOfASecret(t *testing.T) {
	m := newMount(t)
	t0 := m.Clock.Now()

	_, _, err := m.read("app/db", 0)
	m.wantFault(err, fault.NotFound, "")

	out := m.mustWrite("app/db", `{"password": "one", "n": 18446744073709551615, "f": 1.50}`)
	wantSame(t, "first write", out, kv.VersionOut{CreatedTime: wire.Time(t0), Version: 1})
	m.Clock.Advance(time.Hour)
	out = m.mustWrite("app/db", `{"password":"two"}`)
	wantSame(t, "second write", out, kv.VersionOut{CreatedTime: wire.Time(t0.Add(time.Hour)), Version: 2})

	data, meta, err := m.read("app/db", 0)
	m.ok(err)
	wantSame(t, "newest", data, `{"password":"two"}`)
	wantSame(t, "newest's metadata", meta, out)
	data, meta, err = m.read("app/db", 1)
	m.ok(err)
	wantSame(t, "version 1", data, `{"password": "one", "n": 18446744073709551615, "f": 1.50}`)
	wantSame(t, "version 1's number", meta.Version, uint64(1))
	_, _, err = m.read("app/db", 3)
	m.wantFault(err, fault.NotFound, "")

	m.Clock.Advance(time.Hour)
	m.ok(m.at(kv.Delete, "app/db"))
	data, meta, err = m.read("app/db", 0)
	m.wantFault(err, fault.Deleted, "")
	wantSame(t, "deleted data", data, "")
	wantSame(t, "deleted metadata", meta, kv.VersionOut{CreatedTime: wire.Time(t0.Add(time.Hour)), DeletionTime: wire.Time(t0.Add(2 * time.Hour)), Version: 2})
	m.Clock.Advance(time.Hour)
	m.ok(m.at(kv.Delete, "app/db"))
	_, again, _ := m.read("app/db", 0)
	wantSame(t, "metadata after a second delete", again, meta)

	m.ok(m.on(kv.Undelete, "app/db", 2, 7, -1))
	data, meta, err = m.read("app/db", 0)
	m.ok(err)
	wantSame(t, "recovered data", data, `{"password":"two"}`)
	wantSame(t, "recovered deletion time", meta.DeletionTime, wire.Time{})

	m.ok(m.on(kv.DeleteVersions, "app/db", 1, 2))
	m.ok(m.on(kv.Destroy, "app/db", 1))
	_, meta, err = m.read("app/db", 1)
	m.wantFault(err, fault.Deleted, "")
	wantSame(t, "destroyed", meta.Destroyed, true)
	m.ok(m.on(kv.Undelete, "app/db", 1, 2))
	_, _, err = m.read("app/db", 1)
	m.wantFault(err, fault.Deleted, "")
	_, _, err = m.read("app/db", 2)
	m.ok(err)

	got, err := m.metadata("app/db")
	m.ok(err)
	wantSame(t, "metadata", got, kv.MetadataOut{
		CreatedTime: wire.Time(t0), UpdatedTime: wire.Time(t0.Add(time.Hour)), CurrentVersion: 2, DeleteVersionAfter: "0s",
		Versions: map[string]kv.VersionInfo{
			"1": {CreatedTime: wire.Time(t0), DeletionTime: wire.Time(t0.Add(3 * time.Hour)), Destroyed: true},
			"2": {CreatedTime: wire.Time(t0.Add(time.Hour))},
		},
	})

	m.ok(m.at(kv.DeleteMetadata, "app/db"))
	_, _, err = m.read("app/db", 0)
	m.wantFault(err, fault.NotFound, "")
	_, err = m.metadata("app/db")
	m.wantFault(err, fault.NotFound, "")
	_, err = m.list(kv.ListIn{})
	m.wantFault(err, fault.NotFound, "")
	wantSame(t, "number after removal", m.mustWrite("app/db", `{}`).Version, uint64(1))
}

// What is asked of a secret that is not there changes nothing and is no error.
func TestNothingThere(t *testing.T) {
	m := newMount(t)
	m.ok(m.at(kv.Delete, "a"))
	m.ok(m.at(kv.DeleteMetadata, "a"))
	for _, d := range []op.Def[kv.VersionsIn, op.Empty]{kv.DeleteVersions, kv.Undelete, kv.Destroy} {
		m.ok(m.on(d, "a", 1))
	}
	_, err := m.patch("a", `{"x":1}`, kv.Options{})
	m.wantFault(err, fault.NotFound, "")
	_, err = enginetest.Do(t.Context(), m.Rig, kv.PatchMetadata, kv.MetadataPatchIn{Path: "a", MaxVersions: new(1)})
	m.wantFault(err, fault.NotFound, "")
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a"}))
	_, err = m.metadata("a")
	m.wantFault(err, fault.NotFound, "")
}

func TestRefused(t *testing.T) {
	m := newMount(t)
	long := strings.Repeat("x", 513)
	many := wire.Map{}
	for i := range 65 {
		many[fmt.Sprint(i)] = "v"
	}
	for _, c := range []struct {
		what   string
		err    func() error
		kind   fault.Kind
		public string
	}{
		{"no data", func() error { _, err := m.write("a", "", kv.Options{}); return err }, fault.Invalid, "no data provided"},
		{"null data", func() error { _, err := m.write("a", "null", kv.Options{}); return err }, fault.Invalid, "no data provided"},
		{"a list", func() error { _, err := m.write("a", "[]", kv.Options{}); return err }, fault.Invalid, "data must be a JSON object"},
		{"no path", func() error { _, err := m.write("", "{}", kv.Options{}); return err }, fault.Invalid, "missing path"},
		{"no path to read", func() error { _, _, err := m.read("", 0); return err }, fault.Invalid, "missing path"},
		{"too much", func() error {
			_, err := m.write("a", `{"x":"`+strings.Repeat("x", maxValue)+`"}`, kv.Options{})
			return err
		}, fault.TooLarge, "the data of a secret has at most 524288 bytes"},
		{"null patch", func() error { _, err := m.patch("a", "null", kv.Options{}); return err }, fault.Invalid, "no data provided"},
		{"no versions", func() error { return m.on(kv.Destroy, "a") }, fault.Invalid, "No version number provided"},
		{"cas of nothing", func() error { _, err := m.write("a", "{}", cas(1)); return err }, fault.Conflict, "check-and-set parameter did not match the current version"},
		{"negative cas", func() error { _, err := m.write("a", "{}", cas(-1)); return err }, fault.Conflict, "check-and-set parameter did not match the current version"},
		{"many versions", func() error { return m.config(kv.ConfigIn{MaxVersions: new(1001)}) }, fault.Invalid, "max_versions is a number from 0 to 1000"},
		{"negative versions", func() error { return m.setMetadata(kv.MetadataIn{Path: "a", MaxVersions: new(-1)}) }, fault.Invalid, "max_versions is a number from 0 to 1000"},
		{"negative time", func() error { return m.setMetadata(kv.MetadataIn{Path: "a", DeleteVersionAfter: ptr(kv.Lifetime(-1))}) }, fault.Invalid, "delete_version_after of a secret must not be negative"},
		{"long custom metadata", func() error {
			return m.setMetadata(kv.MetadataIn{Path: "a", CustomMetadata: &wire.Map{"k": long}})
		}, fault.Invalid, `custom_metadata validation failed: length of value for key 1 of custom_metadata is 513 but must be 0 < len(value) <= 512`},
		{"much custom metadata", func() error { return m.setMetadata(kv.MetadataIn{Path: "a", CustomMetadata: &many}) }, fault.Invalid, "custom_metadata validation failed: payload must contain at most 64 keys, provided 65"},
		{"unprintable", func() error { return m.setMetadata(kv.MetadataIn{Path: "a", CustomMetadata: &wire.Map{"k": "a\x00"}}) }, fault.Invalid, `custom_metadata validation failed: value for key 1 of custom_metadata contains unprintable characters`},
		{"negative limit", func() error { _, err := m.list(kv.ListIn{Limit: -1}); return err }, fault.Invalid, "limit must not be negative"},
	} {
		err := c.err()
		if !fault.Is(err, c.kind) || fault.Public(err) != c.public {
			t.Errorf("%s: got %v (%v); want %v %q", c.what, err, fault.KindOf(err), c.kind, c.public)
		}
	}
	if _, err := m.list(kv.ListIn{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("what was refused left something: %v", err)
	}
}

func TestCheckAndSet(t *testing.T) {
	m := newMount(t)
	_, err := m.write("a", `{}`, cas(0))
	m.ok(err)
	_, err = m.write("a", `{}`, cas(0))
	m.wantFault(err, fault.Conflict, "check-and-set parameter did not match the current version")
	_, err = m.write("a", `{}`, cas(1))
	m.ok(err)
	_, err = m.patch("a", `{"x":1}`, cas(1))
	m.wantFault(err, fault.Conflict, "check-and-set parameter did not match the current version")
	_, err = m.patch("a", `{"x":1}`, cas(2))
	m.ok(err)

	m.ok(m.config(kv.ConfigIn{CASRequired: new(true)}))
	_, err = m.write("a", `{}`, kv.Options{})
	m.wantFault(err, fault.Invalid, "check-and-set parameter required for this call")
	_, err = m.patch("a", `{}`, kv.Options{})
	m.wantFault(err, fault.Invalid, "check-and-set parameter required for this call")
	c := m.Call()
	_, err = enginetest.DoAs(t.Context(), m.Rig, c, kv.WriteMetadata, kv.MetadataIn{Path: "a", CASRequired: new(false)})
	m.ok(err)
	if len(c.Reply.Warnings) != 1 {
		t.Errorf("warnings = %q; want one", c.Reply.Warnings)
	}
	m.ok(m.config(kv.ConfigIn{CASRequired: new(false)}))
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", CASRequired: new(true)}))
	_, err = m.write("a", `{}`, kv.Options{})
	m.wantFault(err, fault.Invalid, "check-and-set parameter required for this call")
	_, err = m.write("a", `{}`, cas(3))
	m.ok(err)
}

// A secret can have metadata before it has a version; writing the first one
// with check-and-set 0 succeeds then.
func TestMetadataFirst(t *testing.T) {
	m := newMount(t)
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", CustomMetadata: &wire.Map{"managed-by": "external-secrets"}}))
	_, _, err := m.read("a", 0)
	m.wantFault(err, fault.NotFound, "")
	got, err := m.metadata("a")
	m.ok(err)
	wantSame(t, "metadata", got, kv.MetadataOut{
		CreatedTime: wire.Time(enginetest.Start), UpdatedTime: wire.Time(enginetest.Start), DeleteVersionAfter: "0s",
		CustomMetadata: wire.Map{"managed-by": "external-secrets"}, Versions: map[string]kv.VersionInfo{},
	})
	_, err = m.patch("a", `{"x":1}`, kv.Options{})
	m.wantFault(err, fault.NotFound, "")
	out, err := m.write("a", `{"x":1}`, cas(0))
	m.ok(err)
	wantSame(t, "first write", out, kv.VersionOut{
		CreatedTime: wire.Time(enginetest.Start), CustomMetadata: wire.Map{"managed-by": "external-secrets"}, Version: 1,
	})
}

func TestCustomMetadataPatch(t *testing.T) {
	m := newMount(t)
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", CustomMetadata: &wire.Map{"a": "1", "b": "2"}, MaxVersions: new(3)}))
	for _, c := range []struct {
		patch string
		want  wire.Map
	}{
		{`{"a":null,"c":3}`, wire.Map{"b": "2", "c": "3"}},
		{`{}`, wire.Map{"b": "2", "c": "3"}},
		{`"d=4"`, wire.Map{"b": "2", "c": "3", "d": "4"}},
		{`null`, nil},
	} {
		var p kv.CustomPatch
		m.ok(p.UnmarshalJSON([]byte(c.patch)))
		_, err := enginetest.Do(t.Context(), m.Rig, kv.PatchMetadata, kv.MetadataPatchIn{Path: "a", CustomMetadata: p})
		m.ok(err)
		got, err := m.metadata("a")
		m.ok(err)
		wantSame(t, c.patch, got.CustomMetadata, c.want)
		wantSame(t, "max_versions", got.MaxVersions, 3)
	}
}

func TestMaxVersions(t *testing.T) {
	m := newMount(t)
	for n := 1; n <= 12; n++ {
		m.mustWrite("a", fmt.Sprintf(`{"n":%d}`, n))
		got, err := m.metadata("a")
		m.ok(err)
		oldest := uint64(max(0, n-9))
		if got.OldestVersion != oldest || len(got.Versions) != min(n, 10) {
			t.Errorf("after %d writes: oldest %d, %d versions; want %d, %d", n, got.OldestVersion, len(got.Versions), oldest, min(n, 10))
		}
	}
	_, _, err := m.read("a", 2)
	m.wantFault(err, fault.NotFound, "")
	_, _, err = m.read("a", 3)
	m.ok(err)

	m.ok(m.config(kv.ConfigIn{MaxVersions: new(4)}))
	_, _, err = m.read("a", 3)
	m.ok(err) // until the next write
	m.mustWrite("a", `{}`)
	got, err := m.metadata("a")
	m.ok(err)
	wantSame(t, "oldest by the mount", got.OldestVersion, uint64(10))
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", MaxVersions: new(2)}))
	m.mustWrite("a", `{}`)
	got, err = m.metadata("a")
	m.ok(err)
	wantSame(t, "oldest by the secret", got.OldestVersion, uint64(13))
	wantSame(t, "versions", len(got.Versions), 2)
}

func TestDeleteVersionAfter(t *testing.T) {
	m := newMount(t)
	m.ok(m.config(kv.ConfigIn{DeleteVersionAfter: ptr(kv.Lifetime(2 * day))}))
	out := m.mustWrite("a", `{}`)
	wantSame(t, "deletion by the mount", out.DeletionTime, wire.Time(enginetest.Start.Add(2*day)))
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", DeleteVersionAfter: ptr(kv.Lifetime(day))}))
	out = m.mustWrite("a", `{}`)
	wantSame(t, "deletion by the secret", out.DeletionTime, wire.Time(enginetest.Start.Add(day)))
	m.Clock.Advance(day - 1)
	_, _, err := m.read("a", 0)
	m.ok(err)
	m.Clock.Advance(1)
	_, _, err = m.read("a", 0)
	m.wantFault(err, fault.Deleted, "")
	_, err = m.patch("a", `{}`, kv.Options{})
	m.wantFault(err, fault.Deleted, "")
	_, _, err = m.read("a", 1)
	m.ok(err)
	m.ok(m.on(kv.Undelete, "a", 2))
	_, meta, err := m.read("a", 0)
	m.ok(err)
	wantSame(t, "deletion after recovery", meta.DeletionTime, wire.Time(enginetest.Start.Add(2*day)))

	m.ok(m.config(kv.ConfigIn{DeleteVersionAfter: ptr(kv.Lifetime(-time.Second))}))
	out = m.mustWrite("a", `{}`)
	wantSame(t, "deletion where none is", out.DeletionTime, wire.Time{})
	conf, err := enginetest.Do(t.Context(), m.Rig, kv.ReadConfig, op.Nothing{})
	m.ok(err)
	wantSame(t, "config", conf, kv.ConfigOut{DeleteVersionAfter: "-1s"})
}

func TestConfig(t *testing.T) {
	m := newMount(t)
	conf, err := enginetest.Do(t.Context(), m.Rig, kv.ReadConfig, op.Nothing{})
	m.ok(err)
	wantSame(t, "config of a new mount", conf, kv.ConfigOut{DeleteVersionAfter: "0s"})
	m.ok(m.config(kv.ConfigIn{}))
	m.ok(m.config(kv.ConfigIn{MaxVersions: new(5), CASRequired: new(true), DeleteVersionAfter: ptr(kv.Lifetime(90 * time.Minute))}))
	m.ok(m.config(kv.ConfigIn{CASRequired: new(false)}))
	m.Reopen(t, nil)
	conf, err = enginetest.Do(t.Context(), m.Rig, kv.ReadConfig, op.Nothing{})
	m.ok(err)
	wantSame(t, "config", conf, kv.ConfigOut{DeleteVersionAfter: "1h30m0s", MaxVersions: 5})
}

func TestList(t *testing.T) {
	m := newMount(t)
	for _, p := range []string{"b", "a", "a/x", "a/y/z", "a b/ü", "B", "é"} {
		m.mustWrite(p, `{}`)
	}
	for _, c := range []struct {
		in   kv.ListIn
		want []string
	}{
		{kv.ListIn{}, []string{"B", "a", "a b/", "a/", "b", "é"}},
		{kv.ListIn{Path: "a"}, []string{"x", "y/"}},
		{kv.ListIn{Path: "a/"}, []string{"x", "y/"}},
		{kv.ListIn{Path: "a/y"}, []string{"z"}},
		{kv.ListIn{Path: "a b"}, []string{"ü"}},
		{kv.ListIn{Limit: 2}, []string{"B", "a"}},
		{kv.ListIn{After: "a", Limit: 2}, []string{"a b/", "a/"}},
		{kv.ListIn{After: "aa"}, []string{"b", "é"}},
		{kv.ListIn{Filter: true}, []string{"B", "a", "a b/", "a/", "b", "é"}},
	} {
		got, err := m.list(c.in)
		m.ok(err)
		wantSame(t, fmt.Sprintf("list %+v", c.in), got, kv.ListOut{Keys: c.want})
	}
	for _, in := range []kv.ListIn{{Path: "b"}, {Path: "a/x"}, {Path: "nothing"}, {After: "\uffff"}} {
		if got, err := m.list(in); !fault.Is(err, fault.NotFound) {
			t.Errorf("list %+v = %v, %v; want NotFound", in, got, err)
		}
	}
	m.ok(m.at(kv.DeleteMetadata, "a/y/z"))
	got, err := m.list(kv.ListIn{Path: "a"})
	m.ok(err)
	wantSame(t, "list after the last of a directory is removed", got, kv.ListOut{Keys: []string{"x"}})
}

// A filtered list shows what the caller may see, and says where it stopped.
func TestListFiltered(t *testing.T) {
	m := newMount(t)
	for i := range 60 {
		m.mustWrite(fmt.Sprintf("s%02d", i), `{}`)
	}
	m.mustWrite("d/x", `{}`)
	m.mustWrite("e/x", `{}`)
	seen := map[string]bool{"mount/data/s03": true, "mount/metadata/s57": true, "mount/metadata/d/": true}
	var all []string
	in := kv.ListIn{Limit: 2, Filter: true}
	for range 20 {
		c := m.Call()
		c.May = func(_ op.Verb, resource string) bool { return seen[resource] }
		out, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.List, in)
		m.ok(err)
		all = append(all, out.Keys...)
		if out.Next == "" {
			break
		}
		if out.Next != out.Keys[len(out.Keys)-1] {
			t.Fatalf("next = %q; want the last name that is shown of %q, and no other", out.Next, out.Keys)
		}
		in.After = out.Next
	}
	wantSame(t, "all pages", all, []string{"d/", "s03", "s57"})
	// What is hidden is not told by where a list stops, however it is asked for.
	for limit := range 3 {
		for i := range 60 {
			in := kv.ListIn{Limit: limit, Filter: true, After: fmt.Sprintf("s%02d", i)}
			told := func(keys []string, next string, err error) {
				t.Helper()
				if err != nil && !fault.Is(err, fault.NotFound) {
					t.Fatal(err)
				}
				for _, n := range append(keys, next) {
					if n != "" && n != "s57" && n != "s03" {
						t.Errorf("list %+v = %v, next %q; want nothing that is hidden", in, keys, next)
					}
				}
			}
			c := m.Call()
			c.May = func(_ op.Verb, resource string) bool { return seen[resource] }
			out, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.List, in)
			told(out.Keys, out.Next, err)
			detailed, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.ListDetailed, in)
			told(detailed.Keys, detailed.Next, err)
		}
	}

	c := m.Call()
	c.May = nil
	_, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.List, kv.ListIn{Filter: true})
	m.wantFault(err, fault.NotFound, "")
}

// A mount can have its lists filtered always.
func TestListFilterOfAMount(t *testing.T) {
	for version, write := range map[string]func(mount, string){
		"1": func(m mount, path string) {
			_, err := enginetest.Do(t.Context(), m.Rig, kv.Write1, kv.WriteIn1{Path: path, Data: object(`{"x":1}`)})
			m.ok(err)
		},
		"2": func(m mount, path string) { m.mustWrite(path, `{"x":1}`) },
	} {
		m := mount{enginetest.New(t, kv.Kind, map[string]string{"version": version, "list_filter": "true"}), t}
		for _, p := range []string{"a", "b", "d/x", "e/x"} {
			write(m, p)
		}
		c := m.Call()
		c.May = func(v op.Verb, resource string) bool {
			switch resource {
			case "mount/b", "mount/data/b":
				return v == op.Read
			case "mount/d/", "mount/metadata/d/":
				return v == op.List
			}
			return false
		}
		d := kv.List
		if version == "1" {
			d = kv.List1
		}
		out, err := enginetest.DoAs(t.Context(), m.Rig, c, d, kv.ListIn{})
		m.ok(err)
		wantSame(t, "version "+version, out, kv.ListOut{Keys: []string{"b", "d/"}})
		if version == "1" {
			continue
		}
		detailed, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.ListDetailed, kv.ListIn{})
		m.ok(err)
		wantSame(t, "detailed", detailed.Keys, []string{"d/"})
	}
}

// Damage in the store is an error that says nothing, and is never taken for a
// secret that is not there.
func TestDamage(t *testing.T) {
	for _, table := range []byte{'s', 'd', 'c'} {
		r := newMount(t)
		r.mustWrite("a", `{"x":1}`)
		r.ok(r.config(kv.ConfigIn{MaxVersions: new(2)}))
		changes, err := r.Raw.Changes(t.Context(), 1)
		r.ok(err)
		r.ok(r.Raw.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
			for _, scope := range changes.Scopes {
				if scope[0] != table || len(scope) < 37 {
					continue
				}
				items, _, err := tx.Scan(scope, "", "", 0)
				if err != nil {
					return err
				}
				for _, it := range items {
					it.Value[len(it.Value)-1] ^= 1
					tx.Put(storage.Key{Scope: scope, Row: it.Row}, it.Value)
				}
			}
			return nil
		}))
		switch table {
		case 's':
			_, _, err = r.read("a", 0)
		case 'd':
			_, err = r.list(kv.ListIn{})
		case 'c':
			_, err = r.write("a", `{}`, kv.Options{})
		}
		if !errors.Is(err, storage.ErrCorrupt) || fault.KindOf(err) != fault.Internal {
			t.Errorf("damage in table %q: %v; want ErrCorrupt, Internal", table, err)
		}
	}
}

func TestListDetailed(t *testing.T) {
	m := newMount(t)
	m.mustWrite("a", `{}`)
	m.mustWrite("b", `{}`)
	m.mustWrite("d/x", `{}`)
	c := m.Call()
	c.May = func(_ op.Verb, resource string) bool { return resource == "mount/metadata/b" }
	out, err := enginetest.DoAs(t.Context(), m.Rig, c, kv.ListDetailed, kv.ListIn{})
	m.ok(err)
	wantSame(t, "keys", out.Keys, []string{"a", "b", "d/"})
	if len(out.KeyInfo) != 1 || out.KeyInfo["b"].CurrentVersion != 1 {
		t.Errorf("key_info = %+v; want b and no other", out.KeyInfo)
	}
}

func TestSubkeys(t *testing.T) {
	m := newMount(t)
	m.mustWrite("a", `{"a":{"b":{"c":1},"e":{}}, "n":[{"x":1}], "t":"s"}`)
	for depth, want := range map[int]string{
		0: `{"a":{"b":{"c":null},"e":null},"n":null,"t":null}`,
		1: `{"a":null,"n":null,"t":null}`,
		2: `{"a":{"b":null,"e":null},"n":null,"t":null}`,
	} {
		out, err := enginetest.Do(t.Context(), m.Rig, kv.Subkeys, kv.SubkeysIn{Path: "a", Depth: depth})
		m.ok(err)
		wantSame(t, fmt.Sprintf("depth %d", depth), string(out.Subkeys.Reveal()), want)
		wantSame(t, "version", out.Metadata.Version, uint64(1))
	}
	m.ok(m.at(kv.Delete, "a"))
	out, err := enginetest.Do(t.Context(), m.Rig, kv.Subkeys, kv.SubkeysIn{Path: "a"})
	m.wantFault(err, fault.Deleted, "")
	wantSame(t, "deleted", string(out.Subkeys.Reveal()), "")
}

// The largest secret, the most versions, and the removal of all of them.
func TestLargest(t *testing.T) {
	m := newMount(t)
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", MaxVersions: ptr(safe.MaxVersions)}))
	for n := range safe.MaxVersions + 5 {
		m.mustWrite("a", fmt.Sprintf(`{"n":%d}`, n+1))
	}
	big := `{"x":"` + strings.Repeat("x", maxValue-8) + `"}`
	m.mustWrite("a", big)
	data, _, err := m.read("a", 0)
	m.ok(err)
	wantSame(t, "largest", data == big, true)
	var some []int
	for n := range 500 {
		some = append(some, n+100)
	}
	m.ok(m.on(kv.Destroy, "a", some...))
	_, meta, err := m.read("a", 599)
	m.wantFault(err, fault.Deleted, "")
	wantSame(t, "destroyed", meta.Destroyed, true)
	m.ok(m.setMetadata(kv.MetadataIn{Path: "a", MaxVersions: new(3)}))
	m.mustWrite("a", `{}`)
	got, err := m.metadata("a")
	m.ok(err)
	wantSame(t, "versions", len(got.Versions), 3)
	m.ok(m.at(kv.DeleteMetadata, "a"))
	enginetest.WantEmpty(t, m.Rig)
}

// The deepest and longest paths are made and removed in one transaction each,
// directories included.
func TestDeepestPath(t *testing.T) {
	m := newMount(t)
	deep := strings.Repeat("d/", 31) + "s"
	long := strings.Repeat(strings.Repeat("ü", 127)+"/", 15) + "s"
	for _, p := range []string{deep, long} {
		for n := range 60 {
			m.mustWrite(p, fmt.Sprintf(`{"n":%d}`, n))
		}
		data, _, err := m.read(p, 0)
		m.ok(err)
		wantSame(t, "data", data, `{"n":59}`)
		m.ok(m.at(kv.DeleteMetadata, p))
	}
	m.ok(m.config(kv.ConfigIn{MaxVersions: ptr(safe.MaxVersions)}))
	for n := range 120 {
		m.mustWrite(deep, fmt.Sprintf(`{"n":%d}`, n))
	}
	m.ok(m.at(kv.DeleteMetadata, deep))
	m.mustWrite(deep, `{}`)
	m.ok(m.config(kv.ConfigIn{MaxVersions: new(0)}))
	for {
		more, err := m.Instance.Drain(t.Context())
		m.ok(err)
		if !more {
			break
		}
	}
	enginetest.WantEmpty(t, m.Rig)
}

// Of racers that all believe the same version to be current, one wins.
func TestCheckAndSetRace(t *testing.T) {
	m := newMount(t)
	for round := range 4 {
		var won atomic.Int64
		var wg sync.WaitGroup
		for racer := range 50 {
			wg.Go(func() {
				_, err := m.write("a", fmt.Sprintf(`{"racer":%d}`, racer), cas(round))
				switch {
				case err == nil:
					won.Add(1)
				case !fault.Is(err, fault.Conflict):
					t.Errorf("racer: %v", err)
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Fatalf("round %d: %d winners; want 1", round, n)
		}
	}
}

// Creation and update are asked about apart.
func TestUpsertVerbs(t *testing.T) {
	m := newMount(t)
	denied := fault.New(fault.Denied, "permission denied")
	run := func(path string, refused op.Verb) error {
		o, _ := m.Op(kv.Write.Name)
		_, err := o.Run(t.Context(), m.Call(), source{kv.WriteIn{Path: path, Data: object(`{}`)}}, func(a op.Ask) error {
			if a.Verb == refused {
				return denied
			}
			if want := "mount/data/" + path; a.Resource != want {
				t.Errorf("asked about %q; want %q", a.Resource, want)
			}
			return nil
		})
		return err
	}
	if err := run("a", op.Create); !errors.Is(err, denied) {
		t.Errorf("creating = %v; want denied", err)
	}
	m.ok(run("a", op.Update))
	if err := run("a", op.Update); !errors.Is(err, denied) {
		t.Errorf("updating = %v; want denied", err)
	}
	m.ok(run("a", op.Create))
}

type source struct{ in kv.WriteIn }

func (s source) Fill(in any) error {
	*in.(*kv.WriteIn) = s.in
	return nil
}

func (source) Params() ([]op.Param, error) { return nil, nil }

func TestOptionsAsSent(t *testing.T) {
	for text, want := range map[string]*int{
		`{}`: nil, `null`: nil, `{"cas":0}`: new(0), `{"cas":"3"}`: new(3), `{"other":1,"cas":2}`: new(2),
	} {
		var o kv.Options
		if err := o.UnmarshalJSON([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		wantSame(t, text, o.CAS, want)
	}
	var o kv.Options
	if err := o.UnmarshalJSON([]byte(`[]`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("[]: %v; want Invalid", err)
	}
	m := newMount(t)
	for _, text := range []string{`{"cas":1.5}`, `{"cas":"x"}`, `{"cas":null}`, `{"cas":18446744073709551616}`, `{"cas":true}`} {
		var o kv.Options
		m.ok(o.UnmarshalJSON([]byte(text)))
		_, err := m.write("a", `{}`, o)
		m.wantFault(err, fault.Invalid, "error parsing check-and-set parameter")
	}
}

func TestLifetimeAsSent(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`0`: 0, `"0s"`: 0, `3600`: time.Hour, `"1h30m"`: 90 * time.Minute, `"7d"`: 7 * day, `"-1s"`: -time.Second, `-1`: -time.Second, `"-5h"`: -time.Second,
	} {
		var l kv.Lifetime
		if err := l.UnmarshalJSON([]byte(text)); err != nil || time.Duration(l) != want {
			t.Errorf("%s = %v, %v; want %v", text, time.Duration(l), err, want)
		}
	}
	for _, text := range []string{`"x"`, `"--1s"`, `[]`, `"-"`, `"-\u0000"`, `1e400`} {
		var l kv.Lifetime
		if err := l.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s = %v; want an error", text, time.Duration(l))
		}
	}
}

func TestKindOptions(t *testing.T) {
	for _, o := range []map[string]string{nil, {"version": "1"}, {"version": "2"}, {"version": "2", "list_filter": "true", "type": "kv-v2"}} {
		if err := kv.Kind.Check(o); err != nil {
			t.Errorf("Check(%v) = %v", o, err)
		}
	}
	for _, o := range []map[string]string{{"version": "3"}, {"list_filter": "x"}} {
		if err := kv.Kind.Check(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("Check(%v) = %v; want Invalid", o, err)
		}
	}
}

func TestVersion1(t *testing.T) {
	m := mount{enginetest.New(t, kv.Kind, nil), t}
	ctx := t.Context()
	read := func(path string) (string, *op.Lease, error) {
		c := m.Call()
		out, err := enginetest.DoAs(ctx, m.Rig, c, kv.Read1, kv.PathIn{Path: path})
		return string(out.Reveal()), c.Reply.Lease, err
	}
	write := func(path, data string) error {
		_, err := enginetest.Do(ctx, m.Rig, kv.Write1, kv.WriteIn1{Path: path, Data: object(data)})
		return err
	}
	_, _, err := read("a")
	m.wantFault(err, fault.NotFound, "")
	m.wantFault(write("a", ""), fault.Invalid, "missing data fields")
	m.wantFault(write("a", "null"), fault.Invalid, "missing data fields")
	m.wantFault(write("a", " { } "), fault.Invalid, "missing data fields")
	m.wantFault(write("", `{"x":1}`), fault.Invalid, "missing path")
	for _, c := range []struct {
		data string
		ttl  time.Duration
	}{
		{`{"n":18446744073709551615}`, 2764800 * time.Second},
		{`{"ttl":"1h"}`, time.Hour},
		{`{"lease":60,"x":1}`, time.Minute},
		{`{"ttl":"soon"}`, 2764800 * time.Second},
	} {
		m.ok(write("a", c.data))
		data, lease, err := read("a")
		m.ok(err)
		wantSame(t, "data", data, c.data)
		wantSame(t, "lease", lease, &op.Lease{TTL: c.ttl})
	}
	m.ok(write("d/b", `{"x":1}`))
	out, err := enginetest.Do(ctx, m.Rig, kv.List1, kv.ListIn{})
	m.ok(err)
	wantSame(t, "list", out, kv.ListOut{Keys: []string{"a", "d/"}})
	m.ok(m.at(kv.Delete1, "a"))
	m.ok(m.at(kv.Delete1, "a"))
	_, _, err = read("a")
	m.wantFault(err, fault.NotFound, "")

	// The same mount as version 2.
	m.Env.Options = map[string]string{"version": "2"}
	m.Reopen(t, nil)
	data, meta, err := m.read("d/b", 0)
	m.ok(err)
	wantSame(t, "after the change", data, `{"x":1}`)
	wantSame(t, "version after the change", meta.Version, uint64(1))
	wantSame(t, "next version", m.mustWrite("d/b", `{}`).Version, uint64(2))
	m.ok(m.at(kv.DeleteMetadata, "d/b"))
	enginetest.WantEmpty(t, m.Rig)
}
