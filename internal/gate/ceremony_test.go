package gate_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	filippo "filippo.io/age"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// initialized is a rig with shares that is open.
func initialized(t testing.TB, r *rig, shares, threshold int) gate.InitOut {
	t.Helper()
	made, err := r.gate.Init(t.Context(), gate.InitIn{Shares: shares, Threshold: threshold})
	if err != nil {
		t.Fatal(err)
	}
	if r.gate.Sealed() {
		submit(t, r, made.Shares[:threshold])
	}
	return made
}

func submit(t testing.TB, r *rig, shares []gate.Share) {
	t.Helper()
	for _, s := range shares {
		if err := r.gate.Submit(context.Background(), s.Hex); err != nil {
			t.Fatal(err)
		}
	}
	if r.gate.Sealed() {
		t.Fatal("enough shares do not open it")
	}
}

// opens reports whether shares open a store, which is left as it is.
func opens(t testing.TB, store storage.Store, disk *audittest.Disk, shares []gate.Share) bool {
	t.Helper()
	r := copied(t, store, disk)
	defer func() {
		if err := errors.Join(r.gate.Shut(), audit.Forget(context.Background(), store)); err != nil {
			t.Error(err)
		}
	}()
	for _, s := range shares {
		if err := r.gate.Submit(context.Background(), s.Hex); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	}
	return !r.gate.Sealed()
}

func kinds(t testing.TB, r *rig) (all, ids []string) {
	t.Helper()
	slots, err := r.gate.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		all, ids = append(all, s.Kind), append(ids, s.ID)
	}
	return all, ids
}

// TestMigration moves a store from a key file to shares, and to age, online.
func TestMigration(t *testing.T) {
	key := file(t)
	r := fresh(t, key)
	ctx := t.Context()
	if _, _, err := r.gate.AddShares(ctx, 3, 2); !errors.Is(err, gate.ErrSealed) {
		t.Errorf("AddShares while sealed = %v", err)
	}
	made := initialized(t, r, 0, 0)
	all, ids := kinds(t, r)
	if !slices.Equal(all, []string{"keyfile"}) {
		t.Errorf("slots %q", all)
	}
	if _, err := r.gate.RemoveSlot(ctx, ids[0]); !fault.Is(err, fault.Invalid) {
		t.Errorf("removing the last slot = %v; want it refused", err)
	}
	if _, err := r.gate.RemoveSlot(ctx, "nothing"); !fault.Is(err, fault.NotFound) {
		t.Errorf("removing what is not there = %v", err)
	}
	if _, _, err := r.gate.AddShares(ctx, 3, 1); !fault.Is(err, fault.Invalid) {
		t.Errorf("3 shares with threshold 1 = %v", err)
	}
	slot, shares, err := r.gate.AddShares(ctx, 3, 2)
	if err != nil || slot.Kind != "shamir" || slot.Shares != 3 || slot.Threshold != 2 || len(shares) != 3 {
		t.Fatalf("AddShares = %+v, %d shares, %v", slot, len(shares), err)
	}
	if _, _, err := r.gate.AddShares(ctx, 3, 2); !fault.Is(err, fault.Invalid) {
		t.Errorf("AddShares again = %v; want it refused", err)
	}
	if configured, err := r.gate.RemoveSlot(ctx, ids[0]); err != nil || !configured {
		t.Errorf("RemoveSlot = %t, %v", configured, err)
	}
	if err := r.call(ctx, made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read = %v", err)
	}
	again := copied(t, r.store, r.disk)
	submit(t, again, shares[1:])

	identity, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(path, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]string{{}, {"age1nothing"}} {
		if _, err := again.gate.AddRecipients(ctx, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("AddRecipients(%q) = %v", bad, err)
		}
	}
	to := []string{identity.Recipient().String()}
	if _, err := again.gate.AddRecipients(ctx, to); err != nil {
		t.Fatal(err)
	}
	if _, err := again.gate.AddRecipients(ctx, to); !fault.Is(err, fault.Invalid) {
		t.Errorf("AddRecipients again = %v; want it refused", err)
	}
	if _, err := again.gate.RemoveSlot(ctx, slot.ID); err != nil {
		t.Fatal(err)
	}
	if opens(t, r.store, r.disk, shares[:2]) {
		t.Error("shares open a store whose slot was removed")
	}
	last := copied(t, r.store, r.disk, gate.Auto{Kind: age.Kind, Sealer: age.New(age.Config{Recipients: to, IdentityFile: path})})
	if err := last.gate.AutoUnseal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := last.call(ctx, made.RootToken, "probe/read"); err != nil {
		t.Errorf("a read = %v", err)
	}
}

// TestConfiguredSealGetsASlot adds seals to the configuration of a store.
func TestConfiguredSealGetsASlot(t *testing.T) {
	r := fresh(t)
	made := initialized(t, r, 3, 2)
	key, other := file(t), file(t)
	unread := gate.Auto{Kind: age.Kind, Sealer: age.New(age.Config{Recipients: []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}})}
	with := copied(t, r.store, r.disk, key, unread)
	submit(t, with, made.Shares[:2])
	if all, _ := kinds(t, with); !slices.Equal(all, []string{"shamir", "keyfile", "age"}) {
		t.Errorf("slots %q", all)
	}
	for _, auto := range [][]gate.Auto{{key, unread}, {key, other, unread}, {other}} {
		again := copied(t, r.store, r.disk, auto...)
		if err := again.gate.AutoUnseal(t.Context()); err != nil || again.gate.Sealed() {
			t.Errorf("AutoUnseal = %v", err)
		}
	}
	if all, _ := kinds(t, r); !slices.Equal(all, []string{"shamir", "keyfile", "age", "keyfile"}) {
		t.Errorf("slots %q: one for each seal", all)
	}
}

// rekey replaces the shares of a rig that is open.
func rekey(ctx context.Context, r *rig, old []gate.Share, shares, threshold int) (*gate.Rekeyed, error) {
	s, err := r.gate.BeginRekey(ctx, shares, threshold)
	if err != nil {
		return nil, err
	}
	for i, share := range old {
		made, err := r.gate.BringRekey(ctx, s.Nonce, share.Base64)
		if err != nil || (made != nil) != (i == len(old)-1) {
			return nil, errors.Join(err, errors.New("an old share was not taken as it should be"))
		}
		if made != nil {
			return made, nil
		}
	}
	return nil, errors.New("no old shares")
}

func prove(ctx context.Context, r *rig, made *gate.Rekeyed, n int) error {
	for i, share := range made.Shares[:n] {
		if done, err := r.gate.ProveRekey(ctx, made.ProofNonce, share.Hex); err != nil || done != (i == n-1) {
			return errors.Join(err, errors.New("a proof was not taken as it should be"))
		}
	}
	return nil
}

func TestRekey(t *testing.T) {
	r := fresh(t)
	ctx := t.Context()
	if _, err := r.gate.BeginRekey(ctx, 3, 2); !errors.Is(err, gate.ErrSealed) {
		t.Errorf("BeginRekey while sealed = %v", err)
	}
	old := initialized(t, r, 3, 2)
	if s, err := r.gate.Rekey(ctx); err != nil || s.Started || s.Required != 2 {
		t.Errorf("Rekey = %+v, %v", s, err)
	}
	for _, in := range [][2]int{{0, 0}, {3, 1}, {2, 3}, {256, 2}} {
		if _, err := r.gate.BeginRekey(ctx, in[0], in[1]); !fault.Is(err, fault.Invalid) {
			t.Errorf("BeginRekey(%d, %d) = %v", in[0], in[1], err)
		}
	}
	s, err := r.gate.BeginRekey(ctx, 5, 3)
	if err != nil || !s.Started || s.Nonce == "" || s.Shares != 5 || s.Threshold != 3 || s.Required != 2 {
		t.Fatalf("BeginRekey = %+v, %v", s, err)
	}
	if _, err := r.gate.BeginRekey(ctx, 5, 3); !fault.Is(err, fault.Invalid) {
		t.Errorf("BeginRekey twice = %v", err)
	}
	for what, c := range map[string]struct{ nonce, share string }{
		"another nonce": {"x", old.Shares[0].Hex.Reveal()}, "no share": {s.Nonce, "zz"},
	} {
		if _, err := r.gate.BringRekey(ctx, c.nonce, secret.New(c.share)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s = %v; want it refused", what, err)
		}
	}
	if _, err := r.gate.ProveRekey(ctx, "", old.Shares[0].Hex); !fault.Is(err, fault.Invalid) {
		t.Errorf("a proof before there are shares = %v", err)
	}
	if err := r.gate.CancelRekey("x"); !fault.Is(err, fault.Invalid) {
		t.Errorf("CancelRekey with another nonce = %v", err)
	}
	if err := r.gate.CancelRekey(s.Nonce); err != nil {
		t.Fatal(err)
	}
	made, err := rekey(ctx, r, old.Shares[:2], 5, 3)
	if err != nil || len(made.Shares) != 5 {
		t.Fatalf("rekeying = %v", err)
	}
	if !opens(t, r.store, r.disk, old.Shares[1:]) || opens(t, r.store, r.disk, made.Shares) {
		t.Error("before they are proved, the new shares open the store, or the old ones do not")
	}
	if _, err := r.gate.ProveRekey(ctx, made.ProofNonce, old.Shares[0].Hex); !fault.Is(err, fault.Invalid) {
		t.Errorf("an old share as proof = %v", err)
	}
	if _, err := r.gate.ProveRekey(ctx, made.ProofNonce, made.Shares[0].Hex); err != nil {
		t.Fatal(err)
	}
	p, err := r.gate.RekeyProof()
	if err != nil || p.Progress != 1 || !p.Started || p.Threshold != 3 {
		t.Errorf("RekeyProof = %+v, %v", p, err)
	}
	if p, err = r.gate.RestartProof(made.ProofNonce); err != nil || p.Progress != 0 || p.Nonce == made.ProofNonce {
		t.Errorf("RestartProof = %+v, %v", p, err)
	}
	made.ProofNonce = p.Nonce
	if err := prove(ctx, r, made, 3); err != nil {
		t.Fatal(err)
	}
	if opens(t, r.store, r.disk, old.Shares) || !opens(t, r.store, r.disk, made.Shares[2:]) {
		t.Error("once they are proved, the old shares open the store, or the new ones do not")
	}
	if s, err := r.gate.Rekey(ctx); err != nil || s.Started || s.Required != 3 {
		t.Errorf("Rekey = %+v, %v", s, err)
	}
	// Sealing ends it.
	if _, err := rekey(ctx, r, made.Shares[:3], 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	submit(t, r, made.Shares[:3])
	if s, err := r.gate.Rekey(ctx); err != nil || s.Started {
		t.Errorf("Rekey after sealing = %+v, %v", s, err)
	}
}

// TestRekeyCrashes fails each commit of replacing the shares: either the old
// ones open the store, or the new ones do.
func TestRekeyCrashes(t *testing.T) {
	var old gate.InitOut
	var made *gate.Rekeyed
	var disk *audittest.Disk
	open := func(t testing.TB) storage.Store {
		disk, made = audittest.NewDisk(), nil
		s := mem.New(mem.Config{})
		r := newRig(t, s, disk)
		old = initialized(t, r, 3, 2)
		if err := r.gate.Shut(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	do := func(s storage.Store) error {
		disk = disk.Clone()
		r := newRig(t, s, disk)
		for _, share := range old.Shares[:2] {
			if err := r.gate.Submit(context.Background(), share.Hex); err != nil {
				return err
			}
		}
		if r.gate.Sealed() {
			return errors.New("enough shares do not open it")
		}
		var err error
		if made, err = rekey(context.Background(), r, old.Shares[:2], 3, 3); err != nil {
			return err
		}
		return prove(context.Background(), r, made, 3)
	}
	storagetest.EachFailure(t, open, do, func(t testing.TB, s storage.Store) {
		byOld := opens(t, s, disk, old.Shares)
		byNew := made != nil && opens(t, s, disk, made.Shares)
		if byOld == byNew {
			t.Errorf("the old shares open the store: %t; the new ones: %t", byOld, byNew)
		}
	})
}

func TestGenerateRoot(t *testing.T) {
	r := fresh(t)
	ctx := t.Context()
	made := initialized(t, r, 3, 2)
	before, err := r.gate.Generate(ctx)
	if err != nil || before.Started || before.Required != 2 || before.OTPLength == 0 {
		t.Errorf("Generate = %+v, %v", before, err)
	}
	now := clock.System{}.Now()
	if _, err := r.gate.BringGenerate(ctx, now, "", made.Shares[0].Hex); !fault.Is(err, fault.Invalid) {
		t.Errorf("a share before it has begun = %v", err)
	}
	if _, err := r.gate.BeginGenerate(ctx, secret.New("short")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a short pad = %v", err)
	}
	s, err := r.gate.BeginGenerate(ctx, secret.New(""))
	if err != nil || !s.Started || len(s.OTP.Reveal()) != before.OTPLength {
		t.Fatalf("BeginGenerate = %+v, %v", s, err)
	}
	if _, err := r.gate.BeginGenerate(ctx, secret.New("")); !fault.Is(err, fault.Invalid) {
		t.Errorf("BeginGenerate twice = %v", err)
	}
	if _, err := r.gate.BringGenerate(ctx, now, "x", made.Shares[0].Hex); !fault.Is(err, fault.Invalid) {
		t.Errorf("another nonce = %v", err)
	}
	if x, err := r.gate.BringGenerate(ctx, now, s.Nonce, made.Shares[0].Hex); err != nil || x.Progress != 1 || !x.Encoded.Empty() {
		t.Errorf("the first share = %+v, %v", x, err)
	}
	x, err := r.gate.BringGenerate(ctx, now, s.Nonce, made.Shares[2].Hex)
	if err != nil || x.Encoded.Empty() {
		t.Fatalf("the last share = %+v, %v", x, err)
	}
	hidden, err := base64.RawStdEncoding.DecodeString(x.Encoded.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	pad := s.OTP.Reveal()
	for i := range hidden {
		hidden[i] ^= pad[i]
	}
	if err := r.call(ctx, secret.New(string(hidden)), "probe/read"); err != nil {
		t.Errorf("a read with the token = %v", err)
	}
	if s, err := r.gate.Generate(ctx); err != nil || s.Started {
		t.Errorf("Generate in the end = %+v, %v", s, err)
	}
	if _, err := r.gate.BeginGenerate(ctx, secret.New(pad)); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.CancelGenerate(); err != nil {
		t.Fatal(err)
	}
	if s, err := r.gate.Generate(ctx); err != nil || s.Started {
		t.Errorf("Generate after it was ended = %+v, %v", s, err)
	}
	// A store without shares makes none.
	alone := fresh(t, file(t))
	initialized(t, alone, 0, 0)
	if _, err := alone.gate.BeginGenerate(ctx, secret.New("")); !fault.Is(err, fault.Invalid) {
		t.Errorf("BeginGenerate without shares = %v", err)
	}
}
