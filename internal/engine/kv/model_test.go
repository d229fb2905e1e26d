package kv_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/engine/kv"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/wire"
)

// The reference: what KV does, said as simply as possible and sharing no code
// with the engine.
type (
	refMount struct {
		secrets map[string]*refSecret
		cas     bool
		max     int
		after   time.Duration
	}
	refSecret struct {
		versions         map[int]*refVersion
		current, oldest  int
		created, updated time.Time
		cas              bool
		max              int
		after            time.Duration
		custom           map[string]string
	}
	refVersion struct {
		data             string
		created, deleted time.Time
		destroyed        bool
	}
)

func (v *refVersion) gone(now time.Time) bool {
	return v.destroyed || !v.deleted.IsZero() && !v.deleted.After(now)
}

func (m *refMount) deletion(s *refSecret, now time.Time) time.Time {
	least := time.Duration(0)
	for _, d := range []time.Duration{m.after, s.after} {
		if d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	if m.after < 0 || least == 0 {
		return time.Time{}
	}
	return now.Add(least)
}

func (m *refMount) make(path string, now time.Time) *refSecret {
	if m.secrets[path] == nil {
		m.secrets[path] = &refSecret{versions: map[int]*refVersion{}, created: now, updated: now}
	}
	return m.secrets[path]
}

func (m *refMount) add(s *refSecret, data string, now time.Time) {
	s.current++
	s.updated = now
	s.versions[s.current] = &refVersion{data: data, created: now, deleted: m.deletion(s, now)}
	keep := 10
	if m.max > 0 {
		keep = m.max
	}
	if s.max > 0 {
		keep = s.max
	}
	if s.current-s.oldest >= keep {
		s.oldest = s.current - keep + 1
	}
	for n := range s.versions {
		if n < s.oldest {
			delete(s.versions, n)
		}
	}
}

// casProblem returns what is wrong with a check-and-set parameter; -1 is none given.
func (m *refMount) casProblem(s *refSecret, cas int) (fault.Kind, bool) {
	current, required := 0, m.cas
	if s != nil {
		current, required = s.current, required || s.cas
	}
	switch {
	case cas < 0 && required:
		return fault.Invalid, true
	case cas >= 0 && cas != current:
		return fault.Conflict, true
	}
	return 0, false
}

func (m *refMount) list(dir string) []string {
	names := map[string]bool{}
	for p := range m.secrets {
		rest, in := strings.CutPrefix(p, dir)
		if !in {
			continue
		}
		head, _, more := strings.Cut(rest, "/")
		if more {
			head += "/"
		}
		names[head] = true
	}
	var all []string
	for n := range names {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// Random histories lead to the same answers as in the reference.
func TestAgainstReference(outer *testing.T) {
	rapid.Check(outer, func(t *rapid.T) {
		m := newMount(outer)
		ref := &refMount{secrets: map[string]*refSecret{}}
		paths := []string{"a", "a/b", "a/b/c", "d/e", "d/f"}
		path := rapid.SampledFrom(paths)
		drawCAS := func(s *refSecret) (int, kv.Options) {
			current := 0
			if s != nil {
				current = s.current
			}
			n := rapid.SampledFrom([]int{-1, -1, 0, current, current + 1}).Draw(t, "cas")
			if n < 0 {
				return n, kv.Options{}
			}
			return n, kv.Options{CAS: &n}
		}
		want := func(err error, k fault.Kind, failed bool) {
			t.Helper()
			if failed && !fault.Is(err, k) || !failed && err != nil {
				t.Fatalf("got %v; want failed=%t of kind %v", err, failed, k)
			}
		}
		versions := func(p string) []int {
			top := 1
			if s := ref.secrets[p]; s != nil {
				top = s.current + 1
			}
			return rapid.SliceOfN(rapid.IntRange(0, top), 1, 3).Draw(t, "versions")
		}
		change := func(fn func(s *refSecret, v *refVersion)) (string, []int) {
			p := path.Draw(t, "path")
			ns := versions(p)
			if s := ref.secrets[p]; s != nil {
				for _, n := range ns {
					if v := s.versions[n]; v != nil && !v.destroyed {
						fn(s, v)
					}
				}
			}
			return p, ns
		}
		after := rapid.SampledFrom([]time.Duration{0, time.Hour, 5 * time.Hour})
		written := 0
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				p := path.Draw(t, "path")
				n, o := drawCAS(ref.secrets[p])
				written++
				data := fmt.Sprintf(`{"n": %d, "keep":1.0}`, written)
				out, err := m.write(p, data, o)
				k, failed := ref.casProblem(ref.secrets[p], n)
				want(err, k, failed)
				if failed {
					return
				}
				s := ref.make(p, m.Clock.Now())
				ref.add(s, data, m.Clock.Now())
				if int(out.Version) != s.current {
					t.Fatalf("Write = version %d; want %d", out.Version, s.current)
				}
			},
			"patch": func(t *rapid.T) {
				p := path.Draw(t, "path")
				s := ref.secrets[p]
				n, o := drawCAS(s)
				_, err := m.patch(p, `{"n":null,"p":`+strconv.Itoa(n)+`}`, o)
				if s == nil {
					want(err, fault.NotFound, true)
					return
				}
				k, failed := ref.casProblem(s, n)
				if v := s.versions[s.current]; !failed && v == nil {
					k, failed = fault.NotFound, true
				} else if !failed && v.gone(m.Clock.Now()) {
					k, failed = fault.Deleted, true
				}
				want(err, k, failed)
				if !failed {
					data := `{"keep":1.0,"p":` + strconv.Itoa(n) + `}`
					ref.add(s, data, m.Clock.Now())
				}
			},
			"delete": func(t *rapid.T) {
				p := path.Draw(t, "path")
				if s := ref.secrets[p]; s != nil && s.versions[s.current] != nil && !s.versions[s.current].gone(m.Clock.Now()) {
					s.versions[s.current].deleted = m.Clock.Now()
				}
				want(m.at(kv.Delete, p), 0, false)
			},
			"delete versions": func(*rapid.T) {
				p, ns := change(func(_ *refSecret, v *refVersion) {
					if !v.gone(m.Clock.Now()) {
						v.deleted = m.Clock.Now()
					}
				})
				want(m.on(kv.DeleteVersions, p, ns...), 0, false)
			},
			"undelete": func(*rapid.T) {
				p, ns := change(func(s *refSecret, v *refVersion) { v.deleted = ref.deletion(s, m.Clock.Now()) })
				want(m.on(kv.Undelete, p, ns...), 0, false)
			},
			"destroy": func(*rapid.T) {
				p, ns := change(func(_ *refSecret, v *refVersion) { v.destroyed = true })
				want(m.on(kv.Destroy, p, ns...), 0, false)
			},
			"metadata": func(t *rapid.T) {
				p := path.Draw(t, "path")
				in := kv.MetadataIn{Path: p, MaxVersions: new(rapid.IntRange(0, 4).Draw(t, "max"))}
				s := ref.make(p, m.Clock.Now())
				s.max = *in.MaxVersions
				if rapid.Bool().Draw(t, "more") {
					d := after.Draw(t, "after")
					in.CASRequired, in.DeleteVersionAfter = new(rapid.Bool().Draw(t, "cas")), new(kv.Lifetime(d))
					in.CustomMetadata = &wire.Map{"k": d.String()}
					s.cas, s.after, s.custom = *in.CASRequired, d, *in.CustomMetadata
				}
				want(m.setMetadata(in), 0, false)
			},
			"remove": func(t *rapid.T) {
				p := path.Draw(t, "path")
				delete(ref.secrets, p)
				want(m.at(kv.DeleteMetadata, p), 0, false)
			},
			"config": func(t *rapid.T) {
				ref.max, ref.cas = rapid.IntRange(0, 5).Draw(t, "max"), rapid.IntRange(0, 3).Draw(t, "cas") == 0
				ref.after = rapid.SampledFrom([]time.Duration{-time.Second, 0, 2 * time.Hour}).Draw(t, "after")
				want(m.config(kv.ConfigIn{MaxVersions: &ref.max, CASRequired: &ref.cas, DeleteVersionAfter: new(kv.Lifetime(ref.after))}), 0, false)
			},
			"time":   func(*rapid.T) { m.Clock.Advance(time.Hour) },
			"reopen": func(*rapid.T) { m.Reopen(m.t, nil) },
			"": func(t *rapid.T) {
				for _, p := range paths {
					compare(t, m, ref, p)
				}
				for _, dir := range []string{"", "a/", "a/b/", "d/"} {
					got, err := m.list(kv.ListIn{Path: dir})
					names := ref.list(dir)
					want(err, fault.NotFound, len(names) == 0)
					if !slices.Equal(got.Keys, names) {
						t.Fatalf("list of %q = %q; want %q", dir, got.Keys, names)
					}
				}
			},
		})
	})
}

func compare(t *rapid.T, m mount, ref *refMount, p string) {
	t.Helper()
	s := ref.secrets[p]
	got, err := m.metadata(p)
	if s == nil {
		if _, _, readErr := m.read(p, 0); !fault.Is(err, fault.NotFound) || !fault.Is(readErr, fault.NotFound) {
			t.Fatalf("%s: got %v and %v; want it not to be there", p, err, readErr)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: metadata = %v", p, err)
	}
	if int(got.CurrentVersion) != s.current || int(got.OldestVersion) != s.oldest || !time.Time(got.CreatedTime).Equal(s.created) ||
		!time.Time(got.UpdatedTime).Equal(s.updated) || got.MaxVersions != s.max || got.CASRequired != s.cas ||
		got.DeleteVersionAfter != s.after.String() || len(got.CustomMetadata) != len(s.custom) || got.CustomMetadata["k"] != s.custom["k"] ||
		len(got.Versions) != len(s.versions) {
		t.Fatalf("%s: metadata = %+v; want %+v", p, got, s)
	}
	for n := range s.current + 2 {
		at := n
		if n == 0 {
			at = s.current
		}
		v := s.versions[at]
		data, meta, err := m.read(p, n)
		switch {
		case v == nil:
			if !fault.Is(err, fault.NotFound) {
				t.Fatalf("%s version %d = %v; want NotFound", p, n, err)
			}
			continue
		case v.gone(m.Clock.Now()):
			if !fault.Is(err, fault.Deleted) || data != "" {
				t.Fatalf("%s version %d = %q, %v; want Deleted", p, n, data, err)
			}
		case err != nil || data != v.data:
			t.Fatalf("%s version %d = %q, %v; want %q", p, n, data, err, v.data)
		}
		if int(meta.Version) != at || !time.Time(meta.CreatedTime).Equal(v.created) || !time.Time(meta.DeletionTime).Equal(v.deleted) || meta.Destroyed != v.destroyed {
			t.Fatalf("%s version %d = %+v; want %+v", p, n, meta, v)
		}
		info := got.Versions[strconv.Itoa(at)]
		if info != (kv.VersionInfo{CreatedTime: meta.CreatedTime, DeletionTime: meta.DeletionTime, Destroyed: meta.Destroyed}) {
			t.Fatalf("%s version %d in the metadata = %+v; want as %+v", p, n, info, meta)
		}
	}
}
