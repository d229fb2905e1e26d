// Package name parses names and paths once, at the edge, into the one
// canonical form that policy, storage, audit and caches share.
//
// What is not canonical is refused, never repaired: two spellings of one name
// cannot exist behind this package. The two exceptions are said where they
// are made: names of policies, roles and users fold ASCII upper case, and a
// leading slash of a path given in a body is dropped.
package name

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"rotunda.dev/rotunda/internal/fault"
)

// The bounds of names and paths, in bytes and in segments.
const (
	MaxName     = 128
	MaxAlias    = 512
	MaxSegment  = 255
	MaxSegments = 32
	MaxPath     = 4096
)

// Name is the name of a policy, a role or a user: "db-reader". It is 1 to
// [MaxName] bytes of a-z, 0-9, '.', '_' and '-', and begins with a letter, a
// digit or '_'.
type Name string

// Root is the policy that allows everything. No one who does not hold it can
// give it.
const Root Name = "root"

// Parse folds the ASCII letters of s to lower case and returns it as a Name.
// The error is [fault.Invalid].
func Parse(s string) (Name, error) {
	if s == "" || len(s) > MaxName {
		return "", fault.New(fault.Invalid, "a name has 1 to %d bytes", MaxName)
	}
	b := []byte(s)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
		case (c == '.' || c == '-') && i > 0:
		default:
			return "", fault.New(fault.Invalid, "a name is made of letters, digits, '.', '_' and '-', and begins with a letter, a digit or '_'")
		}
	}
	return Name(b), nil
}

// ParseAssignable is [Parse] for a policy that is about to be given to
// someone: it refuses root.
func ParseAssignable(s string) (Name, error) {
	n, err := Parse(s)
	if err == nil && n == Root {
		return "", fault.New(fault.Invalid, "the root policy cannot be assigned")
	}
	return n, err
}

// Path is a canonical request path with neither the API's version nor a
// leading slash: "secret/data/app". It ends in a slash where a directory is
// meant. Every segment is NFC text without control characters.
type Path string

// ParsePath returns s, which is not percent-encoded, as a Path. The error is
// [fault.Invalid]. The empty path is refused.
func ParsePath(s string) (Path, error) {
	s = strings.TrimPrefix(s, "/")
	if s == "" {
		return "", fault.New(fault.Invalid, "empty path")
	}
	if len(s) > MaxPath {
		return "", fault.New(fault.Invalid, "a path has at most %d bytes", MaxPath)
	}
	n := 0
	for rest := strings.TrimSuffix(s, "/"); ; n++ {
		seg, after, more := strings.Cut(rest, "/")
		if n == MaxSegments {
			return "", fault.New(fault.Invalid, "a path has at most %d segments", MaxSegments)
		}
		if err := checkSegment(seg); err != nil {
			return "", err
		}
		if !more {
			return Path(s), nil
		}
		rest = after
	}
}

// ParseEscaped decodes the percent-encoding of s, as it stands in a request
// line, once, and returns it as a Path. The slashes that were encoded are the
// caller's to judge: it gets where the first and the last of them stand in the
// Path, both -1 where there is none.
func ParseEscaped(s string) (p Path, first, last int, err error) {
	first, last = -1, -1
	if len(s) > MaxPath {
		return "", first, last, fault.New(fault.Invalid, "a path has at most %d bytes", MaxPath)
	}
	if strings.HasPrefix(s, "/") {
		return "", first, last, fault.New(fault.Invalid, "empty path segment")
	}
	if !strings.Contains(s, "%") {
		p, err = ParsePath(s)
		return p, first, last, err
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", first, last, fault.New(fault.Invalid, "malformed percent-encoding in path")
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", first, last, fault.New(fault.Invalid, "malformed percent-encoding in path")
		}
		c := byte(hi<<4 | lo) //nolint:gosec // both are 0 to 15
		switch {
		case c == 0, c == '/' && b.Len() == 0:
			return "", first, last, fault.New(fault.Invalid, "a path must not begin with an encoded slash, nor hold NUL")
		case c == '/':
			if last = b.Len(); first < 0 {
				first = last
			}
		}
		b.WriteByte(c)
		i += 2
	}
	p, err = ParsePath(b.String())
	return p, first, last, err
}

// IsDir reports whether p ends in a slash.
func (p Path) IsDir() bool { return strings.HasSuffix(string(p), "/") }

// Dir returns p with one slash at its end.
func (p Path) Dir() Path {
	if p == "" || p.IsDir() {
		return p
	}
	return p + "/"
}

// File returns p without a slash at its end.
func (p Path) File() Path { return Path(strings.TrimSuffix(string(p), "/")) }

// ParseMount returns s as the path of a mount: one or more segments and a
// slash at the end, which is added where it is missing. '+' and '*' are
// refused in it, because policies give them a meaning.
func ParseMount(s string) (Path, error) {
	p, err := ParsePath(s)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(string(p), "+*") {
		return "", fault.New(fault.Invalid, "a mount path must not hold '+' or '*'")
	}
	return p.Dir(), nil
}

func checkSegment(seg string) error {
	switch {
	case seg == "":
		return fault.New(fault.Invalid, "empty path segment")
	case len(seg) > MaxSegment:
		return fault.New(fault.Invalid, "a path segment has at most %d bytes", MaxSegment)
	case seg == "." || seg == "..":
		return fault.New(fault.Invalid, "a path must not hold '.' or '..' segments")
	case strings.HasPrefix(seg, ".;"), strings.HasPrefix(seg, "..;"):
		return fault.New(fault.Invalid, "a path must not hold '.' or '..' segments with parameters") // some proxies take these for '.' and '..'
	case strings.Contains(seg, `\`):
		return fault.New(fault.Invalid, "a path must not hold a backslash")
	}
	return CheckText(seg)
}

// CheckText reports text that could pass for another: invalid UTF-8, text that
// is not NFC, control and format characters, leading or trailing white space,
// and what a second percent-decoding would change. The error is [fault.Invalid].
func CheckText(s string) error {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '%' {
			plain = false
			break
		}
	}
	if s != "" && (s[0] == ' ' || s[len(s)-1] == ' ') {
		return fault.New(fault.Invalid, "leading or trailing white space")
	}
	if plain {
		return nil
	}
	if !utf8.ValidString(s) {
		return fault.New(fault.Invalid, "text is not valid UTF-8")
	}
	for i, r := range s {
		switch {
		case r == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			return fault.New(fault.Invalid, "text that is percent-encoded twice")
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r),
			unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d', unicode.Is(unicode.Noncharacter_Code_Point, r):
			return fault.New(fault.Invalid, "control or format character %U", r)
		case unicode.IsSpace(r) && (i == 0 || i+utf8.RuneLen(r) == len(s)):
			return fault.New(fault.Invalid, "leading or trailing white space")
		}
	}
	if !norm.NFC.IsNormalString(s) {
		return fault.New(fault.Invalid, "text is not in Unicode normal form C")
	}
	return nil
}

// ParseAlias returns s as the name by which an auth method knows someone:
// "alice@example.com". It is kept exactly, 1 to [MaxAlias] bytes.
func ParseAlias(s string) (string, error) {
	if s == "" || len(s) > MaxAlias {
		return "", fault.New(fault.Invalid, "an alias name has 1 to %d bytes", MaxAlias)
	}
	if err := CheckText(s); err != nil {
		return "", fmt.Errorf("checking an alias name: %w", err)
	}
	return s, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
