//go:build linux

package disk

import (
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// remembered is how long the kernel may believe what it was told: nothing
// changes but through it.
const remembered = time.Hour

// files answers the kernel. It takes no names of files that were removed: they
// go with the next power cut.
type files struct {
	fuse.RawFileSystem
	d *Disk
}

func (f *files) String() string { return "disk" }

func (d *Disk) attr(n *node, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: n.id, Mode: n.mode, Nlink: 1, Blksize: pageSize, Size: uint64(n.now.size), Blocks: uint64(len(n.now.pages)) * pageSize / 512,
		Mtime: uint64(n.modified / 1e9), Mtimensec: uint32(n.modified % 1e9),
	}
	out.Ctime, out.Ctimensec, out.Atime, out.Atimensec = out.Mtime, out.Mtimensec, out.Mtime, out.Mtimensec
}

func (d *Disk) entry(n *node, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(remembered)
	out.SetAttrTimeout(remembered)
	d.attr(n, &out.Attr)
}

// in returns the node of id, and locks d until the function is called.
func (f *files) in(id uint64) (*Disk, *node, func()) {
	f.d.mu.Lock()
	return f.d, f.d.nodes[id], f.d.mu.Unlock
}

func (f *files) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	d, n, unlock := f.in(h.NodeId)
	defer unlock()
	if v := d.judge(looks, "lookup", name); v.errno != 0 {
		return v.errno
	}
	if n == nil || n.entries[name] == 0 {
		return fuse.ENOENT
	}
	d.entry(d.nodes[n.entries[name]], out)
	return fuse.OK
}

func (f *files) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if v := d.judge(looks, "getattr", d.nameOf(in.NodeId)); v.errno != 0 {
		return v.errno
	}
	if n == nil {
		return fuse.ENOENT
	}
	out.SetTimeout(remembered)
	d.attr(n, &out.Attr)
	return fuse.OK
}

func (f *files) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if n == nil {
		return fuse.ENOENT
	}
	kind := changes
	size, sized := in.GetSize()
	if sized && int64(size) > n.now.size {
		kind = takesRoom
	}
	v := d.judge(kind, "setattr", d.nameOf(in.NodeId), sized, size)
	if v.errno != 0 {
		return v.errno
	}
	if mode, ok := in.GetMode(); ok && !v.skip {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	if sized {
		d.change(n, write{size: int64(size)}, v.skip)
	}
	out.SetTimeout(remembered)
	d.attr(n, &out.Attr)
	return fuse.OK
}

// change makes w so in what is shown, and on its way to the disk unless it is lost.
func (d *Disk) change(n *node, w write, lost bool) {
	n.now.do(w)
	n.modified = time.Now().UnixNano()
	if !lost {
		n.written = append(n.written, w)
	}
}

func (f *files) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(in.NodeId, syscall.S_IFDIR|in.Mode&0o7777, name, out)
}

func (f *files) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return f.make(in.NodeId, syscall.S_IFREG|in.Mode&0o7777, name, &out.EntryOut)
}

func (f *files) make(dir uint64, mode uint32, name string, out *fuse.EntryOut) fuse.Status {
	d, n, unlock := f.in(dir)
	defer unlock()
	if n == nil {
		return fuse.ENOENT
	}
	if n.entries[name] != 0 {
		return fuse.Status(syscall.EEXIST)
	}
	if v := d.judge(takesRoom, "create", name); v.errno != 0 {
		return v.errno
	}
	fresh := d.add(mode)
	fresh.modified = time.Now().UnixNano()
	d.apply(change{set: []entry{{dir, name, fresh.id}}})
	d.entry(fresh, out)
	return fuse.OK
}

func (f *files) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	old := d.nodes[in.Oldnodeid]
	if n == nil || old == nil {
		return fuse.ENOENT
	}
	if n.entries[name] != 0 {
		return fuse.Status(syscall.EEXIST)
	}
	if v := d.judge(takesRoom, "link", name); v.errno != 0 {
		return v.errno
	}
	d.apply(change{set: []entry{{in.NodeId, name, old.id}}})
	d.entry(old, out)
	return fuse.OK
}

func (f *files) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h.NodeId, name)
}

func (f *files) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h.NodeId, name)
}

func (f *files) remove(dir uint64, name string) fuse.Status {
	d, n, unlock := f.in(dir)
	defer unlock()
	if n == nil || n.entries[name] == 0 {
		return fuse.ENOENT
	}
	if v := d.judge(changes, "remove", name); v.errno != 0 {
		return v.errno
	}
	if len(d.nodes[n.entries[name]].entries) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	d.apply(change{set: []entry{{dir, name, 0}}})
	return fuse.OK
}

func (f *files) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	target := d.nodes[in.Newdir]
	if n == nil || target == nil || n.entries[from] == 0 {
		return fuse.ENOENT
	}
	const noReplace = 1
	switch {
	case in.Flags&^noReplace != 0:
		return fuse.EINVAL
	case in.Flags&noReplace != 0 && target.entries[to] != 0:
		return fuse.Status(syscall.EEXIST)
	}
	if v := d.judge(changes, "rename", from, to); v.errno != 0 {
		return v.errno
	}
	d.apply(change{set: []entry{{in.NodeId, from, 0}, {in.Newdir, to, n.entries[from]}}})
	return fuse.OK
}

func (f *files) Open(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if v := d.judge(looks, "open", d.nameOf(in.NodeId)); v.errno != 0 {
		return v.errno
	}
	if n == nil {
		return fuse.ENOENT
	}
	return fuse.OK
}

func (f *files) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if v := d.judge(reads, "read", d.nameOf(in.NodeId), in.Offset); v.errno != 0 {
		return nil, v.errno
	}
	if n == nil {
		return nil, fuse.ENOENT
	}
	return fuse.ReadResultData(buf[:n.now.read(buf, int64(in.Offset))]), fuse.OK
}

func (f *files) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if n == nil {
		return 0, fuse.ENOENT
	}
	v := d.judge(writes, "write", d.nameOf(in.NodeId), in.Offset, len(b))
	if v.errno != 0 {
		return 0, v.errno
	}
	if v.half && len(b) > 1 {
		b = b[:len(b)/2]
	}
	d.change(n, write{off: int64(in.Offset), b: slices.Clone(b)}, v.skip)
	return uint32(len(b)), fuse.OK
}

func (f *files) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if n == nil {
		return fuse.ENOENT
	}
	if in.Mode != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	v := d.judge(takesRoom, "fallocate", d.nameOf(in.NodeId), in.Offset, in.Length)
	if v.errno != 0 {
		return v.errno
	}
	if size := int64(in.Offset + in.Length); size > n.now.size {
		d.change(n, write{size: size}, v.skip)
	}
	return fuse.OK
}

func (f *files) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if n == nil {
		return fuse.ENOENT
	}
	name := d.nameOf(in.NodeId)
	v := d.judge(syncs, "fsync", name)
	if v.errno != 0 || v.skip {
		n.written = nil // it is shown, and on its way nowhere
		return v.errno
	}
	d.stats.Syncs++
	if d.unsynced(name) {
		return fuse.OK
	}
	for _, w := range n.written {
		n.kept.do(w)
	}
	n.written = nil
	return fuse.OK
}

func (f *files) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	d, _, unlock := f.in(in.NodeId)
	defer unlock()
	v := d.judge(syncs, "fsyncdir", d.nameOf(in.NodeId))
	if v.errno != 0 || v.skip {
		d.names = slices.DeleteFunc(d.names, func(c change) bool { return slices.Contains(c.dirs, in.NodeId) })
		return v.errno
	}
	d.stats.Syncs++
	if !d.faults.NoSyncDir {
		d.keepNames(in.NodeId)
	}
	return fuse.OK
}

func (f *files) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *files) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if v := d.judge(looks, "opendir", d.nameOf(in.NodeId)); v.errno != 0 {
		return v.errno
	}
	if n == nil {
		return fuse.ENOENT
	}
	return fuse.OK
}

func (f *files) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d, n, unlock := f.in(in.NodeId)
	defer unlock()
	if v := d.judge(reads, "readdir", d.nameOf(in.NodeId)); v.errno != 0 {
		return v.errno
	}
	if n == nil {
		return fuse.ENOENT
	}
	names := make([]string, 0, len(n.entries))
	for name := range n.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := int(in.Offset); i < len(names); i++ {
		id := n.entries[names[i]]
		if !out.AddDirEntry(fuse.DirEntry{Name: names[i], Ino: id, Mode: d.nodes[id].mode, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}

func (f *files) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: pageSize, Frsize: pageSize, Blocks: 1 << 24, Bfree: 1 << 23, Bavail: 1 << 23, Files: 1 << 20, Ffree: 1 << 20, NameLen: 255}
	return fuse.OK
}
