package replay

import (
	"net/http"
	"strings"
	"testing"
)

// The attacks of this file are no row of the table: nobody has published them.

// TestNobodyKeepsAnything: who has no token makes the store keep nothing, not
// even what anybody may ask for, wrapped for a month.
func TestNobodyKeepsAnything(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must("", http.MethodGet, "sys/internal/specs/openapi", "")
	r.Must(r.Root, http.MethodGet, "sys/internal/ui/mounts", "", "X-Vault-Wrap-TTL", "60") // whose it is, is known
	held := r.Must(r.Root, http.MethodGet, "sys/mounts", "", "X-Vault-Wrap-TTL", "60").Text("wrap_info.token")
	wrap := []string{"X-Vault-Wrap-TTL", "768h"}
	refused(t, r,
		attack{what: "the document", token: nobody, method: http.MethodGet, path: "sys/internal/specs/openapi", headers: wrap},
		attack{what: "the mounts", token: nobody, method: http.MethodGet, path: "sys/internal/ui/mounts", headers: wrap},
		attack{what: "a look at a wrapping token", token: nobody, path: "sys/wrapping/lookup", body: `{"token":"` + held + `"}`, headers: wrap},
		attack{what: "a wrapping token, opened into another", token: nobody, path: "sys/wrapping/unwrap", body: `{"token":"` + held + `"}`, headers: wrap},
		attack{what: "by a token that is none", token: "hvs." + strings.Repeat("A", 40), method: http.MethodGet, path: "sys/internal/specs/openapi", headers: wrap},
	)
	if got := r.Must("", http.MethodPost, "sys/wrapping/unwrap", `{"token":"`+held+`"}`); got.Text("data") == "" && !strings.Contains(string(got.Body), "secret/") {
		t.Errorf("unwrapping after the attacks = %s; want what was wrapped", got.Body)
	}
}

// TestConditionsAreNotDropped: a condition of a write that is spelled otherwise
// than ours is refused rather than left aside.
func TestConditionsAreNotDropped(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "secret/data/a", `{"data":{"k":"v"},"options":{"cas":0,"other":1}}`)
	var all []attack
	for _, options := range []string{`{"CAS":0}`, `{"Cas":"0"}`, `{"caS":9,"cas":1}`, `{"cas":0}`, `{"cas":-1}`, `{"cas":null}`, `{"cas":true}`, `{"cas":1.0}`, `{"cas":"1 "}`, `[]`, `"cas=0"`} {
		all = append(all,
			attack{what: "a write with " + options, path: "secret/data/a", body: `{"data":{"k":"` + canary + `"},"options":` + options + `}`},
			attack{what: "a patch with " + options, method: http.MethodPatch, path: "secret/data/a", headers: []string{"Content-Type", "application/merge-patch+json"}, body: `{"data":{"k":"` + canary + `"},"options":` + options + `}`},
		)
	}
	refused(t, r, all...)
}

// TestSlashesMoveNoBoundary: an encoded slash takes nobody past who looks at
// the path as it was sent, and names nothing that a policy does not see.
func TestSlashesMoveNoBoundary(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "secret/data/team/a/db", `{"data":{"k":"`+canary+`"}}`)
	r.Policy("team", `path "secret/data/team/+/app" { capabilities = ["read","create","update"] }
		path "secret/data/team/a/*" { capabilities = ["deny"] }
		path "secret/data/team*" { capabilities = ["read","create","update"] }`)
	team := r.Token("team")
	r.Must(team, http.MethodPost, "secret/data/team%2Fb%2Fapp", `{"data":{"k":"v"}}`)
	if got := r.Must(team, http.MethodGet, "secret/data/team/b/app", ""); got.Text("data.data.k") != "v" {
		t.Errorf("what was written at an encoded path = %s; want it at the plain one", got.Body)
	}
	var all []attack
	for _, path := range []string{"team%2Fa%2Fdb", "team%2fa/db", "team/a%2Fdb", "team/a%2F", "team%2F%2Fa/db", "team%2F.%2Fa/db", "team/b%2F..%2Fa/db", "team%252Fa/db", "team%2F", "%2Fteam/a/db"} {
		all = append(all,
			attack{what: "a read", token: team, method: http.MethodGet, path: "secret/data/" + path},
			attack{what: "a write", token: team, path: "secret/data/" + path, body: `{"data":{}}`},
		)
	}
	for _, path := range []string{"secret%2Fdata/team/x", "secret%2Fdata%2Fteam%2Fx", "secret/data%2Fteam/x", "sys%2Fseal", "sys%2Fpolicies/acl/x", "sys/policies%2Facl/x", "sys/policies/acl%2Fx", "auth%2Ftoken/create", "cubbyhole%2Fx"} {
		all = append(all, attack{what: "a boundary", path: path, body: `{"data":{},"policy":"path \"a\" {}"}`}, attack{what: "a boundary", method: http.MethodGet, path: path})
	}
	refused(t, r, all...)
}
