// Package show lays data out for people and for programs: tables, YAML, and
// lines for a shell.
package show

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Table is rows under a header. Text that could move a terminal's cursor is
// spelled out.
type Table struct {
	Header []string
	Rows   [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Write writes t to w, in columns, with a header in bold where colour is asked
// for and with a line of dashes under it where not.
func (t *Table) Write(w io.Writer, colour bool) error {
	header := t.Header
	rows := make([][]string, 0, len(t.Rows)+1)
	if !colour && len(header) > 0 {
		dashes := make([]string, len(header))
		for i, h := range header {
			dashes[i] = strings.Repeat("-", max(3, lipgloss.Width(h)))
		}
		rows = append(rows, dashes)
	}
	for _, r := range t.Rows {
		clean := make([]string, len(r))
		for i, c := range r {
			clean[i] = Clean(c)
		}
		rows = append(rows, clean)
	}
	last := max(len(header)-1, 0)
	tbl := table.New().Wrap(false).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderHeader(false).BorderColumn(false).
		Headers(header...).Rows(rows...).
		StyleFunc(func(row, col int) lipgloss.Style {
			s := lipgloss.NewStyle()
			if col < last {
				s = s.PaddingRight(4)
			}
			if row == table.HeaderRow && colour {
				s = s.Bold(true).Foreground(lipgloss.Cyan)
			}
			return s
		})
	for line := range strings.SplitSeq(tbl.Render(), "\n") {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return fmt.Errorf("writing a table: %w", err)
		}
	}
	return nil
}

// Clean returns s with control characters spelled out, so that text which
// someone else wrote stays on its line and cannot drive a terminal.
func Clean(s string) string {
	if strings.IndexFunc(s, hostile) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Printable reports whether s may go to a terminal as it is.
func Printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return hostile(r) && r != '\n' && r != '\t' }) < 0
}

// Text returns a JSON value as people read it: a string without its quotes,
// anything else as JSON.
func Text(v jsontext.Value) string {
	if v.Kind() == '"' {
		var s string
		if json.Unmarshal(v, &s) == nil {
			return s
		}
	}
	if v.Kind() == 'n' {
		return "n/a"
	}
	out := slices.Clone(v)
	if out.Compact() != nil {
		return string(v)
	}
	return string(out)
}

// Cell returns a JSON value as it stands in a table: as [Text], and a list of
// texts in brackets.
func Cell(v jsontext.Value) string {
	items := Items(v)
	if len(items) == 0 || slices.ContainsFunc(items, func(it jsontext.Value) bool { return it.Kind() != '"' }) {
		return Text(v)
	}
	texts := make([]string, len(items))
	for i, it := range items {
		texts[i] = Text(it)
	}
	return "[" + strings.Join(texts, " ") + "]"
}

// Member is a name and a value of an object, in the order of the object.
type Member struct {
	Name  string
	Value jsontext.Value
}

// Members returns the members of an object; none where v is no object.
func Members(v jsontext.Value) []Member {
	if v.Kind() != '{' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	var out []Member
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return out
		}
		n := name.String()
		val, err := dec.ReadValue()
		if err != nil {
			return out
		}
		out = append(out, Member{n, slices.Clone(val)})
	}
	return out
}

// Sorted returns the members of an object in the order of their names.
func Sorted(v jsontext.Value) []Member {
	ms := Members(v)
	slices.SortStableFunc(ms, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return ms
}

// Field returns the member of v that name names; dots lead into objects where
// no member has the whole name, and numbers into lists.
func Field(v jsontext.Value, name string) (jsontext.Value, bool) {
	if v.Kind() == '[' {
		head, rest, deeper := strings.Cut(name, ".")
		i, err := strconv.Atoi(head)
		items := Items(v)
		if err != nil || i < 0 || i >= len(items) {
			return nil, false
		}
		if deeper {
			return Field(items[i], rest)
		}
		return items[i], true
	}
	for _, m := range Members(v) {
		if m.Name == name {
			return m.Value, true
		}
	}
	head, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil, false
	}
	for _, m := range Members(v) {
		if m.Name == head {
			return Field(m.Value, rest)
		}
	}
	return nil, false
}

// Indent returns v as JSON over several lines.
func Indent(v jsontext.Value) jsontext.Value {
	out := slices.Clone(v)
	if out.Indent(jsontext.WithIndent("  ")) != nil {
		return v
	}
	return out
}

var plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)

// reserved are the words that some YAML reader takes for something else than text.
var reserved = []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"}

// YAML returns v, which must be valid JSON, as YAML. Numbers keep their digits.
func YAML(v jsontext.Value) string {
	var b strings.Builder
	yaml(&b, v, 0)
	return b.String()
}

func yaml(b *strings.Builder, v jsontext.Value, indent int) {
	pad := strings.Repeat("  ", indent)
	ms, items := Members(v), Items(v)
	if len(ms)+len(items) == 0 {
		b.WriteString(pad + leaf(v) + "\n")
	}
	for _, m := range ms {
		b.WriteString(pad + scalar(m.Name) + ":")
		nested(b, m.Value, indent)
	}
	for _, it := range items {
		b.WriteString(pad + "-")
		nested(b, it, indent)
	}
}

func nested(b *strings.Builder, v jsontext.Value, indent int) {
	if len(Members(v))+len(Items(v)) > 0 {
		b.WriteString("\n")
		yaml(b, v, indent+1)
		return
	}
	b.WriteString(" ")
	yaml(b, v, 0)
}

func leaf(v jsontext.Value) string {
	if v.Kind() == '"' {
		return scalar(Text(v))
	}
	v = slices.Clone(v)
	if v.Compact() != nil {
		return "null"
	}
	return string(v)
}

func scalar(s string) string {
	if plainYAML.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	q, err := json.Marshal(s, jsontext.EscapeForJS(true))
	if err != nil {
		return `""`
	}
	return escapeUnprintable(string(q))
}

// escapeUnprintable escapes what YAML does not take as it is and JSON does:
// https://yaml.org/spec/1.2.2/#51-character-set
func escapeUnprintable(s string) string {
	unprintable := func(r rune) bool {
		return r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xdfff || r == 0xfeff || r == 0xfffe || r == 0xffff
	}
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Items returns the elements of an array; none where v is no array.
func Items(v jsontext.Value) []jsontext.Value {
	if v.Kind() != '[' {
		return nil
	}
	var out []jsontext.Value
	if json.Unmarshal(v, &out) != nil {
		return nil
	}
	return out
}

var plainShell = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// Shell returns s as one word of a POSIX shell.
func Shell(s string) string {
	if plainShell.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var notEnv = regexp.MustCompile(`[^A-Za-z0-9_]`)

// EnvName returns s as the name of an environment variable: what it cannot
// hold becomes an underscore.
func EnvName(s string) string {
	s = notEnv.ReplaceAllString(s, "_")
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return "_" + s
	}
	return s
}
