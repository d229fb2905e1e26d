package age_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	filippo "filippo.io/age"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/age"
	"rotunda.dev/rotunda/internal/seal/sealtest"
	"rotunda.dev/rotunda/internal/secret"
)

func keep(t *testing.T, identity string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(path, []byte("# a comment\n"+identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConform(t *testing.T) {
	t.Run("x25519", func(t *testing.T) {
		sealtest.Conform(t, sealtest.Kit{Kind: age.Kind, Fresh: func(t *testing.T) (seal.Sealer, seal.Sealer) {
			mine, err1 := filippo.GenerateX25519Identity()
			other, err2 := filippo.GenerateX25519Identity()
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			return age.New(age.Config{Recipients: []string{other.Recipient().String(), mine.Recipient().String()}}), age.New(age.Config{IdentityFile: keep(t, mine.String())})
		}})
	})
	t.Run("hybrid", func(t *testing.T) {
		sealtest.Conform(t, sealtest.Kit{Kind: age.Kind, Stride: 40, Fresh: func(t *testing.T) (seal.Sealer, seal.Sealer) {
			mine, err := filippo.GenerateHybridIdentity()
			if err != nil {
				t.Fatal(err)
			}
			return age.New(age.Config{Recipients: []string{mine.Recipient().String()}}), age.New(age.Config{IdentityFile: keep(t, mine.String())})
		}})
	})
}

func TestConfig(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	for _, recipients := range [][]string{nil, {"age1nonsense"}, {""}} {
		if _, err := age.New(age.Config{Recipients: recipients}).Seal(t.Context(), root, nil); err == nil {
			t.Errorf("recipients %q: Seal: no error", recipients)
		}
	}
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	st, err := age.New(age.Config{Recipients: []string{id.Recipient().String()}}).Seal(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.New(age.Config{}).Unseal(t.Context(), []seal.Stanza{st}, nil); !errors.Is(err, seal.ErrNotMine) {
		t.Errorf("without an identity file: %v; want ErrNotMine", err)
	}
	canary := "AGE-SECRET-KEY-1CANARY"
	_, err = age.New(age.Config{IdentityFile: keep(t, canary)}).Unseal(t.Context(), []seal.Stanza{st}, nil)
	if !errors.Is(err, seal.ErrDamaged) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("with a file that is no identity: %v; want ErrDamaged, and no word of what is in it", err)
	}
	path := keep(t, id.String())
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := age.New(age.Config{IdentityFile: path}).Unseal(t.Context(), []seal.Stanza{st}, nil); err == nil {
		t.Error("with an identity that all can read: no error")
	}
}
