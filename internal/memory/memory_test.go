package memory_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"rotunda.dev/rotunda/internal/memory"
	"rotunda.dev/rotunda/internal/secret"
)

func reveal(b secret.Bytes) (out []byte) {
	_ = b.Use(func(p []byte) error {
		out = bytes.Clone(p)
		return nil
	})
	return out
}

func TestHoldThenClose(t *testing.T) {
	var p memory.Pages
	if p.Kind() != memory.Secret {
		t.Errorf("Kind of no pages = %s", p.Kind())
	}
	var keys []secret.Bytes
	var want [][]byte
	for i := range 300 { // more than one page
		k := make([]byte, 1+i%64)
		rand.Read(k)
		want = append(want, bytes.Clone(k))
		keys = append(keys, p.Hold(k))
	}
	big := make([]byte, 10_000)
	rand.Read(big)
	want, keys = append(want, bytes.Clone(big)), append(keys, p.Hold(big))
	for i, k := range keys {
		if !bytes.Equal(reveal(k), want[i]) {
			t.Errorf("key %d is not what was given", i)
		}
	}
	keys[7].Wipe()
	if !bytes.Equal(reveal(keys[8]), want[8]) {
		t.Error("wiping a key changed its neighbour")
	}
	t.Logf("keys are in %s pages", p.Kind())
	if err := p.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for i, k := range keys {
		if k.Len() != 0 {
			t.Errorf("key %d is there after Close", i)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	if k := p.Hold([]byte("again")); string(reveal(k)) != "again" {
		t.Error("pages do not hold keys after Close")
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
