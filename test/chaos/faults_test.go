package chaos

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// Killed while it starts for the first time, at any moment, the node starts
// the next time.
func TestKillFirstStart(t *testing.T) {
	cycles := int(fromEnv(t, "ROTUNDA_CHAOS_STARTS", 10))
	t.Parallel()
	for i := range cycles {
		n := newNode(t)
		out, err := n.launch()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		while := time.Duration(i*i) * time.Millisecond // most of it happens early
		<-time.After(while)
		n.kill()
		if _, err := n.start(); err != nil {
			t.Errorf("killed after %v: %v", while, err)
			continue
		}
		n.must(http.MethodPost, "secret/data/a", padded("v", 10))
		if got := unpadded(n.must(http.MethodGet, "secret/data/a", nil).object("data.data")); got != "v" {
			t.Errorf("killed after %v: a read gave %q", while, got)
		}
		n.kill()
		if wrong := (&world{n: n}).offline(); len(wrong) > 0 {
			t.Errorf("killed after %v: %v", while, wrong)
		}
	}
}

// filled is a node with a few secrets, that runs.
func filled(t *testing.T) (n *node, secrets []string) {
	t.Helper()
	n = newNode(t)
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		name := fmt.Sprintf("dir%d/s%d", i%5, i)
		n.must(http.MethodPost, "secret/data/"+name, padded(name, 200+i*20))
		secrets = append(secrets, name)
	}
	return n, secrets
}

// all reads every secret, and says how many of them are there whole, and how
// many are said not to be there. A wrong value fails the test.
func (n *node) all(secrets []string) (whole, hidden int, err error) {
	for _, name := range secrets {
		a, err := n.do(n.root, http.MethodGet, "secret/data/"+name, nil)
		if err != nil {
			return whole, hidden, err
		}
		switch {
		case a.status == http.StatusOK && unpadded(a.object("data.data")) == name:
			whole++
		case a.status == http.StatusOK:
			n.t.Errorf("a read of %s gave %.200s", name, a.body)
		case a.status == http.StatusNotFound:
			hidden++
		case a.status < http.StatusBadRequest:
			n.t.Errorf("a read of %s = %d %.200s", name, a.status, a.body)
		}
	}
	return whole, hidden, nil
}

// What is wrong with what the node stands on is said by a clear error, nothing
// is changed, and the node runs when it is put right.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	n, secrets := filled(t)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(n.home, "config", "rotunda", "keys", "*", "seal.key"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("key files: %v, %v", keys, err)
	}
	key, store := keys[0], filepath.Join(n.data, "store", "store.db")
	rename := func(path string) (do, undo func() error) {
		return func() error { return os.Rename(path, path+".away") }, func() error { return os.Rename(path+".away", path) }
	}
	mode := func(path string, wide, right os.FileMode) (do, undo func() error) {
		return func() error { return os.Chmod(path, wide) }, func() error { return os.Chmod(path, right) }
	}
	content := func(path string, change func([]byte) []byte) (do, undo func() error) {
		var old []byte
		return func() (err error) {
			if old, err = os.ReadFile(path); err != nil {
				return err
			}
			return os.WriteFile(path, change(bytes.Clone(old)), 0o600)
		}, func() error { return os.WriteFile(path, old, 0o600) }
	}
	schema := func(version uint32) func() error {
		return func() error {
			db, err := bbolt.Open(store, 0o600, nil)
			if err != nil {
				return err
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("schema"), binary.BigEndian.AppendUint32(nil, version))
			})
			if err != nil {
				return err
			}
			return db.Close()
		}
	}
	type fault struct {
		do, undo func() error
		want     []string // in what is said
	}
	faults := map[string]fault{}
	add := func(name string, do, undo func() error, want ...string) { faults[name] = fault{do, undo, want} }
	do, undo := rename(key)
	add("no key file", do, undo, "seal.key", "missing")
	do, undo = content(key, func(b []byte) []byte { b[0] ^= 1; return b })
	add("another key file", do, undo, "seal.key")
	do, undo = content(key, func(b []byte) []byte { return b[:10] })
	add("half a key file", do, undo, "seal.key", "32 bytes")
	do, undo = mode(key, 0o644, 0o600)
	add("a key file that others read", do, undo, "seal.key", "chmod")
	do, undo = mode(n.data, 0o755, 0o700)
	add("a data directory that others read", do, undo, n.data, "chmod")
	do, undo = mode(store, 0o640, 0o600)
	add("a store that others read", do, undo, "store.db", "chmod")
	add("a store of a later version", schema(2), schema(1), "schema version 2", "newer")
	do, undo = content(store, func(b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))/2] })
	add("a store that was cut", do, undo, "store.db", "damaged")
	do, undo = content(store, func(b []byte) []byte { clear(b[:8192]); return b })
	add("a store without its beginning", do, undo, "store.db", "damaged")
	do, undo = content(filepath.Join(n.data, "node-id"), func([]byte) []byte { return []byte("x\n") })
	add("another node id", do, undo, "node-id")
	for name, f := range faults {
		if err := f.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := digest(t, n.data)
		_, err := n.start()
		if err == nil {
			t.Errorf("%s: the node starts", name)
			n.kill()
		} else {
			said, _, _ := strings.Cut(err.Error(), "\ntime=")
			for _, want := range f.want {
				if !strings.Contains(said, want) {
					t.Errorf("%s: it says %q; want %q in it", name, said, want)
				}
			}
			t.Logf("%s: %s", name, said)
		}
		if after := digest(t, n.data); before != after {
			t.Errorf("%s: the files were changed:\n%s%s", name, before, after)
		}
		if err := f.undo(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, err := n.start(); err != nil {
		t.Fatalf("when all is right again: %v", err)
	}
	if whole, _, err := n.all(secrets); whole != len(secrets) || err != nil {
		t.Errorf("%d of %d secrets are there, %v", whole, len(secrets), err)
	}
}

// digest lists what is in the store's directory.
func digest(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "store", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(14695981039346656037)
	for _, x := range b {
		sum = (sum ^ uint64(x)) * 1099511628211
	}
	return fmt.Sprintf("store.db %d bytes %x\n", len(b), sum)
}

// A second process is told that there is a first, which goes on. To start what
// runs is no mistake.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	n, secrets := filled(t)
	for _, args := range [][]string{
		{"up", "--data", n.data, "--listen", "127.0.0.1:0"},
		{"up", "--data", n.data, "--listen", "127.0.0.1:0", "--detach"},
		{"audit", "verify", "--data", n.data},
		{"audit", "search", "--data", n.data},
		{"operator", "recover", "--yes", "--data", n.data},
	} {
		out, code, err := n.run(args...)
		what := strings.Join(args, " ")
		if err != nil || (code == 0) != (args[0] == "up") {
			t.Errorf("%s: code %d, %v: %s", what, code, err, out)
		}
		if !strings.Contains(out, "running") && !strings.Contains(out, "in use") && !strings.Contains(out, "runs on") {
			t.Errorf("%s: it says %q", what, out)
		}
		t.Logf("%s: code %d: %s", what, code, out)
	}
	if whole, _, err := n.all(secrets); whole != len(secrets) || err != nil {
		t.Errorf("%d of %d secrets are there, %v", whole, len(secrets), err)
	}
}
