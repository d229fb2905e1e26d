package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
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

// TestFormsAreMasked holds what the help of run says is masked.
func TestFormsAreMasked(t *testing.T) {
	t.Parallel()
	const value = "S3cr&t \"quoted\"/pass w\\rd+é's <$x>\nsecond line of the secret\n"
	b64, url64 := base64.StdEncoding.EncodeToString, base64.URLEncoding.EncodeToString
	long := strings.Repeat("0123456789 abcdef/", 12)
	for _, tc := range []struct{ name, secret, output string }{
		{"as it is", value, "x" + value + "y"},
		{"trimmed", value, "[" + strings.TrimSpace(value) + "]"},
		{"terminal line ends", value, strings.ReplaceAll(value, "\n", "\r\n")},
		{"one line", value, "  second line of the secret  "},
		{"a short line", "first\nline two\n", "  line two  "},
		{"base64", value, b64([]byte(value))},
		{"base64 without padding", "four", base64.RawStdEncoding.EncodeToString([]byte("four"))},
		{"base64 of four bytes", "four", b64([]byte("four"))},
		{"basic authentication", value, b64([]byte("user:" + value))},
		{"basic authentication of four bytes", "four", b64([]byte("me:four"))},
		{"base64 between others", value, url64([]byte("a" + value + "bc"))},
		{"base64 in lines", long, wrap(b64([]byte(long)), 76)},
		{"base64 in lines of a terminal", long, strings.ReplaceAll(wrap(b64([]byte(long)), 64), "\n", "\r\n")},
		{"JSON", value, `"S3cr&t \"quoted\"/pass w\\rd+é's <$x>\nsecond line of the secret\n"`},
		{"JSON for a page", value, `"S3cr\u0026t \"quoted\"/pass w\\rd+é's \u003c$x\u003e\nsecond line of the secret\n"`},
		{"JSON in ASCII", value, `"S3cr&t \"quoted\"/pass w\\rd+\u00e9's <$x>\nsecond line of the secret\n"`},
		{"JSON of PHP", value, `"S3cr&t \"quoted\"\/pass w\\rd+\u00e9's <$x>\nsecond line of the secret\n"`},
		{"JSON beyond the first plane", "key 🔑 end", `"key \ud83d\udd11 end"`},
		{"form", value, "?p=S3cr%26t+%22quoted%22%2Fpass+w%5Crd%2B%C3%A9%27s+%3C%24x%3E%0Asecond+line+of+the+secret%0A"},
		{"query", value, "?p=S3cr%26t%20%22quoted%22%2Fpass%20w%5Crd%2B%C3%A9%27s%20%3C%24x%3E%0Asecond%20line%20of%20the%20secret%0A"},
		{"query in lower case", value, "?p=S3cr%26t%20%22quoted%22%2fpass%20w%5crd%2b%c3%a9%27s%20%3c%24x%3e%0asecond%20line%20of%20the%20secret%0a"},
		{"path", value, "/S3cr%26t%20%22quoted%22/pass%20w%5Crd%2B%C3%A9%27s%20%3C%24x%3E%0Asecond%20line%20of%20the%20secret%0A"},
		{"path of Go", value, "/S3cr&t%20%22quoted%22%2Fpass%20w%5Crd+%C3%A9%27s%20%3C$x%3E%0Asecond%20line%20of%20the%20secret%0A"},
		{"query of JavaScript", value, "?p=S3cr%26t%20%22quoted%22%2Fpass%20w%5Crd%2B%C3%A9's%20%3C%24x%3E%0Asecond%20line%20of%20the%20secret%0A"},
		{"a line in HTML", "first <line>\nsecond line\n", "first &lt;line&gt;"},
		{"a line in base64", "first <line>\nsecond line\n", b64([]byte("first <line>"))},
		{"HTML", value, "<p>S3cr&amp;t &#34;quoted&#34;/pass w\\rd+é&#39;s &lt;$x&gt;\nsecond line of the secret\n</p>"},
		{"attribute", value, "S3cr&amp;t &quot;quoted&quot;/pass w\\rd+é&#x27;s &lt;$x&gt;\nsecond line of the secret\n"},
		{"shell", value, `'S3cr&t "quoted"/pass w\rd+é'\''s <$x>` + "\nsecond line of the secret\n'"},
		{"shell, double quotes", value, `"S3cr&t \"quoted\"/pass w\\rd+é's <\$x>` + "\nsecond line of the secret\n\""},
		{"shell, with escapes", value, `$'S3cr&t "quoted"/pass w\\rd+é\'s <$x>\nsecond line of the secret\n'`},
		{"hexadecimal", value, hex.EncodeToString([]byte(value))},
		{"hexadecimal in upper case", value, strings.ToUpper(hex.EncodeToString([]byte(value)))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 3, len(tc.output)} { // read in pieces, and at once
				var got bytes.Buffer
				w := New([]string{tc.secret, "another one"}).Writer(&got)
				for piece := range slices.Chunk([]byte(tc.output), size) {
					if _, err := w.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(got.String(), "********") || len(got.String()) > len("********")+12 {
					t.Errorf("in pieces of %d the output is %q, want the mask and what stands around it", size, got.String())
				}
			}
		})
	}
}

// TestWhatIsNoSecretStays passes every byte through, and what is shorter than
// is masked.
func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	all := make([]byte, 0, 1024)
	for i := range 1024 {
		all = append(all, byte(i), byte(i>>2))
	}
	var got bytes.Buffer
	w := New([]string{"abc", "a-secret-of-some-length", "short\nlines\n"}).Writer(&got)
	for piece := range slices.Chunk(append(all, "abc short lines"...), 7) {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), append(all, "abc short lines"...)) {
		t.Errorf("what holds no secret comes back changed: %q", got.Bytes())
	}
}

// TestLargeValuesStayBounded holds that a set of many large values does not
// grow with all their encodings.
func TestLargeValuesStayBounded(t *testing.T) {
	t.Parallel()
	values := []string{"small secret/with+signs"}
	for i := range 4 {
		values = append(values, strings.Repeat(string(rune('a'+i))+"%/", 20_000))
	}
	if huge := New([]string{strings.Repeat("a%/", 512<<10/3)}); len(huge.nodes) > maxForms {
		t.Errorf("the set of one value of 512 KiB has %d states, want at most %d", len(huge.nodes), maxForms)
	}
	for _, s := range []string{strings.Repeat("a%/", 100), strings.Repeat("'<\x00", 300), strings.Repeat("line\n", 400)} {
		total := 0
		for _, f := range encodings(s) {
			total += len(f)
		}
		if total > manyForms*len(s) {
			t.Errorf("the encodings of %.10q are %d times as long; want %d at most", s, total/len(s), manyForms)
		}
	}
	set := New(values)
	if got := len(set.nodes); got > 2*maxForms {
		t.Errorf("the set has %d states, want at most %d", got, 2*maxForms)
	}
	var got bytes.Buffer
	w := set.Writer(&got)
	if _, err := io.WriteString(w, values[4]+" "+base64.StdEncoding.EncodeToString([]byte(values[0]))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "******** ********"; got.String() != want {
		t.Errorf("a large value, and a small one in base64 = %.40q, want %q", got.String(), want)
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
