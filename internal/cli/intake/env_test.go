package intake

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func TestEnvValues(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, file, want string }{
		{"plain", "A=x", "x"},
		{"nothing", "A=", ""},
		{"spaces around", "  A  =  x y  \n", "x y"},
		{"exported", "export\tA=x", "x"},
		{"a name that begins so", "exported=1\nA=x", "x"},
		{"colon", "A: x", "x"},
		{"comment", "A=x # why\n", "x"},
		{"no comment", "A=x#y", "x#y"},
		{"only a comment", "A=# why", ""},
		{"equals signs", "A=eD09==", "eD09=="},
		{"windows", "A=x\r\nB=y\r\n", "x"},
		{"single quotes", `A='x "y" $z \n # '`, `x "y" $z \n # `},
		{"single quotes, a backslash at the end", `A='x\'`, `x\`},
		{"single quotes, lines", "A='x\ny'\nB=z", "x\ny"},
		{"single quotes, comment", "A='x' # why", "x"},
		{"double quotes", `A="x\n\t\"y\" \\n \$z ' #"`, "x\n\t\"y\" \\n $z ' #"},
		{"double quotes, lines", "A=\"-----BEGIN\nB=1\n-----END\"\nB=2", "-----BEGIN\nB=1\n-----END"},
		{"a quote at the end", `A="'x\""`, `'x"`},
		{"backtick", "A=\"'\\`\"", "'`"},
		{"quote inside", `A=x"y"`, `x"y"`},
		{"backslashes", `A=C:\x\n`, `C:\x\n`},
		{"variable", "B=1\nA=x$B.y${B}z", "x1.y1z"},
		{"variable in quotes", "B=1\nA=\"x${B}\"", "x1"},
		{"escaped variable", `A=x\$B`, "x$B"},
		{"dollars", "A=a$ b$$ $1 $(x) ${-}", "a$ b$$ $1 $(x) ${-}"},
		{"letters", "A=é🔑", "é🔑"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			items, err := Parse([]byte(tc.file), Env, true)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tc.file, err)
			}
			for _, it := range items {
				if it.Path == "A" {
					var got string
					if err := json.Unmarshal(it.Value, &got); err != nil || got != tc.want {
						t.Errorf("Parse(%q) gives %q, %v; want %q", tc.file, got, err, tc.want)
					}
					return
				}
			}
			t.Errorf("Parse(%q) gives no A", tc.file)
		})
	}
}

// doubling is a small file whose last value would have 2^36 bytes.
func doubling() string {
	var b strings.Builder
	b.WriteString("V0=xxxxxxxxxxxxxxxx\n")
	for i := range 32 {
		fmt.Fprintf(&b, "V%d=$V%d$V%d\n", i+1, i, i)
	}
	return b.String()
}

func TestEnvRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, file, want string }{
		{"no name", "A=1\n=secret1", "line 2: this is not NAME=VALUE"},
		{"no value", "A=1\n\nsecret1\n", "line 3: this is not NAME=VALUE"},
		{"exported without a value", "export A", "line 1: this is not NAME=VALUE"},
		{"twice", "A=secret1\nB='\n'\nA=secret2\n", `line 4: "A" stands in the file more than once, first in line 1`},
		{"open", "A='secret1\nB=2\n", "line 1: the value of A has no closing quote"},
		{"open, escaped", `A="secret1\"`, "line 1: the value of A has no closing quote"},
		{"behind the quote", `A='secret1'secret2`, "line 1: the value of A goes on behind its closing quote"},
		{"unknown variable", "A=1\nB=secret1$word", "line 2: the value of B holds $word, which no line before it sets"},
		{"unknown variable in quotes", `B="secret1${WORD}"`, "line 1: the value of B holds $WORD"},
		{"later variable", "B=$A\nA=1", "holds $A"},
		{"a default", "A=1\nB=secret1${A:-x}", "line 2: the value of B holds ${, with more behind it"},
		{"open braces", "A=1\nB=secret1${A", "line 2: the value of B holds ${, with more behind it"},
		{"variables that double", doubling(), "becomes too large by the variables in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tc.file), Env, true)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret1") {
				t.Errorf("Parse(%q) = %v; want %q and no value", tc.file, err, tc.want)
			}
		})
	}
}
