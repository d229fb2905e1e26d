//go:build linux

package disk

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Faults is what a Disk does wrong. The zero value is nothing.
type Faults struct {
	// At is the operation that fails, counted from when the faults were set; 0 for none.
	At int
	// Kind is how it fails.
	Kind Kind
	// On makes every operation from At on fail, of those that can fail so.
	On bool

	// Lies makes what fails by At succeed in what is said, and not be done.
	Lies bool
	// NoSync, NoSyncDir make syncs of files, of directories, say that they are done
	// and do nothing, where the path's last part contains the text.
	NoSync    string
	NoSyncDir bool
}

// Kind is how an operation fails.
type Kind int

// The ways to fail. Operations that cannot fail in a way are not counted for it.
const (
	EIO    Kind = iota // any operation: input/output error
	ENOSPC             // what takes room: no space left
	Short              // a write of several bytes: half of them are written
	Sync               // fsync and fdatasync: input/output error, and what was to be synced stays lost
	Kinds              // how many there are
)

// String returns the name of k.
func (k Kind) String() string { return [...]string{"EIO", "ENOSPC", "short write", "failing fsync"}[k] }

// class is what an operation does.
type class int

const (
	looks class = iota
	reads
	takesRoom // of names and sizes
	writes
	syncs
	changes // that take no room
)

func (k Kind) concerns(c class) bool {
	switch k {
	case EIO:
		return true
	case ENOSPC:
		return c == takesRoom || c == writes
	case Short:
		return c == writes
	case Sync:
		return c == syncs
	case Kinds:
	}
	return false
}

// verdict is what becomes of an operation.
type verdict struct {
	errno fuse.Status // that it returns
	skip  bool        // it is not done, for all that is said
	half  bool        // of it is
}

// judge counts an operation and says what becomes of it.
func (d *Disk) judge(c class, name, on string, detail ...any) verdict {
	if !d.faults.Kind.concerns(c) {
		return verdict{}
	}
	d.stats.Ops++
	if d.tracks {
		d.trace = append(d.trace, strings.TrimSpace(fmt.Sprintln(append([]any{name, on}, detail...)...)))
	}
	f := d.faults
	if f.At == 0 || d.stats.Ops < f.At || d.stats.Ops > f.At && !f.On {
		return verdict{}
	}
	d.stats.Failed++
	if f.Lies {
		return verdict{skip: true}
	}
	switch f.Kind {
	case ENOSPC:
		return verdict{errno: fuse.Status(syscall.ENOSPC)}
	case Short:
		return verdict{half: true}
	case EIO, Sync, Kinds:
	}
	return verdict{errno: fuse.EIO}
}

// SetFaults makes the Disk do f wrong from now on, and begins to count its
// operations anew.
func (d *Disk) SetFaults(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.stats.Ops, d.stats.Failed = f, 0, 0
}

// nameOf returns a name that leads to n, for traces and faults.
func (d *Disk) nameOf(id uint64) string {
	for _, n := range d.nodes {
		for name, to := range n.entries {
			if to == id {
				return name
			}
		}
	}
	return ""
}

// unsynced reports whether a sync of a file called name is only said to be done.
func (d *Disk) unsynced(name string) bool {
	return d.faults.NoSync != "" && strings.Contains(name, d.faults.NoSync)
}
