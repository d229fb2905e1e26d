package vault

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
)

// field is one top-level member of a body, or one query parameter.
type field struct {
	name    string
	value   jsontext.Value // of a parameter: a string, or an array of strings where it was repeated
	several bool           // of a parameter: it was given more than once
}

// gate takes a body apart at its top level, having walked all of it within
// bounds. Nothing is decoded before it has passed. An empty body and null have
// no fields. The values are parts of body.
func gate(body []byte, limits *door.Limits) ([]field, error) {
	trimmed := bytes.Trim(body, " \t\r\n")
	if len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, nil
	}
	if trimmed[0] != '{' {
		return nil, malformed("the body must be an object")
	}
	fields := make([]field, 0, 8)
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	var at int64 // where the value of the last top-level name begins
	var key string
	for tokens := 0; ; tokens++ {
		if tokens > limits.JSONTokens {
			return nil, malformed("more than %d tokens", limits.JSONTokens)
		}
		kind, n := dec.StackIndex(dec.StackDepth())
		name := kind == '{' && n%2 == 0 // the next token is a name or the object's end
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, reason(err, dec)
		}
		depth := dec.StackDepth()
		if depth > limits.JSONDepth {
			return nil, malformed("nested more than %d deep", limits.JSONDepth)
		}
		if name && tok.Kind() == '"' {
			s := tok.String()
			if len(s) > limits.JSONKeyBytes {
				return nil, malformed("a key is longer than %d bytes", limits.JSONKeyBytes)
			}
			if depth == 1 {
				key, at = s, dec.InputOffset()
			}
			continue
		}
		switch {
		case depth == 1 && tokens > 0:
			value := bytes.TrimLeft(body[at:dec.InputOffset()], ": \t\r\n")
			fields = append(fields, field{name: key, value: value})
		case depth == 0:
			rest := bytes.TrimLeft(body[dec.InputOffset():], " \t\r\n")
			if len(rest) > 0 {
				return nil, malformed("data after the value")
			}
			return fields, nil
		}
	}
}

// malformed is the fault of a body that cannot be taken. Its text never holds
// anything of the body.
func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "failed to decode JSON input: "+format, args...)
}

func reason(err error, dec *jsontext.Decoder) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformed("a key is given twice")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("unexpected end")
	}
	return malformed("malformed at byte %d", dec.InputOffset())
}

// form takes a body of application/x-www-form-urlencoded apart.
func form(body []byte, limits *door.Limits) ([]field, error) {
	return pairs(string(body), limits, func(why string) error {
		return fault.New(fault.Invalid, "failed to decode form input: %s", why)
	})
}

// pairs takes name=value pairs apart. A name that is given several times has
// an array for its value.
func pairs(s string, limits *door.Limits, bad func(why string) error) ([]field, error) {
	var fields []field
	if s == "" {
		return fields, nil
	}
	if strings.Count(s, "&") >= limits.JSONTokens/2 {
		return nil, bad("too many parameters")
	}
	at := map[string]int{}
	for pair := range strings.SplitSeq(s, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		name, ok := unescape(k)
		text, fine := unescape(v)
		if !ok || !fine || name == "" {
			return nil, bad("malformed encoding")
		}
		if len(name) > limits.JSONKeyBytes {
			return nil, bad("a parameter's name is too long")
		}
		quoted, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			return nil, bad("text is not valid UTF-8")
		}
		i, again := at[name]
		if !again {
			at[name] = len(fields)
			fields = append(fields, field{name: name, value: quoted})
			continue
		}
		f := &fields[i]
		if f.several {
			f.value = f.value[:len(f.value)-1]
		} else {
			f.value = append(jsontext.Value{'['}, f.value...)
		}
		f.value = append(append(append(f.value, ','), quoted...), ']')
		f.several = true
	}
	return fields, nil
}

// unescape decodes the percent-encoding of s, where '+' is a space. Unlike
// net/url it refuses a semicolon, which some take for a separator.
func unescape(s string) (string, bool) {
	if !strings.ContainsAny(s, "%+;") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ';':
			return "", false
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo)) //nolint:gosec // both are 0 to 15
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
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
