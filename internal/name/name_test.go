package name_test

import (
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]name.Name{
		"dev": "dev", "Dev": "dev", "DB-Reader_2.x": "db-reader_2.x", "ROOT": name.Root,
	} {
		if got, err := name.Parse(in); got != want || err != nil {
			t.Errorf("Parse(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", " root", "root ", "root\t", "ｒｏｏｔ", "root\x00", "rooT,default", "a/b", "../x", "-x", ".x", "a\u200b", "\u212a", "ſ", strings.Repeat("a", 129)} {
		if got, err := name.Parse(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("Parse(%q) = %q, %v; want Invalid", in, got, err)
		}
	}
	for _, in := range []string{"root", "Root", "ROOT", "rooT"} {
		if got, err := name.ParseAssignable(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseAssignable(%q) = %q, %v; want Invalid", in, got, err)
		}
	}
}

func TestEscapedSlashes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in          string
		path        name.Path
		first, last int
	}{
		{"a/b", "a/b", -1, -1},
		{"a%2Fb", "a/b", 1, 1},
		{"a/b%2fc%2Fd/e", "a/b/c/d/e", 3, 5},
		{"%41%2f", "A/", 1, 1},
	} {
		if p, first, last, err := name.ParseEscaped(c.in); p != c.path || first != c.first || last != c.last || err != nil {
			t.Errorf("ParseEscaped(%q) = %q, %d, %d, %v; want %q, %d, %d", c.in, p, first, last, err, c.path, c.first, c.last)
		}
	}
}

func TestParseEscaped(t *testing.T) {
	for in, want := range map[string]name.Path{
		"secret/data/app": "secret/data/app", "secret/metadata/": "secret/metadata/",
		"a%20b/c": "a b/c", "a/%2B/%2a": "a/+/*", "a/caf%C3%A9": "a/café", "a/50%25 off": "a/50% off",
	} {
		if got, first, last, err := name.ParseEscaped(in); got != want || err != nil || first >= 0 || last >= 0 {
			t.Errorf("ParseEscaped(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "/", "/a", "a//b", "a/./b", "a/../b", "..", "a/%2e%2e/b", "a/%2e", "a/%2fb", "a/%2F", "%2fa", "a%2f%2fb", "a%2f..%2fb", "a%2f%2e", "a%00b", "a/%C0%AE", "a/%252e%252e",
		"a/%", "a/%4", "a/%zz", "a/\u202eb", "a/\u200bb", "a/\r\n", "a/ b", "a/b ", "a/\ufeff", "a/cafe\u0301", "a/\u2028", "a\\b", "a%5cb", "a/..;/b", "a/.;x",
		strings.Repeat("a/", 33), strings.Repeat("a", 256), strings.Repeat("a/", 2100),
	} {
		if got, _, _, err := name.ParseEscaped(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseEscaped(%q) = %q, %v; want Invalid", in, got, err)
		}
	}
}

func TestParseMount(t *testing.T) {
	for in, want := range map[string]name.Path{"secret": "secret/", "secret/": "secret/", "a/b": "a/b/", "/kv": "kv/"} {
		if got, err := name.ParseMount(in); got != want || err != nil {
			t.Errorf("ParseMount(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "/", "a+", "a/*", "..", "a//b"} {
		if got, err := name.ParseMount(in); err == nil {
			t.Errorf("ParseMount(%q) = %q; want an error", in, got)
		}
	}
}

// What parses is canonical: parsing it again changes nothing.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"secret/data/app", "a%20b", "a/%2e%2e", "é", "a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, _, _, err := name.ParseEscaped(s)
		if err != nil {
			return
		}
		again, err := name.ParsePath(string(p))
		if err != nil || again != p {
			t.Errorf("ParsePath(%q) = %q, %v; want it unchanged", p, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("Dev")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := name.Parse(s)
		if err != nil {
			return
		}
		if again, err := name.Parse(string(n)); err != nil || again != n {
			t.Errorf("Parse(%q) = %q, %v; want it unchanged", n, again, err)
		}
	})
}
