//go:build unix

package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/cli/profile"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/server"
	"rotunda.dev/rotunda/internal/server/servertest"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// sink returns the body that enables a sink with options of the form k=v.
func sink(options ...string) string {
	var b strings.Builder
	for i, o := range options {
		k, v, _ := strings.Cut(o, "=")
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(k) + ":" + quote(v))
	}
	return `{"type":"file","options":{` + b.String() + `}}`
}

// TestH074H075AuditFilesStayInTheirPlace tries to have the audit log written
// elsewhere, by each spelling of the option.
func TestH074H075AuditFilesStayInTheirPlace(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	for link, to := range map[string]string{"link": outside, "file": filepath.Join(outside, "f"), "null": "/dev/null", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	r := servertest.Start(t, servertest.Config{AuditFiles: dir})
	none := plain(t)
	r.Must(r.Root, http.MethodPut, "sys/audit/good", sink("file_path="+filepath.Join(dir, "good.log")))
	r.Must(r.Root, http.MethodPut, "sys/audit/short", sink("path=short.log", "mode=0640"))

	var all, anywhere []attack
	for _, option := range []string{"file_path", "path"} {
		for _, p := range []string{
			"", "/etc/passwd", "/proc/self/mem", "/proc/self/fd/1", "/dev/stdout", "../x", "sub/../../x", "./../x", "..", ".", "/", dir, dir + "/", dir + "/../x", outside + "/x", "link/x", "link", "file", "null", "up/x",
			"fifo", "sub", "x\x00y", "stdout", "discard", "~/x", "sub/", strings.Repeat("a", 5000), "/usr/local/bin/rotunda", r.Data + "/store/x", "missing/dir/x", "$HOME/x/y", "sub//../../x", `..\x`,
		} {
			if p == `..\x` || p == "~/x" {
				continue // is a name like another here, or in no directory that there is
			}
			all = append(all, attack{what: option + " " + p, method: http.MethodPut, path: "sys/audit/evil", body: sink(option + "=" + p)})
		}
		for _, more := range []string{"mode=0777", "mode=0755", "mode=0111", "mode=4600", "mode=0622", "mode=-1", "mode=rwx", "prefix=#!/bin/sh\n", "log_raw=true", "format=jsonx", "hmac_accessor=maybe", "FILE_PATH=" + outside + "/x", "File_Path=/etc/x", "filepath=/etc/x", "elide_list_responses=maybe", "plugin=x"} {
			all = append(all, attack{what: more, method: http.MethodPut, path: "sys/audit/evil", body: sink(option+"=fine.log", more)})
		}
		anywhere = append(anywhere, attack{what: "where none may be", method: http.MethodPut, path: "sys/audit/evil", body: sink(option + "=" + filepath.Join(dir, "x"))})
	}
	all = append(all,
		attack{what: "two paths", method: http.MethodPut, path: "sys/audit/evil", body: sink("file_path=a", "path=b")},
		attack{what: "a socket", method: http.MethodPut, path: "sys/audit/evil", body: `{"type":"socket","options":{"address":"127.0.0.1:1"}}`},
		attack{what: "syslog", method: http.MethodPut, path: "sys/audit/evil", body: `{"type":"syslog"}`},
		attack{what: "a name that is taken", method: http.MethodPut, path: "sys/audit/good", body: sink("file_path=other.log")},
		attack{what: "a name of two parts", method: http.MethodPut, path: "sys/audit/a/b", body: sink("file_path=other.log")},
	)
	for i := range all {
		all[i].settles = true // it is kept before it is opened, and taken away again
	}
	refused(t, r, all...)
	refused(t, none, anywhere...)
	if got := r.Must(r.Root, http.MethodGet, "sys/audit", ""); strings.Contains(string(got.Body), "evil") {
		t.Errorf("a sink that was refused is there: %s", got.Body)
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
		t.Errorf("outside there is %v, %v; want nothing", found, err)
	}
	// Execute bits go, also from a file that is there.
	r.Must(r.Root, http.MethodPut, "sys/audit/program", sink("file_path=program"))
	for _, name := range []string{"program", "good.log", "short.log"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o133 != 0 {
			t.Errorf("%s has mode %v, %v; want none to run it and none but its owner to write", name, info.Mode(), err)
		}
	}
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"`+canary+`"}}`)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "good.log"))
	if err != nil || leaks(string(b)) || !bytes.HasPrefix(b, []byte("{")) {
		t.Errorf("the sink holds %.300q, %v; want records without values", b, err)
	}
}

// TestH079FilesAreForTheirOwner has a umask that takes nothing away, and
// directories that others may write to.
func TestH079FilesAreForTheirOwner(t *testing.T) { //nolint:paralleltest // the umask is the process's
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir, sinks := t.TempDir(), t.TempDir()
	r := servertest.Start(t, servertest.Config{Dir: dir, AuditFiles: sinks})
	r.Must(r.Root, http.MethodPut, "sys/audit/file", sink("file_path=a.log"))
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"b"}}`)
	people := profile.Store{Config: filepath.Join(dir, "config"), State: filepath.Join(dir, "state")}
	if err := people.SaveToken("local", secret.New(canary)); err != nil {
		t.Fatal(err)
	}
	public := []string{"ca.pem", "cert.pem"} // certificates are for everyone
	walk := func(root string, strict bool) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == dir || path == sinks || path == people.State {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			wide := fs.FileMode(0o077)
			if slices.Contains(public, d.Name()) {
				wide = 0o022
			}
			if info.Mode().Perm()&wide != 0 || !d.IsDir() && info.Mode().Perm()&0o111 != 0 && strict {
				t.Errorf("%s has mode %v; want it for its owner alone", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(r.Data, true)
	walk(r.Keys, true)
	walk(sinks, true)
	walk(people.State, true)

	// What others can read is refused, not used.
	if err := os.Chmod(people.TokenFile("local"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := people.Token("local"); err == nil {
		t.Errorf("a token that everyone can read is used: %v", got)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, wide := range []string{r.Data, r.Keys, filepath.Join(r.Keys, "seal.key")} {
		info, err := os.Stat(wide)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(wide, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := restarted(r); err == nil {
			t.Errorf("with mode 0777 of %s the node starts and is unsealed; want an error", wide)
		}
		if err := os.Chmod(wide, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	if err := restarted(r); err != nil {
		t.Errorf("with modes as they were: %v", err)
	}
}

// restarted opens the node of r once more, without listeners, and unseals it.
func restarted(r *servertest.Rig) (err error) {
	n, err := server.Open(r.NodeConfig())
	if err != nil {
		return err
	}
	defer func() {
		if closed := n.Close(); err == nil {
			err = closed
		}
	}()
	return n.Unseal(r.Context())
}

// TestH082NoFieldNamesAFile looks for a field that could name a file of the server.
func TestH082NoFieldNamesAFile(t *testing.T) {
	t.Parallel()
	r := plain(t)
	allowed := map[string]bool{"path_suffix": true} // of a token's creation path
	seen := 0
	for _, f := range fields(t, r, func(f field) bool { return f.from != isBody }) {
		seen++
		n := strings.ToLower(f.name)
		for _, part := range []string{"file", "dir", "_path", "path_", "socket", "command", "plugin_dir", "include", "uri", "url", "address"} {
			if strings.Contains(n, part) && !allowed[n] {
				t.Errorf("%s has the field %q, which could name something of the server's", f.op.Name, f.name)
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d fields; want at least 100: the generator no longer finds them", seen)
	}
}

// rows calls fn with the rows of the store of a node that has stopped, to change.
func rows(t *testing.T, data string, fn func(*bbolt.Bucket)) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(data, "store", bolt.FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		fn(tx.Bucket([]byte("rows")))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies a directory of files and directories.
func copyTree(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// filled makes a node with some secrets and stops it. What is read at each
// path is returned. Its journal has small segments and holds no room back (a
// node makes that again), for each copy of the node is read whole.
func filled(t *testing.T) (*servertest.Rig, map[string]string) {
	t.Helper()
	r := servertest.Start(t, servertest.Config{Change: func(c *server.Config) { c.Audit.SegmentBytes = 64 << 10 }})
	values := map[string]string{}
	for i := range 3 {
		at := fmt.Sprintf("secret/data/s%d", i)
		for version := range 3 {
			v := fmt.Sprintf("value number %d.%d", i, version)
			r.Must(r.Root, http.MethodPost, at, `{"data":{"v":"`+v+`"}}`)
			values[at], values[fmt.Sprintf("%s?version=%d", at, version+1)] = v, v
		}
		v := fmt.Sprintf("value number %d", i)
		r.Must(r.Root, http.MethodPost, fmt.Sprintf("cubbyhole/c%d", i), `{"v":"`+v+`"}`)
		values[fmt.Sprintf("cubbyhole/c%d", i)] = v
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.Data, "audit", "reserve")); err != nil {
		t.Fatal(err)
	}
	return r, values
}

// twin copies the node of r, which has stopped, below dir and returns what the
// copy is made of. It has keys of its own too: what a node remembers of its
// store among them would refuse every copy but the one that was started last.
func twin(t *testing.T, r *servertest.Rig, dir string) server.Config {
	t.Helper()
	c := r.NodeConfig()
	c.Data, c.Keys = filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	copyTree(t, c.Data, r.Data)
	copyTree(t, c.Keys, r.Keys)
	return c
}

// honest starts the node of c, and holds what it reads to be what was written
// or an error; it returns how many reads and starts were refused.
func honest(t *testing.T, r *servertest.Rig, c server.Config, values map[string]string, what string) (refusals int) {
	t.Helper()
	n, err := server.Open(c)
	if err != nil {
		return 1
	}
	defer n.Close()
	if err := n.Unseal(t.Context()); err != nil {
		return 1
	}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		got := servertest.Ask(n, r.Root, http.MethodGet, path)
		v := got.Text("data.data.v") + got.Text("data.v")
		switch {
		case got.Status == http.StatusOK && v == values[path]:
		case got.Status == http.StatusOK:
			t.Errorf("%s: GET %s = %q; want %q or an error", what, path, v, values[path])
		case got.Status == http.StatusForbidden || got.Status >= 500:
			refusals++
		case got.Status == http.StatusNotFound:
			// A byte of a key leads past a row, which only looking at all of them tells.
			if store, ok := n.Store().(*bolt.Store); !ok || !errors.Is(store.Check(t.Context()), storage.ErrCorrupt) {
				t.Errorf("%s: GET %s = 404, and checking the store finds nothing", what, path)
			}
			refusals++
		default:
			t.Errorf("%s: GET %s = %d %s; want the value or an error, for it is not gone", what, path, got.Status, got.Body)
		}
	}
	return refusals
}

// TestX003RowsCannotBeSwapped swaps the values of rows of one table, each pair
// on its own, and takes rows of another node.
func TestX003RowsCannotBeSwapped(t *testing.T) {
	t.Parallel()
	r, values := filled(t)
	type pair struct{ a, b []byte }
	byTable := map[string][][]byte{}
	rows(t, r.Data, func(b *bbolt.Bucket) {
		c := b.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			n := int(k[0])<<8 | int(k[1])
			kind := string(k[2:3]) + string(k[2+n:])
			if n > 3 && len(k) > 2+n { // the table and the row's name
				byTable[kind] = append(byTable[kind], bytes.Clone(k))
			}
		}
	})
	var pairs []pair
	for _, kind := range slices.Sorted(maps.Keys(byTable)) {
		keys := byTable[kind]
		for i := 1; i < len(keys) && i < 5; i++ {
			pairs = append(pairs, pair{keys[0], keys[i]})
		}
	}
	if len(pairs) < 4 {
		t.Fatalf("%d pairs of rows in %d kinds; want some", len(pairs), len(byTable))
	}
	dir := storagetest.MemoryDir(t)
	for i := range 2 {
		if n := honest(t, r, twin(t, r, filepath.Join(dir, fmt.Sprint("untouched", i))), values, "untouched"); n > 0 {
			t.Fatalf("%d refusals by an untouched copy", n)
		}
	}
	var all []func()
	var refusals atomic.Int64
	for i, p := range pairs[:min(len(pairs), 16)] {
		all = append(all, func() {
			c := twin(t, r, filepath.Join(dir, fmt.Sprint(i)))
			rows(t, c.Data, func(b *bbolt.Bucket) {
				x, y := bytes.Clone(b.Get(p.a)), bytes.Clone(b.Get(p.b))
				if err := errors.Join(b.Put(p.a, resum(p.a, y)), b.Put(p.b, resum(p.b, x))); err != nil {
					t.Error(err)
				}
			})
			refusals.Add(int64(honest(t, r, c, values, fmt.Sprintf("rows %x and %x", p.a, p.b))))
		})
	}
	eachOf(all)
	if refusals.Load() == 0 {
		t.Error("no swap was noticed")
	}
	if leaks(r.Log()) {
		t.Error("the log shows values")
	}
}

// TestH095DamagedFiles changes bytes of the store and of the journal, one a
// time, and cuts them off.
func TestH095DamagedFiles(t *testing.T) {
	t.Parallel()
	r, values := filled(t)
	dir := storagetest.MemoryDir(t)
	var made atomic.Int64
	// On runs fn with a copy of the node that nothing else uses.
	on := func(fn func(server.Config)) {
		at := filepath.Join(dir, fmt.Sprint(made.Add(1)))
		fn(twin(t, r, at))
		if err := os.RemoveAll(at); err != nil {
			t.Error(err)
		}
	}
	for range 2 { // of whom each would be noticed by the other's traces
		on(func(c server.Config) {
			if n := honest(t, r, c, values, "untouched"); n > 0 {
				t.Fatalf("%d refusals by an untouched copy", n)
			}
		})
		on(func(c server.Config) {
			if examined(t, r, c, "untouched") {
				t.Fatal("an untouched journal is said to be damaged")
			}
		})
	}
	change := func(c server.Config, file string, fn func([]byte) []byte) {
		path := filepath.Join(c.Data, file)
		was, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, fn(was), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	var all []func()
	var refusals atomic.Int64
	store := filepath.Join("store", bolt.FileName)
	used, _ := written(t, filepath.Join(r.Data, store))
	tries := 20 * *damage
	for i := range tries {
		at := used * i / tries
		if i < 8 {
			at = 4096*(i%2) + 16 + i*4 // the pages that say where all else is
		}
		all = append(all, func() {
			on(func(c server.Config) {
				change(c, store, func(b []byte) []byte { b[at] ^= byte(1 + i%255); return b })
				refusals.Add(int64(honest(t, r, c, values, fmt.Sprintf("byte %d of the store", at))))
			})
		})
	}
	for _, size := range []int{1, 4096, used / 2, used - 1} {
		all = append(all, func() {
			on(func(c server.Config) {
				change(c, store, func(b []byte) []byte { return b[:size] })
				refusals.Add(int64(honest(t, r, c, values, fmt.Sprintf("the store cut off at %d", size))))
			})
		})
	}
	files, err := filepath.Glob(filepath.Join(r.Data, "audit", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files of the journal: %v, %v", files, err)
	}
	for _, file := range files {
		used, size := written(t, file)
		if size == 0 {
			continue
		}
		rel := filepath.Join("audit", filepath.Base(file))
		// Trees and checkpoints can be made again; records cannot.
		records := strings.HasPrefix(rel, "audit/journal-") || strings.HasPrefix(rel, "audit/sealed-")
		for _, at := range places(used, size, 8**damage) {
			all = append(all, func() {
				on(func(c server.Config) {
					what := fmt.Sprintf("byte %d of %s, of which %d are written", at, rel, used)
					change(c, rel, func(b []byte) []byte { b[at] ^= 0xff; return b })
					if noticed := examined(t, r, c, what); records && at < used && !noticed {
						t.Errorf("%s: nothing was noticed", what)
					}
				})
			})
		}
	}
	eachOf(all)
	if refusals.Load() == 0 {
		t.Error("no damage of the store was noticed")
	}
}

// written returns how many bytes of a file there are before the zeros at its
// end, and its size.
func written(t *testing.T, path string) (used, size int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(bytes.TrimRight(b, "\x00")), len(b)
}

// places are n offsets below used, the first ones close together, and one
// behind where the file goes on.
func places(used, size, n int) (all []int) {
	for i := range n {
		at := used * i / n
		if i < 3 {
			at = i * 9
		}
		all = append(all, min(at, max(used-1, 0)))
	}
	all = append(all, max(used-1, 0))
	if used < size {
		all = append(all, (used+size)/2)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// eachOf runs all, a few at once: they wait for the disk more than they work.
func eachOf(all []func()) {
	var wg sync.WaitGroup
	next := make(chan func())
	for range 6 {
		wg.Go(func() {
			for fn := range next {
				fn()
			}
		})
	}
	for _, fn := range all {
		next <- fn
	}
	close(next)
	wg.Wait()
}

// examined opens the journal of c, and says whether anything is wrong with it.
// What it must not do is panic or hang.
func examined(t *testing.T, r *servertest.Rig, c server.Config, what string) (noticed bool) {
	t.Helper()
	reader, err := audit.OpenReader(filepath.Join(c.Data, "audit"), secret.Bytes{})
	if err != nil {
		noticed = true
	} else {
		_, err := reader.Verify(t.Context(), nil)
		noticed = err != nil
		if err := reader.Close(); err != nil {
			t.Errorf("%s: closing: %v", what, err)
		}
	}
	n, err := server.Open(c)
	if err != nil {
		return true
	}
	if err := n.Unseal(t.Context()); err != nil {
		noticed = true
	} else if got := servertest.Ask(n, r.Root, http.MethodGet, "secret/data/s0"); got.Status != http.StatusOK && got.Status < 500 {
		t.Errorf("%s: GET = %d %s", what, got.Status, got.Body)
	}
	_ = n.Close() // what is damaged may say so once more
	return noticed
}
