package chaos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

// needle is what is looked for in the memory of a process.
type needle struct {
	name string
	text []byte
	gone bool // it may not be there once the node is sealed
}

// keysOf opens the store of a stopped node by docs/formats.md, and returns the
// root key and every key below it that stays in memory while the node is open.
func (n *node) keysOf(t *testing.T) (found []needle) {
	t.Helper()
	ctx := t.Context()
	store, err := bolt.Open(filepath.Join(n.data, "store"), bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	files, err := filepath.Glob(filepath.Join(n.home, "config", "rotunda", "keys", "*", "seal.key"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	stanzas, err := barrier.Stanzas(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := barrier.Binding(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	root, err := keyfile.New(keyfile.Config{Path: files[0]}).Unseal(ctx, stanzas, cluster)
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, key []byte) { found = append(found, needle{name, bytes.Clone(key), true}) }
	expanded := func(name string, key []byte) { found = append(found, needle{name, key, secret.Erases}) }
	_ = root.Use(func(k []byte) error { add("the root key", k); return nil })
	file, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	add("the key file's key", file)
	err = store.View(ctx, func(r storage.Reader) error {
		sealed, err := r.Get(storage.Key{Scope: "K", Row: "keyring"})
		if err != nil {
			return err
		}
		ring, err := aead.NewBox(root).Open(sealed, aead.For("keyring").Add(aead.FieldCluster, cluster))
		if err != nil {
			return err
		}
		b := ring[4+1+16+8+4:]
		terms := map[uint32]secret.Bytes{}
		for range binary.BigEndian.Uint16(b) {
			terms[binary.BigEndian.Uint32(b[2:])] = secret.NewBytes(bytes.Clone(b[14:46]))
			add("a term's key", b[14:46])
			b = b[44:]
		}
		b = b[2:]
		for range binary.BigEndian.Uint16(b) {
			add("a lookup key", b[7:39])
			b = b[37:]
		}
		for _, id := range []barrier.SpaceID{barrier.Core, barrier.Tokens} {
			record, err := r.Get(storage.Key{Scope: barrier.KeyScope(id), Row: "k"})
			if err != nil {
				return err
			}
			term := binary.BigEndian.Uint32(record[1:])
			use := aead.For("space keys").Add(aead.FieldCluster, cluster).Add(aead.FieldSpace, id[:]).Num(aead.FieldTerm, uint64(term))
			set, err := aead.NewBox(terms[term]).Open(record[5:], use)
			if err != nil {
				return err
			}
			key := set[1+2+4+8:][:32]
			add("a space's key", key)
			expanded("a key for rows", aead.Expand(secret.NewBytes(bytes.Clone(key)), "rotunda rows", 32))
			expanded("a key for data keys", aead.Expand(secret.NewBytes(bytes.Clone(key)), "rotunda data keys", 32))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// hits counts the needles in the memory of a process that can be written to.
func hits(pid int, needles []needle) (found map[string]int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	found = map[string]int{}
	const step, overlap = 1 << 20, 256
	chunk := make([]byte, step+overlap)
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += step {
			n, _ := mem.ReadAt(chunk[:min(uint64(len(chunk)), to-at)], int64(at)) // what cannot be read is not shown
			for _, x := range needles {
				for b, off := chunk[:n], 0; ; {
					i := bytes.Index(b[off:], x.text)
					if i < 0 || off+i >= step {
						break
					}
					found[x.name]++
					off += i + 1
				}
			}
		}
	}
	return found, nil
}

// Of a node that has worked and is sealed, nobody who reads its memory finds the
// root key, nor the keys below it. Built with GOEXPERIMENT=runtimesecret, nor
// does he find what was expanded from them for quick use; in other builds, as
// what clients have sent and were told in all, it is erased as far as the
// collector goes, and reported. While the node is open its memory cannot be read
// by others of its user, and is not dumped.
func TestKeysAreGoneOnceSealed(t *testing.T) {
	n, secrets := filled(t)
	const plain = "a plaintext that is looked for, 5f1c"
	n.must(http.MethodPost, "secret/data/plain", map[string]any{"data": map[string]any{"value": plain}})
	n.must(http.MethodGet, "secret/data/plain", nil)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	needles := append(n.keysOf(t), needle{"a secret's plaintext", []byte(plain), false})
	if err := os.Remove(n.log); err != nil { // what it says from here on is waited for
		t.Fatal(err)
	}
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, s := range secrets {
			n.must(http.MethodGet, "secret/data/"+s, nil)
			n.must(http.MethodGet, "secret/data/plain", nil)
		}
	}
	n.must(http.MethodPost, "secret/data/plain", map[string]any{"data": map[string]any{"value": plain}})
	pid := n.cmd.Process.Pid
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	core := ""
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			core = strings.Join(strings.Fields(line)[4:6], " ")
		}
	}
	if core != "0 0" {
		t.Errorf("limits of core dumps: %q; want none", core)
	}
	// What a process that may not be dumped has in /proc is root's.
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/mem", pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("the memory belongs to user %d, %v; want root", st.Uid, err)
	}
	open, err := hits(pid, needles)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Fatal("the memory of the server cannot be read by this user, as it should be: this test is run by root")
	}
	if err != nil {
		t.Fatal(err)
	}
	if open["a secret's plaintext"] == 0 {
		t.Error("the search does not find a plaintext in the memory of an open node: it is no proof")
	}
	if kind := pagesHere(); kind != memory.Secret {
		t.Logf("keys are in %s memory on this machine, which root can read while the node is open", kind)
	} else if open["the root key"] != 0 {
		t.Errorf("open: the root key is found %d times outside of its pages", open["the root key"])
	}
	if a, err := n.do(n.root, http.MethodPut, "sys/seal", nil); err != nil || a.status != http.StatusNoContent {
		t.Fatalf("seal = %v, %v", a, err)
	}
	for sealed := false; !sealed; {
		a, err := n.do("", http.MethodGet, "sys/seal-status", nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed, _ = a.at("sealed").(bool)
	}
	n.waitErased()
	shut, err := hits(pid, needles)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("open: %v; sealed: %v", open, shut)
	for _, x := range needles {
		if x.gone && shut[x.name] != 0 {
			t.Errorf("sealed: %s is found %d times", x.name, shut[x.name])
		}
	}
}

// pagesHere says what memory keys are kept in on this machine.
func pagesHere() memory.Kind {
	var pages memory.Pages
	defer pages.Close()
	pages.Hold(make([]byte, 32))
	return pages.Kind()
}

// waitErased returns when the log says that what the keys were in is erased.
func (n *node) waitErased() {
	for !strings.Contains(n.logTail(), "erased") {
		if _, err := n.do("", http.MethodGet, "sys/seal-status", nil); err != nil {
			n.t.Fatal(err)
		}
	}
}
