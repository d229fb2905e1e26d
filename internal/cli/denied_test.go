package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDeniedSaysWhichOfTheTwo holds that a token which is no more is told from
// one that may not, which servers answer alike.
func TestDeniedSaysWhichOfTheTwo(t *testing.T) {
	t.Parallel()
	const denied = `{"errors":["permission denied"]}`
	const preflight = `{"errors":["preflight capability check returned 403, please ensure client's policies grant access to path \"team/\""]}`
	for _, tc := range []struct {
		name, line string
		self       answer
		want, not  string
	}{
		{"dead", "read secret/data/x", answer{403, denied}, "is not valid: it has expired, was revoked|unset VAULT_TOKEN|rotunda login", "explain"},
		{"dead, before the mount is known", "get -m team x", answer{403, denied}, "is not valid: it has expired|rotunda login", "explain"},
		{"dead, itself", "token lookup", answer{403, denied}, "is not valid|rotunda login", "explain"},
		{
			"may not read", "read secret/data/x",
			answer{200, `{"data":{"policies":["default","ci"]}}`},
			`with the policies default, ci) may not read secret/data/x; it needs a policy like: path "secret/data/x" { capabilities = ["read"] }|rotunda policy explain read secret/data/x`, "login",
		},
		{"may not write", "write sys/x a=b", answer{200, `{"data":{"policies":["default"]}}`}, `may not update sys/x|capabilities = ["create", "update"]|rotunda policy explain update sys/x`, "login"},
		{
			"may not, before the mount is known", "get -m team x",
			answer{200, `{"data":{"policies":["default"]}}`},
			`nothing is mounted at team/, or your token|path "team/data/*" { capabilities = ["read"] }|rotunda policy explain read team/data/NAME`, "login",
		},
		{"who can say", "read secret/data/x", answer{500, `{}`}, "is not valid, or its policies do not allow this|rotunda whoami", "needs a policy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			s := newShell(t, f)
			f.answer("GET auth/token/lookup-self", tc.self.status, tc.self.body)
			f.answer("GET secret/data/x", 403, denied)
			f.answer("PUT sys/x", 403, denied)
			f.answer("GET sys/internal/ui/mounts/team", 403, preflight)
			o := s.run(tc.line)
			for w := range strings.SplitSeq(tc.want, "|") {
				if !strings.Contains(o.err, w) {
					t.Errorf("rotunda %s says %q, want %q in it", tc.line, o.err, w)
				}
			}
			if o.code != 2 || strings.Contains(o.err, tc.not) {
				t.Errorf("rotunda %s: %+v, want exit code 2 and nothing about %s", tc.line, o, tc.not)
			}
		})
	}
}

// TestSudoPathsAreTheServers holds the list of paths that need sudo to the
// reference of the API, which is made from the operations.
func TestSudoPathsAreTheServers(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	needs := regexp.MustCompile("(?m)^Needs `([a-z]+)` on `([^`]+)`( with `sudo`)?")
	found := needs.FindAllStringSubmatch(string(page), -1)
	if len(found) < 50 {
		t.Fatalf("the reference names %d capabilities, want many", len(found))
	}
	for _, m := range found {
		path := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(m[2], "x")
		if got, want := needsSudo(m[1], path), m[3] != ""; got != want {
			t.Errorf("needsSudo(%q, %q) = %v, want %v; mend sudoPaths", m[1], path, got, want)
		}
	}
}

func TestOutputPolicy(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	for line, want := range map[string]string{
		"kv get -output-policy -mount=secret a": "path \"secret/data/a\" {\n  capabilities = [\"read\"]\n}\n",
		"kv put -output-policy secret/a b=c":    "path \"secret/data/a\" {\n  capabilities = [\"create\", \"update\"]\n}\n",
		"kv list -output-policy secret/a":       "path \"secret/metadata/a\" {\n  capabilities = [\"list\"]\n}\n",
		"operator seal -output-policy":          "path \"sys/seal\" {\n  capabilities = [\"create\", \"update\", \"sudo\"]\n}\n",
		"delete -output-policy secret/data/a":   "path \"secret/data/a\" {\n  capabilities = [\"delete\"]\n}\n",
		"audit list -output-policy":             "path \"sys/audit\" {\n  capabilities = [\"read\", \"sudo\"]\n}\n",
		"get a -output-policy":                  "path \"secret/data/a\" {\n  capabilities = [\"read\"]\n}\n",
	} {
		if o := s.run(line); o.code != 0 || o.out != want {
			t.Errorf("rotunda %s: %+v, want %q", line, o, want)
		}
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}
