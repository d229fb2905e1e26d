package intake

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

// An envReader reads a file of lines NAME=VALUE as shells and the readers of
// .env files agree on it:
//
//	# a comment
//	export NAME=VALUE        export is optional; NAME: VALUE is the same
//	NAME=some text  # why    ends at a # behind white space, without that around it
//	NAME='a $b \n'           as it is, over any number of lines
//	NAME="a\n\"b\""          \n, \r, \t; a backslash before anything else goes
//
// $OTHER and ${OTHER}, outside of single quotes, are the value of a name that
// stands further up. Readers do not agree on what they are where none does: one
// keeps the text, another drops it, so the line is refused.
type envReader struct {
	rest  string
	line  int // of the beginning of rest, from 1
	seen  map[string]int
	text  map[string]string
	grown int // bytes that variables were replaced by, of MaxSize at most
	items []Item
}

func parseEnv(data []byte) ([]Item, error) {
	r := &envReader{rest: strings.ReplaceAll(string(data), "\r\n", "\n"), line: 1, seen: map[string]int{}, text: map[string]string{}}
	for r.rest != "" {
		at := r.line
		if err := r.one(); err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err) // it quotes no value
		}
	}
	return r.items, nil
}

// one reads one line, or one assignment that has several.
func (r *envReader) one() error {
	line, _, _ := strings.Cut(r.rest, "\n")
	trimmed := strings.TrimLeft(line, " \t")
	if strings.TrimSpace(trimmed) == "" || trimmed[0] == '#' {
		r.take(len(line) + 1)
		return nil
	}
	if rest, ok := strings.CutPrefix(trimmed, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
		trimmed = strings.TrimLeft(rest, " \t")
	}
	end := 0
	for end < len(trimmed) && nameByte(trimmed[end]) {
		end++
	}
	name, after := trimmed[:end], strings.TrimLeft(trimmed[end:], " \t")
	if name == "" || after == "" || after[0] != '=' && after[0] != ':' {
		return errors.New("this is not NAME=VALUE; a name has letters, digits, '_', '.' and '-'")
	}
	if first, again := r.seen[name]; again {
		return fmt.Errorf("%s stands in the file more than once, first in line %d", strconv.Quote(name), first)
	}
	at := r.line
	after = strings.TrimLeft(after[1:], " \t")
	r.take(len(line) - len(after))
	text, err := r.value()
	if err != nil {
		return fmt.Errorf("the value of %s %w", name, err)
	}
	b, err := json.Marshal(text)
	if err != nil {
		return fmt.Errorf("the value of %s is not UTF-8 text", name)
	}
	r.seen[name], r.text[name] = at, text
	r.items = append(r.items, Item{name, b})
	return nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}

// take passes over n bytes, or what is left.
func (r *envReader) take(n int) {
	n = min(n, len(r.rest))
	r.line += strings.Count(r.rest[:n], "\n")
	r.rest = r.rest[n:]
}

// value reads what stands behind the equals sign, to the end of its line.
func (r *envReader) value() (string, error) {
	switch {
	case strings.HasPrefix(r.rest, "'"):
		end := strings.IndexByte(r.rest[1:], '\'')
		if end < 0 {
			return "", errors.New("has no closing quote")
		}
		text := r.rest[1 : 1+end]
		r.take(end + 2)
		return text, r.lineEnd()
	case strings.HasPrefix(r.rest, `"`):
		return r.quoted()
	}
	line, _, _ := strings.Cut(r.rest, "\n")
	text := line
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
			text = text[:i]
			break
		}
	}
	r.take(len(line) + 1)
	return r.expand(strings.TrimSpace(text), false)
}

// quoted reads a value in double quotes.
func (r *envReader) quoted() (string, error) {
	for end := 1; end < len(r.rest); end++ {
		switch r.rest[end] {
		case '\\':
			end++
		case '"':
			text, err := r.expand(r.rest[1:end], true)
			if err != nil {
				return "", err
			}
			r.take(end + 1)
			return text, r.lineEnd()
		}
	}
	return "", errors.New("has no closing quote")
}

// lineEnd refuses what stands behind a closing quote, but for a comment.
func (r *envReader) lineEnd() error {
	line, _, _ := strings.Cut(r.rest, "\n")
	trimmed := strings.TrimSpace(line)
	if trimmed != "" && (trimmed[0] != '#' || line[0] == '#') {
		return errors.New("goes on behind its closing quote")
	}
	r.take(len(line) + 1)
	return nil
}

// expand replaces variables, and in double quotes what is escaped.
func (r *envReader) expand(s string, quoted bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (quoted || s[i+1] == '$'):
			i++
			if short := strings.IndexByte("nrt", s[i]); short >= 0 && quoted {
				b.WriteByte("\n\r\t"[short])
			} else {
				b.WriteByte(s[i])
			}
		case c == '$':
			name, length := variable(s[i+1:])
			text, known := r.text[name]
			if rest, braces := strings.CutPrefix(s[i+1:], "{"); name == "" && braces && rest != "" && begins(rest[0]) {
				return "", errors.New("holds ${, with more behind it than a name and }: put the value in single quotes if it is to stay as it is")
			}
			if name == "" {
				b.WriteByte(c)
				continue
			}
			if !known {
				return "", fmt.Errorf("holds $%s, which no line before it sets: put the value in single quotes if it is to stay as it is", name)
			}
			if r.grown += len(text); r.grown > MaxSize {
				return "", errors.New("becomes too large by the variables in it")
			}
			b.WriteString(text)
			i += length
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// begins reports whether a name may begin with c.
func begins(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// variable returns the name that s, what stands behind a dollar sign, begins
// with, and how long it is with its braces.
func variable(s string) (name string, length int) {
	inner, braces := strings.CutPrefix(s, "{")
	end := 0
	for end < len(inner) && inner[end] != '.' && inner[end] != '-' && nameByte(inner[end]) {
		end++
	}
	name = inner[:end]
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "", 0
	}
	if !braces {
		return name, end
	}
	if end == len(inner) || inner[end] != '}' {
		return "", 0
	}
	return name, end + 2
}
