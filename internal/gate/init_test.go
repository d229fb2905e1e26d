package gate_test

import (
	"testing"

	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// What cannot be served yet is initialized all the same, and its shares and
// root token reach who asked for them.
func TestInitTellsWhatCannotBeServed(t *testing.T) {
	r := fresh(t)
	r.broken.Store(true)
	out, err := r.gate.Init(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
	if err != nil || len(out.Shares) != 3 || out.RootToken.Empty() {
		t.Fatalf("Init = %d shares, token given %t, %v; want 3 shares and a token", len(out.Shares), !out.RootToken.Empty(), err)
	}
	if err := r.gate.Submit(t.Context(), out.Shares[0].Hex); err != nil {
		t.Fatalf("Submit = %v", err)
	}
	if err := r.gate.Submit(t.Context(), out.Shares[1].Hex); err == nil || !r.gate.Sealed() {
		t.Fatalf("Submit of what cannot be served = %v; want an error", err)
	}
	r.broken.Store(false)
	for _, s := range out.Shares[1:] {
		if err := r.gate.Submit(t.Context(), s.Base64); err != nil {
			t.Fatalf("Submit = %v", err)
		}
	}
	if r.gate.Sealed() {
		t.Error("the store that was initialized does not open with its shares")
	}
}

// A keyring that nobody was told of is taken back, and another can be made.
func TestAbandon(t *testing.T) {
	store := mem.New(mem.Config{})
	r := newRig(t, store, audittest.NewDisk(), file(t))
	if _, err := r.gate.Init(t.Context(), gate.InitIn{}); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := barrier.Abandon(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	if there, err := barrier.Initialized(t.Context(), store); there || err != nil {
		t.Errorf("Initialized = %t, %v; want it to be empty", there, err)
	}
}
