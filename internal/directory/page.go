package directory

import (
	"encoding/binary"
	"fmt"
	"slices"

	"rotunda.dev/rotunda/internal/storage"
)

// A directory's rows, in its scope:
//
//	"r"             root: version 1 | depth u8 | be32 root page | be32 last page id | be64 names
//	"p" | be32(id)  page: version 1 | 0 leaf  | be32 next leaf   | be16 n | n * (be16 len | name)
//	                      version 1 | 1 inner | be32 first child | be16 n | n * (be16 len | name | be32 child)
//
// Depth 1 is a root that is a leaf. Page ids begin at 1; next leaf 0 is none.
// Names ascend. The child after a name of an inner page has the names from
// that one on; the first child those before the first name.

const version = 1

// MaxName is the length of the longest name: one segment of a path and a slash.
const MaxName = 256

// What fills a page: each name counts its bytes and an overhead, so that both
// many and long names do.
const (
	overhead  = 64
	maxWeight = 9216 // 128 names of 8 bytes
	minWeight = maxWeight / 4
	merged    = maxWeight * 3 / 4 // what two pages may make together
)

const (
	rootRow  = "r"
	rootSize = 1 + 1 + 4 + 4 + 8
	maxDepth = 16
)

type root struct {
	depth uint8
	page  uint32
	last  uint32 // page id given out last
	names uint64
}

func (r root) encode() []byte {
	b := make([]byte, 0, rootSize)
	b = append(b, version, r.depth)
	b = binary.BigEndian.AppendUint32(b, r.page)
	b = binary.BigEndian.AppendUint32(b, r.last)
	return binary.BigEndian.AppendUint64(b, r.names)
}

func decodeRoot(b []byte) (root, error) {
	if len(b) == 0 || b[0] != version {
		return root{}, badVersion("root", b)
	}
	if len(b) != rootSize {
		return root{}, fmt.Errorf("%w: directory root of %d bytes", storage.ErrCorrupt, len(b))
	}
	r := root{
		depth: b[1],
		page:  binary.BigEndian.Uint32(b[2:]),
		last:  binary.BigEndian.Uint32(b[6:]),
		names: binary.BigEndian.Uint64(b[10:]),
	}
	if r.depth < 1 || r.depth > maxDepth || r.page < 1 || r.page > r.last || r.names < 1 {
		return root{}, fmt.Errorf("%w: directory root %+v", storage.ErrCorrupt, r)
	}
	return r, nil
}

func badVersion(what string, b []byte) error {
	if len(b) > 0 && b[0] > version {
		return fmt.Errorf("%w: directory %s of version %d", storage.ErrNewer, what, b[0])
	}
	return fmt.Errorf("%w: directory %s without a version", storage.ErrCorrupt, what)
}

// page is one page; a leaf where it has no children.
type page struct {
	names []string
	kids  []uint32 // of an inner page: one more than names
	next  uint32   // of a leaf
}

func (p *page) leaf() bool { return p.kids == nil }

func (p *page) weight() int {
	w := 0
	for _, n := range p.names {
		w += overhead + len(n)
	}
	return w
}

func pageRow(id uint32) string { return string(binary.BigEndian.AppendUint32([]byte{'p'}, id)) }

func (p *page) encode() []byte {
	b := make([]byte, 0, 8+p.weight())
	if p.leaf() {
		b = append(b, version, 0)
		b = binary.BigEndian.AppendUint32(b, p.next)
	} else {
		b = append(b, version, 1)
		b = binary.BigEndian.AppendUint32(b, p.kids[0])
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.names))) //nolint:gosec // maxWeight bounds it
	for i, n := range p.names {
		b = binary.BigEndian.AppendUint16(b, uint16(len(n))) //nolint:gosec // at most MaxName
		b = append(b, n...)
		if !p.leaf() {
			b = binary.BigEndian.AppendUint32(b, p.kids[i+1])
		}
	}
	return b
}

// decodePage is the inverse of encode, and takes nothing else.
func decodePage(b []byte) (*page, error) {
	if len(b) == 0 || b[0] != version {
		return nil, badVersion("page", b)
	}
	bad := fmt.Errorf("%w: malformed directory page", storage.ErrCorrupt)
	if len(b) < 8 || b[1] > 1 {
		return nil, bad
	}
	p := &page{}
	leaf, first, n := b[1] == 0, binary.BigEndian.Uint32(b[2:]), int(binary.BigEndian.Uint16(b[6:]))
	if leaf {
		p.next = first
	} else {
		p.kids = append(make([]uint32, 0, min(n, 256)+1), first)
	}
	// One string that the names are cut from: one allocation for a page.
	rest := string(b[8:])
	p.names = make([]string, 0, min(n, 256))
	for range n {
		if len(rest) < 2 {
			return nil, bad
		}
		size := int(rest[0])<<8 | int(rest[1])
		if size < 1 || size > MaxName || len(rest) < 2+size {
			return nil, bad
		}
		name := rest[2 : 2+size]
		rest = rest[2+size:]
		if len(p.names) > 0 && p.names[len(p.names)-1] >= name {
			return nil, bad
		}
		p.names = append(p.names, name)
		if !leaf {
			if len(rest) < 4 {
				return nil, bad
			}
			p.kids = append(p.kids, binary.BigEndian.Uint32([]byte(rest[:4])))
			rest = rest[4:]
		}
	}
	if rest != "" || p.weight() > maxWeight || !leaf && slices.Contains(p.kids, 0) {
		return nil, bad
	}
	return p, nil
}

// child returns which child has name.
func (p *page) child(name string) int {
	i, found := slices.BinarySearch(p.names, name)
	if found {
		i++
	}
	return i
}

// split moves the heavier half's excess of p to the page that it returns,
// which has the names from sep on; p's id stays, right's is for the caller to give.
func (p *page) split(rightID uint32) (sep string, right *page) {
	half, at, w := p.weight()/2, 0, 0
	for at < len(p.names)-1 && w < half {
		w += overhead + len(p.names[at])
		at++
	}
	right = &page{}
	if p.leaf() {
		sep = between(p.names[at-1], p.names[at])
		right.names = slices.Clone(p.names[at:])
		right.next, p.next = p.next, rightID
		p.names = slices.Clip(p.names[:at])
		return sep, right
	}
	// The name in the middle goes up.
	at = min(at, len(p.names)-2)
	sep = p.names[at]
	right.names, right.kids = slices.Clone(p.names[at+1:]), slices.Clone(p.kids[at+1:])
	p.names, p.kids = slices.Clip(p.names[:at]), slices.Clip(p.kids[:at+1])
	return sep, right
}

// join appends right, which follows p and has the names from sep on.
func (p *page) join(sep string, right *page) {
	if p.leaf() {
		p.names = append(p.names, right.names...)
		p.next = right.next
		return
	}
	p.names = append(append(p.names, sep), right.names...)
	p.kids = append(p.kids, right.kids...)
}

// between returns the shortest name that is larger than a and not than b.
func between(a, b string) string {
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	return b[:i+1]
}
