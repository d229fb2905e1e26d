package cli

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/cli/show"
)

// parseData reads the arguments that say what to write, as Vault's commands
// take them:
//
//	key=value     the text value
//	key=@file     the text of a file; key=\@x is the text "@x"
//	key=-         the text of standard input
//	@file         a JSON object in a file
//	-             a JSON object on standard input
//
// A key that comes twice becomes a list.
//
// Command is the command line up to them, for advice.
func (a *app) parseData(command string, args []string) (object, error) {
	return a.parseDataFrom(command, args, a.readAll)
}

// parseDataFrom is parseData with another way to read standard input for a
// value.
func (a *app) parseDataFrom(command string, args []string, read func() ([]byte, error)) (object, error) {
	var out object
	usedStdin := false
	stdin := func() ([]byte, error) {
		if usedStdin {
			return nil, usageError{errors.New("standard input can be read only once"), ""}
		}
		usedStdin = true
		return read()
	}
	for _, arg := range args {
		key, value, pair := strings.Cut(arg, "=")
		switch {
		case arg == "-", strings.HasPrefix(arg, "@"):
			var raw []byte
			var err error
			if arg == "-" {
				raw, err = stdin()
			} else {
				raw, err = a.readFile(arg[1:])
			}
			if err != nil {
				return nil, err
			}
			v := jsontext.Value(bytes.TrimSpace(raw))
			if err := checkText(string(raw), sourceName(arg)); err != nil {
				return nil, err
			}
			if v.Kind() != '{' || !v.IsValid() {
				return nil, fmt.Errorf("%s must hold one JSON object, without a name that stands twice", sourceName(arg))
			}
			for _, m := range show.Members(v) {
				out.put(m.Name, m.Value)
			}
		case !pair || key == "":
			return nil, usageError{fmt.Errorf("%q is not KEY=VALUE", show.Clean(key)), ""}
		default:
			text, err := a.argument(value, stdin)
			if err != nil {
				return nil, err
			}
			v, err := jsonText(text, "the value of "+show.Clean(key), "base64 FILE | "+command+" "+show.Shell(key)+"=-")
			if err != nil {
				return nil, err
			}
			out.add(key, v)
		}
	}
	return out, nil
}

// warnOfValues warns of values in args where every one stands there in the
// open: who gives one of them another way knows how.
func (a *app) warnOfValues(args []string) {
	var open string
	for _, arg := range args {
		key, value, pair := strings.Cut(arg, "=")
		if !pair || value == "-" || strings.HasPrefix(value, "@") || strings.HasPrefix(arg, "@") {
			return
		}
		open = first(open, key)
	}
	if open != "" {
		a.note("warning: a value on the command line is seen by other users and kept in the shell's history: %s=- reads it, %s=@FILE takes a file", show.Clean(open), show.Clean(open))
	}
}

func sourceName(arg string) string {
	if arg == "-" {
		return "standard input"
	}
	return arg[1:]
}

// argument returns the text that the right side of KEY=… stands for.
func (a *app) argument(value string, stdin func() ([]byte, error)) (string, error) {
	switch {
	case value == "-":
		b, err := stdin()
		return string(b), err
	case strings.HasPrefix(value, "@"):
		b, err := a.readFile(value[1:])
		return string(b), err
	case strings.HasPrefix(value, `\@`), value == `\-`:
		return value[1:], nil
	}
	return value, nil
}

// jsonText returns s, which what names, as a JSON string. It refuses what is
// not UTF-8, because JSON cannot carry it and it would come back different;
// instead is the command that stores it in base64.
func jsonText(s, what, instead string) (jsontext.Value, error) {
	if err := checkText(s, what); err != nil {
		return nil, advise(err, instead)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding text: %w", err)
	}
	return b, nil
}

// put sets a member, in place of one of the same name.
func (o *object) put(name string, v jsontext.Value) {
	for i := range *o {
		if (*o)[i].Name == name {
			(*o)[i].Value = v
			return
		}
	}
	*o = append(*o, show.Member{Name: name, Value: v})
}

// add sets a member; one of the same name makes a list of both.
func (o *object) add(name string, v jsontext.Value) {
	for i := range *o {
		if (*o)[i].Name != name {
			continue
		}
		old := (*o)[i].Value
		items := show.Items(old)
		if old.Kind() != '[' {
			items = []jsontext.Value{old}
		}
		list := jsontext.Value{'['}
		for _, it := range append(items, v) {
			if len(list) > 1 {
				list = append(list, ',')
			}
			list = append(list, it...)
		}
		(*o)[i].Value = append(list, ']')
		return
	}
	*o = append(*o, show.Member{Name: name, Value: v})
}

// charsets are what --charset takes.
var charsets = map[string]string{
	"alnum":     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
	"lower":     "abcdefghijklmnopqrstuvwxyz0123456789",
	"digits":    "0123456789",
	"hex":       "0123456789abcdef",
	"base64url": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
	"ascii":     "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~",
}

var charsetNames = []string{"alnum", "lower", "digits", "hex", "base64url", "ascii"}

// generate returns n characters of a charset, each as likely as any other.
func generate(n int, charset string) (string, error) {
	chars, ok := charsets[charset]
	if custom, is := strings.CutPrefix(charset, "of:"); is {
		chars, ok = custom, true
	}
	switch {
	case !ok:
		return "", usageError{fmt.Errorf("the charset %q is not one of %s, or of:CHARACTERS", charset, strings.Join(charsetNames, ", ")), ""}
	case n < 1 || n > 4096:
		return "", usageError{errors.New("a generated value has 1 to 4096 characters"), ""}
	}
	runes := []rune(chars)
	seen := map[rune]bool{}
	for _, r := range runes {
		if seen[r] || r == utf8.RuneError {
			return "", usageError{errors.New("the characters after of: must each stand once"), ""}
		}
		seen[r] = true
	}
	if len(runes) < 2 {
		return "", usageError{errors.New("at least two characters are needed to choose from"), ""}
	}
	out := make([]rune, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(runes))))
		if err != nil {
			return "", fmt.Errorf("drawing a random number: %w", err)
		}
		out[i] = runes[k.Int64()]
	}
	return string(out), nil
}
