package mask

import (
	"bytes"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naive masks text by looking at every position of the whole.
func naive(text string, patterns []string, mask string) string {
	covered := make([]bool, len(text))
	starts := make([]bool, len(text)) // a pattern starts here that overlaps nothing before it
	type hit struct{ from, to int }
	var hits []hit
	for i := range text {
		for _, p := range patterns {
			if p != "" && strings.HasPrefix(text[i:], p) {
				hits = append(hits, hit{i, i + len(p)})
			}
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return a.from - b.from })
	end := 0
	for _, h := range hits {
		if h.from >= end {
			starts[h.from] = true
		}
		end = max(end, h.to)
		for i := h.from; i < h.to; i++ {
			covered[i] = true
		}
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case starts[i]:
			b.WriteString(mask)
		case !covered[i]:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func ascii(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0 }

func TestAnySplitMasksTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// A small alphabet, so that secrets overlap themselves and one another.
		word := rapid.StringOfN(rapid.RuneFrom([]rune("ab\n")), 1, 7, -1)
		patterns := rapid.SliceOfN(word, 0, 5).Draw(t, "secrets")
		piece := rapid.OneOf(rapid.StringOfN(rapid.RuneFrom([]rune("abc\n")), 0, 9, -1), rapid.SampledFrom(append(patterns, "c")))
		text := strings.Join(rapid.SliceOfN(piece, 0, 20).Draw(t, "text"), "")
		cuts := rapid.SliceOfN(rapid.IntRange(0, max(0, len(text))), 0, 30).Draw(t, "cuts")
		slices.Sort(cuts)

		set := exactly(patterns)
		var got bytes.Buffer
		w := set.Writer(&got)
		at := 0
		for _, c := range append(cuts, len(text)) {
			if _, err := io.WriteString(w, text[at:c]); err != nil {
				t.Fatal(err)
			}
			at = c
			if held := len(w.held); held > max(0, set.Longest()-1) {
				t.Fatalf("%d bytes held back, want at most %d", held, set.Longest()-1)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := naive(text, patterns, string(set.mask)); got.String() != want {
			t.Fatalf("masking %q of %q, cut at %v = %q, want %q", patterns, text, cuts, got.String(), want)
		}
		for _, p := range patterns {
			if p != "" && strings.Contains(got.String(), p) {
				t.Fatalf("output %q holds the secret %q", got.String(), p)
			}
		}
	})
}

func TestPauseNeverShowsASecret(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 4, 12, -1), 1, 4).Draw(t, "secrets")
		text := strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(secrets), rapid.StringOfN(rapid.RuneFrom([]rune("abcd")), 0, 5, -1)), 0, 8).Draw(t, "text"), "")
		set := exactly(secrets)
		var got bytes.Buffer
		w := set.Writer(&got)
		for i := range len(text) {
			if _, err := w.Write([]byte{text[i]}); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "pause") {
				if err := w.Pause(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(got.String(), s) {
				t.Fatalf("output %q of %q holds %q", got.String(), text, s)
			}
		}
	})
}

func TestPauseShowsAPrompt(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	w := New([]string{"y-secret-of-some-length"}).Writer(&got)
	if _, err := io.WriteString(w, "go on? y"); err != nil {
		t.Fatal(err)
	}
	if got.String() != "go on? " {
		t.Errorf("before the pause %q, want the last byte held back", got.String())
	}
	if err := w.Pause(); err != nil {
		t.Fatal(err)
	}
	if got.String() != "go on? y" {
		t.Errorf("after the pause %q, want all of it", got.String())
	}
	if _, err := io.WriteString(w, "-secret-of-some-length."); err != nil {
		t.Fatal(err)
	}
	if want := "go on? y********."; got.String() != want {
		t.Errorf("after the rest %q, want %q", got.String(), want)
	}
}

func TestFormsAreMasked(t *testing.T) {
	t.Parallel()
	const value = "S3cr&t \"quoted\"/pass word+\nsecond line of the secret\n"
	for _, tc := range []struct{ name, output string }{
		{"as it is", "x" + value + "y"},
		{"trimmed", "[" + strings.TrimSpace(value) + "]"},
		{"terminal line ends", strings.ReplaceAll(value, "\n", "\r\n")},
		{"one line", "  second line of the secret  "},
		{"base64", base64.StdEncoding.EncodeToString([]byte(value))},
		{"basic authentication", base64.StdEncoding.EncodeToString([]byte("user:" + value))},
		{"base64 between others", base64.URLEncoding.EncodeToString([]byte("a" + value + "bc"))},
		{"JSON", `{"a":"S3cr&t \"quoted\"/pass word+\nsecond line of the secret\n"}`},
		{"query", "?p=S3cr%26t+%22quoted%22%2Fpass+word%2B%0Asecond+line+of+the+secret%0A"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			w := New([]string{value}).Writer(&got)
			if _, err := io.WriteString(w, tc.output); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"S3cr", "second line", base64.StdEncoding.EncodeToString([]byte(value))[4:24]} {
				if strings.Contains(got.String(), part) {
					t.Errorf("output %q holds %q", got.String(), part)
				}
			}
		})
	}
}

func TestMaskShowsNoLength(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"four", strings.Repeat("long", 50)} {
		var got bytes.Buffer
		w := New([]string{secret, "**"}).Writer(&got)
		if _, err := io.WriteString(w, "<"+secret+">"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got.String() != "<********>" {
			t.Errorf("masking %d bytes gives %q, want %q", len(secret), got.String(), "<********>")
		}
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("secret", "a secret in text", 5)
	f.Add("aab", "aaabaab", 2)
	f.Fuzz(func(t *testing.T, secret, text string, cut int) {
		if cut < 0 || cut > len(text) || !ascii(secret) {
			return
		}
		set := exactly([]string{secret})
		var whole, split bytes.Buffer
		w := set.Writer(&whole)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		w = set.Writer(&split)
		_, _ = io.WriteString(w, text[:cut])
		_, _ = io.WriteString(w, text[cut:])
		_ = w.Close()
		if whole.String() != split.String() {
			t.Errorf("masking %q in %q cut at %d = %q, want %q", secret, text, cut, split.String(), whole.String())
		}
	})
}
