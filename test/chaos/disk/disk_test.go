//go:build linux

package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mounted is a Disk at a directory. Where it cannot be mounted the test fails:
// nothing that stands on it would be proved.
type mounted struct {
	t   *testing.T
	d   *Disk
	m   *Mount
	dir string
}

func mount(t *testing.T) *mounted {
	t.Helper()
	x := &mounted{t: t, d: New(), dir: t.TempDir()}
	x.mount()
	t.Cleanup(func() {
		if err := x.m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *mounted) mount() {
	x.t.Helper()
	m, err := x.d.Mount(x.dir)
	if err != nil {
		x.t.Fatal(err)
	}
	x.m = m
}

// cut lets the power fail and come back.
func (x *mounted) cut(r *rand.Rand) {
	x.t.Helper()
	if err := x.m.Unmount(); err != nil {
		x.t.Fatal(err)
	}
	x.d.PowerCut(r)
	x.mount()
}

func (x *mounted) path(name string) string { return filepath.Join(x.dir, name) }

func (x *mounted) open(name string, flag int) *os.File {
	x.t.Helper()
	f, err := os.OpenFile(x.path(name), flag, 0o600)
	if err != nil {
		x.t.Fatal(err)
	}
	return f
}

func (x *mounted) write(name, content string, sync bool) {
	x.t.Helper()
	f := x.open(name, os.O_CREATE|os.O_RDWR)
	_, err := f.WriteAt([]byte(content), 0)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		x.t.Fatal(err)
	}
}

func (x *mounted) syncDir(name string) {
	x.t.Helper()
	f := x.open(name, os.O_RDONLY)
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		x.t.Fatal(err)
	}
}

// has checks what a file holds; nothing of it is there where want is "-".
func (x *mounted) has(name, want string) {
	x.t.Helper()
	b, err := os.ReadFile(x.path(name))
	got := string(b)
	if errors.Is(err, os.ErrNotExist) {
		got = "-"
	} else if err != nil {
		x.t.Errorf("reading %s: %v", name, err)
	}
	if got != want {
		x.t.Errorf("%s holds %.60q; want %.60q", name, got, want)
	}
}

func TestWhatIsSyncedIsKept(t *testing.T) {
	t.Parallel()
	x := mount(t)
	x.write("a", "synced", true)
	x.write("b", "not synced", false)
	x.syncDir(".")
	x.write("nameless", "synced", true)
	x.write("a", "SYNCED", false)
	if err := os.Rename(x.path("b"), x.path("c")); err != nil {
		t.Fatal(err)
	}
	x.has("a", "SYNCED")
	x.has("c", "not synced")
	x.cut(nil)
	x.has("a", "synced")
	x.has("b", "")
	x.has("c", "-")
	x.has("nameless", "-")
	if s := x.d.Stats(); s.Lost != 2 || s.Names != 2 || s.Kept != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	x := mount(t)
	if err := os.MkdirAll(x.path("d/e"), 0o700); err != nil {
		t.Fatal(err)
	}
	x.write("d/e/f", "1", true)
	x.syncDir("d/e")
	x.syncDir("d")
	x.syncDir(".")
	if err := os.MkdirAll(x.path("g/h"), 0o700); err != nil {
		t.Fatal(err)
	}
	x.write("g/h/f", "2", true)
	x.syncDir("g/h")
	x.syncDir("g")
	if err := os.Link(x.path("d/e/f"), x.path("d/e/l")); err != nil {
		t.Fatal(err)
	}
	x.has("d/e/l", "1")
	if err := os.Remove(x.path("d/e/f")); err != nil {
		t.Fatal(err)
	}
	x.has("d/e/f", "-")
	x.cut(nil)
	x.has("d/e/f", "1")
	x.has("d/e/l", "-")
	x.has("g/h/f", "-")
	if entries, err := os.ReadDir(x.dir); err != nil || len(entries) != 1 {
		t.Errorf("there are %v, %v", entries, err)
	}
}

// A random cut keeps sectors whole, tears writes, and keeps later ones without earlier ones.
func TestCutsTear(t *testing.T) {
	t.Parallel()
	x := mount(t)
	r := rand.New(rand.NewPCG(1, 2))
	torn, reordered, short, kept, lost := 0, 0, 0, 0, 0
	for range 60 {
		old := bytes.Repeat([]byte("o"), 4*pageSize)
		x.write("f", string(old), true)
		x.syncDir(".")
		f := x.open("f", os.O_RDWR)
		for i, c := range []byte("123") {
			if _, err := f.WriteAt(bytes.Repeat([]byte{c}, pageSize+512), int64(i)*pageSize); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.WriteAt([]byte("end"), 6*pageSize); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		x.cut(r)
		got, err := os.ReadFile(x.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < 4*pageSize {
			t.Fatalf("the file was cut off at %d", len(got))
		}
		seen := map[byte]bool{}
		for at := 0; at < 4*pageSize; at += 512 {
			c := got[at]
			if !bytes.Equal(got[at:at+512], bytes.Repeat([]byte{c}, 512)) {
				t.Fatalf("sector %d is not whole", at/512)
			}
			seen[c] = true
			if at < pageSize && seen['1'] && seen['o'] {
				torn++
			}
		}
		if !seen['1'] && (seen['2'] || seen['3']) {
			reordered++
		}
		if len(got) == 4*pageSize {
			short++
		}
		if seen['1'] && seen['2'] && seen['3'] {
			kept++
		}
		if len(seen) == 1 {
			lost++
		}
		if err := os.Remove(x.path("f")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("torn %d, reordered %d, short %d, kept %d, lost %d: %+v", torn, reordered, short, kept, lost, x.d.Stats())
	for name, n := range map[string]int{"torn": torn, "reordered": reordered, "short": short, "kept": kept, "lost": lost} {
		if n == 0 {
			t.Errorf("no write was %s in 60 cuts", name)
		}
	}
}

// What is written is seen by who has mapped the file, as bbolt does. Who maps
// is another process: while a page is waited for, a process that serves it
// itself may stand still.
func TestMapped(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("CHAOS_MAPPED"); path != "" {
		mapped(t, path)
		return
	}
	x := mount(t)
	x.write("f", string(make([]byte, 2*pageSize)), true)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMapped$")
	child.Env = append(os.Environ(), "CHAOS_MAPPED="+x.path("f"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func mapped(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b) //nolint:errcheck // the process ends
	if b[5000] != 0 {
		t.Errorf("byte 5000 is %d", b[5000])
	}
	if _, err := f.WriteAt([]byte("x"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(4 * pageSize); err != nil {
		t.Fatal(err)
	}
	if b[5000] != 'x' || b[3*pageSize] != 0 {
		t.Errorf("the map does not show what was written: %q", b[5000])
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	x := mount(t)
	x.write("f", "1", true)
	x.syncDir(".")
	f := x.open("f", os.O_RDWR)
	defer func() { _ = f.Close() }()

	x.d.SetFaults(Faults{At: 2, Kind: Sync})
	for i, want := range []error{nil, syscall.EIO, nil} {
		if _, err := f.WriteAt([]byte{'a' + byte(i)}, int64(i)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); !errors.Is(err, want) {
			t.Errorf("sync %d: %v; want %v", i, err, want)
		}
	}
	x.has("f", "abc")

	x.d.SetFaults(Faults{At: 1, Kind: ENOSPC, On: true})
	for range 2 {
		if _, err := f.WriteAt([]byte("full"), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write to a full disk: %v", err)
		}
	}
	x.d.SetFaults(Faults{At: 1, Kind: Short})
	if n, err := syscall.Pwrite(int(f.Fd()), []byte("zzzz"), 10); n != 2 || err != nil {
		t.Errorf("a short write: %d, %v", n, err)
	}
	x.d.SetFaults(Faults{At: 1, Kind: EIO})
	if _, err := os.Stat(x.path("nowhere")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a look at a disk that fails: %v", err)
	}
	x.d.SetFaults(Faults{})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	x.cut(nil)
	x.has("f", "a\x00c") // what the sync that failed should have kept is lost
}

// Planted: a disk that says that it has synced.
func TestLies(t *testing.T) {
	t.Parallel()
	x := mount(t)
	x.d.SetFaults(Faults{NoSync: "lazy"})
	x.write("lazy", "synced", true)
	x.write("f", "synced", true)
	x.syncDir(".")
	x.d.SetFaults(Faults{NoSyncDir: true})
	x.write("g", "synced", true)
	x.syncDir(".")
	x.cut(nil)
	x.has("lazy", "")
	x.has("f", "synced")
	x.has("g", "-")
	c := x.d.Clone()
	x.write("f", "SYNCED", true)
	if b, err := c.Bytes("f"); string(b) != "synced" || err != nil {
		t.Errorf("a clone has %q, %v", b, err)
	}
	if err := c.Flip("f", 1, 0x20); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Bytes("f"); string(b) != "sYnced" || err != nil {
		t.Errorf("a file with a changed byte has %q, %v", b, err)
	}
}
