package passphrase_test

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/passphrase"
	"rotunda.dev/rotunda/internal/seal/sealtest"
	"rotunda.dev/rotunda/internal/secret"
)

func with(text string) *passphrase.Sealer {
	return passphrase.New(passphrase.Config{Passphrase: func(context.Context) (secret.Text, error) { return secret.New(text), nil }})
}

func TestConform(t *testing.T) {
	sealtest.Conform(t, sealtest.Kit{Kind: passphrase.Kind, Stride: 7, Fresh: func(*testing.T) (seal.Sealer, seal.Sealer) {
		text := rand.Text()
		return with(text), with(text)
	}})
}

func TestParameters(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	st, err := with("correct horse").Seal(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"argon2id", "19456", "2", "1"}
	if fips140.Enabled() {
		want = []string{"pbkdf2-hmac-sha256", "600000"}
	}
	for i, w := range want {
		if st.Args[i] != w {
			t.Errorf("argument %d = %q; want %q", i, st.Args[i], w)
		}
	}
	salt := st.Args[len(st.Args)-1]
	for _, args := range [][]string{
		nil,
		{"argon2id"},
		{"argon2id", "19456", "2", "1"},
		{"argon2id", "4000000000", "2", "1", salt},
		{"argon2id", "19456", "0", "1", salt},
		{"argon2id", "19456", "2", "999", salt},
		{"argon2id", "19456", "100000", "1", salt},
		{"argon2id", "-1", "2", "1", salt},
		{"argon2id", "19456", "2", "1", "zz"},
		{"pbkdf2-hmac-sha256", "0", salt},
		{"pbkdf2-hmac-sha256", "4000000000", salt},
		{"scrypt", "1", salt},
	} {
		bad := seal.Stanza{Kind: passphrase.Kind, Args: args, Body: st.Body}
		if _, err := with("correct horse").Unseal(t.Context(), []seal.Stanza{bad}, nil); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("arguments %q: %v; want ErrDamaged", args, err)
		}
	}
	if _, err := with("").Seal(t.Context(), root, nil); err == nil {
		t.Error("an empty passphrase seals")
	}
	if _, err := passphrase.New(passphrase.Config{}).Unseal(t.Context(), []seal.Stanza{st}, nil); err == nil {
		t.Error("no passphrase opens")
	}
}
