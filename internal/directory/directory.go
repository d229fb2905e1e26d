// Package directory keeps sorted sets of names, in pages that a store which
// encrypts can hide: it lists a million names in order and reads no more of
// them than it returns.
//
// A directory is a B+tree in a scope of its own. Its leaves are linked, so a
// list descends once. Making or removing a name writes one page, seldom more,
// and the root, which has the exact count; a directory that is empty has no
// rows. What is in a directory is made by its name in it and, at its first
// and last name, by its own in the one above: see [Insert] and [Drop].
package directory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rotunda.dev/rotunda/internal/storage"
)

// Scope returns the scope of the directory at path, which is "" or ends in a slash.
func Scope(path string) string { return "d" + path }

// LocksFor returns the scopes to own for [Insert] and [Drop] of path. Those
// of the directories above are touched seldom, and learned by a rerun.
func LocksFor(path string) []string {
	dir, _ := split(path)
	return []string{Scope(dir)}
}

// split returns the directory that path is in, and its name there.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/') + 1
	return path[:i], path[i:]
}

// Add puts name into a directory. It touches no other.
func Add(tx storage.Tx, dir, name string) (added bool, err error) {
	n, err := AddAll(tx, dir, []string{name})
	return n == 1, err
}

// AddAll is Add for many names, of which those that are next to one another
// cost little: a hundred sorted names fit into one transaction. It returns
// how many were not there.
func AddAll(tx storage.Tx, dir string, names []string) (added int, err error) {
	t, err := open(tx, dir)
	if err != nil {
		return 0, fmt.Errorf("opening directory: %w", err)
	}
	for _, name := range names {
		ok, err := t.add(name)
		if err != nil {
			return 0, fmt.Errorf("adding to directory: %w", err)
		}
		if ok {
			added++
		}
	}
	t.flush(tx)
	return added, nil
}

// Remove takes name out of a directory. It touches no other. It returns
// whether the name was there, and whether the directory has none now.
func Remove(tx storage.Tx, dir, name string) (removed, empty bool, err error) {
	t, err := open(tx, dir)
	if err != nil {
		return false, false, fmt.Errorf("opening directory: %w", err)
	}
	removed, err = t.remove(name)
	if err != nil {
		return false, false, fmt.Errorf("removing from directory: %w", err)
	}
	t.flush(tx)
	return removed, t.root.names == 0, nil
}

// Has reports whether name is in a directory.
func Has(r storage.Reader, dir, name string) (bool, error) {
	t, err := open(r, dir)
	if err != nil || t.root.names == 0 {
		return false, wrap("opening directory", err)
	}
	_, leaf, err := t.descend(name)
	if err != nil {
		return false, wrap("reading directory", err)
	}
	_, ok := slices.BinarySearch(leaf.names, name)
	return ok, nil
}

// List returns up to limit names of a directory that are larger than after,
// in bytewise order, and whether there are more. A limit of 0 is none.
func List(r storage.Reader, dir, after string, limit int) (names []string, more bool, err error) {
	t, err := open(r, dir)
	if err != nil || t.root.names == 0 {
		return nil, false, wrap("opening directory", err)
	}
	_, leaf, err := t.descend(after)
	if err != nil {
		return nil, false, wrap("reading directory", err)
	}
	last := after
	for {
		i, found := slices.BinarySearch(leaf.names, after)
		if found {
			i++
		}
		for _, name := range leaf.names[i:] {
			if limit > 0 && len(names) == limit {
				return names, true, nil
			}
			// Also what makes a ring of leaves end.
			if name <= last && last != "" {
				return nil, false, fmt.Errorf("%w: leaves of a directory are out of order", storage.ErrCorrupt)
			}
			names = append(names, name)
			last = name
		}
		if leaf.next == 0 {
			return names, false, nil
		}
		if leaf, err = t.load(leaf.next, true); err != nil {
			return nil, false, wrap("reading directory", err)
		}
		if len(leaf.names) == 0 {
			return nil, false, fmt.Errorf("%w: empty leaf in a directory", storage.ErrCorrupt)
		}
	}
}

// Count returns how many names a directory has.
func Count(r storage.Reader, dir string) (int, error) {
	t, err := open(r, dir)
	return int(t.root.names), wrap("opening directory", err) //nolint:gosec // names that there is room for
}

// Insert adds path, like "a/b/c", to the directory that it is in, "a/b/";
// where that was empty, it adds "b/" to "a/", and so on.
func Insert(tx storage.Tx, path string) error {
	for path != "" {
		dir, name := split(path)
		t, err := open(tx, dir)
		if err != nil {
			return fmt.Errorf("opening directory: %w", err)
		}
		first := t.root.names == 0
		if _, err := t.add(name); err != nil {
			return fmt.Errorf("adding to directory: %w", err)
		}
		t.flush(tx)
		if !first {
			return nil
		}
		path = dir
	}
	return nil
}

// Drop removes path from the directory that it is in, and that from the one
// above if it is empty then, and so on. Dropping what is not there is no error.
func Drop(tx storage.Tx, path string) error {
	for path != "" {
		dir, name := split(path)
		removed, empty, err := Remove(tx, dir, name)
		if err != nil || !removed || !empty {
			return err
		}
		path = dir
	}
	return nil
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// tree is a directory as one transaction sees it. Pages that it has read stay
// in it; those that it has changed are written by flush.
type tree struct {
	r     storage.Reader
	scope string
	root  root // names is 0 where the directory has no rows
	old   root
	pages map[uint32]*page
	dirty map[uint32]bool // of pages; those that are not in pages are gone
}

func open(r storage.Reader, dir string) (*tree, error) {
	t := &tree{r: r, scope: Scope(dir), pages: map[uint32]*page{}, dirty: map[uint32]bool{}}
	b, err := r.Get(storage.Key{Scope: t.scope, Row: rootRow})
	if errors.Is(err, storage.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.root, err = decodeRoot(b)
	t.old = t.root
	return t, err
}

// flush writes what has changed.
func (t *tree) flush(tx storage.Tx) {
	for _, id := range slices.Sorted(maps.Keys(t.dirty)) {
		k := storage.Key{Scope: t.scope, Row: pageRow(id)}
		if p := t.pages[id]; p != nil {
			tx.Put(k, p.encode())
		} else {
			tx.Delete(k)
		}
	}
	switch k := (storage.Key{Scope: t.scope, Row: rootRow}); {
	case t.root == t.old:
	case t.root.names == 0:
		tx.Delete(k)
	default:
		tx.Put(k, t.root.encode())
	}
}

// load returns the page id, which must be a leaf or must not.
func (t *tree) load(id uint32, leaf bool) (*page, error) {
	if p := t.pages[id]; p != nil {
		return p, nil
	}
	b, err := t.r.Get(storage.Key{Scope: t.scope, Row: pageRow(id)})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%w: a directory lacks page %d", storage.ErrCorrupt, id)
	}
	if err != nil {
		return nil, err
	}
	p, err := decodePage(b)
	if err != nil {
		return nil, err
	}
	if p.leaf() != leaf {
		return nil, fmt.Errorf("%w: page %d of a directory is at the wrong depth", storage.ErrCorrupt, id)
	}
	t.pages[id] = p
	return p, nil
}

func (t *tree) put(id uint32, p *page) {
	t.pages[id] = p
	t.dirty[id] = true
}

func (t *tree) drop(id uint32) {
	delete(t.pages, id)
	t.dirty[id] = true
}

// fresh returns a page id that was not used before.
func (t *tree) fresh() uint32 {
	t.root.last++
	return t.root.last
}

// step is a page on the way down, and which of its children the way goes by.
type step struct {
	id uint32
	p  *page
	at int
}

// descend returns the way to the leaf where name is or would be, that leaf last.
func (t *tree) descend(name string) (way []step, leaf *page, err error) {
	id := t.root.page
	for depth := t.root.depth; ; depth-- {
		p, err := t.load(id, depth == 1)
		if err != nil {
			return nil, nil, err
		}
		if depth == 1 {
			return append(way, step{id, p, 0}), p, nil
		}
		at := p.child(name)
		way = append(way, step{id, p, at})
		id = p.kids[at]
	}
}

func (t *tree) add(name string) (added bool, err error) {
	if name == "" || len(name) > MaxName {
		return false, fmt.Errorf("%w: name of %d bytes, want 1 to %d", storage.ErrTooLarge, len(name), MaxName)
	}
	if t.root.names == 0 {
		t.root.depth, t.root.names = 1, 1
		t.root.page = t.fresh()
		t.put(t.root.page, &page{names: []string{name}})
		return true, nil
	}
	way, leaf, err := t.descend(name)
	if err != nil {
		return false, err
	}
	i, found := slices.BinarySearch(leaf.names, name)
	if found {
		return false, nil
	}
	leaf.names = slices.Insert(leaf.names, i, name)
	t.root.names++
	return true, t.balance(way)
}

func (t *tree) remove(name string) (removed bool, err error) {
	if t.root.names == 0 {
		return false, nil
	}
	way, leaf, err := t.descend(name)
	if err != nil {
		return false, err
	}
	i, found := slices.BinarySearch(leaf.names, name)
	if !found {
		return false, nil
	}
	leaf.names = slices.Delete(leaf.names, i, i+1)
	t.root.names--
	if t.root.names == 0 && len(way) == 1 {
		t.drop(way[0].id)
		t.root = root{}
		return true, nil
	}
	return true, t.balance(way)
}

// balance keeps the last page of way, which has been changed, and brings it
// and those above back into their bounds.
func (t *tree) balance(way []step) error {
	for {
		last := len(way) - 1
		id, p := way[last].id, way[last].p
		t.put(id, p)
		w := p.weight()
		if last == 0 {
			switch {
			case w > maxWeight:
				right := t.fresh()
				sep, rightPage := p.split(right)
				t.put(right, rightPage)
				t.root.page = t.fresh()
				t.root.depth++
				t.put(t.root.page, &page{names: []string{sep}, kids: []uint32{id, right}})
			case !p.leaf() && len(p.kids) == 1:
				t.root.page = p.kids[0]
				t.root.depth--
				t.drop(id)
			}
			return nil
		}
		way = way[:last]
		up := &way[last-1]
		switch {
		case w > maxWeight:
			right := t.fresh()
			sep, rightPage := p.split(right)
			t.put(right, rightPage)
			up.p.names = slices.Insert(up.p.names, up.at, sep)
			up.p.kids = slices.Insert(up.p.kids, up.at+1, right)
		case w < minWeight:
			// With the page on the left, or, for the first, on the right.
			l := max(up.at-1, 0)
			if l+1 >= len(up.p.kids) {
				return fmt.Errorf("%w: page of a directory with one child", storage.ErrCorrupt)
			}
			leftID, rightID, sep := up.p.kids[l], up.p.kids[l+1], up.p.names[l]
			left, err := t.load(leftID, p.leaf())
			if err != nil {
				return err
			}
			right, err := t.load(rightID, p.leaf())
			if err != nil {
				return err
			}
			left.join(sep, right)
			t.put(leftID, left)
			if left.weight() <= merged {
				t.drop(rightID)
				up.p.names = slices.Delete(up.p.names, l, l+1)
				up.p.kids = slices.Delete(up.p.kids, l+1, l+2)
				break
			}
			sep, right = left.split(rightID)
			t.put(rightID, right)
			up.p.names[l] = sep
		default:
			return nil
		}
	}
}
