package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testLong() map[string]bool { return longFlags(newApp(Program{}).root) }

func TestNormalise(t *testing.T) {
	t.Parallel()
	long := testLong()
	for _, tc := range []struct{ name, in, want string }{
		{"Vault's", "kv get -format=json -field value -mount=secret app", "kv get --format=json --field value --mount=secret app"},
		{"ours", "get --output json -o yaml -q app", "get --output json -o yaml -q app"},
		{"short flags together", "ls -rq", "ls -rq"},
		{"short flag with its value", "get -ojson app", "get -ojson app"},
		{"behind two dashes", "run -path a -- node -format=json -address x", "run --path a -- node -format=json -address x"},
		{"a dash alone", "set app - -cas 1", "set app - --cas 1"},
		{"another name", "-ns team read x", "--namespace team read x"},
		{"unknown", "write x -frob=1 k=-format=json", "write x -frob=1 k=-format=json"},
		{"flags for booleans", "secrets list -detailed", "secrets list --detailed"},
		{"help", "kv -help", "kv --help"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := normalise(strings.Fields(tc.in), long)
			if diff := cmp.Diff(strings.Fields(tc.want), got); diff != "" {
				t.Errorf("normalise(%q) (-want +got):\n%s", tc.in, diff)
			}
		})
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"kv get -format=json", "run -- -format", "-o json", "--", "-", "-=", "-ns=x\x00-ns"} {
		f.Add(s)
	}
	long := testLong()
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		got := normalise(args, long)
		if len(got) != len(args) {
			t.Fatalf("normalise(%q) has %d arguments, want %d", args, len(got), len(args))
		}
		for i := range args {
			if got[i] != args[i] && (!strings.HasPrefix(args[i], "-") || strings.HasPrefix(args[i], "--") || !strings.HasPrefix(got[i], "--")) {
				t.Errorf("normalise(%q)[%d] = %q, which is no long flag with one dash made into one with two", args, i, got[i])
			}
			if args[i] == "--" {
				if !slices.Equal(got[i:], args[i:]) {
					t.Errorf("normalise(%q) changes what stands behind --", args)
				}
				break
			}
		}
		if again := normalise(got, long); !slices.Equal(again, got) {
			t.Errorf("normalise(%q) = %q and again %q, want no change", args, got, again)
		}
	})
}
