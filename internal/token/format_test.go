package token

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
)

func TestTextsAreRecognised(t *testing.T) {
	t.Parallel()
	for range 200 {
		for prefix, want := range map[string]shape{prefixService: service, prefixWrapping: wrapping} {
			text := newText(prefix)
			if len(text) != 53 || classify(text) != want {
				t.Fatalf("classify(%q) = %v; want %v", text, classify(text), want)
			}
			for i := len(prefix); i < len(text); i++ {
				b := []byte(text)
				if b[i]++; classify(string(b)) != malformed {
					t.Fatalf("classify(%q), changed at %d, is not malformed", b, i)
				}
			}
		}
		if a := newAccessor(); !validAccessor(a) {
			t.Fatalf("newAccessor() = %q", a)
		}
	}
	for text, want := range map[string]shape{
		"": malformed, "a": custom, "root": custom, "hvs.x": malformed, "a b": malformed, "é": malformed,
		"rts_x": malformed, "rti_x": malformed, "rtr_x": malformed, "rtb_": batch, strings.Repeat("x", 512): custom, strings.Repeat("x", 513): malformed,
	} {
		if got := classify(text); got != want {
			t.Errorf("classify(%.20q) = %v; want %v", text, got, want)
		}
	}
	if base62([]byte{0}, 3) != "000" || base62([]byte{62}, 3) != "010" || base62(bytes.Repeat([]byte{255}, 32), randomWidth) == "" {
		t.Error("base62 is wrong")
	}
	zero := textOf(prefixService, make([]byte, randomBytes))
	if want := "rts_" + strings.Repeat("0", 43); zero[:47] != want || classify(zero) != service {
		t.Errorf("textOf(0) = %q", zero)
	}
}

func sample() *Entry {
	at := time.Unix(1_800_000_000, 5).UTC()
	return &Entry{
		ID: "id", Kind: Service, Accessor: "acc", DisplayName: "token-x", Path: "auth/token/create", Role: "r",
		Policies: []name.Name{"a", "default"}, EntityID: "e", Meta: map[string]string{"": "", "b": "2", "a": "1"}, Parent: "p", Depth: 3,
		Created: at, Renewed: at.Add(1), Expires: at.Add(2), TTL: 1, Granted: 2, Period: 3, ExplicitMax: 4, Renewable: true, NumUses: 5,
		BoundCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		askedPeriod: 6, askedMax: 7, state: spent, wrap: true, alias: "alias", due: at.Add(3),
	}
}

func TestEntryComesBack(t *testing.T) {
	t.Parallel()
	for _, e := range []*Entry{sample(), {Kind: Service}, {Kind: Batch, Meta: map[string]string{}}} {
		got, err := decode(e.encode())
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("decode(encode(%+v)) = %+v, %v", e, got, err)
		}
	}
	// A field that the encoding forgets is found here, when it is added.
	v := reflect.ValueOf(*sample())
	for i := range v.NumField() {
		if v.Field(i).IsZero() && v.Type().Field(i).Name != "Kind" {
			t.Errorf("sample() leaves %s empty", v.Type().Field(i).Name)
		}
	}
	whole := sample().encode()
	for i := range whole {
		if _, err := decode(whole[:i]); err == nil {
			t.Errorf("decode of the first %d bytes succeeds", i)
		}
	}
	if _, err := decode(append(whole, 0)); err == nil {
		t.Error("decode succeeds with a byte too many")
	}
}

func TestGlobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		glob, s string
		want    bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"*", "", true},
		{"*", "x", true},
		{"a*", "a", true},
		{"a*", "ba", false},
		{"*a", "a", true},
		{"*a", "aa", true},
		{"*a", "ab", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "axbxc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"**", "x", true},
		{"", "", true},
		{"", "x", false},
		{"*x*", "axb", true},
		{"*x*", "ab", false},
		{"a*bc", "abc", true},
		{"ab*bc", "abc", false},
	} {
		if got := matches(c.glob, c.s); got != c.want {
			t.Errorf("matches(%q, %q) = %v; want %v", c.glob, c.s, got, c.want)
		}
	}
}

// No address is in a narrowed list that is not in both.
func TestNarrow(t *testing.T) {
	t.Parallel()
	prefixes := func(bits []uint16) (out []netip.Prefix) {
		for _, b := range bits {
			p, err := netip.AddrFrom4([4]byte{byte(b >> 8 & 3), 0, 0, 0}).Prefix(int(b) % 33)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, p)
		}
		return out
	}
	has := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	err := quick.Check(func(x, y []uint16, addr uint32) bool {
		a, b := prefixes(x), prefixes(y)
		at := netip.AddrFrom4([4]byte{byte(addr & 3), 0, 0, byte(addr >> 8)})
		got := narrow(a, b)
		switch {
		case len(a) == 0:
			return has(got, at) == has(b, at)
		case len(b) == 0:
			return has(got, at) == has(a, at)
		}
		return has(got, at) == (has(a, at) && has(b, at))
	}, &quick.Config{MaxCount: 5000})
	if err != nil {
		t.Error(err)
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"", "root", newText(prefixService), newText(prefixWrapping), "rtb_AAAA", "rts_", "hvs.CAES"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		switch sh := classify(s); sh {
		case service, wrapping:
			body := s[:len(s)-checkWidth]
			if len(s) != 53 || check(body) != s[len(body):] {
				t.Errorf("classify(%q) = %v", s, sh)
			}
		case custom:
			if ours(s) && (s[0] == 'r' && s[1] == 't') && s[:4] == strings.ToLower(s[:4]) {
				t.Errorf("classify(%q) = custom; it has a prefix of ours", s)
			}
		case malformed, batch:
		}
		_ = checkCustom(s)
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(sample().encode())
	f.Add((&Entry{Kind: Batch}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		if again := e.encode(); !bytes.Equal(again, b) {
			t.Errorf("decode(%x) encodes as %x", b, again)
		}
	})
}

func FuzzWrapped(f *testing.F) {
	f.Add(wrapped{"acc", []byte("{}")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := decodeWrapped(b)
		if err == nil && !bytes.Equal(w.encode(), b) {
			t.Errorf("decodeWrapped(%x) encodes as %x", b, w.encode())
		}
	})
}

func FuzzBatch(f *testing.F) {
	s := &Store{batch: aead.NewDeriver(make([]byte, aead.KeySize))}
	// Sealed under the key of zeros; the workers of a fuzz test are processes of their own.
	text := secret.New("rtb_WhiXkAOsZXqpNmbC3EMogGQP4pI7xx5svTFvapuKNaxEtMIm__5hC90i_lgHMdmc5s75qNG8sHDHm523_mtEFRr9H0RW8joNhFo")
	if _, err := s.openBatch(text.Reveal()); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Reveal())
	f.Add("rtb_AAAA")
	f.Fuzz(func(t *testing.T, given string) {
		e, err := s.openBatch(given)
		if err != nil {
			return
		}
		if e.Kind != Batch || e.Expires.IsZero() {
			t.Errorf("openBatch(%q) = %+v", given, e)
		}
		if !secret.New(given).Equal(text) {
			t.Errorf("openBatch(%q) succeeds; nobody sealed it", given)
		}
	})
}
