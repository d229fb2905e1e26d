package show

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	goyaml "github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestTable(t *testing.T) {
	t.Parallel()
	tbl := Table{Header: []string{"KEY", "VALUE"}}
	tbl.Add("a", "one")
	tbl.Add("longer", "esc\x1b[31m\nline")
	tbl.Add("wide 表", "x")
	var b bytes.Buffer
	if err := tbl.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "KEY        VALUE\n---        -----\na          one\nlonger     esc\\u001b[31m\\nline\nwide 表    x\n"
	if b.String() != want {
		t.Errorf("Write() =\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if err := tbl.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\x1b[") || strings.Contains(b.String(), "---") || strings.Contains(b.String(), "\x1b[31m") {
		t.Errorf("Write() in colour = %q, want a styled header, no dashes and no colour from a cell", b.String())
	}
}

func TestYAMLReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"yes", "null", "007", "1e3", "- a", "a: b", "#", "", " x", "x ", "2026-01-01", "~", "0x1F", "!x", "&a", "*a", "@", "`", "%", "|", ">", "{", "["}))
		var value func(depth int) *rapid.Generator[any]
		value = func(depth int) *rapid.Generator[any] {
			leaf := rapid.OneOf(rapid.Map(text, func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Map(rapid.IntRange(-1000, 1000), func(i int) any { return float64(i) }))
			if depth == 0 {
				return leaf
			}
			return rapid.OneOf(leaf,
				rapid.Map(rapid.MapOfN(text, value(depth-1), 0, 4), func(m map[string]any) any { return m }),
				rapid.Map(rapid.SliceOfN(value(depth-1), 0, 4), func(s []any) any { return s }))
		}
		in := rapid.MapOfN(text, value(2), 0, 5).Draw(t, "value")
		raw, err := json.Marshal(in, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		out := YAML(raw)
		var want, got any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if err := goyaml.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("YAML(%s) =\n%s\nwhich does not parse: %v", raw, out, err)
		}
		if diff := cmp.Diff(want, floats(got)); diff != "" {
			t.Fatalf("YAML(%s) =\n%s\nreads back different (-want +got):\n%s", raw, out, diff)
		}
	})
}

// floats returns v with its numbers as JSON has them.
func floats(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = floats(v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
		return v
	case uint64:
		return float64(v)
	case int64:
		return float64(v)
	default:
		return v
	}
}

func TestYAMLKeepsNumbers(t *testing.T) {
	t.Parallel()
	const in = `{"big":18446744073709551616,"frac":1.50,"list":[1,{"a":null}],"none":{},"empty":[]}`
	const want = "big: 18446744073709551616\nfrac: 1.50\nlist:\n  - 1\n  -\n    a: null\nnone: {}\nempty: []\n"
	if got := YAML(jsontext.Value(in)); got != want {
		t.Errorf("YAML(%s) =\n%swant\n%s", in, got, want)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	v := jsontext.Value(`{"a":{"b":{"c":1}},"a.b":2,"l":["x",{"y":3}]}`)
	for name, want := range map[string]string{"a.b": "2", "a": `{"b":{"c":1}}`, "a.b.c": "1", "l.0": `"x"`, "l.1.y": "3"} {
		if got, ok := Field(v, name); !ok || string(got) != want {
			t.Errorf("Field(%q) = %s, %v; want %s", name, got, ok, want)
		}
	}
	for _, name := range []string{"a.x", "l.2", "l.-1", "l.x", ""} {
		if got, ok := Field(v, name); ok {
			t.Errorf("Field(%q) = %s, want none", name, got)
		}
	}
}

func TestShellAndEnvNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"plain-1": "plain-1", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "a\nb": "'a\nb'", "~x": "'~x'", "a=b": "'a=b'"} {
		if got := Shell(in); got != want {
			t.Errorf("Shell(%q) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"db-password": "db_password", "1st": "_1st", "é": "_", "A_B": "A_B", "": "_"} {
		if got := EnvName(in); got != want {
			t.Errorf("EnvName(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestYAMLIsPrintable holds that nothing stands in YAML that readers refuse.
func TestYAMLIsPrintable(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(map[string]string{"a": "\x00\x1f\x7f\u0080\u009f\ufeff\ufffe\uffffé🔑"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := YAML(raw), `a: "\u0000\u001f\u007f\u0080\u009f\ufeff\ufffe\uffffé🔑"`+"\n"; got != want {
		t.Errorf("YAML gives %q, want %q", got, want)
	}
}

func TestCleanSpellsOutWhatTurnsText(t *testing.T) {
	t.Parallel()
	for _, r := range "\x1b\x07\u009b\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069" {
		if got, want := Clean("a"+string(r)+"b"), fmt.Sprintf(`a\u%04xb`, r); got != want {
			t.Errorf("Clean(%U) = %q, want %q", r, got, want)
		}
	}
}
