// Package storagetest holds stores to the contract of package storage, and
// tests other code against stores that fail.
//
//   - [Conform] checks a store.
//   - [Twice], [Neighbour] and [Strict] are stores that check those who use them.
//   - [EachFailure] fails each commit of a piece of code in turn, both ways.
//   - [Failing] fails when it is told to.
package storagetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/storage"
)

// Open returns a store with nothing in it, and closes it when its test ends.
type Open func(testing.TB) storage.Store

// Conform checks every promise of [storage.Store].
func Conform(t *testing.T, open Open) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

var checks = []struct {
	name string
	run  func(testing.TB, Open)
}{
	{"empty", checkEmpty},
	{"own writes", checkOwnWrites},
	{"error leaves nothing", checkError},
	{"panic leaves nothing", checkPanic},
	{"values are copies", checkCopies},
	{"insert", checkInsert},
	{"join", checkJoin},
	{"undeclared", checkUndeclared},
	{"bounds", checkBounds},
	{"scan", checkScan},
	{"catalog", checkCatalog},
	{"model", checkModel},
	{"snapshot", checkSnapshot},
	{"serial", checkSerial},
	{"changes", checkChanges},
	{"changes under load", checkChangesUnderLoad},
	{"closed", checkClosed},
	{"close waits", checkCloseWaits},
	{"context", checkContext},
}

func key(scope, row string) storage.Key { return storage.Key{Scope: scope, Row: row} }

func own(scopes ...string) storage.Locks { return storage.Locks{Own: scopes} }

func put(t testing.TB, s storage.Store, k storage.Key, v string) {
	t.Helper()
	if err := s.Update(t.Context(), own(k.Scope), func(tx storage.Tx) error { tx.Put(k, []byte(v)); return nil }); err != nil {
		t.Fatalf("Update = %v", err)
	}
}

func view(t testing.TB, s storage.Store, fn func(storage.Reader)) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) error { fn(r); return nil }); err != nil {
		t.Fatalf("View = %v", err)
	}
}

// wantGet checks what is at k; "-" stands for nothing.
func wantGet(t testing.TB, r storage.Reader, k storage.Key, want string) {
	t.Helper()
	v, err := r.Get(k)
	many, manyErr := r.GetMany([]storage.Key{k})
	if manyErr != nil || len(many) != 1 || (many[0] == nil) != (err != nil) || string(many[0]) != string(v) {
		t.Errorf("GetMany(%q) = %q, %v; Get = %q, %v", k, many, manyErr, v, err)
	}
	switch {
	case want == "-" && !errors.Is(err, storage.ErrNotFound):
		t.Errorf("Get(%q) = %q, %v; want ErrNotFound", k, v, err)
	case want != "-" && (err != nil || string(v) != want):
		t.Errorf("Get(%q) = %q, %v; want %q", k, v, err, want)
	}
}

func want(t testing.TB, s storage.Store, k storage.Key, v string) {
	t.Helper()
	view(t, s, func(r storage.Reader) { wantGet(t, r, k, v) })
}

func rows(items []storage.Item) []string {
	var rs []string
	for _, it := range items {
		rs = append(rs, it.Row+"="+string(it.Value))
	}
	return rs
}

func wantScan(t testing.TB, r storage.Reader, scope, after, end string, limit int, more bool, want ...string) {
	t.Helper()
	items, gotMore, err := r.Scan(scope, after, end, limit)
	if got := rows(items); err != nil || gotMore != more || !slices.Equal(got, want) {
		t.Errorf("Scan(%q, %q, %q, %d) = %q, %t, %v; want %q, %t", scope, after, end, limit, got, gotMore, err, want, more)
	}
}

func checkEmpty(t testing.TB, open Open) {
	s := open(t)
	want(t, s, key("s", "r"), "-")
	view(t, s, func(r storage.Reader) {
		wantScan(t, r, "s", "", "", 10, false)
		if r.Now().IsZero() {
			t.Error("Now is zero")
		}
	})
}

func checkOwnWrites(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("s", "a"), "old")
	put(t, s, key("s", "b"), "old")
	if err := s.Update(t.Context(), own("s", "t"), func(tx storage.Tx) error {
		tx.Put(key("s", "a"), []byte("new"))
		tx.Delete(key("s", "b"))
		tx.Put(key("s", "c"), nil)
		tx.Put(key("t", "a"), []byte("t"))
		tx.Delete(key("t", "b"))
		wantGet(t, tx, key("s", "a"), "new")
		wantGet(t, tx, key("s", "b"), "-")
		wantGet(t, tx, key("s", "c"), "")
		wantScan(t, tx, "s", "", "", 10, false, "a=new", "c=")
		wantScan(t, tx, "s", "", "", 1, true, "a=new")
		wantScan(t, tx, "t", "", "", 10, false, "a=t")
		if tx.Now().IsZero() {
			t.Error("Now is zero")
		}
		return nil
	}); err != nil {
		t.Fatalf("Update = %v", err)
	}
	view(t, s, func(r storage.Reader) {
		wantGet(t, r, key("s", "a"), "new")
		wantGet(t, r, key("s", "b"), "-")
		wantGet(t, r, key("s", "c"), "")
		wantScan(t, r, "s", "", "", 0, false, "a=new", "c=")
		wantScan(t, r, "t", "", "", 0, false, "a=t")
		many, err := r.GetMany([]storage.Key{key("t", "a"), key("t", "b"), key("s", "c"), key("t", "a")})
		if err != nil || len(many) != 4 || string(many[0]) != "t" || many[1] != nil || many[2] == nil || string(many[3]) != "t" {
			t.Errorf("GetMany = %q, %v", many, err)
		}
	})
	put(t, s, key("s", "a"), "newer")
	want(t, s, key("s", "a"), "newer")
}

func checkError(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("s", "a"), "old")
	bad := errors.New("bad")
	err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		tx.Put(key("s", "a"), []byte("new"))
		tx.Put(key("s", "b"), []byte("new"))
		return bad
	})
	if !errors.Is(err, bad) {
		t.Errorf("Update = %v; want the function's error", err)
	}
	want(t, s, key("s", "a"), "old")
	want(t, s, key("s", "b"), "-")
	if err := s.View(t.Context(), func(storage.Reader) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("View = %v; want the function's error", err)
	}
}

func checkPanic(t testing.TB, open Open) {
	s := open(t)
	for _, run := range []func(){
		func() {
			_ = s.Update(t.Context(), own("s"), func(tx storage.Tx) error { tx.Put(key("s", "a"), nil); panic("mine") })
		},
		func() { _ = s.View(t.Context(), func(storage.Reader) error { panic("mine") }) },
	} {
		func() {
			defer func() {
				if p := recover(); p != "mine" {
					t.Errorf("recovered %v; want the function's panic", p)
				}
			}()
			run()
		}()
	}
	want(t, s, key("s", "a"), "-")
	put(t, s, key("s", "b"), "v")
	want(t, s, key("s", "b"), "v")
}

func checkCopies(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("s", "a"), "value")
	spoil := func(r storage.Reader) {
		if v, err := r.Get(key("s", "a")); err == nil {
			clear(v)
		}
		if vs, err := r.GetMany([]storage.Key{key("s", "a")}); err == nil {
			clear(vs[0])
		}
		if items, _, err := r.Scan("s", "", "", 10); err == nil && len(items) > 0 {
			clear(items[0].Value)
		}
		wantGet(t, r, key("s", "a"), "value")
	}
	view(t, s, spoil)
	if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		spoil(tx)
		tx.Put(key("s", "a"), []byte("value"))
		spoil(tx)
		return nil
	}); err != nil {
		t.Fatalf("Update = %v", err)
	}
	want(t, s, key("s", "a"), "value")
}

func checkInsert(t testing.TB, open Open) {
	s := open(t)
	insert := func(k storage.Key) error {
		return s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
			tx.Put(key("s", "beside"), []byte(k.Row))
			tx.Insert(k, []byte("v"))
			return nil
		})
	}
	if err := insert(key("s", "a")); err != nil {
		t.Errorf("Insert of a fresh key = %v", err)
	}
	put(t, s, key("s", "b"), "old")
	if err := insert(key("s", "b")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Insert of a key that holds something = %v; want ErrExists", err)
	}
	want(t, s, key("s", "b"), "old")
	want(t, s, key("s", "beside"), "a")
	err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		tx.Put(key("s", "c"), nil)
		tx.Insert(key("s", "c"), nil)
		return nil
	})
	if !errors.Is(err, storage.ErrExists) {
		t.Errorf("Insert of a key that was just put = %v; want ErrExists", err)
	}
	err = s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		tx.Delete(key("s", "b"))
		tx.Insert(key("s", "b"), []byte("new"))
		return nil
	})
	if err != nil {
		t.Errorf("Insert of a key that was just deleted = %v", err)
	}
	want(t, s, key("s", "b"), "new")
}

func checkJoin(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("j", "a"), "old")
	locks := storage.Locks{Own: []string{"o"}, Join: []string{"j"}}
	if err := s.Update(t.Context(), locks, func(tx storage.Tx) error {
		wantGet(t, tx, key("j", "a"), "old")
		tx.Insert(key("j", "random"), []byte("v"))
		tx.Put(key("o", "a"), []byte("v"))
		wantScan(t, tx, "o", "", "", 0, false, "a=v")
		return nil
	}); err != nil {
		t.Errorf("Get and Insert in a joined scope = %v", err)
	}
	want(t, s, key("j", "random"), "v")
	for name, do := range map[string]func(storage.Tx){
		"Put":    func(tx storage.Tx) { tx.Put(key("j", "a"), []byte("new")) },
		"Delete": func(tx storage.Tx) { tx.Delete(key("j", "a")) },
		"Scan":   func(tx storage.Tx) { _, _, _ = tx.Scan("j", "", "", 1) },
		"Insert twice": func(tx storage.Tx) {
			tx.Insert(key("j", "b"), nil)
			tx.Put(key("j", "b"), []byte("new"))
		},
	} {
		err := s.Update(t.Context(), locks, func(tx storage.Tx) error {
			tx.Put(key("o", "a"), []byte("new"))
			do(tx)
			return nil // the store minds, whether fn does or not
		})
		if !errors.Is(err, storage.ErrScope) {
			t.Errorf("%s in a joined scope = %v; want ErrScope", name, err)
		}
		want(t, s, key("o", "a"), "v")
		want(t, s, key("j", "a"), "old")
	}
	if err := s.Update(t.Context(), storage.Locks{Own: []string{"j"}, Join: []string{"j"}}, func(tx storage.Tx) error {
		tx.Put(key("j", "a"), []byte("new"))
		return nil
	}); err != nil {
		t.Errorf("Put in a scope that is owned and joined = %v", err)
	}
}

func checkUndeclared(t testing.TB, open Open) {
	s := open(t)
	for name, touch := range map[string]func(storage.Tx, string){
		"Get":     func(tx storage.Tx, scope string) { _, _ = tx.Get(key(scope, "a")) },
		"GetMany": func(tx storage.Tx, scope string) { _, _ = tx.GetMany([]storage.Key{key(scope, "a")}) },
		"Scan":    func(tx storage.Tx, scope string) { _, _, _ = tx.Scan(scope, "", "", 1) },
		"Put":     func(tx storage.Tx, scope string) { tx.Put(key(scope, "a"), nil) },
		"Insert":  func(tx storage.Tx, scope string) { tx.Insert(key(scope, name0), nil) },
		"Delete":  func(tx storage.Tx, scope string) { tx.Delete(key(scope, "a")) },
	} {
		runs := 0
		if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
			runs++
			tx.Put(key("s", fmt.Sprint(name, runs)), []byte("v"))
			touch(tx, "other")
			return nil
		}); err != nil || runs != 2 {
			t.Errorf("Update that touches an undeclared scope by %s: %v after %d runs; want 2 runs", name, err, runs)
		}
		want(t, s, key("s", name+"1"), "-")
		want(t, s, key("s", name+"2"), "v")
	}

	// One rerun learns them all, an error of the run that learned them does
	// not count, and they are owned.
	runs := 0
	if err := s.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		runs++
		for i := range storage.MaxScopes + 4 {
			tx.Put(key(fmt.Sprint("many", i), "a"), []byte("v"))
			wantScan(t, tx, fmt.Sprint("many", i), "", "", 0, false, "a=v")
		}
		if runs == 1 {
			return errors.New("not the outcome")
		}
		return nil
	}); err != nil || runs != 2 {
		t.Errorf("Update that touches many undeclared scopes: %v after %d runs; want 2 runs", err, runs)
	}
	want(t, s, key("many3", "a"), "v")

	runs = 0
	err := s.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		runs++
		tx.Put(key(fmt.Sprint("endless", runs), "a"), nil)
		return nil
	})
	if !errors.Is(err, storage.ErrTooLarge) || runs != storage.MaxReruns+1 {
		t.Errorf("Update that touches another scope each time: %v after %d runs; want ErrTooLarge after %d", err, runs, storage.MaxReruns+1)
	}
}

const name0 = "inserted"

func checkBounds(t testing.TB, open Open) {
	s := open(t)
	scopes := func(n int) (ss []string) {
		for i := range n {
			ss = append(ss, fmt.Sprint("scope", i))
		}
		return ss
	}
	row := func(i int) storage.Key { return key("s", fmt.Sprintf("%04d", i)) }
	for i := range 2 {
		if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
			for j := range 100 {
				tx.Put(row(i*100+j), []byte("v"))
			}
			return nil
		}); err != nil {
			t.Fatalf("Update = %v", err)
		}
	}
	for _, c := range []struct {
		name     string
		locks    storage.Locks
		in, over func(tx storage.Tx)
		err      error
	}{
		{
			name: "key",
			in:   func(tx storage.Tx) { tx.Put(key("s", strings.Repeat("r", storage.MaxKey-1)), nil) },
			over: func(tx storage.Tx) { tx.Put(key("s", strings.Repeat("r", storage.MaxKey)), nil) },
		}, {
			name: "inserted key",
			in:   func(tx storage.Tx) { tx.Insert(key("s", strings.Repeat("i", storage.MaxKey-1)), nil) },
			over: func(tx storage.Tx) { tx.Insert(key("s", strings.Repeat("i", storage.MaxKey)), nil) },
		}, {
			name: "gets",
			in: func(tx storage.Tx) {
				for i := range storage.MaxReads {
					_, _ = tx.Get(row(i))
				}
			},
			over: func(tx storage.Tx) {
				for i := range storage.MaxReads + 1 {
					_, _ = tx.Get(row(i))
				}
			},
		}, {
			name: "get many",
			in:   func(tx storage.Tx) { _, _ = tx.GetMany(make([]storage.Key, storage.MaxReads)) },
			over: func(tx storage.Tx) { _, _ = tx.GetMany(make([]storage.Key, storage.MaxReads+1)) },
		}, {
			name: "scan",
			in:   func(tx storage.Tx) { _, _, _ = tx.Scan("s", "", "", storage.MaxReads) },
			over: func(tx storage.Tx) { _, _, _ = tx.Scan("s", "", "", 0) },
		}, {
			name: "writes",
			in: func(tx storage.Tx) {
				for i := range storage.MaxWrites {
					tx.Put(row(i), []byte("v"))
					tx.Put(row(i), []byte("v")) // one key
				}
			},
			over: func(tx storage.Tx) {
				for i := range storage.MaxWrites + 1 {
					tx.Put(row(i), []byte("v"))
				}
			},
		}, {
			name: "deletes",
			in:   func(tx storage.Tx) { tx.Delete(row(0)) },
			over: func(tx storage.Tx) {
				for i := range storage.MaxWrites + 1 {
					tx.Delete(row(i))
				}
			},
		}, {
			name: "bytes",
			in:   func(tx storage.Tx) { tx.Put(row(0), make([]byte, storage.MaxBytes-1024)) },
			over: func(tx storage.Tx) {
				tx.Put(row(0), make([]byte, storage.MaxBytes/2))
				tx.Put(row(1), make([]byte, storage.MaxBytes/2))
			},
		},
	} {
		update := func(fn func(tx storage.Tx)) error {
			return s.Update(t.Context(), own("s", ""), func(tx storage.Tx) error {
				fn(tx)
				tx.Put(row(1), []byte(c.name))
				return nil
			})
		}
		if c.name == "writes" {
			update = func(fn func(tx storage.Tx)) error {
				return s.Update(t.Context(), own("s"), func(tx storage.Tx) error { fn(tx); return nil })
			}
		}
		if err := update(c.in); err != nil {
			t.Errorf("%s: at the bound: %v", c.name, err)
		}
		if err := update(c.over); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("%s: beyond the bound: %v; want ErrTooLarge", c.name, err)
		}
	}
	nothing := func(storage.Tx) error { return nil }
	half := storage.MaxScopes / 2
	if err := s.Update(t.Context(), storage.Locks{Own: scopes(half), Join: scopes(half)}, nothing); err != nil {
		t.Errorf("Update with %d scopes = %v", storage.MaxScopes, err)
	}
	if err := s.Update(t.Context(), storage.Locks{Own: scopes(half), Join: scopes(half + 1)}, nothing); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("Update with %d scopes = %v; want ErrTooLarge", storage.MaxScopes+1, err)
	}
	// What is too large to be kept is looked for in vain.
	want(t, s, key("s", strings.Repeat("x", 2*storage.MaxKey)), "-")
	// A View has no bounds of number.
	view(t, s, func(r storage.Reader) {
		if items, more, err := r.Scan("s", "", "", 0); len(items) < 2*100-2 || more || err != nil {
			t.Errorf("Scan of everything = %d items, %t, %v", len(items), more, err)
		}
	})
}

func checkScan(t testing.TB, open Open) {
	s := open(t)
	// Scopes and rows that run into one another if they are only put together.
	for _, k := range []storage.Key{
		key("a", "b"), key("a", "bb"), key("a", "c\x00"), key("a", "c"), key("a", ""), key("a", "\xff\xff"),
		key("ab", ""), key("ab", "b"), key("a\x00", "b"), key("", "ab"), key("", ""), key("\xff", "x"), key("b", "a"),
	} {
		put(t, s, k, "v")
	}
	scans := func(r storage.Reader) {
		all := []string{"=v", "b=v", "bb=v", "c=v", "c\x00=v", "\xff\xff=v"}
		wantScan(t, r, "a", "", "", 0, false, all...)
		wantScan(t, r, "a", "", "", len(all), false, all...)
		wantScan(t, r, "a", "", "", len(all)-1, true, all[:len(all)-1]...)
		wantScan(t, r, "a", "b", "", 0, false, all[2:]...)
		wantScan(t, r, "a", "ba", "", 2, true, "bb=v", "c=v")
		wantScan(t, r, "a", "", "c", 0, false, "=v", "b=v", "bb=v")
		wantScan(t, r, "a", "b", "c", 1, false, "bb=v")
		wantScan(t, r, "a", "c", "b", 0, false)
		wantScan(t, r, "a", "\xff\xff", "", 0, false)
		wantScan(t, r, "ab", "", "", 0, false, "=v", "b=v")
		wantScan(t, r, "a\x00", "", "", 0, false, "b=v")
		wantScan(t, r, "", "", "", 0, false, "=v", "ab=v")
		wantScan(t, r, "\xff", "", "", 0, false, "x=v")
		wantScan(t, r, "nothing", "", "", 0, false)
	}
	view(t, s, scans)
	if err := s.Update(t.Context(), own("a", "ab", "a\x00", "", "\xff", "nothing"), func(tx storage.Tx) error {
		scans(tx)
		return nil
	}); err != nil {
		t.Errorf("Update = %v", err)
	}
}

// checkCatalog asks a store for its scopes, if it tells them.
func checkCatalog(t testing.TB, open Open) {
	s := open(t)
	var want []string
	for _, scope := range []string{"a1", "a2", "a2x", "a\xff", "b1", "b\xff", "c1", "\xff\xff", "c"} {
		put(t, s, storage.Key{Scope: scope, Row: ""}, "v")
		put(t, s, storage.Key{Scope: scope, Row: "\xff\xff"}, "v")
		put(t, s, storage.Key{Scope: scope, Row: "r"}, "v")
		if len(scope) == 2 {
			want = append(want, scope)
		}
	}
	slices.Sort(want)
	if err := s.View(t.Context(), func(r storage.Reader) error {
		c, ok := r.(storage.Catalog)
		if !ok {
			return nil
		}
		for _, prefix := range []string{"", "a", "b", "b1", "c", "\xff"} {
			for _, after := range []string{"", "a", "a1", "a2", "a\xff", "b", "zz", "\xff\xff"} {
				for limit := range 4 {
					var expect []string
					for _, scope := range want {
						if scope > after && strings.HasPrefix(scope, prefix) {
							expect = append(expect, scope)
						}
					}
					rest := limit > 0 && len(expect) > limit
					if rest {
						expect = expect[:limit]
					}
					got, more, err := c.Scopes(prefix, 2, after, limit)
					if err != nil || more != rest || !slices.Equal(got, expect) {
						t.Errorf("Scopes(%q, 2, %q, %d) = %q, %t, %v; want %q, %t", prefix, after, limit, got, more, err, expect, rest)
					}
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// checkModel compares a store with a map, over transactions of many steps.
func checkModel(t testing.TB, open Open) {
	s := open(t)
	model := map[storage.Key]string{}
	scope := rapid.SampledFrom([]string{"a", "ab", "b"})
	row := rapid.StringMatching(`[a-c]{0,2}`)
	scan := func(m map[storage.Key]string, scope, after, end string, limit int) ([]string, bool) {
		var rs []string
		for k, v := range m {
			if k.Scope == scope && (after == "" || k.Row > after) && (end == "" || k.Row < end) {
				rs = append(rs, k.Row+"="+v)
			}
		}
		slices.SortFunc(rs, func(a, b string) int {
			return strings.Compare(a[:strings.IndexByte(a, '=')], b[:strings.IndexByte(b, '=')])
		})
		if limit > 0 && len(rs) > limit {
			return rs[:limit], true
		}
		return rs, false
	}
	// A question is drawn before it is asked: a function may run again.
	type question struct {
		k                 storage.Key
		scope, after, end string
		limit             int
	}
	draw := func(rt *rapid.T) question {
		return question{
			key(scope.Draw(rt, "scope"), row.Draw(rt, "row")),
			scope.Draw(rt, "scope"), row.Draw(rt, "after"), row.Draw(rt, "end"), rapid.IntRange(0, 5).Draw(rt, "limit"),
		}
	}
	compare := func(rt *rapid.T, r storage.Reader, m map[storage.Key]string, q question) {
		v, err := r.Get(q.k)
		if w, ok := m[q.k]; ok != (err == nil) || string(v) != w {
			rt.Fatalf("Get(%q) = %q, %v; want %q, %t", q.k, v, err, w, ok)
		}
		items, more, err := r.Scan(q.scope, q.after, q.end, q.limit)
		w, wantMore := scan(m, q.scope, q.after, q.end, q.limit)
		if diff := cmp.Diff(w, rows(items)); diff != "" || more != wantMore || err != nil {
			rt.Fatalf("Scan(%q, %q, %q, %d): more = %t, want %t, %v; (-want +got)\n%s", q.scope, q.after, q.end, q.limit, more, wantMore, err, diff)
		}
	}
	type step struct {
		k      storage.Key
		v      string
		delete bool
		ask    question
	}
	rapid.Check(t, func(rt *rapid.T) {
		bad := errors.New("bad")
		fails := rapid.Bool().Draw(rt, "fails")
		var steps []step
		for range rapid.IntRange(0, 6).Draw(rt, "steps") {
			steps = append(steps, step{
				key(scope.Draw(rt, "scope"), row.Draw(rt, "row")),
				rapid.StringMatching(`[v-z]{0,3}`).Draw(rt, "value"),
				rapid.IntRange(0, 2).Draw(rt, "delete") == 0, draw(rt),
			})
		}
		var next map[storage.Key]string
		err := s.Update(t.Context(), own("a", "ab", "b"), func(tx storage.Tx) error {
			next = maps.Clone(model)
			for _, st := range steps {
				if st.delete {
					tx.Delete(st.k)
					delete(next, st.k)
				} else {
					tx.Put(st.k, []byte(st.v))
					next[st.k] = st.v
				}
				compare(rt, tx, next, st.ask)
			}
			if fails {
				return bad
			}
			return nil
		})
		switch {
		case fails && !errors.Is(err, bad), !fails && err != nil:
			rt.Fatalf("Update = %v", err)
		case !fails:
			model = next
		}
		q := draw(rt)
		if err := s.View(t.Context(), func(r storage.Reader) error { compare(rt, r, model, q); return nil }); err != nil {
			rt.Fatalf("View = %v", err)
		}
	})
}

func checkSnapshot(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("a", "r"), "old")
	put(t, s, key("b", "r"), "old")
	view(t, s, func(r storage.Reader) {
		mark := r.Mark()
		wantGet(t, r, key("a", "r"), "old")
		for range 3 {
			if err := s.Update(t.Context(), own("a", "b", "c"), func(tx storage.Tx) error {
				if tx.Mark() < mark {
					t.Errorf("Mark of a transaction = %d, after %d", tx.Mark(), mark)
				}
				tx.Put(key("a", "r"), []byte("new"))
				tx.Delete(key("b", "r"))
				tx.Put(key("c", "r"), []byte("new"))
				return nil
			}); err != nil {
				t.Fatalf("Update during a View = %v", err)
			}
		}
		wantGet(t, r, key("a", "r"), "old")
		wantGet(t, r, key("b", "r"), "old")
		wantGet(t, r, key("c", "r"), "-")
		wantScan(t, r, "b", "", "", 0, false, "r=old")
		if r.Mark() != mark {
			t.Errorf("Mark within a View = %d, was %d", r.Mark(), mark)
		}
		view(t, s, func(r storage.Reader) {
			wantGet(t, r, key("c", "r"), "new")
			if r.Mark() <= mark {
				t.Errorf("Mark after an Update = %d, was %d", r.Mark(), mark)
			}
		})
	})

	// Two scopes that are always written together are always read alike.
	var wg sync.WaitGroup
	var stop atomic.Bool
	wg.Go(func() {
		defer stop.Store(true)
		for i := range 200 {
			if err := s.Update(t.Context(), own("a", "b"), func(tx storage.Tx) error {
				tx.Put(key("a", "r"), fmt.Append(nil, i))
				tx.Put(key("b", "r"), fmt.Append(nil, i))
				return nil
			}); err != nil {
				t.Errorf("Update = %v", err)
				return
			}
		}
	})
	last := -1
	for !stop.Load() {
		view(t, s, func(r storage.Reader) {
			a, errA := r.Get(key("a", "r"))
			b, errB := r.Get(key("b", "r"))
			if string(a) == "new" {
				return
			}
			if errA != nil || errB != nil || string(a) != string(b) {
				t.Errorf("one View has %q, %v and %q, %v", a, errA, b, errB)
			}
			var n int
			if _, err := fmt.Sscan(string(a), &n); err != nil || n < last {
				t.Errorf("a View has %d, one before it had %d", n, last)
			}
			last = n
		})
		if t.Failed() {
			break
		}
	}
	wg.Wait()
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// checkSerial runs transactions that would go wrong in any order but one
// after another: lost updates, and pairs that each read what the other writes.
func checkSerial(t testing.TB, open Open) {
	s := open(t)
	const workers, each = 8, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				a, b := fmt.Sprint("c", (w+i)%3), fmt.Sprint("c", (w+i+1)%3)
				if err := s.Update(t.Context(), own(a, b), func(tx storage.Tx) error {
					// The sum over all scopes grows by one; each is moved by
					// what the other holds.
					va, errA := get(tx, a)
					vb, errB := get(tx, b)
					runtime.Gosched() // invites others in between
					tx.Put(key(a, "n"), binary.BigEndian.AppendUint64(nil, vb+1))
					tx.Put(key(b, "n"), binary.BigEndian.AppendUint64(nil, va))
					return errors.Join(errA, errB)
				}); err != nil {
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
	// Write skew: whoever finds both at zero sets one; never are both set.
	for w := range 2 {
		wg.Go(func() {
			for i := range each {
				mine, other := fmt.Sprint("skew", w, i), fmt.Sprint("skew", 1-w, i)
				if err := s.Update(t.Context(), own(mine, other), func(tx storage.Tx) error {
					if n, err := get(tx, other); n != 0 || err != nil {
						return err
					}
					runtime.Gosched()
					tx.Put(key(mine, "n"), binary.BigEndian.AppendUint64(nil, 1))
					return nil
				}); err != nil {
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r storage.Reader) {
		sum := uint64(0)
		for i := range 3 {
			n, err := get(r, fmt.Sprint("c", i))
			if err != nil {
				t.Errorf("Get = %v", err)
			}
			sum += n
		}
		if sum != workers*each {
			t.Errorf("%d transactions added up to %d", workers*each, sum)
		}
		for i := range each {
			a, errA := get(r, fmt.Sprint("skew", 0, i))
			b, errB := get(r, fmt.Sprint("skew", 1, i))
			if errA != nil || errB != nil || a+b != 1 {
				t.Errorf("pair %d has %d and %d, %v, %v", i, a, b, errA, errB)
			}
		}
	})
}

func get(r storage.Reader, scope string) (uint64, error) {
	v, err := r.Get(key(scope, "n"))
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return number(v), err
}

func changes(t testing.TB, s storage.Store, since storage.Mark) storage.Changes {
	t.Helper()
	c, err := s.Changes(t.Context(), since)
	if err != nil {
		t.Fatalf("Changes(%d) = %v", since, err)
	}
	slices.Sort(c.Scopes)
	return c
}

func checkChanges(t testing.TB, open Open) {
	s := open(t)
	start := changes(t, s, 0)
	if start.Now.IsZero() {
		t.Error("Changes.Now is zero")
	}
	wantChanges := func(since storage.Mark, want ...string) storage.Mark {
		t.Helper()
		c := changes(t, s, since)
		if c.All || !slices.Equal(c.Scopes, want) {
			t.Errorf("Changes(%d) = %q, all %t; want %q", since, c.Scopes, c.All, want)
		}
		if moved := c.Mark != since; moved != (len(want) > 0) || c.Mark < since {
			t.Errorf("Changes(%d).Mark = %d with %d changes", since, c.Mark, len(want))
		}
		return c.Mark
	}
	m := wantChanges(start.Mark)
	put(t, s, key("a", "r"), "v")
	m1 := wantChanges(m, "a")
	if err := s.Update(t.Context(), storage.Locks{Own: []string{"b", "c", "x"}, Join: []string{"j"}}, func(tx storage.Tx) error {
		tx.Put(key("b", "r"), nil)
		tx.Delete(key("c", "r"))
		tx.Insert(key("j", "r"), nil)
		_, err := tx.Get(key("x", "r"))
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		return nil
	}); err != nil {
		t.Fatalf("Update = %v", err)
	}
	m2 := wantChanges(m1, "b", "c", "j")
	wantChanges(m, "a", "b", "c", "j")
	_ = s.Update(t.Context(), own("a"), func(tx storage.Tx) error { tx.Put(key("a", "r"), nil); return errors.New("bad") })
	wantChanges(m2)
	if c := changes(t, s, m2+1000); !c.All {
		t.Errorf("Changes since a Mark that was never had = %+v; want all", c)
	}
	view(t, s, func(r storage.Reader) {
		if r.Mark() < m2 {
			t.Errorf("Mark of a View = %d, after Changes told of %d", r.Mark(), m2)
		}
	})
}

// checkChangesUnderLoad has writers write numbers, and readers that ask what
// has changed: what was done when they asked is told, and what is told is
// seen; what is seen is told to who asks after.
func checkChangesUnderLoad(t testing.TB, open Open) {
	s := open(t)
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	var done [3]atomic.Uint64
	var told atomic.Int64 // how often readers were told of something
	for w := range done {
		writers.Go(func() {
			for n := uint64(1); n <= 100 || told.Load() < 200 && n < 20_000; n++ {
				if err := s.Update(t.Context(), own(fmt.Sprint("w", w)), func(tx storage.Tx) error {
					tx.Put(key(fmt.Sprint("w", w), "n"), binary.BigEndian.AppendUint64(nil, n))
					return nil
				}); err != nil {
					t.Errorf("Update = %v", err)
					return
				}
				done[w].Store(n)
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var known [len(done)]uint64
			var fresh [len(done)]bool // known is of the mark
			var mark storage.Mark
			for last := false; !last; {
				last = stop.Load()
				runtime.Gosched() // invites writers in between
				var least [len(done)]uint64
				for w := range done {
					least[w] = done[w].Load()
				}
				c, err := s.Changes(t.Context(), mark)
				if err != nil {
					t.Errorf("Changes = %v", err)
					return
				}
				if mark = c.Mark; len(c.Scopes) > 0 {
					told.Add(1)
				}
				for w := range done {
					if c.All || slices.Contains(c.Scopes, fmt.Sprint("w", w)) {
						fresh[w] = false
					}
					if fresh[w] && known[w] < least[w] {
						t.Errorf("Changes up to %d does not tell of %d, but %d is known of a writer that had done it", mark, least[w], known[w])
						told.Add(1000)
						return
					}
				}
				if err := s.View(t.Context(), func(r storage.Reader) error {
					if r.Mark() < mark {
						t.Errorf("Mark of a View = %d, after Changes told of %d", r.Mark(), mark)
					}
					for w := range done {
						n, err := get(r, fmt.Sprint("w", w))
						if err != nil {
							return err
						}
						// Newer than the mark is told again, which does no harm.
						if known[w], fresh[w] = n, true; n < least[w] {
							t.Errorf("a View has %d of a writer that had done %d", n, least[w])
						}
					}
					return nil
				}); err != nil {
					t.Errorf("View = %v", err)
					return
				}
				after, err := s.Changes(t.Context(), mark)
				if err != nil {
					t.Errorf("Changes = %v", err)
					return
				}
				if m := viewMark(t, s); m < after.Mark {
					t.Errorf("Mark of a View = %d, after Changes told of %d", m, after.Mark)
				}
				if t.Failed() {
					told.Add(1000)
					return
				}
			}
		})
	}
	// A snapshot that has been read from is told of at once.
	readers.Go(func() {
		for !stop.Load() && !t.Failed() {
			runtime.Gosched()
			m := viewMark(t, s)
			if c, err := s.Changes(t.Context(), m); err != nil || c.All || c.Mark < m {
				t.Errorf("Changes since %d, which a View has shown, = %+v, %v", m, c, err)
			}
		}
	})
	writers.Wait()
	stop.Store(true)
	readers.Wait()
}

func viewMark(t testing.TB, s storage.Store) (m storage.Mark) {
	if err := s.View(t.Context(), func(r storage.Reader) error { m = r.Mark(); return nil }); err != nil {
		t.Errorf("View = %v", err)
	}
	return m
}

func checkClosed(t testing.TB, open Open) {
	s := open(t)
	put(t, s, key("s", "r"), "v")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	ran := false
	err := s.View(t.Context(), func(storage.Reader) error { ran = true; return nil })
	if !errors.Is(err, storage.ErrClosed) {
		t.Errorf("View of a closed store = %v; want ErrClosed", err)
	}
	err = s.Update(t.Context(), own("s"), func(storage.Tx) error { ran = true; return nil })
	if !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Update of a closed store = %v; want ErrClosed", err)
	}
	if _, err := s.Changes(t.Context(), 0); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Changes of a closed store = %v; want ErrClosed", err)
	}
	if ran {
		t.Error("a closed store ran a function")
	}
}

func checkCloseWaits(t testing.TB, open Open) {
	s := open(t)
	var viewing, updating sync.WaitGroup
	viewing.Add(1)
	updating.Add(1)
	goOn := make(chan struct{})
	var ended atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.View(t.Context(), func(r storage.Reader) error {
			viewing.Done()
			<-goOn
			_, err := r.Get(key("s", "r"))
			ended.Add(1)
			if errors.Is(err, storage.ErrNotFound) {
				return nil
			}
			return err
		}); err != nil {
			t.Errorf("View while the store closes = %v", err)
		}
	})
	wg.Go(func() {
		if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
			updating.Done()
			<-goOn
			tx.Put(key("s", "r"), nil)
			ended.Add(1)
			return nil
		}); err != nil {
			t.Errorf("Update while the store closes = %v", err)
		}
	})
	viewing.Wait()
	updating.Wait()
	closed := make(chan int32, 1)
	go func() {
		err := s.Close()
		if err != nil {
			t.Errorf("Close = %v", err)
		}
		closed <- ended.Load()
	}()
	close(goOn)
	if n := <-closed; n != 2 {
		t.Errorf("Close returned when %d of 2 transactions had ended", n)
	}
	wg.Wait()
}

func checkContext(t testing.TB, open Open) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, own("s"), func(tx storage.Tx) error {
		cancel()
		_, err := tx.Get(key("s", "r"))
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Error("Get after the context had ended went well")
		}
		tx.Put(key("s", "r"), nil)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update whose context ends within = %v; want Canceled", err)
	}
	want(t, s, key("s", "r"), "-")
	ran := false
	if err := s.Update(ctx, own("s"), func(storage.Tx) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Update with a context that has ended = %v; want Canceled", err)
	}
	if err := s.View(ctx, func(storage.Reader) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View with a context that has ended = %v; want Canceled", err)
	}
	if _, err := s.Changes(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Changes with a context that has ended = %v; want Canceled", err)
	}
	if ran {
		t.Error("a function ran with a context that had ended")
	}
	ctx, cancel = context.WithCancel(t.Context())
	err = s.View(ctx, func(r storage.Reader) error {
		cancel()
		_, _, err := r.Scan("s", "", "", 1)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("View whose context ends within = %v; want Canceled", err)
	}
	put(t, s, key("s", "r"), "v")
}
