package directory

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

func update(t testing.TB, s storage.Store, path string, fn func(storage.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), storage.Locks{Own: LocksFor(path)}, fn); err != nil {
		t.Fatalf("Update = %v", err)
	}
}

func list(t testing.TB, s storage.Store, dir, after string, limit int) (names []string, more bool) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) (err error) {
		names, more, err = List(r, dir, after, limit)
		return err
	}); err != nil {
		t.Fatalf("List(%q, %q, %d) = %v", dir, after, limit, err)
	}
	return names, more
}

// check walks every row of a directory and returns what breaks its shape.
func check(r storage.Reader, dir string) error {
	items, _, err := r.Scan(Scope(dir), "", "", 0)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return nil
	}
	rows := map[string]bool{}
	for _, it := range items {
		rows[it.Row] = true
	}
	t, err := open(r, dir)
	if err != nil {
		return err
	}
	delete(rows, rootRow)
	var leaves []uint32
	names := uint64(0)
	var walk func(id uint32, depth uint8, low, high string) error
	walk = func(id uint32, depth uint8, low, high string) error {
		p, err := t.load(id, depth == 1)
		if err != nil {
			return err
		}
		if !rows[pageRow(id)] {
			return fmt.Errorf("page %d is missing or met twice", id)
		}
		delete(rows, pageRow(id))
		if id != t.root.page && p.weight() < minWeight {
			return fmt.Errorf("page %d has weight %d", id, p.weight())
		}
		for _, n := range p.names {
			if n < low || high != "" && n >= high {
				return fmt.Errorf("page %d: %q is not in [%q, %q)", id, n, low, high)
			}
		}
		if p.leaf() {
			leaves = append(leaves, id)
			names += uint64(len(p.names))
			return nil
		}
		if len(p.kids) < 2 {
			return fmt.Errorf("page %d has one child", id)
		}
		for i, kid := range p.kids {
			l, h := low, high
			if i > 0 {
				l = p.names[i-1]
			}
			if i < len(p.names) {
				h = p.names[i]
			}
			if err := walk(kid, depth-1, l, h); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(t.root.page, t.root.depth, "", ""); err != nil {
		return err
	}
	for i, id := range leaves {
		want := uint32(0)
		if i+1 < len(leaves) {
			want = leaves[i+1]
		}
		if got := t.pages[id].next; got != want {
			return fmt.Errorf("leaf %d is followed by %d, want %d", id, got, want)
		}
	}
	if names != t.root.names {
		return fmt.Errorf("%d names, and %d in the root", names, t.root.names)
	}
	if len(rows) > 0 {
		return fmt.Errorf("rows that nothing leads to: %q", slices.Sorted(maps.Keys(rows)))
	}
	return nil
}

// A directory is a sorted set, whatever is added and removed in which order.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := mem.New(mem.Config{})
		model := map[string]bool{}
		// Few short names are met again; many long ones make a deep tree.
		name := rapid.OneOf(
			rapid.StringMatching(`[ab]{1,3}/?`),
			rapid.Custom(func(t *rapid.T) string {
				n := rapid.IntRange(0, 3000).Draw(t, "n")
				return fmt.Sprintf("%04d%s", n, strings.Repeat("x", n%(MaxName-4)))
			}),
		)
		bulk := func(rt *rapid.T) []string {
			from, n, step := rapid.IntRange(0, 3000).Draw(rt, "from"), rapid.IntRange(1, 80).Draw(rt, "n"), rapid.IntRange(1, 3).Draw(rt, "step")
			var names []string
			for i := range n {
				names = append(names, fmt.Sprintf("%04d%s", from+i*step, strings.Repeat("x", (from+i*step)%(MaxName-4))))
			}
			return names
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				update(t, s, n, func(tx storage.Tx) error {
					added, err := Add(tx, "", n)
					if added == model[n] {
						rt.Fatalf("Add(%q) = %t", n, added)
					}
					return err
				})
				model[n] = true
			},
			"addAll": func(rt *rapid.T) {
				names := bulk(rt)
				update(t, s, "", func(tx storage.Tx) error {
					_, err := AddAll(tx, "", names)
					return err
				})
				for _, n := range names {
					model[n] = true
				}
			},
			"remove": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				if len(model) > 0 && rapid.Bool().Draw(rt, "known") {
					n = rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(rt, "of")
				}
				update(t, s, n, func(tx storage.Tx) error {
					removed, empty, err := Remove(tx, "", n)
					if left := len(model); removed != model[n] || empty != (left == 0 || left == 1 && model[n]) {
						rt.Fatalf("Remove(%q) of %d = %t, %t", n, left, removed, empty)
					}
					return err
				})
				delete(model, n)
			},
			"removeAll": func(rt *rapid.T) {
				for _, n := range bulk(rt) {
					update(t, s, n, func(tx storage.Tx) error {
						_, _, err := Remove(tx, "", n)
						return err
					})
					delete(model, n)
				}
			},
			"list": func(rt *rapid.T) {
				after, limit := rapid.OneOf(rapid.Just(""), name).Draw(rt, "after"), rapid.IntRange(0, 200).Draw(rt, "limit")
				var want []string
				for _, n := range slices.Sorted(maps.Keys(model)) {
					if n > after {
						want = append(want, n)
					}
				}
				wantMore := limit > 0 && len(want) > limit
				if wantMore {
					want = want[:limit]
				}
				got, more := list(t, s, "", after, limit)
				if diff := cmp.Diff(want, got); diff != "" || more != wantMore {
					rt.Fatalf("List(%q, %d): more = %t, want %t; names (-want +got):\n%s", after, limit, more, wantMore, diff)
				}
			},
			"": func(rt *rapid.T) {
				if err := s.View(t.Context(), func(r storage.Reader) error {
					if n, err := Count(r, ""); n != len(model) || err != nil {
						rt.Fatalf("Count = %d, %v; want %d", n, err, len(model))
					}
					n := name.Draw(rt, "has")
					if ok, err := Has(r, "", n); ok != model[n] || err != nil {
						rt.Fatalf("Has(%q) = %t, %v", n, ok, err)
					}
					return check(r, "")
				}); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}

func TestInsertAndDrop(t *testing.T) {
	s := mem.New(mem.Config{})
	insert := func(path string) {
		t.Helper()
		update(t, s, path, func(tx storage.Tx) error { return Insert(tx, path) })
	}
	drop := func(path string) {
		t.Helper()
		update(t, s, path, func(tx storage.Tx) error { return Drop(tx, path) })
	}
	want := func(dir string, names ...string) {
		t.Helper()
		if got, _ := list(t, s, dir, "", 0); !slices.Equal(got, names) {
			t.Errorf("List(%q) = %q, want %q", dir, got, names)
		}
	}
	insert("a/b/c")
	insert("a/b/d")
	insert("a/b")
	want("", "a/")
	want("a/", "b", "b/")
	want("a/b/", "c", "d")
	insert("a/b/c")
	drop("a/b/x")
	drop("a/b/c")
	want("a/b/", "d")
	drop("a/b/d")
	want("a/b/")
	want("a/", "b")
	want("", "a/")
	drop("a/b")
	want("")
	deep := strings.Repeat("x/", 31) + "y"
	insert(deep)
	want("", "x/")
	drop(deep)
	want("")
}

func TestBadName(t *testing.T) {
	s := mem.New(mem.Config{})
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		err := s.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
			_, err := Add(tx, "", name)
			return err
		})
		if !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("Add of %d bytes = %v; want ErrTooLarge", len(name), err)
		}
	}
}

// Many names of one directory, in bulk as an import makes them.
func TestMany(t *testing.T) {
	const n = 20_000
	s := mem.New(mem.Config{})
	fill(t, s, n)
	var got []string
	for after := ""; ; {
		names, more := list(t, s, "big/", after, 1000)
		got = append(got, names...)
		if !more {
			break
		}
		after = names[len(names)-1]
	}
	if len(got) != n || !slices.IsSorted(got) {
		t.Errorf("listed %d names, sorted %t; want %d", len(got), slices.IsSorted(got), n)
	}
	if err := s.View(t.Context(), func(r storage.Reader) error { return check(r, "big/") }); err != nil {
		t.Error(err)
	}
}

func fill(t testing.TB, s storage.Store, n int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		names := make([]string, 0, 100)
		for j := i; j < min(i+100, n); j++ {
			names = append(names, fmt.Sprintf("name-%08d", j))
		}
		update(t, s, "big/", func(tx storage.Tx) error {
			added, err := AddAll(tx, "big/", names)
			if err == nil && added != len(names) {
				t.Errorf("AddAll = %d, want %d", added, len(names))
			}
			return err
		})
	}
}

// A deep directory shrinks as it grew, in any order, and is whole all along.
func TestShrink(t *testing.T) {
	const n = 14_000
	for name, order := range map[string]func(i int) int{
		"from the front": func(i int) int { return i },
		"from the back":  func(i int) int { return n - 1 - i },
		"all over":       func(i int) int { return i * 7919 % n },
	} {
		t.Run(name, func(t *testing.T) {
			s := mem.New(mem.Config{})
			// Made all over as well: what is made in order has half-full pages.
			for i := 0; i < n; i += 20 {
				update(t, s, "big/", func(tx storage.Tx) error {
					for j := i; j < i+20; j++ {
						if _, err := Add(tx, "big/", fmt.Sprintf("name-%08d", j*6007%n)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			depths := map[uint8]bool{}
			for i := 0; i < n; i += 20 {
				update(t, s, "big/", func(tx storage.Tx) error {
					for j := i; j < i+20; j++ {
						removed, empty, err := Remove(tx, "big/", fmt.Sprintf("name-%08d", order(j)))
						if err != nil || !removed || empty != (j == n-1) {
							return fmt.Errorf("remove %d = %t, %t, %w", j, removed, empty, err)
						}
					}
					return nil
				})
				if i%1000 == 0 || i > n-1000 {
					if err := s.View(t.Context(), func(r storage.Reader) error {
						tr, err := open(r, "big/")
						depths[tr.root.depth] = true
						return errors.Join(err, check(r, "big/"))
					}); err != nil {
						t.Fatalf("after %d: %v", i, err)
					}
				}
			}
			for _, d := range []uint8{0, 1, 2, 3} {
				if !depths[d] {
					t.Errorf("was never %d deep: %v", d, depths)
				}
			}
		})
	}
}

// The functions run twice, lose each commit, and touch what they say.
func TestInsertAndDropUnderFaults(t *testing.T) {
	paths := []string{"a/b/c", "a/b/d", "a/e", "f"}
	one := func(s storage.Store, fn func(storage.Tx, string) error) error {
		for _, path := range paths {
			if err := s.Update(t.Context(), storage.Locks{Own: LocksFor(path)}, func(tx storage.Tx) error { return fn(tx, path) }); err != nil {
				return err
			}
		}
		return nil
	}
	openMem := func(testing.TB) storage.Store { return mem.New(mem.Config{}) }
	// Whatever was interrupted, each directory that has something is in the
	// one above, and none that has nothing.
	whole := func(t testing.TB, s storage.Store) {
		if err := s.View(t.Context(), func(r storage.Reader) error {
			for _, dir := range []string{"a/", "a/b/"} {
				n, err := Count(r, dir)
				if err != nil {
					return err
				}
				up, name := split(dir)
				if has, err := Has(r, up, name); err != nil || has != (n > 0) {
					t.Errorf("%q has %d names, and is in %q: %t, %v", dir, n, up, has, err)
				}
				if err := check(r, dir); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	storagetest.EachFailure(t, openMem, func(s storage.Store) error {
		watched := storagetest.Strict(t, storagetest.Twice(t, s), func(scope string) bool { return scope == Scope("") || scope == Scope("a/") })
		if err := one(watched, Insert); err != nil {
			return err
		}
		return one(watched, Drop)
	}, whole)
}

// A damaged directory is an error, and never an endless list.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(storage.Tx){
		"page gone": func(tx storage.Tx) { tx.Delete(storage.Key{Scope: Scope("big/"), Row: pageRow(2)}) },
		"page cut":  func(tx storage.Tx) { tx.Put(storage.Key{Scope: Scope("big/"), Row: pageRow(2)}, []byte{1, 0}) },
		"ring": func(tx storage.Tx) {
			tx.Put(storage.Key{Scope: Scope("big/"), Row: pageRow(2)}, (&page{names: []string{"name-1"}, next: 1}).encode())
		},
		"root cut": func(tx storage.Tx) { tx.Put(storage.Key{Scope: Scope("big/"), Row: rootRow}, []byte{1}) },
		"root page": func(tx storage.Tx) {
			tx.Put(storage.Key{Scope: Scope("big/"), Row: rootRow}, root{3, 1, 9, 9}.encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mem.New(mem.Config{})
			fill(t, s, 300)
			update(t, s, "big/", func(tx storage.Tx) error { damage(tx); return nil })
			err := s.View(t.Context(), func(r storage.Reader) error {
				_, _, err := List(r, "big/", "", 0)
				return err
			})
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("List = %v; want ErrCorrupt", err)
			}
		})
	}
	s := mem.New(mem.Config{})
	update(t, s, "", func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: Scope(""), Row: rootRow}, []byte{version + 1})
		return nil
	})
	if err := s.View(t.Context(), func(r storage.Reader) error { _, err := Count(r, ""); return err }); !errors.Is(err, storage.ErrNewer) {
		t.Errorf("Count of a later version's directory = %v; want ErrNewer", err)
	}
}

// What is on disks stays readable: these bytes must decode for ever.
func TestFormat(t *testing.T) {
	for _, c := range []struct {
		hex  string
		want any
	}{
		{"0101000000010000000100000000000000" + "02", root{1, 1, 1, 2}},
		{"01000000000700020001" + "61" + "0002" + "622f", &page{names: []string{"a", "b/"}, next: 7}},
		{"01010000000100010001" + "6d" + "00000002", &page{names: []string{"m"}, kids: []uint32{1, 2}}},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		switch want := c.want.(type) {
		case root:
			if got, err := decodeRoot(b); got != want || err != nil {
				t.Errorf("decodeRoot(%s) = %+v, %v; want %+v", c.hex, got, err, want)
			}
		case *page:
			got, err := decodePage(b)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(page{})); diff != "" || err != nil {
				t.Errorf("decodePage(%s): %v (-want +got)\n%s", c.hex, err, diff)
			}
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add((&page{names: []string{"a", "b/"}, next: 7}).encode())
	f.Add((&page{names: []string{"m"}, kids: []uint32{1, 2}}).encode())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePage(b)
		if err != nil {
			return
		}
		if got := p.encode(); !bytes.Equal(got, b) {
			t.Errorf("page encodes to %x, came from %x", got, b)
		}
		if !slices.IsSorted(p.names) || !p.leaf() && len(p.kids) != len(p.names)+1 {
			t.Errorf("decodePage(%x) = %+v", b, p)
		}
	})
}

func FuzzRoot(f *testing.F) {
	f.Add(root{2, 3, 9, 500}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRoot(b)
		if err != nil {
			return
		}
		if got := r.encode(); !bytes.Equal(got, b) {
			t.Errorf("root encodes to %x, came from %x", got, b)
		}
	})
}

func BenchmarkList1000Of1M(b *testing.B) {
	s := mem.New(mem.Config{})
	fill(b, s, 1_000_000)
	b.ResetTimer()
	for i := range b.N {
		after := fmt.Sprintf("name-%08d", i*7919%999_000)
		if names, _ := list(b, s, "big/", after, 1000); len(names) != 1000 {
			b.Fatalf("listed %d", len(names))
		}
	}
}
