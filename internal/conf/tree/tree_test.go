package tree_test

import (
	"errors"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/conf/tree"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":              "path \"a/*\" {\n  capabilities = [\"read\"]\n}\n",
		"two on a line":      `path "a/*" { capabilities = ["read"] comment = "x" }`,
		"quoted keys":        `"path" "a/*" { "capabilities" = ["read"] }`,
		"windows line ends":  "path \"a/*\" {\r\n  capabilities = [\"read\"]\r\n}\r\n",
		"comments":           "# one\npath \"a/*\" { // two\n /* three */ capabilities = [\"read\",] }",
		"JSON":               `{"path": {"a/*": {"capabilities": ["read"]}}}`,
		"JSON list":          `{"path": [{"a/*": {"capabilities": ["read"]}}]}`,
		"JSON list of lists": `{"path": [{"a/*": [{"capabilities": ["read"]}]}]}`,
		"assigned":           `path = { "a/*" = { capabilities = ["read"] } }`,
	} {
		b, err := tree.Parse("", text)
		if err != nil {
			t.Errorf("%s: Parse = %v", name, err)
			continue
		}
		got, err := b.Items[0].Expand(1)
		if err != nil || len(got) != 1 || got[0].Keys[1].Text != "a/*" {
			t.Errorf("%s: Expand = %+v, %v; want one block with the label a/*", name, got, err)
			continue
		}
		v := got[0].Value.Object.Items[0]
		if v.Key() != "capabilities" || v.Value.Kind != tree.List || v.Value.List[0].Text != "read" {
			t.Errorf("%s: first item = %+v; want capabilities", name, v)
		}
	}
}

func TestParseKeepsDollarBraces(t *testing.T) {
	t.Parallel()
	b, err := tree.Parse("", `a = "x-${y "z"}-{{w}}"`)
	if err != nil || b.Items[0].Value.Text != `x-${y "z"}-{{w}}` {
		t.Errorf("Parse = %+v, %v; want the text as it is", b, err)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		pos  tree.Pos
	}{
		"not closed":          {"a {\n b = 1\n", tree.Pos{Line: 3, Column: 2}},
		"no value":            {"a = \n\n}", tree.Pos{Line: 3, Column: 1}},
		"invalid UTF-8":       {"a = 1\nb = \"\xff\"", tree.Pos{Line: 2, Column: 6}},
		"number too large":    {"a = 99999999999999999999", tree.Pos{Line: 1, Column: 5}},
		"JSON twice":          {"{\"a\": 1,\n \"a\": 2}", tree.Pos{Line: 2, Column: 2}},
		"JSON nested twice":   {`{"a": {"b": 1, "b": 2}}`, tree.Pos{Line: 1, Column: 16}},
		"JSON trailing":       {"{} {}", tree.Pos{Line: 1, Column: 5}},
		"JSON not closed":     {`{"a": [1`, tree.Pos{Line: 1, Column: 9}},
		"deep":                {strings.Repeat("a {", 40), tree.Pos{Line: 1, Column: 99}},
		"deep lists":          {"a = " + strings.Repeat("[", 1<<16), tree.Pos{Line: 1, Column: 37}},
		"bad escape":          {`a = "\q"`, tree.Pos{Line: 1, Column: 7}},
		"heredoc without end": {"a = <<X\nb", tree.Pos{Line: 2, Column: 2}},
	} {
		_, err := tree.Parse("", c.text)
		e, ok := errors.AsType[*tree.Error](err)
		if !ok || e.Pos != c.pos {
			t.Errorf("%s: Parse = %v; want an error at %v", name, err, c.pos)
		}
	}
	if err := error(&tree.Error{Pos: tree.Pos{File: "r.hcl", Line: 3, Column: 4}, Text: "no"}); err.Error() != "r.hcl:3:4: no" {
		t.Errorf("Error() = %q; want the file, the line and the column first", err)
	}
}

func TestAttributesRefusesTwice(t *testing.T) {
	t.Parallel()
	b, err := tree.Parse("", "a = 1\nb = 2\na = 3")
	if err != nil {
		t.Fatal(err)
	}
	err = b.Attributes(func(tree.Item) error { return nil })
	if e, ok := errors.AsType[*tree.Error](err); !ok || e.Pos.Line != 3 {
		t.Errorf("Attributes = %v; want an error in line 3", err)
	}
}

// Nothing makes Parse panic, and every error of it says where.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`a = 1`, `path "x" { y = ["z", 1, true] }`, `{"a": {"b": [1, null]}}`, "a = <<E\nx\nE\n", "a = <<-E\n  x\n  E\n", `a = "${"x"}"`, "a = 0x1F b = 1.5e3 c = -2", "/* x */ a {}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := tree.Parse("f", s)
		if err != nil {
			if e, ok := errors.AsType[*tree.Error](err); !ok || e.Pos.Line < 1 || e.Pos.Column < 1 {
				t.Fatalf("Parse(%q) = %v; want a place", s, err)
			}
			return
		}
		for _, i := range b.Items {
			if v := i.Value.JSON(); i.Value.Kind != tree.Object && len(v) == 0 {
				t.Fatalf("Parse(%q): no JSON of %+v", s, i)
			}
		}
	})
}
