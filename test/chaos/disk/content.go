//go:build linux

package disk

import "maps"

// content is the bytes of a file: pages that never change, so that they are shared.
type content struct {
	size  int64
	pages map[int64]*[pageSize]byte
}

// write is a change of a file that is not durable: bytes at an offset, or where
// there are none, a size. For bytes the size is what the file grew to by them.
type write struct {
	off  int64
	b    []byte
	size int64
}

func (c *content) clone() content { return content{c.size, maps.Clone(c.pages)} }

func (c *content) read(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for done := 0; done < len(b); {
		at := off + int64(done)
		in := int(at % pageSize)
		n := min(len(b)-done, pageSize-in)
		if p := c.pages[at/pageSize]; p != nil {
			copy(b[done:done+n], p[in:])
		} else {
			clear(b[done : done+n])
		}
		done += n
	}
	return len(b)
}

// write writes b and leaves the size alone.
func (c *content) write(b []byte, off int64) {
	if c.pages == nil {
		c.pages = map[int64]*[pageSize]byte{}
	}
	for done := 0; done < len(b); {
		at := off + int64(done)
		in := int(at % pageSize)
		var p [pageSize]byte
		if old := c.pages[at/pageSize]; old != nil {
			p = *old
		}
		n := copy(p[in:], b[done:])
		c.pages[at/pageSize] = &p
		done += n
	}
}

// resize sets the size. What was behind a smaller one is zero from then on.
func (c *content) resize(size int64) {
	if size < c.size {
		for i := range c.pages {
			if i*pageSize >= size {
				delete(c.pages, i)
			}
		}
		if in := size % pageSize; in != 0 && c.pages[size/pageSize] != nil {
			c.write(make([]byte, pageSize-in), size)
		}
	}
	c.size = size
}

// do makes w so.
func (c *content) do(w write) {
	if w.b == nil {
		c.resize(w.size)
		return
	}
	c.write(w.b, w.off)
	c.size = max(c.size, w.off+int64(len(w.b)))
}
