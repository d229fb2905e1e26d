package mask

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-json-experiment/json"
)

// spellings returns v as it may stand in text as it is: whole, without the
// white space around it, with the line ends of a terminal, and line by line.
func spellings(v string) []string {
	trimmed := strings.TrimSpace(v)
	out := []string{v}
	if len(trimmed) >= MinLen && trimmed != v {
		out = append(out, trimmed)
	}
	if !strings.Contains(trimmed, "\n") {
		return out
	}
	for _, s := range []string{v, trimmed} {
		plain := strings.ReplaceAll(s, "\r\n", "\n")
		for _, f := range []string{plain, strings.ReplaceAll(plain, "\n", "\r\n")} {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	for line := range strings.Lines(trimmed) {
		if line = strings.TrimSpace(line); len(line) >= MinLine && !strings.HasPrefix(line, "-----") {
			out = append(out, line)
		}
	}
	return out
}

// encodings returns s as programs write it into other formats, but for what is
// s itself.
func encodings(s string) []string {
	var out []string
	seen := map[string]bool{s: true}
	for _, encode := range []func(string) []string{inJSON, inURL, inHTML, inShell, inHex, inBase64} {
		for _, f := range encode(s) {
			if len(f) >= MinLen && !seen[f] {
				seen[f] = true
				out = append(out, f)
			}
		}
	}
	return out
}

// inJSON returns s as the JSON writers of several languages escape it: with or
// without what HTML could take for markup, what is not ASCII, and slashes.
func inJSON(s string) []string {
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	plain := string(b[1 : len(b)-1])
	safe := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(plain)
	var out []string
	for _, f := range []string{plain, safe} {
		for _, g := range []string{f, escapeWide(f)} {
			out = append(out, g, strings.ReplaceAll(g, "/", `\/`))
		}
	}
	return out
}

// escapeWide escapes what is not ASCII as JSON does.
func escapeWide(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// unreserved are the bytes that no URL escapes.
const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

// inURL returns s percent-encoded, with the bytes that one writer or another
// leaves as they are, and with digits of either case.
func inURL(s string) []string {
	var out []string
	for _, plain := range []string{
		unreserved, unreserved + "~", unreserved + "~/", // as RFC 3986 and Python's quote do
		unreserved + "*",                 // as forms do
		unreserved + "!~*'()",            // as JavaScript's encodeURIComponent does
		unreserved + "~$&+=:@",           // as Go's PathEscape does
		unreserved + "!~*'();/?:@&=+$,#", // as JavaScript's encodeURI does
	} {
		for _, digits := range []string{"0123456789ABCDEF", "0123456789abcdef"} {
			f := percent(s, plain, digits)
			out = append(out, f)
			if strings.Contains(s, " ") {
				out = append(out, strings.ReplaceAll(f, "%20", "+"))
			}
		}
	}
	return out
}

func percent(s, plain, digits string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// inHTML returns s as text and as an attribute of HTML or XML.
func inHTML(s string) []string {
	f := html.EscapeString(s)
	return []string{
		f,
		strings.ReplaceAll(f, "&#34;", "&quot;"),
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "'").Replace(f),
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#x27;").Replace(f),
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "&apos;").Replace(f),
		strings.NewReplacer("&#34;", `"`, "&#39;", "'").Replace(f),
	}
}

// inShell returns s as it stands in the quotes of a shell, and in those of
// languages that quote alike.
func inShell(s string) []string {
	lines := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	return []string{
		strings.ReplaceAll(s, "'", `'\''`),
		strings.ReplaceAll(s, "'", `'"'"'`),
		strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s),
		lines.Replace(s),
		strings.ReplaceAll(lines.Replace(s), "'", `\'`),
	}
}

func inHex(s string) []string {
	f := hex.EncodeToString([]byte(s))
	return []string{f, strings.ToUpper(f)}
}

// inBase64 returns s in base64 of both alphabets: alone, at the end of
// something longer, and in the middle of it, where it may begin at any of three
// offsets.
func inBase64(s string) []string {
	var out []string
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		full := enc.EncodeToString([]byte(s))
		out = append(out, full)
		for _, width := range []int{64, 76} {
			if len(full) > width {
				wrapped := wrap(full, width)
				out = append(out, wrapped, strings.ReplaceAll(wrapped, "\n", "\r\n"))
			}
		}
		for offset := range 3 {
			text := enc.EncodeToString(append(make([]byte, offset), s...))
			skip := (offset*8 + 5) / 6           // characters that hold bits of what stands before
			whole := ((offset + len(s)) * 8) / 6 // characters whose six bits are all of s
			if skip >= whole {
				continue
			}
			out = append(out, text[skip:whole], text[skip:], strings.TrimRight(text[skip:], "="))
		}
	}
	return out
}

// wrap breaks s into lines of width bytes.
func wrap(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\n")
		s = s[width:]
	}
	return b.String() + s
}
