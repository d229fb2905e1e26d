package show_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/cli/show"
)

func TestScreen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ give, want string }{
		{"plain, ümläut, 漢字\n\tline\r\n", "plain, ümläut, 漢字\n\tline\r\n"},
		{"\x1b[1;36mhead\x1b[0m\n", "\x1b[1;36mhead\x1b[0m\n"},
		{"\x1b]0;title\a", `\u001b]0;title\u0007`},
		{"\x1b[2Jgone", `\u001b[2Jgone`},
		{"\x1b[31", `\u001b[31`},
		{"a\rb", `a\u000db`},
		{"x\u202ey\u2066z\u2028", `x\u202ey\u2066z\u2028`},
		{"\u009b31m", `\u009b31m`},
		{"bad\xff", "bad\ufffd"},
	} {
		var b strings.Builder
		n, err := show.Screen(&b).Write([]byte(c.give))
		if err != nil || n != len(c.give) || b.String() != c.want {
			t.Errorf("writing %q = %d, %v and shows %q; want %q", c.give, n, err, b.String(), c.want)
		}
	}
}

func TestEscapedIsTheSameValue(t *testing.T) {
	t.Parallel()
	give := jsontext.Value("{\n\t\"k\u202e\": \"a\u009b\u2028\\u001b\", \"n\": 1}")
	got := show.Escaped(give)
	if want := "{\n\t\"k\\u202e\": \"a\\u009b\\u2028\\u001b\", \"n\": 1}"; string(got) != want {
		t.Errorf("Escaped(%q) = %q; want %q", give, got, want)
	}
	for _, v := range []*jsontext.Value{&give, &got} {
		if err := v.Canonicalize(); err != nil {
			t.Fatal(err)
		}
	}
	if string(give) != string(got) {
		t.Errorf("the value became %s; want %s", got, give)
	}
}
