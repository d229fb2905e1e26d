package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// # Tree
//
// The records of a journal are the leaves of a Merkle tree as RFC 6962 defines
// it: leaf i is that of the record with sequence i+1. What is kept of the tree
// lies beside the segments in bundles of 65,536 leaves, a file each that is
// named by its first leaf, and in one file of the roots of complete bundles:
//
//	tree-00000000000000000000.tiles, tree-roots
//	   0   8  "RTNDTRE" and the format, 1
//	   8   1  height of a bundle: 16
//	   9   7  zero
//	  16  16  journal id
//	  32   8  first leaf; 0 in tree-roots
//	  40   4  CRC-32C of the 40 bytes before
//	  44  20  zero
//	  64      hashes of 32 bytes; 8 KiB of leaves are one tile of height 8
//
// Nothing is believed because it stands in these files: whatever is computed
// from them is held against a signed checkpoint, and what is missing or does
// not agree is computed anew from the segments. Only of records that retention
// has removed there is nothing else; what is kept of those, the checkpoints
// after them vouch for.
const (
	treeMagic    = "RTNDTRE"
	treeFormat   = 1
	treeHead     = 64
	bundleHeight = 16 // of new trees
	rootsName    = "tree-roots"
	treePrefix   = "tree-"
	treeSuffix   = ".tiles"
)

const hashLen = tlog.HashSize

// errNoTree says that something of the tree is not kept, or damaged.
var errNoTree = errors.New("audit: the tree is not kept that far")

// compact is a tree by the roots of the complete subtrees it consists of, the
// largest first.
type compact struct {
	n     uint64
	nodes []tlog.Hash
}

// add makes h the next leaf.
func (c *compact) add(h tlog.Hash) { c.addTree(h, 0) }

// addTree adds 1<<level leaves, whose root is h. There must be a multiple of
// that many already.
func (c *compact) addTree(h tlog.Hash, level int) {
	for n := c.n >> level; n&1 == 1; n >>= 1 {
		last := len(c.nodes) - 1
		h = tlog.NodeHash(c.nodes[last], h)
		c.nodes = c.nodes[:last]
	}
	c.nodes = append(c.nodes, h)
	c.n += 1 << level
}

// root returns the root of the tree.
func (c *compact) root() tlog.Hash {
	if c.n == 0 {
		empty, _ := tlog.TreeHash(0, nil)
		return empty
	}
	h := c.nodes[len(c.nodes)-1]
	for i := len(c.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(c.nodes[i], h)
	}
	return h
}

// fold returns the root of a complete tree.
func fold(hashes []tlog.Hash) tlog.Hash {
	var c compact
	for _, h := range hashes {
		c.add(h)
	}
	return c.root()
}

// forest is the files of a tree.
type forest struct {
	disk    Disk
	journal [16]byte
	height  int
}

// openForest returns the tree of a journal, of the height that it was begun with.
func openForest(d Disk, journal [16]byte, height int) (*forest, error) {
	f := &forest{d, journal, height}
	b, err := f.load(rootsName, 0, 0)
	switch {
	case errors.Is(err, errNoTree):
		return f, nil
	case err != nil:
		return nil, err
	}
	if h := int(b[8]); h >= 4 && h <= 20 {
		f.height = h
	}
	return f, nil
}

// bundle returns the number of the bundle that has a leaf.
func (f *forest) bundle(leaf uint64) uint64 { return leaf >> f.height }

func (f *forest) name(bundle uint64) string {
	return fmt.Sprintf("%s%020d%s", treePrefix, bundle<<f.height, treeSuffix)
}

// parseTiles returns the first leaf of the bundle whose tiles are called name.
func parseTiles(name string) (uint64, bool) { return parseNumbered(name, treePrefix, treeSuffix) }

func parseNumbered(name, prefix, suffix string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

func (f *forest) head(first uint64) []byte {
	b := append(make([]byte, 0, treeHead), treeMagic...)
	b = append(b, treeFormat, byte(f.height), 0, 0, 0, 0, 0, 0, 0) //nolint:gosec // at most 20
	b = append(b, f.journal[:]...)
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	return append(b, make([]byte, treeHead-len(b))...)
}

// load returns the head of a file of the tree, which is right but for its
// height, and n hashes; errNoTree where there is none, or it is damaged or
// shorter.
func (f *forest) load(name string, first, n uint64) (_ []byte, err error) {
	v, err := f.disk.View(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoTree
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	size, err := v.Size()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if size < treeHead || n > uint64(size-treeHead)/hashLen {
		return nil, errNoTree
	}
	b := make([]byte, treeHead+n*hashLen)
	if got, err := v.ReadAt(b, 0); got < len(b) {
		if err == nil || isEOF(err) {
			return nil, errNoTree
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if string(b[:7]) == treeMagic && b[7] > treeFormat {
		return nil, ErrNewer
	}
	as := forest{journal: f.journal, height: int(b[8])}
	if string(b[:treeHead]) != string(as.head(first)) {
		return nil, errNoTree
	}
	return b, nil
}

// hashes returns the first n hashes of a file of the tree.
func (f *forest) hashes(name string, first, n uint64) ([]tlog.Hash, error) {
	if n == 0 {
		return nil, nil
	}
	b, err := f.load(name, first, n)
	if err != nil {
		return nil, err
	}
	b = b[treeHead:]
	out := make([]tlog.Hash, n)
	for i := range out {
		copy(out[i][:], b[i*hashLen:])
	}
	return out, nil
}

// roots returns the roots of the first n bundles.
func (f *forest) roots(n uint64) ([]tlog.Hash, error) { return f.hashes(rootsName, 0, n) }

// leaves returns the first n leaves of a bundle.
func (f *forest) leaves(bundle, n uint64) ([]tlog.Hash, error) {
	return f.hashes(f.name(bundle), bundle<<f.height, n)
}

// base returns the tree of the first n leaves. Each is called with the tree at
// every number of leaves of the last bundle, n included.
func (f *forest) base(n uint64, each func(*compact) error) (compact, error) {
	var c compact
	roots, err := f.roots(f.bundle(n))
	if err != nil {
		return c, err
	}
	leaves, err := f.leaves(f.bundle(n), n&(1<<f.height-1))
	if err != nil {
		return c, err
	}
	for _, h := range roots {
		c.addTree(h, f.height)
	}
	for _, h := range leaves {
		if each != nil {
			if err := each(&c); err != nil {
				return c, err
			}
		}
		c.add(h)
	}
	if each != nil {
		err = each(&c)
	}
	return c, err
}

// grower writes the leaves of a tree, in order.
type grower struct {
	f      *forest
	next   uint64  // leaf
	file   File    // of the bundle of the next leaf; nil until something is written
	buf    []byte  // leaves that are not written, the last of which is next-1
	bundle compact // of the leaves before the next in its bundle
}

// growFrom returns a grower whose next leaf is that with index n. The leaves of
// its bundle before must be there.
func growFrom(f *forest, n uint64) (*grower, error) {
	g := &grower{f: f, next: n}
	leaves, err := f.leaves(f.bundle(n), n&(1<<f.height-1))
	if err != nil {
		return nil, err
	}
	for _, h := range leaves {
		g.bundle.add(h)
	}
	return g, nil
}

// add appends a leaf.
func (g *grower) add(h tlog.Hash) error {
	g.buf = append(g.buf, h[:]...)
	g.bundle.add(h)
	g.next++
	if g.bundle.n < 1<<g.f.height {
		return nil
	}
	root := g.bundle.root()
	g.bundle = compact{nodes: g.bundle.nodes[:0]}
	if err := g.sync(); err != nil {
		return err
	}
	if err := g.close(); err != nil {
		return err
	}
	return g.addRoot(g.f.bundle(g.next)-1, root)
}

// addRoot writes the root of a bundle whose leaves are durable.
func (g *grower) addRoot(bundle uint64, root tlog.Hash) error {
	file, err := g.f.open(rootsName, 0, 4<<10)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(root[:], treeHead+int64(bundle)*hashLen) //nolint:gosec // far below
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", rootsName, err)
	}
	return nil
}

// open opens a file of the tree to write, and makes it where there is none.
func (f *forest) open(name string, first uint64, size int64) (File, error) {
	file, err := f.disk.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = f.disk.Create(name, size); err == nil {
			err = f.disk.Sync()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	if _, err := f.load(name, first, 0); err != nil {
		if !errors.Is(err, errNoTree) {
			return nil, errors.Join(err, file.Close())
		}
		if _, err := file.WriteAt(f.head(first), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("writing %s: %w", name, err), file.Close())
		}
	}
	return file, nil
}

// flush writes what was added. It is durable after sync.
func (g *grower) flush() error {
	if len(g.buf) == 0 {
		return nil
	}
	at := g.next - uint64(len(g.buf)/hashLen)
	bundle := g.f.bundle(at)
	name := g.f.name(bundle)
	if g.file == nil {
		file, err := g.f.open(name, bundle<<g.f.height, treeHead+hashLen<<g.f.height)
		if err != nil {
			return err
		}
		g.file = file
	}
	if _, err := g.file.WriteAt(g.buf, treeHead+int64(at-bundle<<g.f.height)*hashLen); err != nil { //nolint:gosec // within a bundle
		return fmt.Errorf("writing %s: %w", name, err)
	}
	g.buf = g.buf[:0]
	return nil
}

// sync makes every leaf that was added durable.
func (g *grower) sync() error {
	if err := g.flush(); err != nil {
		return err
	}
	if g.file == nil {
		return nil
	}
	if err := g.file.Sync(); err != nil {
		return fmt.Errorf("syncing the tree: %w", err)
	}
	return nil
}

func (g *grower) close() error {
	if g.file == nil {
		return nil
	}
	err := g.file.Close()
	g.file = nil
	return err
}

// nodes reads the hashes of a tree of n leaves, from its files or, where a
// bundle is in them, from what was computed anew.
type nodes struct {
	f      *forest
	n      uint64
	roots  []tlog.Hash
	leaves map[uint64][]tlog.Hash
	needed map[uint64]bool // bundles whose leaves were asked for
}

var _ tlog.HashReader = (*nodes)(nil)

func newNodes(f *forest, n uint64) *nodes {
	return &nodes{f: f, n: n, leaves: map[uint64][]tlog.Hash{}, needed: map[uint64]bool{}}
}

// ReadHashes implements [tlog.HashReader].
func (t *nodes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		var err error
		if out[i], err = t.node(level, uint64(n)); err != nil { //nolint:gosec // not negative
			return nil, err
		}
	}
	return out, nil
}

func (t *nodes) node(level int, n uint64) (tlog.Hash, error) {
	h := t.f.height
	if level >= h {
		if t.roots == nil {
			roots, err := t.f.roots(t.n >> h)
			if err != nil {
				return tlog.Hash{}, err
			}
			t.roots = roots
		}
		from := n << (level - h)
		return fold(t.roots[from : from+1<<(level-h)]), nil
	}
	bundle := n >> (h - level)
	t.needed[bundle] = true
	leaves, ok := t.leaves[bundle]
	if !ok {
		var err error
		if leaves, err = t.f.leaves(bundle, min(t.n-bundle<<h, 1<<h)); err != nil {
			return tlog.Hash{}, err
		}
		t.leaves[bundle] = leaves
	}
	from := n<<level - bundle<<h
	if from+1<<level > uint64(len(leaves)) {
		return tlog.Hash{}, errNoTree
	}
	return fold(leaves[from : from+1<<level]), nil
}
