package intake

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func show(items []Item) string {
	var b strings.Builder
	for _, it := range items {
		b.WriteString(it.Path + "=" + string(it.Value) + "\n")
	}
	return b.String()
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		format Format
		flat   bool
		in     string
		want   string
	}{
		{"env", Env, true, "B=1\nA='x y'\nexport C=\"two\\nlines\"\n# comment\n\nE=\n", "B=\"1\"\nA=\"x y\"\nC=\"two\\nlines\"\nE=\"\"\n"},
		{"env of many lines", Env, true, "KEY=\"-----BEGIN\nA=1\nA=2\n-----END\"\nZ=1\n", "KEY=\"-----BEGIN\\nA=1\\nA=2\\n-----END\"\nZ=\"1\"\n"},
		{"json", JSON, true, `{"b":"1","a":{"x":18446744073709551616,"y":[1,{"z":null}]}}`, "b=\"1\"\na/x=18446744073709551616\na/y=[1,{\"z\":null}]\n"},
		{"json as one map", JSON, false, `{"b":"1","a":{"x":1.50}}`, "b=\"1\"\na={\"x\":1.50}\n"},
		{"yaml", YAML, true, "b: one\na:\n  x: 18446744073709551616\n  y: 1.50\n  t: true\nlist: [a, 2]\ntext: |\n  two\n  lines\nquoted: \"007\"\nhex: 0x1F\n", "b=\"one\"\na/x=18446744073709551616\na/y=1.50\na/t=true\nlist=[\"a\",2]\ntext=\"two\\nlines\\n\"\nquoted=\"007\"\nhex=\"0x1F\"\n"},
		{"yaml with a marker", YAML, true, "---\n# about\na: 1\n", "a=1\n"},
		{"byte order mark", Env, true, "\ufeffA=1\n", "A=\"1\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tc.in), tc.format, tc.flat)
			if err != nil {
				t.Fatalf("Parse(%q) = %v, want no error", tc.in, err)
			}
			if show(got) != tc.want {
				t.Errorf("Parse(%q):\n%swant\n%s", tc.in, show(got), tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		format Format
		in     string
		why    string
	}{
		{"env twice", Env, "A=secret1\nB=2\nA=secret2\n", "more than once"},
		{"json twice", JSON, "{\"a\":\"secret1\",\n\"a\":\"secret2\"}", "line 2: a name stands twice"},
		{"yaml twice", YAML, "a: secret1\na: secret2\n", ""},
		{"json and slash", JSON, `{"a/b":"secret1","a":{"b":"secret2"}}`, "more than once"},
		{"json array", JSON, `["secret1"]`, "one object"},
		{"json trailing", JSON, `{"a":"secret1"} {}`, "more after"},
		{"json broken", JSON, "{\n\"a\":\"secret1\"\n", "line 3"},
		{"yaml alias", YAML, "a: &x secret1\nb: *x\n", "line 1: anchors are not read"},
		{"yaml merge", YAML, "base: 1\nb:\n  <<: {a: secret1}\n", "merge keys"},
		{"yaml two documents", YAML, "a: secret1\n---\nb: secret2\n", "more than one"},
		{"yaml empty", YAML, "# nothing\n", "one mapping"},
		{"yaml tag", YAML, "a: !exec secret1\n", "tag !exec"},
		{"yaml broken", YAML, "a: [secret1\n", ""},
		{"dots", JSON, `{"..":{"x":"secret1"}}`, "empty segment or one of dots"},
		{"not UTF-8", Env, "A=\xff\n", "UTF-8"},
		{"env broken", Env, "A='secret1\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tc.in), tc.format, true)
			if err == nil {
				t.Fatalf("Parse(%q) = %s, want a refusal", tc.in, show(got))
			}
			if !strings.Contains(err.Error(), tc.why) {
				t.Errorf("Parse(%q) = %v, want it to say %q", tc.in, err, tc.why)
			}
			if strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), "path of a secret") {
				t.Errorf("Parse(%q) = %v, which shows a value", tc.in, err)
			}
		})
	}
}

func fuzz(f *testing.F, format Format, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := Parse(data, format, true)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, it := range items {
			if seen[it.Path] {
				t.Errorf("Parse(%q) gives %q twice", data, it.Path)
			}
			seen[it.Path] = true
			if !it.Value.IsValid() {
				t.Errorf("Parse(%q) gives %q the value %q, which is not JSON", data, it.Path, it.Value)
			}
			if format != Env && it.Value.Kind() == '{' {
				t.Errorf("Parse(%q) gives %q an object", data, it.Path)
			}
		}
		if _, err := Parse(data, format, false); err != nil && format == JSON && !strings.Contains(err.Error(), "path") && !strings.Contains(err.Error(), "once") {
			t.Errorf("Parse(%q) as one map = %v, want no error", data, err)
		}
	})
}

func FuzzEnv(f *testing.F) {
	fuzz(f, Env, "A=1\nB='x'\n", "export A=\"x\\n\"", "A: b\n", "A=${B}\n", "A='x\ny'\nB=2")
}

func FuzzJSON(f *testing.F) {
	fuzz(f, JSON, `{"a":1,"b":{"c":[1,"x"]}}`, `{}`, `{"a":{"a":{}}}`, `{"a":1e400}`)
}

func FuzzYAML(f *testing.F) {
	fuzz(f, YAML, "a: 1\nb:\n  c: [x, 2]\n", "a: |\n  x\n", "{a: 1}", "? a\n: b\n", "- a\n")
}

func TestFormatOf(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]Format{
		".env": Env, "a/.env.local": Env, "prod.env": Env, "x.json": JSON, "X.YML": YAML, `C:\x\a.yaml`: YAML, "secrets": "", "-": "",
	} {
		if got := FormatOf(file); got != want {
			t.Errorf("FormatOf(%q) = %q, want %q", file, got, want)
		}
	}
	if !jsontext.Value(`{}`).IsValid() {
		t.Fatal("an empty object is JSON")
	}
}
