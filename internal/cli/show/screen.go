package show

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Screen returns a writer for text that people read: control characters, and
// those that turn the direction of text, are spelled out, so that what a server
// or another person wrote cannot drive a terminal. Line ends, tabs and colours
// (SGR, ECMA-48 8.3.117) pass. Each Write must hold whole characters.
func Screen(w io.Writer) io.Writer { return screen{w} }

type screen struct{ w io.Writer }

// Write implements [io.Writer].
func (s screen) Write(p []byte) (int, error) {
	if _, err := io.WriteString(s.w, cleanScreen(string(p))); err != nil {
		return 0, fmt.Errorf("writing to the screen: %w", err)
	}
	return len(p), nil
}

func cleanScreen(text string) string {
	if Printable(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		if n := passes(text); n > 0 {
			b.WriteString(text[:n])
			text = text[n:]
			continue
		}
		_, n := utf8.DecodeRuneInString(text)
		b.WriteString(Clean(text[:n]))
		text = text[n:]
	}
	return b.String()
}

// passes returns how many bytes of the beginning of text do nothing but set a
// colour or begin a line.
func passes(text string) int {
	switch {
	case text[0] == '\n' || text[0] == '\t':
		return 1
	case strings.HasPrefix(text, "\r\n"):
		return 2
	case strings.HasPrefix(text, "\x1b["):
		n := len("\x1b[")
		for n < len(text) && (text[n] == ';' || text[n] >= '0' && text[n] <= '9') {
			n++
		}
		if n < len(text) && text[n] == 'm' {
			return n + 1
		}
	}
	return 0
}

// Escaped returns JSON of the same value in which characters that would drive a
// terminal are written as escapes. They stand in strings only.
func Escaped(v jsontext.Value) jsontext.Value {
	if Printable(string(v)) {
		return v
	}
	var b strings.Builder
	for _, r := range string(v) {
		if hostile(r) && r != '\n' && r != '\t' && r != '\r' {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return jsontext.Value(b.String())
}
