package aead

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/secret"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The AES-256 examples of NIST SP 800-38B, and those of RFC 4493 for AES-128.
func TestCMACVectors(t *testing.T) {
	const m = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"
	const k256 = "603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4"
	const k128 = "2b7e151628aed2a6abf7158809cf4f3c"
	for _, v := range []struct {
		name, key, sum string
		n              int
	}{
		{"256/64", k256, "e1992190549f6ed5696a2c056c315410", 64},
		{"256/0", k256, "028962f61b7bf89efc6b551f4667d983", 0},
		{"256/16", k256, "28a7023f452e8f82bd4bf28d8c37c35c", 16},
		{"256/40", k256, "aaf3d8f1de5640c232f5b169b9c911e6", 40},
		{"128/0", k128, "bb1d6929e95937287fa37d129b756746", 0},
		{"128/16", k128, "070a16b46b4d4144f79bdd9dd04a287c", 16},
		{"128/40", k128, "dfa66747de9ae63030ca32611497c827", 40},
		{"128/64", k128, "51f0bebf7e3b9d92fc49741779363cfe", 64},
	} {
		c := newCMAC(unhex(t, v.key))
		got := c.sum(unhex(t, m)[:v.n])
		if hex.EncodeToString(got[:]) != v.sum {
			t.Errorf("%s: CMAC = %x; want %s", v.name, got, v.sum)
		}
	}
}

func TestCMACOneBlock(t *testing.T) {
	c := newCMAC(NewKey())
	var m, got [aes.BlockSize]byte
	for range 100 {
		rand.Read(m[:])
		c.one(got[:], &m, new([aes.BlockSize]byte))
		if want := c.sum(m[:]); got != want {
			t.Fatalf("one(%x) = %x; sum says %x", m, got, want)
		}
	}
}

// The vectors of https://c2sp.org/XAES-256-GCM: a Deriver's salt and nonce are
// the first and last half of the nonce there.
func TestXAESVectors(t *testing.T) {
	const nonce = "ABCDEFGHIJKLMNOPQRSTUVWX"
	for _, v := range []struct {
		key    byte
		aad    string
		sealed string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		d := NewDeriver(bytes.Repeat([]byte{v.key}, KeySize))
		got, err := d.Open(nil, append([]byte(nonce), unhex(t, v.sealed)...), []byte(v.aad))
		if err != nil || string(got) != "XAES-256-GCM" {
			t.Errorf("key %d: Open = %q, %v; want XAES-256-GCM", v.key, got, err)
		}
	}
}

// Test case 16 of the GCM specification of McGrew and Viega, and 13 and 14.
func TestGCMVectors(t *testing.T) {
	for _, v := range []struct{ name, key, nonce, plain, aad, sealed string }{
		{"13", strings.Repeat("00", 32), strings.Repeat("00", 12), "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"14", strings.Repeat("00", 32), strings.Repeat("00", 12), strings.Repeat("00", 16), "", "cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919"},
		{
			"16", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
			"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
			"feedfacedeadbeeffeedfacedeadbeefabaddad2",
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b",
		},
	} {
		got, err := OpenOnce(nil, unhex(t, v.key), unhex(t, v.nonce+v.sealed), unhex(t, v.aad))
		if err != nil || !bytes.Equal(got, unhex(t, v.plain)) {
			t.Errorf("%s: OpenOnce = %x, %v; want %s", v.name, got, err, v.plain)
		}
	}
}

func TestSealThenOpen(t *testing.T) {
	d, key, box := NewDeriver(NewKey()), NewKey(), NewBox(secret.NewBytes(NewKey()))
	aad := For("test").Num(FieldGeneration, 7)
	forms := []struct {
		name     string
		overhead int
		seal     func(plain, aad []byte) []byte
		open     func(sealed, aad []byte) ([]byte, error)
	}{
		{"once", OnceOverhead, func(p, a []byte) []byte { return SealOnce(nil, key, p, a) }, func(s, a []byte) ([]byte, error) { return OpenOnce(nil, key, s, a) }},
		{"deriver", DeriverOverhead, func(p, a []byte) []byte { return d.Seal(nil, p, a) }, func(s, a []byte) ([]byte, error) { return d.Open(nil, s, a) }},
		{"box", BoxOverhead, func(p, a []byte) []byte { return box.Seal(p, a) }, func(s, a []byte) ([]byte, error) { return box.Open(s, a) }},
	}
	for _, f := range forms {
		for _, n := range []int{0, 1, 15, 16, 17, 300, 5000} {
			plain := make([]byte, n)
			rand.Read(plain)
			sealed := f.seal(plain, aad)
			if len(sealed) != n+f.overhead {
				t.Errorf("%s: %d bytes seal to %d; want %d", f.name, n, len(sealed), n+f.overhead)
			}
			if got, err := f.open(sealed, aad); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: open of %d bytes = %x, %v", f.name, n, got, err)
			}
			if _, err := f.open(sealed, For("test").Num(FieldGeneration, 8)); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: open with other additional data: %v; want ErrDamaged", f.name, err)
			}
			if n > 300 {
				continue
			}
			for i := range sealed {
				bad := bytes.Clone(sealed)
				bad[i] ^= 0x40
				if got, err := f.open(bad, aad); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: byte %d of %d changed: open = %x, %v; want ErrDamaged", f.name, i, n, got, err)
				}
				if _, err := f.open(sealed[:i], aad); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: cut at %d: %v; want ErrDamaged", f.name, i, err)
				}
			}
		}
	}
}

func TestBoxTellsWrongKey(t *testing.T) {
	sealed := NewBox(secret.NewBytes(NewKey())).Seal([]byte("x"), nil)
	if _, err := NewBox(secret.NewBytes(NewKey())).Open(sealed, nil); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open with another key: %v; want ErrWrongKey", err)
	}
}

func TestAADIsInjective(t *testing.T) {
	lists := []AAD{
		For("ab").Str(FieldRow, "c"), For("a").Str(FieldRow, "bc"), For("abc"),
		For("ab").Str(FieldScope, "c"), For("ab").Str(FieldRow, "").Str(FieldRow, "c"),
		For("ab").Num(FieldRow, 'c'), For(strings.Repeat("a", 200)), For(strings.Repeat("a", 201)),
	}
	for i, a := range lists {
		for j, b := range lists {
			if i != j && bytes.Equal(a, b) {
				t.Errorf("lists %d and %d are the same bytes: %x", i, j, a)
			}
		}
	}
}

func FuzzBox(f *testing.F) {
	box := NewBox(secret.NewBytes(bytes.Repeat([]byte{1}, KeySize)))
	f.Add(box.Seal([]byte("hello"), nil))
	f.Add([]byte(boxMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := box.Open(b, For("never sealed with this")); err == nil {
			t.Errorf("Open(%x) opened", b)
		}
	})
}

func BenchmarkDeriver(b *testing.B) {
	d := NewDeriver(NewKey())
	plain, aad := make([]byte, 300), make([]byte, 100)
	sealed := d.Seal(nil, plain, aad)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Seal(nil, plain, aad)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Open(nil, sealed, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
