package audit

import (
	"encoding/binary"
	"iter"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rotunda.dev/rotunda/internal/secret"
)

// SyncData is the sync that segments use.
func SyncData(f *os.File) func() error { return func() error { return syncData(f) } }

// MaxHashes is up to how many strings of a list are hashed one by one.
const MaxHashes = maxHashes

// WithBundles returns c with bundles of 1<<height leaves, for trees that are begun.
func WithBundles(c Config, height int) Config {
	c.bundleHeight = height
	return c
}

// ParseNotes returns the notes that a file of checkpoints holds, and what is behind them.
func ParseNotes(b []byte) (notes [][]byte, rest int) {
	h := parseNotes(b)
	for _, n := range h.notes {
		notes = append(notes, n.text)
	}
	return notes, len(b) - int(h.end)
}

// ReadNote returns what an unverified checkpoint says, and how it is written.
func ReadNote(text []byte) (c Checkpoint, body string, err error) {
	c, err = readNote(text)
	return c, c.body(), err
}

// Rechain computes chain values and checksums of all segments anew, which are
// given in order, and gives them to put.
func Rechain(segments iter.Seq2[string, []byte], put func(name string, b []byte)) {
	var chain [32]byte
	for name, b := range segments {
		h, err := parseHeader(b)
		if err != nil {
			panic(err)
		}
		if h.first == 1 {
			chain = firstChain(records, h.journal)
		}
		h.chain = chain
		copy(b, h.encode())
		for at := headerLen; at < len(b); {
			n, err := frameLen(b[at:])
			if err != nil {
				break
			}
			f := b[at : at+n]
			place := binary.BigEndian.Uint32(f[8:])
			chain = nextChain(chain, LeafHash(f[frameHead:n-1]))
			finishFrame(f, place, chain)
			at += n
		}
		put(name, b)
	}
}

// SignedAs gives put a checkpoint as c with another root, signed.
func SignedAs(t testing.TB, seed secret.Bytes, cluster string, c *Checkpoint, put func(signed []byte)) {
	t.Helper()
	key, err := PublicKey(seed, cluster, c.Journal)
	if err != nil {
		t.Fatal(err)
	}
	c.Root[0] ^= 1
	b, err := note.Sign(&note.Note{Text: c.body()}, &signer{key: key, seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	put(b)
}

// ParseAnchor returns how an anchor is written that b is; nil where b is none.
func ParseAnchor(b []byte) []byte {
	a, err := parseAnchor(b)
	if err != nil {
		return nil
	}
	return a.bytes()
}
