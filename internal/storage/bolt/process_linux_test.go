package bolt_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// A child is this test run again, as another process: by what the variable
// names, in the directory that the other one names.
const (
	childRole = "ROTUNDA_BOLT_TEST_ROLE"
	childDir  = "ROTUNDA_BOLT_TEST_DIR"
)

func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir)
	return cmd
}

// TestChild is what a child does; in the parent, nothing.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	switch os.Getenv(childRole) {
	case "write":
		s := open(t, dir, bolt.Config{})
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					// Two scopes, so that half a transaction would show.
					if err := s.Update(t.Context(), storage.Locks{Own: []string{"a", "b"}}, func(tx storage.Tx) error {
						for _, scope := range []string{"a", "b"} {
							tx.Put(storage.Key{Scope: scope, Row: fmt.Sprintf("%d-%s-%06d", w, os.Getenv("ROUND"), i)}, []byte(strings.Repeat("v", 100)))
						}
						return nil
					}); err != nil {
						t.Errorf("Update = %v", err)
						return
					}
					mu.Lock()
					fmt.Printf("kept %d-%s-%06d\n", w, os.Getenv("ROUND"), i)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	case "open":
		_, err := bolt.Open(dir, bolt.Config{})
		fmt.Println("in use:", errors.Is(err, storage.ErrInUse))
	case "sync fails":
		s := open(t, dir, bolt.Config{})
		ctx := t.Context()
		if err := put(ctx, s, "s", "kept", "v"); err != nil {
			t.Fatal(err)
		}
		if err := failSyscall(unix.SYS_FDATASYNC, syscall.EIO); err != nil {
			fmt.Println("no filter:", err)
			return
		}
		fmt.Println("poisoned by sync:", errors.Is(put(ctx, s, "s", "lost", "v"), storage.ErrPoisoned))
		_, err := get(ctx, s, "s", "kept")
		fmt.Println("poisoned for all:", errors.Is(err, storage.ErrPoisoned))
	case "disk is full":
		// The kernel refuses to write beyond the limit, as if the disk ended there.
		signal.Ignore(syscall.SIGXFSZ)
		s := open(t, dir, bolt.Config{})
		ctx := t.Context()
		limit := func(n uint64) {
			var l syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				t.Fatal(err)
			}
			l.Cur = min(n, l.Max)
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(ctx, s, "s", "kept", "v"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, bolt.FileName))
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range []int64{0, 4096 * 4, -info.Size() + 4096*8} { // no lengthening, a little, and not even what there is
			limit(uint64(info.Size() + room))
			big := strings.Repeat("v", 900_000)
			var failed error
			for i := 0; failed == nil && i < 100; i++ {
				failed = put(ctx, s, "s", fmt.Sprint("big", room, i), big)
			}
			if !errors.Is(failed, storage.ErrFull) || errors.Is(failed, storage.ErrPoisoned) || errors.Is(failed, storage.ErrUnknown) {
				t.Errorf("Update on a full disk = %v", failed)
			}
			fmt.Println("full:", failed)
			if v, err := get(ctx, s, "s", "kept"); v != "v" || err != nil {
				t.Errorf("Get on a full disk = %q, %v", v, err)
			}
			limit(1 << 40)
			if err := put(ctx, s, "s", fmt.Sprint("after", room), "v"); err != nil {
				t.Errorf("Update when there is room again = %v", err)
			}
		}
		if err := s.Check(ctx); err != nil {
			t.Errorf("Check = %v", err)
		}
		fmt.Println("went on")
	}
}

// failSyscall makes one kind of call fail in this process from now on.
func failSyscall(nr uint32, errno syscall.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: nr},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return nil
}

func TestSecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir, bolt.Config{})
	out, err := child(t, "open", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "in use: true") {
		t.Errorf("second process: %v\n%s", err, out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "open", dir).CombinedOutput(); err != nil || !strings.Contains(string(out), "in use: false") {
		t.Errorf("second process after Close: %v\n%s", err, out)
	}
}

// The kernel itself fails a sync.
func TestSyncFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	out, err := child(t, "sync fails", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "no filter:") {
		t.Logf("this kernel fails no call on request, so nothing is shown here: %s", out)
		return
	}
	for _, want := range []string{"poisoned by sync: true", "poisoned for all: true"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the child does not say %q:\n%s", want, out)
		}
	}
	s := open(t, dir, bolt.Config{})
	if v, err := get(t.Context(), s, "s", "kept"); v != "v" || err != nil {
		t.Errorf("Get of what was kept = %q, %v", v, err)
	}
	if _, err := get(t.Context(), s, "s", "lost"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of what was lost = %v; want ErrNotFound", err)
	}
}

func TestDiskIsFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	out, err := child(t, "disk is full", dir).CombinedOutput()
	if err != nil || strings.Count(string(out), "\nfull: ") != 3 || !strings.Contains(string(out), "went on") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	s := open(t, dir, bolt.Config{})
	for _, row := range []string{"kept", "after0"} {
		if v, err := get(t.Context(), s, "s", row); v != "v" || err != nil {
			t.Errorf("Get(%q) = %q, %v", row, v, err)
		}
	}
}

// A process that is killed while it writes has lost nothing that it had said
// to be kept, and half of nothing.
func TestKilled(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	kept := map[string]bool{}
	for round := range 6 {
		cmd := child(t, "write", dir)
		cmd.Env = append(cmd.Env, fmt.Sprint("ROUND=", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		n := 0
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("reading from child: %v", err)
				}
				break // a line without its end was not said
			}
			if row, ok := strings.CutPrefix(strings.TrimSpace(line), "kept "); ok {
				kept[row] = true
				n++
			}
			if n == 100+37*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed
		s := open(t, dir, bolt.Config{})
		if err := s.Check(ctx); err != nil {
			t.Errorf("round %d: Check = %v", round, err)
		}
		there := map[string]map[string]bool{}
		if err := s.View(ctx, func(r storage.Reader) error {
			for _, scope := range []string{"a", "b"} {
				items, _, err := r.Scan(scope, "", "", 0)
				if err != nil {
					return err
				}
				there[scope] = map[string]bool{}
				for _, it := range items {
					there[scope][it.Row] = true
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for row := range kept {
			if !there["a"][row] || !there["b"][row] {
				t.Errorf("round %d: %s was kept and is not there", round, row)
			}
		}
		for row := range there["a"] {
			if !there["b"][row] {
				t.Errorf("round %d: half of %s is there", round, row)
			}
		}
		if len(there["a"]) != len(there["b"]) {
			t.Errorf("round %d: %d and %d rows", round, len(there["a"]), len(there["b"]))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d transactions were kept", len(kept))
}
