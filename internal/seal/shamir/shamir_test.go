package shamir

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/sealtest"
	"rotunda.dev/rotunda/internal/secret"
)

var binding = []byte("cluster")

func TestConform(t *testing.T) {
	for _, c := range []Config{{Shares: 1, Threshold: 1}, {Shares: 5, Threshold: 3}, {Shares: 4, Threshold: 4}} {
		t.Run(fmt.Sprintf("%d of %d", c.Threshold, c.Shares), func(t *testing.T) {
			sealtest.Conform(t, sealtest.Kit{Kind: Kind, Stride: 0, Fresh: func(*testing.T) (seal.Sealer, seal.Sealer) {
				var given []secret.Text
				sealer := New(Config{Shares: c.Shares, Threshold: c.Threshold, Deliver: func(shares []Share) error {
					given = nil
					for _, s := range shares {
						given = append(given, s.Hex())
					}
					return nil
				}})
				return sealer, New(Config{Given: func(context.Context) ([]secret.Text, error) { return given, nil }})
			}})
		})
	}
}

// A multiplication that is slow and plain: polynomials over GF(2), reduced by long division.
func TestMul(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			var p int
			for i := range 8 {
				if b>>i&1 == 1 {
					p ^= a << i
				}
			}
			for i := 14; i >= 8; i-- {
				if p>>i&1 == 1 {
					p ^= 0x11b << (i - 8)
				}
			}
			if got := mul(byte(a), byte(b)); int(got) != p {
				t.Fatalf("mul(%#x, %#x) = %#x; want %#x", a, b, got, p)
			}
		}
	}
	if mul(0x57, 0x83) != 0xc1 { // FIPS 197, section 4.2
		t.Errorf("mul(0x57, 0x83) = %#x; want 0xc1", mul(0x57, 0x83))
	}
}

func TestInv(t *testing.T) {
	if inv(0) != 0 {
		t.Errorf("inv(0) = %#x; want 0", inv(0))
	}
	for a := 1; a < 256; a++ {
		if mul(byte(a), inv(byte(a))) != 1 {
			t.Errorf("inv(%#x) = %#x", a, inv(byte(a)))
		}
	}
}

// Fewer shares than the threshold fit every secret, each equally often.
func TestTooFewSharesTellNothing(t *testing.T) {
	const x1, x2, y1, y2 = 3, 7, 0x5a, 0xc3 // two shares of a threshold of three
	seen := map[byte]int{}
	for third := range 256 { // whatever the third share is, it fits one secret
		w := weights([]byte{x1, x2, 9})
		seen[mul(w[0], y1)^mul(w[1], y2)^mul(w[2], byte(third))]++
	}
	if len(seen) != 256 {
		t.Errorf("two of three shares leave %d secrets; want 256", len(seen))
	}
}

func TestAnyThresholdOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "shares")
		k := 1
		if n > 1 {
			k = rapid.IntRange(2, n).Draw(t, "threshold")
		}
		root := secret.NewBytes(aead.NewKey())
		st, shares, err := Split(root, n, k, binding)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCollect(st, binding)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range rapid.Permutation(indices(n)).Draw(t, "order")[:k] {
			text := shares[at].Hex()
			if rapid.Bool().Draw(t, "base64") {
				text = shares[at].Base64()
			}
			got, err := c.Add(text)
			if i < k-1 {
				if !errors.Is(err, seal.ErrMoreShares) || c.Progress().Have != i+1 {
					t.Fatalf("share %d of %d: %v, %+v; want ErrMoreShares", i+1, k, err, c.Progress())
				}
				continue
			}
			if err != nil || !bytes.Equal(reveal(got), reveal(root)) {
				t.Fatalf("last share: %v; want the root key", err)
			}
		}
		if p := c.Progress(); p.Have != 0 || p.Nonce != "" {
			t.Fatalf("after the last share: %+v; want none", p)
		}
	})
}

func indices(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func reveal(b secret.Bytes) (out []byte) {
	_ = b.Use(func(p []byte) error {
		out = bytes.Clone(p)
		return nil
	})
	return out
}

func TestMostShares(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	st, shares, err := Split(root, 255, 255, binding)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := st.Append(nil); err != nil || len(b) > 5000 {
		t.Errorf("stanza of %d bytes, %v", len(b), err)
	}
	c, err := NewCollect(st, binding)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range shares {
		got, err := c.Add(s.Base64())
		if i == 254 && (err != nil || !bytes.Equal(reveal(got), reveal(root))) {
			t.Errorf("last share: %v", err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		n, k int
		ok   bool
	}{{5, 3, true}, {1, 1, true}, {255, 255, true}, {255, 2, true}, {2, 2, true}, {0, 0, false}, {5, 1, false}, {5, 6, false}, {5, 0, false}, {256, 3, false}, {-1, -1, false}, {1, 0, false}} {
		if err := Check(c.n, c.k); (err == nil) != c.ok {
			t.Errorf("Check(%d, %d) = %v", c.n, c.k, err)
		}
		if _, _, err := Split(secret.NewBytes(aead.NewKey()), c.n, c.k, nil); (err == nil) != c.ok {
			t.Errorf("Split(%d, %d) = %v", c.n, c.k, err)
		}
	}
}

func TestBadSharesAreNamed(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	st, shares, err := Split(root, 5, 3, binding)
	if err != nil {
		t.Fatal(err)
	}
	_, strangers, err := Split(root, 5, 3, binding)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollect(st, binding)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(shares[0].Hex()); !errors.Is(err, seal.ErrMoreShares) {
		t.Fatal(err)
	}
	nonce := c.Progress().Nonce
	if len(nonce) != 36 {
		t.Errorf("nonce %q; want a UUID", nonce)
	}
	set, err := hex.DecodeString(shares[0].Set())
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, aead.KeySize)
	rand.Read(value)
	mistyped := []byte(shares[3].Hex().Reveal())
	if mistyped[40]++; mistyped[40] == '9'+1 || mistyped[40] == 'f'+1 {
		mistyped[40] = '0'
	}
	for _, bad := range []struct {
		name string
		text secret.Text
		want string
		is   error
	}{
		{"forged", newShare(set, 3, 4, value).Hex(), "share 4 is forged", seal.ErrBadShare},
		{"another's value", newShare(set, 3, 4, reveal(shares[1].value())).Hex(), "share 4 is forged", seal.ErrBadShare},
		{"index beyond", newShare(set, 3, 6, value).Hex(), "share 6", seal.ErrBadShare},
		{"threshold changed", newShare(set, 2, 4, reveal(shares[3].value())).Hex(), "share 4", seal.ErrBadShare},
		{"another set", strangers[2].Hex(), "share 3 belongs to set", seal.ErrBadShare},
		{"mistyped", secret.New(string(mistyped)), "share 4 is mistyped", seal.ErrBadShare},
		{"not hex", secret.New(strings.Repeat("g", 90)), "neither", seal.ErrBadShare},
		{"empty", secret.New(""), "characters", seal.ErrBadShare},
		{"duplicate", shares[0].Base64(), "share 1", seal.ErrDuplicateShare},
	} {
		got, err := c.Add(bad.text)
		if !errors.Is(err, bad.is) || !strings.Contains(err.Error(), bad.want) || got.Len() != 0 {
			t.Errorf("%s: Add: %v; want one that says %q", bad.name, err, bad.want)
		}
		if p := c.Progress(); p.Have != 1 || p.Nonce != nonce {
			t.Errorf("%s: %+v; want the first share kept", bad.name, p)
		}
	}
	c.Reset()
	if p := c.Progress(); p != (Progress{Threshold: 3, Shares: 5}) {
		t.Errorf("after Reset: %+v", p)
	}
	for i, s := range shares[2:] {
		got, err := c.Add(s.Hex())
		if i == 0 && c.Progress().Nonce == nonce {
			t.Error("a new round has the old nonce")
		}
		if i == 2 && (err != nil || !bytes.Equal(reveal(got), reveal(root))) {
			t.Errorf("last share: %v; want the root key", err)
		}
	}
}

func TestShareText(t *testing.T) {
	_, shares, err := Split(secret.NewBytes(aead.NewKey()), 2, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := shares[1]
	h, b := s.Hex().Reveal(), s.Base64().Reveal()
	for _, text := range []string{h, strings.ToUpper(h), b, " " + h + "\n", strings.NewReplacer("+", "-", "/", "_").Replace(b)} {
		got, err := ParseShare(secret.New(text))
		if err != nil || got.Hex().Reveal() != h || got.Index() != 2 || got.Threshold() != 2 {
			t.Errorf("ParseShare(%q): %v", text, err)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", s, s, s, s); strings.Contains(shown, h[20:40]) {
		t.Errorf("printing a share shows it: %s", shown)
	}
}

func FuzzParseShare(f *testing.F) {
	s := newShare(make([]byte, setSize), 3, 1, make([]byte, aead.KeySize))
	f.Add(s.Hex().Reveal())
	f.Add(s.Base64().Reveal())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(secret.New(text))
		if err != nil {
			if !errors.Is(err, seal.ErrBadShare) {
				t.Errorf("ParseShare(%q): %v; want ErrBadShare", text, err)
			}
			return
		}
		again, err := ParseShare(s.Base64())
		if err != nil || again.Hex().Reveal() != s.Hex().Reveal() || !strings.EqualFold(strings.TrimSpace(text), s.Hex().Reveal()) && len(strings.TrimSpace(text)) != 60 {
			t.Errorf("ParseShare(%q) does not re-encode: %v", text, err)
		}
	})
}
