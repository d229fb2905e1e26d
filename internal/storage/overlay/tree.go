package overlay

import (
	"cmp"
	"hash/maphash"
	"iter"
	"strings"

	"rotunda.dev/rotunda/internal/storage"
)

// Tree is an immutable sorted map from keys to values; its zero value is
// empty. In a tree of writes, a nil value says that the key is removed. It is
// a treap: a key's place follows from the key's hash, so it stays balanced
// and two trees share what they have in common.
type Tree struct{ root *node }

type node struct {
	key         storage.Key
	value       []byte
	weight      uint64 // of key; larger than the weights below
	size        int    // nodes from here down
	left, right *node
}

// seed keeps who chooses keys from choosing their places.
var seed = maphash.MakeSeed()

func compare(a, b storage.Key) int {
	return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Row, b.Row))
}

// Len returns how many keys t has.
func (t Tree) Len() int { return t.root.len() }

func (n *node) len() int {
	if n == nil {
		return 0
	}
	return n.size
}

func (n *node) with(left, right *node) *node {
	return &node{n.key, n.value, n.weight, left.len() + right.len() + 1, left, right}
}

// Find returns the value at k, which must not be changed, and whether t has k.
func (t Tree) Find(k storage.Key) (value []byte, ok bool) {
	for n := t.root; n != nil; {
		switch c := compare(k, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return nil, false
}

// With returns t with value at k.
func (t Tree) With(k storage.Key, value []byte) Tree {
	return Tree{t.root.put(&node{key: k, value: value, weight: maphash.Comparable(seed, k), size: 1})}
}

func (n *node) put(leaf *node) *node {
	if n == nil {
		return leaf
	}
	c := compare(leaf.key, n.key)
	switch {
	case c == 0:
		leaf.left, leaf.right, leaf.size = n.left, n.right, n.size
		return leaf
	case c < 0:
		l := n.left.put(leaf)
		if l.weight > n.weight {
			return l.with(l.left, n.with(l.right, n.right))
		}
		return n.with(l, n.right)
	default:
		r := n.right.put(leaf)
		if r.weight > n.weight {
			return r.with(n.with(n.left, r.left), r.right)
		}
		return n.with(n.left, r)
	}
}

// Without returns t without k.
func (t Tree) Without(k storage.Key) Tree {
	if _, ok := t.Find(k); !ok {
		return t
	}
	return Tree{t.root.remove(k)}
}

func (n *node) remove(k storage.Key) *node {
	switch c := compare(k, n.key); {
	case c < 0:
		return n.with(n.left.remove(k), n.right)
	case c > 0:
		return n.with(n.left, n.right.remove(k))
	default:
		return join(n.left, n.right)
	}
}

// join makes one tree of two, all of whose keys on the left are smaller.
func join(l, r *node) *node {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.weight > r.weight:
		return l.with(l.left, join(l.right, r))
	default:
		return r.with(join(l, r.left), r.right)
	}
}

// All yields every key and value in ascending order.
func (t Tree) All() iter.Seq2[storage.Key, []byte] {
	return func(yield func(storage.Key, []byte) bool) { t.root.all(yield) }
}

func (n *node) all(yield func(storage.Key, []byte) bool) bool {
	return n == nil || n.left.all(yield) && yield(n.key, n.value) && n.right.all(yield)
}

// Rows yields the rows of scope with after < Row < end in ascending order; an
// empty bound is none.
func (t Tree) Rows(scope, after, end string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) { t.root.rows(scope, after, end, yield) }
}

func (n *node) rows(scope, after, end string, yield func(string, []byte) bool) bool {
	if n == nil {
		return true
	}
	c := strings.Compare(n.key.Scope, scope)
	above := c > 0 || c == 0 && (after == "" || n.key.Row > after)
	below := c < 0 || c == 0 && (end == "" || n.key.Row < end)
	if above && !n.left.rows(scope, after, end, yield) {
		return false
	}
	if above && below && !yield(n.key.Row, n.value) {
		return false
	}
	return !below || n.right.rows(scope, after, end, yield)
}
