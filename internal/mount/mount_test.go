package mount_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker/brokertest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

var owned = storage.Locks{Own: []string{mount.Scope}}

// server is a table of mounts and what it stands on, as a node that has just started.
type server struct {
	t       testing.TB
	barrier *barrier.Barrier
	core    *barrier.Space
	fence   *fence.Fence
	table   *mount.Table
	probe   *brokertest.Probe
}

var root = func() secret.Bytes {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return secret.NewBytes(key)
}()

func empty(t testing.TB) storage.Store {
	t.Helper()
	s := mem.New(mem.Config{})
	if err := barrier.Create(t.Context(), s, root, []seal.Stanza{{Kind: "test"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB, raw storage.Store) *server {
	t.Helper()
	b, err := barrier.Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	core, err := b.Space(t.Context(), barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, barrier: b, core: core, fence: fence.New(raw), probe: brokertest.NewProbe()}
	s.table = mount.NewTable(mount.Parts{
		Barrier: b, Core: core, Fence: s.fence, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
		Kinds: []engine.Kind{s.probe.Kind()}, TTL: mount.TTL{Default: time.Hour, Max: 2 * time.Hour},
	})
	return s
}

func (s *server) mount(path name.Path) { s.t.Helper(); s.must(s.add(path)) }

func (s *server) add(path name.Path) error {
	return brokertest.Mount(s.t.Context(), s.barrier, s.core, path)
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) update(fn func(storage.Tx) error) error {
	return s.core.Update(s.t.Context(), owned, fn)
}

func (s *server) now() fence.Moment {
	s.t.Helper()
	m, err := s.fence.Arrive(s.t.Context())
	s.must(err)
	return m
}

func (s *server) find(path name.Path) (*mount.Mounted, string, error) {
	return s.table.Find(s.t.Context(), s.now(), path)
}

// write writes a row in the mount at path.
func (s *server) write(path name.Path) {
	s.t.Helper()
	m, _, err := s.find(path)
	s.must(err)
	id, err := barrier.ParseSpaceID(m.Entry.ID)
	s.must(err)
	space, err := s.barrier.Space(s.t.Context(), id)
	s.must(err)
	s.must(space.Update(s.t.Context(), storage.Locks{Own: []string{brokertest.Row("a").Scope}}, func(tx storage.Tx) error {
		tx.Put(brokertest.Row("a"), []byte("1"))
		return nil
	}))
}

func TestFind(t *testing.T) {
	s := start(t, empty(t))
	for _, path := range []name.Path{"a/", "b/c/", "b/d/"} {
		s.mount(path)
	}
	for _, c := range []struct {
		path, mount name.Path
		rest        string
	}{
		{"a/x", "a/", "x"},
		{"a/x/y", "a/", "x/y"},
		{"a", "a/", ""},
		{"b/c/z", "b/c/", "z"},
		{"b/d", "b/d/", ""},
		{"b/x", "", ""},
		{"b", "", ""},
		{"ab/x", "", ""},
		{"", "", ""},
	} {
		m, rest, err := s.find(c.path)
		if c.mount == "" {
			if !fault.Is(err, fault.NoRoute) {
				t.Errorf("Find(%q) = %v; want no route", c.path, err)
			}
			continue
		}
		if err != nil || m.Entry.Path != c.mount || rest != c.rest {
			t.Errorf("Find(%q) = %v, %q, %v; want %q, %q", c.path, m, rest, err, c.mount, c.rest)
		}
	}
}

// No mount stands in another's way, and what is refused changes nothing.
func TestRefusals(t *testing.T) {
	s := start(t, empty(t))
	s.mount("a/")
	s.mount("b/c/")
	fixed := mount.NewEntry("sys/", "probe")
	fixed.Fixed = true
	s.must(s.update(func(tx storage.Tx) error { return mount.Add(tx, fixed) }))
	for what, do := range map[string]func(storage.Tx) error{
		"a path that is taken":       func(tx storage.Tx) error { return mount.Add(tx, mount.NewEntry("a/", "probe")) },
		"a path in a mount":          func(tx storage.Tx) error { return mount.Add(tx, mount.NewEntry("a/b/", "probe")) },
		"a path around a mount":      func(tx storage.Tx) error { return mount.Add(tx, mount.NewEntry("b/", "probe")) },
		"a move onto a mount":        func(tx storage.Tx) error { return mount.Move(tx, "id", "a/", "b/c/") },
		"a move into a mount":        func(tx storage.Tx) error { return mount.Move(tx, "id", "a/", "b/c/d/") },
		"a move of nothing":          func(tx storage.Tx) error { return mount.Move(tx, "id", "x/", "y/") },
		"a move of what is fixed":    func(tx storage.Tx) error { return mount.Move(tx, "id", "sys/", "z/") },
		"a move to another class":    func(tx storage.Tx) error { return mount.Move(tx, "id", "a/", "auth/a/") },
		"a removal of what is fixed": func(tx storage.Tx) error { _, err := mount.Close(tx, "sys/"); return err },
		"a removal of nothing":       func(tx storage.Tx) error { _, err := mount.Close(tx, "x/"); return err },
		"a change of nothing":        func(tx storage.Tx) error { return mount.Change(tx, "x/", func(*mount.Entry) error { return nil }) },
		"a change that changes its mind": func(tx storage.Tx) error {
			return mount.Change(tx, "a/", func(e *mount.Entry) error { e.Description = "x"; return fault.New(fault.Invalid, "no") })
		},
	} {
		if err := s.update(do); fault.KindOf(err) != fault.Invalid && fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s = %v; want it refused", what, err)
		}
	}
	entries, err := s.table.Entries(t.Context(), s.now())
	s.must(err)
	var paths []name.Path
	for _, e := range entries {
		if paths = append(paths, e.Path); e.Description != "" {
			t.Errorf("%s was changed", e.Path)
		}
	}
	if want := []name.Path{"a/", "b/c/", "sys/"}; !slices.Equal(paths, want) {
		t.Errorf("the mounts are at %q; want %q", paths, want)
	}
	for path, want := range map[name.Path]bool{"sys/x/": true, "auth/x/": true, "cubbyhole/": true, "secret/": false, "system/": false} {
		if err := mount.CheckPath(path); (err != nil) != want {
			t.Errorf("CheckPath(%q) = %v", path, err)
		}
	}
}

// Of many moves the last are known, and no path that a
// mount has had is kept from others.
func TestMovesAreRemembered(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	s := start(t, raw)
	s.mount("a/")
	for i := range 2*mount.MaxMoves + 1 {
		from, to := name.Path("a/"), name.Path("b/")
		if i%2 == 1 {
			from, to = to, from
		}
		s.must(s.update(func(tx storage.Tx) error { return mount.Move(tx, strconv.Itoa(i), from, to) }))
	}
	s.mount("a/")
	s = start(t, raw)
	var all []mount.Moved
	s.must(s.core.View(t.Context(), func(r storage.Reader) (err error) {
		all, err = mount.Moves(r)
		return err
	}))
	last := mount.Moved{ID: strconv.Itoa(2 * mount.MaxMoves), From: "a/", To: "b/"}
	if len(all) != mount.MaxMoves || all[len(all)-1] != last {
		t.Errorf("Moves = %d, the last %v; want the last %d, and %v", len(all), all[len(all)-1], mount.MaxMoves, last)
	}
	for _, path := range []name.Path{"a/", "b/"} {
		if m, _, err := s.find(path); err != nil || m.Entry.Path != path {
			t.Errorf("Find(%q) = %v, %v; want the mount there", path, m, err)
		}
	}
	rows := 0
	s.must(raw.View(t.Context(), func(r storage.Reader) error {
		items, more, err := s.core.Over(r).Scan(mount.Scope, "", "", 100)
		if rows = len(items); more {
			t.Error("more than 100 rows are kept of two mounts")
		}
		return err
	}))
	if rows != 2 {
		t.Errorf("%d rows are kept; want the table and the moves", rows)
	}
}

// TestCrashWhileMoving: after a crash a mount is at one of its paths, with what
// it keeps, and the move is remembered if and only if it was made; another
// mount made at the old path is another.
func TestCrashWhileMoving(t *testing.T) {
	t.Parallel()
	given := func(t testing.TB) storage.Store {
		raw := empty(t)
		s := start(t, raw)
		s.mount("a/")
		s.write("a/")
		return raw
	}
	do := func(raw storage.Store) error {
		s := start(t, raw)
		if err := s.update(func(tx storage.Tx) error { return mount.Move(tx, "first", "a/", "b/") }); err != nil {
			return err
		}
		if err := s.add("a/"); err != nil {
			return err
		}
		return s.update(func(tx storage.Tx) error { return mount.Move(tx, "second", "a/", "c/") })
	}
	storagetest.EachFailure(t, given, do, func(t testing.TB, raw storage.Store) {
		s := start(t, raw)
		var all []mount.Moved
		s.must(s.core.View(t.Context(), func(r storage.Reader) (err error) {
			all, err = mount.Moves(r)
			return err
		}))
		at := name.Path("a/")
		if len(all) > 0 {
			at = "b/"
		}
		s.write(at) // fails where there is no mount
		first, _, err := s.find(at)
		s.must(err)
		if other, _, err := s.find("a/"); at != "a/" && err == nil && other.Entry.ID == first.Entry.ID {
			t.Errorf("after %v the mount is at a/ and at %s", all, at)
		}
		if c, _, err := s.find("c/"); (err == nil) != (len(all) == 2) {
			t.Errorf("after %v the mount at c/ is %v, %v", all, c, err)
		}
	})
}

// A mount that moves takes its secrets along, and answers at one place.
func TestMove(t *testing.T) {
	s := start(t, empty(t))
	s.mount("a/")
	s.write("a/")
	before, _, err := s.find("a/x")
	s.must(err)
	s.must(s.update(func(tx storage.Tx) error { return mount.Move(tx, "id", "a/", "a/b/") })) // into its own old place
	after, _, err := s.find("a/b/x")
	s.must(err)
	if after.Entry.ID != before.Entry.ID || after.Entry.Accessor != before.Entry.Accessor || after.Call.Path != "a/b/" {
		t.Errorf("the mount was %+v and is %+v", before.Entry, after.Entry)
	}
	if _, _, err := s.find("a/x"); !fault.Is(err, fault.NoRoute) {
		t.Errorf("Find at the old place = %v", err)
	}
}

// rows counts what a store holds of mounts that are not in the table.
func (s *server) has(e mount.Entry) bool {
	id, err := barrier.ParseSpaceID(e.ID)
	s.must(err)
	_, err = s.barrier.Space(s.t.Context(), id)
	if err != nil && !errors.Is(err, barrier.ErrNoSpace) {
		s.t.Fatal(err)
	}
	return err == nil
}

// A removal that is cut off at any of its commits is finished by the next start.
func TestRemovalResumes(t *testing.T) {
	var closed mount.Entry
	storagetest.EachFailure(t, func(t testing.TB) storage.Store {
		raw := empty(t)
		s := start(t, raw)
		s.mount("a/")
		s.mount("b/")
		s.write("a/")
		s.write("b/")
		return raw
	}, func(raw storage.Store) error {
		s := start(t, raw)
		err := s.update(func(tx storage.Tx) (err error) { closed, err = mount.Close(tx, "a/"); return err })
		if err == nil {
			s.probe.Left.Store(3)
			err = s.table.Finish(context.WithoutCancel(t.Context()), closed)
		}
		return err
	}, func(t testing.TB, raw storage.Store) {
		s := start(t, raw)
		s.must(s.table.FinishAll(t.Context(), s.now()))
		_, _, err := s.find("a/x")
		entries, listed := s.table.Entries(t.Context(), s.now())
		s.must(listed)
		switch {
		case err == nil: // it had not begun
			if len(entries) != 2 || !s.has(entries[0]) {
				t.Errorf("half of a mount is left: %+v", entries)
			}
		case !fault.Is(err, fault.NoRoute):
			t.Errorf("Find = %v", err)
		case len(entries) != 1 || s.has(closed):
			t.Errorf("something is left of a mount that was removed: %+v, key %t", entries, s.has(closed))
		default:
			s.mount("a/") // its place is free
		}
		if _, _, err := s.find("b/x"); err != nil {
			t.Errorf("the other mount: %v", err)
		}
	})
}

// A closing mount answers nothing, and its place is not free until it is gone.
func TestClosing(t *testing.T) {
	s := start(t, empty(t))
	s.mount("a/")
	var e mount.Entry
	s.must(s.update(func(tx storage.Tx) (err error) { e, err = mount.Close(tx, "a/"); return err }))
	if _, _, err := s.find("a/x"); !fault.Is(err, fault.NoRoute) {
		t.Errorf("Find in a closing mount = %v", err)
	}
	if err := s.add("a/"); !fault.Is(err, fault.Invalid) {
		t.Errorf("Add at its place = %v", err)
	}
	if err := s.update(func(tx storage.Tx) error { return mount.Move(tx, "id", "a/", "b/") }); !fault.Is(err, fault.Invalid) {
		t.Errorf("Move = %v", err)
	}
	s.probe.FailDrain.Store(true)
	if err := s.table.Finish(t.Context(), e); !errors.Is(err, brokertest.ErrProbe) {
		t.Errorf("Finish with an engine that cannot be drained = %v", err)
	}
	if !s.has(e) {
		t.Error("its key is gone before it was drained")
	}
	s.probe.FailDrain.Store(false)
	s.must(s.table.Finish(t.Context(), e))
	s.must(s.table.Finish(t.Context(), e)) // twice is once
	s.mount("a/")
}

// An engine that cannot be opened can be later: the failure is not kept.
func TestOpenFails(t *testing.T) {
	s := start(t, empty(t))
	s.mount("b/")
	if _, _, err := s.find("b/x"); err != nil {
		t.Fatal(err)
	}
	s.mount("a/")
	s.probe.FailOpen.Store(true)
	for range 2 {
		if _, _, err := s.find("b/x"); err != nil {
			t.Errorf("Find of a mount beside one that cannot be opened = %v", err)
		}
		if _, _, err := s.find("a/x"); !errors.Is(err, brokertest.ErrProbe) {
			t.Errorf("Find = %v", err)
		}
	}
	s.probe.FailOpen.Store(false)
	if _, _, err := s.find("a/x"); err != nil {
		t.Errorf("Find afterwards = %v", err)
	}
}

// Another program's table is refused, and a damaged one too.
func TestTableIsRefused(t *testing.T) {
	s := start(t, empty(t))
	for text, want := range map[string]error{
		`{"format":2,"mounts":[]}`: storage.ErrNewer, `{"format":1,`: storage.ErrCorrupt, `{"format":1,"format":1}`: storage.ErrCorrupt,
	} {
		s.must(s.update(func(tx storage.Tx) error {
			tx.Put(storage.Key{Scope: mount.Scope, Row: "table"}, []byte(text))
			return nil
		}))
		if _, err := s.table.Entries(t.Context(), s.now()); !errors.Is(err, want) {
			t.Errorf("Entries of %s = %v; want %v", text, err, want)
		}
		if err := s.add("a/"); !errors.Is(err, want) {
			t.Errorf("Add to %s = %v; want %v", text, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	s := start(t, empty(t))
	e := mount.NewEntry("a/", "probe")
	if got := s.table.Limits(&e); got.Default != time.Hour || got.Max != 2*time.Hour {
		t.Errorf("Limits = %v", got)
	}
}
