package barrier

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// The root key is nowhere in what /proc/self/mem shows: neither while the
// barrier is open, if its pages are secret, nor once it is closed.
func TestRootKeyIsNotInMemory(t *testing.T) {
	// The needle is kept as its complement, so that looking for it does not find itself.
	inverse := make([]byte, 32)
	rand.Read(inverse)
	root := secret.NewBytes(make([]byte, 32))
	_ = root.Use(func(k []byte) error {
		for i := range k {
			k[i] = ^inverse[i]
		}
		return nil
	})
	// More than once where the search comes by its own buffer.
	if n := hits(t, inverse); n == 0 {
		t.Fatal("the search does not find the root key where it is")
	}
	raw := mem.New(mem.Config{})
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	s := space(t, b, Core)
	put(t, s, "sa", "r", []byte("x"))
	if err := b.SetStanzas(t.Context(), func(s []seal.Stanza) ([]seal.Stanza, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	root.Wipe()
	t.Logf("open: %d hits, key pages are %s", hits(t, inverse), b.Memory())
	b.Close()
	if n := hits(t, inverse); n != 0 {
		t.Errorf("closed: the root key is found %d times", n)
	}
	runtime.KeepAlive(b)
}

// hits counts in this process's memory what has inverse as its complement.
func hits(t *testing.T, inverse []byte) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	match := func(b []byte) bool {
		for i, x := range b {
			if x != ^inverse[i] {
				return false
			}
		}
		return true
	}
	const step = 1 << 16
	chunk := make([]byte, step+len(inverse))
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += step {
			got, _ := f.ReadAt(chunk[:min(uint64(len(chunk)), to-at)], int64(at)) // what cannot be read is not shown
			b := chunk[:got]
			first := ^inverse[0]
			for i := 0; i < step && i+len(inverse) <= len(b); i++ {
				j := bytes.IndexByte(b[i:], first)
				if j < 0 {
					break
				}
				if i += j; i < step && i+len(inverse) <= len(b) && match(b[i:i+len(inverse)]) {
					n++
				}
			}
		}
		clear(chunk)
	}
	return n
}
