package overlay

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/storage"
)

// A tree is a sorted map, and an old tree does not change when a new one is
// made from it.
func TestTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.Custom(func(rt *rapid.T) storage.Key {
			return storage.Key{
				Scope: rapid.StringMatching(`[ab]{0,2}`).Draw(rt, "scope"),
				Row:   rapid.StringMatching(`[a-c]{0,3}`).Draw(rt, "row"),
			}
		})
		var (
			tree  Tree
			model = map[storage.Key]string{}
			olds  []Tree
			sizes []int
		)
		for range rapid.IntRange(0, 200).Draw(rt, "steps") {
			at := k.Draw(rt, "key")
			if rapid.IntRange(0, 2).Draw(rt, "remove") == 0 {
				tree = tree.Without(at)
				delete(model, at)
			} else {
				v := rapid.StringMatching(`[x-z]`).Draw(rt, "value")
				tree = tree.With(at, []byte(v))
				model[at] = v
			}
			olds, sizes = append(olds, tree), append(sizes, len(model))
		}
		for i, old := range olds {
			if old.Len() != sizes[i] {
				rt.Fatalf("an old tree has %d keys, had %d", old.Len(), sizes[i])
			}
		}
		var last *storage.Key
		n := 0
		for at, v := range tree.All() {
			if w, ok := model[at]; !ok || w != string(v) {
				rt.Fatalf("All yields %q = %q; want %q, %t", at, v, w, ok)
			}
			if last != nil && compare(*last, at) >= 0 {
				rt.Fatalf("All yields %q after %q", at, *last)
			}
			last = &at
			n++
		}
		if n != len(model) {
			rt.Fatalf("All yields %d keys, want %d", n, len(model))
		}
		scope, after, end := k.Draw(rt, "scope").Scope, k.Draw(rt, "after").Row, k.Draw(rt, "end").Row
		var got, want []string
		for row := range tree.Rows(scope, after, end) {
			got = append(got, row)
		}
		for at := range model {
			if at.Scope == scope && (after == "" || at.Row > after) && (end == "" || at.Row < end) {
				want = append(want, at.Row)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Fatalf("Rows(%q, %q, %q) = %q, want %q", scope, after, end, got, want)
		}
		for row := range tree.Rows(scope, "", "") { // stops when it is told to
			_ = row
			break
		}
	})
}

// Keys in order, the worst that a tree without balance can be given.
func TestTreeIsBalanced(t *testing.T) {
	var tree Tree
	const n = 1 << 14
	for i := range n {
		tree = tree.With(storage.Key{Row: fmt.Sprintf("%06d", i)}, []byte{})
	}
	var depth func(*node) int
	depth = func(n *node) int {
		if n == nil {
			return 0
		}
		return 1 + max(depth(n.left), depth(n.right))
	}
	if d := depth(tree.root); d > 60 {
		t.Errorf("%d keys are %d deep", n, d)
	}
}

func TestHistory(t *testing.T) {
	h := NewHistory(5)
	now := time.Unix(1, 0)
	h.Append(6, []string{"a", "b"})
	h.Append(7, []string{"b", "c"})
	h.Append(9, []string{"d"})
	for _, c := range []struct {
		since, current storage.Mark
		want           string
		all            bool
	}{
		{9, 9, "[]", false},
		{7, 9, "[d]", false},
		{6, 9, "[b c d]", false},
		{5, 9, "[a b c d]", false},
		{5, 7, "[a b c]", false}, // 9 is not seen by anyone yet
		{4, 9, "[]", true},
		{10, 9, "[]", true},
	} {
		got := h.Since(c.since, c.current, now)
		slices.Sort(got.Scopes)
		if fmt.Sprint(got.Scopes) != c.want || got.All != c.all || got.Mark != c.current || !got.Now.Equal(now) {
			t.Errorf("Since(%d, %d) = %+v; want %s, all %t", c.since, c.current, got, c.want, c.all)
		}
	}
}

// A history forgets, and says so.
func TestHistoryIsBounded(t *testing.T) {
	h := NewHistory(0)
	for m := storage.Mark(1); m <= maxHistory; m++ {
		h.Append(m, []string{fmt.Sprint(m), "again"})
	}
	if len(h.changes) > maxHistory {
		t.Errorf("%d changes are kept, want at most %d", len(h.changes), maxHistory)
	}
	if c := h.Since(1, maxHistory, time.Time{}); !c.All {
		t.Error("what is forgotten is not told to be")
	}
	if c := h.Since(h.floor, maxHistory, time.Time{}); c.All || len(c.Scopes) != maxHistory-int(h.floor)+1 {
		t.Errorf("since %d: %d scopes, all %t", h.floor, len(c.Scopes), c.All)
	}
	h = NewHistory(0)
	many := make([]string, maxHistory+10)
	h.Append(1, many) // one transaction beyond the bound
	if c := h.Since(0, 1, time.Time{}); !c.All {
		t.Error("half of a transaction's changes is told as if it were all")
	}
}

func TestGate(t *testing.T) {
	g := NewGate()
	if !g.Enter() {
		t.Fatal("an open gate lets nobody in")
	}
	var wg sync.WaitGroup
	out := make(chan struct{})
	var firsts atomic.Int32
	for range 3 {
		wg.Go(func() {
			if g.Close() {
				firsts.Add(1)
			}
			select {
			case <-out:
			default:
				t.Error("a gate closed while one was inside")
			}
		})
	}
	for !g.Closed() {
		if g.Enter() {
			g.Leave()
		}
	}
	if g.Enter() {
		t.Error("a closed gate let one in")
	}
	close(out)
	g.Leave()
	wg.Wait()
	if n := firsts.Load(); n != 1 {
		t.Errorf("%d calls closed the gate, want 1", n)
	}
}

func BenchmarkTreeWith(b *testing.B) {
	var tree Tree
	keys := make([]storage.Key, 1<<16)
	for i := range keys {
		keys[i] = storage.Key{Scope: fmt.Sprint("scope", i*7919%len(keys)), Row: "h"}
	}
	i := 0
	for b.Loop() {
		tree = tree.With(keys[i%len(keys)], nil)
		i++
	}
}
