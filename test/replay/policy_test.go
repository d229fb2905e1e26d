package replay

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/name"
)

// TestH014IdsHoldNoSeparators tries ids in which a kind, a directory or a NUL hides.
func TestH014IdsHoldNoSeparators(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("user-admin", `path "a" { capabilities = ["read"] }`)
	var all []attack
	for _, id := range []string{"user:admin", "host%2f..%2fuser", "host/../user", "%2fadmin", "/admin", "admin%00", "%00", "a%5cb", "a;b", "..", ".", "-a", "a%0ab"} {
		for _, at := range []string{"sys/policies/acl/", "sys/policy/", "auth/token/roles/", "sys/mounts/", "sys/audit/", "secret/data/x/", "cubbyhole/x/"} {
			if at != "sys/policies/acl/" && at != "sys/policy/" && at != "auth/token/roles/" && strings.Trim(id, "-abuserdmin:;") == "" {
				continue // a path may have it
			}
			all = append(all, attack{
				what: "id " + id, path: at + id,
				body: `{"policy":"path \"` + canary + `\" {}","type":"kv","data":{"a":"` + canary + `"},"options":{"file_path":"` + canary + `"}}`,
			})
		}
	}
	refused(t, r, all...)
}

// TestH016PoliciesReadNoFiles uploads policies that ask a parser to read files.
func TestH016PoliciesReadNoFiles(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("fine", `path "a" { capabilities = ["read"] }`)
	bomb := "a: &a [x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [*" + string(c-1) + ",*" + string(c-1) + "]\n"
	}
	texts := map[string]string{
		"include": "!include %s", "ruby": "--- !ruby/object:File {path: %s}", "aliases": bomb,
		"a function": `path "${file("%s")}" { capabilities = [file("%s")] }`, "a function of its own": `file("%s")`,
		"a template": `path "a" { capabilities = ["${file("%s")}"] }`, "an at": "@%s",
	}
	for what, text := range texts {
		t.Run(what, func(t *testing.T) {
			var said [2]string
			for i, file := range []string{"/etc/passwd", "/etc/nobody"} {
				body := `{"policy":` + quote(strings.ReplaceAll(text, "%s", file)) + `}`
				got := r.Do(r.Root, http.MethodPut, "sys/policies/acl/evil", body)
				if got.Status != http.StatusBadRequest {
					t.Errorf("policy %q = %d %s; want 400", text, got.Status, got.Body)
				}
				said[i] = strings.ReplaceAll(string(got.Body), file, "FILE")
				if strings.Contains(string(got.Body), "root:") {
					t.Errorf("policy %q answered %s", text, got.Body)
				}
			}
			if said[0] != said[1] {
				t.Errorf("of a file that exists %q was said, of one that does not %q; want the same", said[0], said[1])
			}
			refused(t, r, attack{what: what, method: http.MethodPut, path: "sys/policies/acl/evil", body: `{"policy":` + quote(strings.ReplaceAll(text, "%s", "/etc/passwd")) + `}`})
		})
	}
	if got := r.Do(r.Root, http.MethodGet, "sys/policies/acl/evil", ""); got.Status != http.StatusNotFound {
		t.Errorf("the policy is there: %d %s", got.Status, got.Body)
	}
}

// roots are spellings of root that some program might take for it.
var roots = []string{
	"root", "ROOT", "Root", " root", "root ", "root\t", "\troot", "root\n", "ｒｏｏｔ", "root\x00", "ro\u200bot", "rооt", "root/", "/root", "./root",
	"rooT,default", "default,root", "root,", "%72oot", "root%20", "\ufeffroot",
}

// foreign are names that some cache or file system might take for another's.
var foreign = []string{
	"../admin", "..%2fadmin", "ns2/../admin", "/admin", "a//b", "a/b", "..", ".", "a\x00b", "a b", "*", "+", "a*", "{{identity.entity.name}}", "a\u2215b", "%2f", strings.Repeat("a", 129), "-a",
}

// holdsPolicies reports a field that takes names of policies.
func holdsPolicies(f field) bool {
	if !strings.Contains(f.name, "policies") || strings.HasSuffix(f.name, "_glob") {
		return f.typ.Kind() == reflect.Slice && f.typ.Elem() == reflect.TypeFor[name.Name]()
	}
	return f.from == inBody
}

// TestH035H036H037RootIsGivenByRootOnly tries every spelling of root in every
// field that takes names of policies, by a caller who may do everything but
// does not hold root; and names that lead elsewhere.
func TestH035H036H037RootIsGivenByRootOnly(t *testing.T) {
	t.Parallel()
	r := plain(t)
	s := stage(t, r)
	r.Policy("almighty", `path "*" { capabilities = ["create","read","update","patch","delete","list","sudo"] }`)
	token := r.Token("almighty")
	found := 0
	for _, f := range fields(t, r, holdsPolicies) {
		if f.op.Name == "system.policy-explain" {
			continue // gives nothing to anyone
		}
		found++
		o := opOf(t, r, f)
		good := s.request(o, f, `["app"]`)
		if got := r.Do(token, good.method, good.path, good.body); got.Status/100 != 2 {
			t.Errorf("%s with a plain policy = %d %s; want 2xx", good.what, got.Status, got.Body)
		}
		var all []attack
		for _, bad := range roots {
			for _, value := range []string{`[` + quote(bad) + `]`, `["default",` + quote(bad) + `]`, quote(bad), quote("app," + bad)} {
				a := s.request(o, f, value)
				a.token, a.status = token, []int{http.StatusBadRequest, http.StatusForbidden}
				all = append(all, a)
			}
		}
		for _, bad := range foreign {
			a := s.request(o, f, `[`+quote(bad)+`]`)
			a.token = token
			all = append(all, a)
		}
		refused(t, r, all...)
	}
	if found < 5 {
		t.Errorf("%d fields take names of policies; want at least 5: the generator no longer finds them", found)
	}
}

// TestH035RolesDoNotGiveRoot tries to get root by patterns of a role.
func TestH035RolesDoNotGiveRoot(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("almighty", `path "*" { capabilities = ["create","read","update","patch","delete","list","sudo"] }`)
	token := r.Token("almighty")
	for i, glob := range []string{"*", "r*", "ROO*", "root", "*t"} {
		role := "wide" + string(rune('a'+i))
		r.Must(token, http.MethodPost, "auth/token/roles/"+role, `{"allowed_policies_glob":[`+quote(glob)+`]}`)
		refused(t, r,
			attack{what: "by pattern " + glob, token: token, path: "auth/token/create/" + role, body: `{"policies":["root"]}`},
			attack{what: "by pattern " + glob, token: token, path: "auth/token/create/" + role, body: `{"policies":["ROOT"]}`},
		)
		if got := r.Do(token, http.MethodPost, "auth/token/create/"+role, `{}`); strings.Contains(string(got.Body), `"root"`) {
			t.Errorf("a token under a role with %q has root: %s", glob, got.Body)
		}
	}
	refused(t, r,
		attack{what: "the policy root", method: http.MethodPut, token: token, path: "sys/policies/acl/root", body: `{"policy":"path \"*\" {}"}`},
		attack{what: "the policy root", method: http.MethodPut, path: "sys/policies/acl/ROOT", body: `{"policy":"path \"*\" {}"}`},
		attack{what: "the policy root", method: http.MethodDelete, path: "sys/policies/acl/root"},
		attack{what: "a batch token of root", path: "auth/token/create", body: `{"type":"batch","policies":["root"]}`},
	)
}

// TestH038OneSpelling has a deny on a name, and calls for it in other spellings.
func TestH038OneSpelling(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("prod", `path "x" { capabilities = ["read"] }`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/ops", `{}`)
	r.Must(r.Root, http.MethodPost, "secret/data/caf%C3%A9/Key", `{"data":{"a":"`+canary+`"}}`)
	r.Policy("narrow", `
		path "sys/policies/acl/*" { capabilities = ["create","read","update","delete","list"] }
		path "sys/policies/acl/prod" { capabilities = ["deny"] }
		path "sys/policy/*" { capabilities = ["create","read","update","delete","list"] }
		path "sys/policy/prod" { capabilities = ["deny"] }
		path "auth/token/*" { capabilities = ["create","read","update","delete","list"] }
		path "auth/token/roles/ops" { capabilities = ["deny"] }
		path "auth/token/create/ops" { capabilities = ["deny"] }
		path "secret/*" { capabilities = ["create","read","update","delete","list","patch"] }
		path "secret/data/café/Key" { capabilities = ["deny"] }
		path "secret/metadata/café/Key" { capabilities = ["deny"] }`)
	token := r.Token("narrow")
	r.Must(token, http.MethodGet, "sys/policies/acl/narrow", "")
	r.Must(token, "LIST", "auth/token/roles/", "")
	var all []attack
	add := func(at string, spellings ...string) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			for _, sp := range spellings {
				all = append(all, attack{
					what: "spelling " + sp, token: token, method: method, path: at + sp,
					body: `{"policy":"path \"y\" {}","data":{"a":"` + canary + `"}}`,
				})
			}
		}
	}
	names := func(n string) []string {
		up := strings.ToUpper(n)
		return []string{
			n, up, up[:1] + n[1:], "%" + hexOf(n[0]) + n[1:], "%" + hexOf(up[0]) + n[1:], n + "/", n + "%20", "%20" + n, n + "%00", n + "%E2%80%8B", n + "%09", n + "//", "./" + n, "x/../" + n, "%2e/" + n, n + "%2f", n + "%E2%84%AA",
		}
	}
	add("sys/policies/acl/", names("prod")...)
	add("sys/policy/", names("prod")...)
	add("auth/token/roles/", names("ops")...)
	add("auth/token/create/", names("ops")...)
	add("secret/data/", "caf%C3%A9/Key", "cafe%CC%81/Key", "caf%C3%A9//Key", "caf%C3%A9/./Key", "caf%C3%A9/x/../Key", "caf%C3%A9/Key/", "caf%C3%A9/Key%20", "caf%c3%a9/%4Bey", "caf%25C3%25A9/Key", "caf%C3%A9%2FKey", "caf\u00e9/Key")
	add("secret/metadata/", "caf%C3%A9/Key", "cafe%CC%81/Key", "caf%c3%a9/%4bey", "caf%C3%A9/Key/")
	refused(t, r, all...)
	if got := r.Must(r.Root, http.MethodGet, "sys/policies/acl/prod", ""); !strings.Contains(got.Text("data.policy"), `"x"`) {
		t.Errorf("the policy was changed: %s", got.Body)
	}
}

func hexOf(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// TestH039PolicyNamesStayApart tries lists of names that join to the same text.
func TestH039PolicyNamesStayApart(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("a", `path "secret/data/a" { capabilities = ["read"] }`)
	r.Policy("b", `path "secret/data/b" { capabilities = ["read"] }`)
	r.Policy("a.b", `path "secret/data/c" { capabilities = ["read"] }`)
	r.Policy("a-b", `path "secret/data/d" { capabilities = ["read"] }`)
	r.Policy("a_b", `path "secret/data/e" { capabilities = ["read"] }`)
	for _, p := range []string{"a", "b", "c", "d", "e"} {
		r.Must(r.Root, http.MethodPost, "secret/data/"+p, `{"data":{"a":"`+canary+`"}}`)
	}
	for _, x := range []struct {
		held []string
		can  string
	}{{[]string{"a", "b"}, "ab"}, {[]string{"a.b"}, "c"}, {[]string{"a-b"}, "d"}, {[]string{"a_b"}, "e"}, {[]string{"b"}, "b"}, {[]string{"a"}, "a"}} {
		token := r.Token(x.held...)
		for _, p := range []string{"a", "b", "c", "d", "e"} {
			if strings.Contains(x.can, p) {
				r.Must(token, http.MethodGet, "secret/data/"+p, "")
			} else {
				refused(t, r, attack{what: "another's policy", token: token, method: http.MethodGet, path: "secret/data/" + p, status: []int{http.StatusForbidden}})
			}
		}
	}
}

// TestH041ListsAreDeniedLikeReads has a deny below an allow, and lists.
func TestH041ListsAreDeniedLikeReads(t *testing.T) {
	t.Parallel()
	r := plain(t)
	for _, p := range []string{"private/x/y", "public/z"} {
		r.Must(r.Root, http.MethodPost, "secret/data/"+p, `{"data":{"a":"`+canary+`"}}`)
	}
	r.Policy("lister", `
		path "secret/metadata/*" { capabilities = ["list", "read"] }
		path "secret/metadata/private/*" { capabilities = ["deny"] }
		path "secret/detailed-metadata/*" { capabilities = ["list", "read"] }
		path "secret/detailed-metadata/private/*" { capabilities = ["deny"] }`)
	token := r.Token("lister")
	r.Must(token, "LIST", "secret/metadata/public/", "")
	var all []attack
	for _, at := range []string{"secret/metadata/", "secret/detailed-metadata/"} {
		for _, p := range []string{"private", "private/", "private/x", "private/x/", "private%2f", "%70rivate/", "private//", "private/."} {
			all = append(all,
				attack{what: "list", token: token, method: "LIST", path: at + p},
				attack{what: "get", token: token, method: http.MethodGet, path: at + p + "?list=true"},
				attack{what: "get", token: token, method: http.MethodGet, path: at + p + "?list=1&after=a"},
				attack{what: "scan", token: token, method: "SCAN", path: at + p},
				attack{what: "scan", token: token, method: http.MethodGet, path: at + p + "?scan=true"},
			)
		}
	}
	refused(t, r, all...)
}

// TestH045SubResourcesHaveTheirParent calls for what is below something else.
func TestH045SubResourcesHaveTheirParent(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "sys/mounts/other", `{"type":"kv","options":{"version":"2"}}`)
	r.Must(r.Root, http.MethodPost, "secret/data/mine", `{"data":{"a":"1"}}`)
	r.Must(r.Root, http.MethodPost, "secret/data/mine", `{"data":{"a":"`+canary+`"}}`)
	r.Must(r.Root, http.MethodPost, "other/data/yours", `{"data":{"a":"1"}}`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/a", `{"allowed_policies":["default"]}`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/b", `{"allowed_policies":["default"]}`)
	kept := r.Must(r.Root, http.MethodPost, "auth/token/create/b", `{}`).Text("auth.client_token")
	r.Must(r.Root, http.MethodDelete, "auth/token/roles/a", "")
	r.Must(kept, http.MethodGet, "auth/token/lookup-self", "")

	cubby := r.Token("default")
	r.Must(cubby, http.MethodPost, "cubbyhole/mine", `{"a":"`+canary+`"}`)
	refused(t, r,
		attack{what: "a secret of another mount", method: http.MethodGet, path: "other/data/mine"},
		attack{what: "metadata of another mount", method: http.MethodGet, path: "other/metadata/mine"},
		attack{what: "tuning of no mount", path: "sys/mounts/nowhere/tune", body: `{"description":"x"}`},
		attack{what: "tuning of no method", path: "sys/auth/nowhere/tune", body: `{"description":"x"}`},
		attack{what: "a mount by the door of methods", path: "sys/auth/secret/tune", body: `{"description":"x"}`},
		attack{what: "a token of a role that is gone", path: "auth/token/create/a", body: `{}`},
		attack{what: "a role that is gone", method: http.MethodGet, path: "auth/token/roles/a"},
		attack{what: "a move that never was", method: http.MethodGet, path: "sys/remount/status/00000000-0000-4000-8000-000000000000"},
		attack{what: "a sink that is not there", path: "sys/audit-hash/nowhere", body: `{"input":"x"}`},
		attack{what: "another token's cubbyhole", method: http.MethodGet, path: "cubbyhole/mine"},
		attack{what: "another token's cubbyhole", method: http.MethodGet, token: kept, path: "cubbyhole/mine"},
	)
	for _, what := range []string{"destroy", "delete", "undelete"} {
		r.Do(r.Root, http.MethodPost, "other/"+what+"/mine", `{"versions":[1,2]}`)
	}
	if got := r.Must(r.Root, http.MethodGet, "secret/data/mine", ""); got.Text("data.data.a") != canary {
		t.Errorf("the secret of the same path in another mount is %s", got.Body)
	}
	// The mount of an auth method is not to be removed by who may only remove engines.
	r.Policy("mounter", `path "sys/mounts/*" { capabilities = ["create","read","update","delete"] }`)
	mounter := r.Token("mounter")
	r.Must(mounter, http.MethodDelete, "sys/mounts/other", "")
	refused(t, r,
		attack{what: "tokens' mount", token: mounter, method: http.MethodDelete, path: "sys/mounts/auth/token"},
		attack{what: "the system's mount", token: mounter, method: http.MethodDelete, path: "sys/mounts/sys"},
		attack{what: "cubbyholes' mount", token: mounter, method: http.MethodDelete, path: "sys/mounts/cubbyhole"},
		attack{what: "a mount below auth", token: mounter, path: "sys/mounts/auth/mine", body: `{"type":"kv"}`},
		attack{what: "a mount over the system", token: mounter, path: "sys/mounts/sys/mine", body: `{"type":"kv"}`},
		attack{what: "a mount in a mount", token: mounter, path: "sys/mounts/secret/mine", body: `{"type":"kv"}`},
	)
}

// TestH144EachDoorAsksForItself has a caller who may only write, and one who
// may do nothing, at every operation.
func TestH144EachDoorAsksForItself(t *testing.T) {
	t.Parallel()
	r := plain(t)
	s := stage(t, r)
	r.Must(r.Root, http.MethodPost, "secret/data/app/one", `{"data":{"old":"`+canary+`"}}`)
	r.Policy("writer", `path "secret/data/app/*" { capabilities = ["create","update"] }`)
	writer := r.Token("writer")
	r.Must(writer, http.MethodPost, "secret/data/app/two", `{"data":{"a":"b"}}`)
	refused(t, r,
		attack{what: "read", token: writer, method: http.MethodGet, path: "secret/data/app/one"},
		attack{what: "subkeys", token: writer, method: http.MethodGet, path: "secret/subkeys/app/one"},
		attack{what: "patch", token: writer, method: http.MethodPatch, path: "secret/data/app/one", body: `{"data":{"x":1}}`},
		attack{what: "delete", token: writer, method: http.MethodDelete, path: "secret/data/app/one"},
		attack{what: "delete", token: writer, path: "secret/delete/app/one", body: `{"versions":[1]}`},
		attack{what: "undelete", token: writer, path: "secret/undelete/app/one", body: `{"versions":[1]}`},
		attack{what: "destroy", token: writer, path: "secret/destroy/app/one", body: `{"versions":[1]}`},
		attack{what: "metadata", token: writer, method: http.MethodGet, path: "secret/metadata/app/one"},
		attack{what: "metadata", token: writer, method: http.MethodPatch, path: "secret/metadata/app/one", body: `{"max_versions":1}`},
		attack{what: "list", token: writer, method: "LIST", path: "secret/metadata/app/"},
		attack{what: "list", token: writer, method: "LIST", path: "secret/detailed-metadata/app/"},
	)
	// A writer's answer says nothing of what was there.
	if got := r.Must(writer, http.MethodPost, "secret/data/app/one", `{"data":{"a":"b"}}`); strings.Contains(string(got.Body), canary) {
		t.Errorf("a write answered with the value before: %s", got.Body)
	}

	powerless := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["none"],"no_default_policy":true}`).Text("auth.client_token")
	var all []attack
	for _, o := range operations(t, r) {
		if o.op.Auth != 0 {
			continue
		}
		path, body := s.usual(o)
		for _, token := range []string{powerless, nobody, "hvs." + strings.Repeat("A", 40), "s.x", canary} {
			a := attack{what: o.op.Name, token: token, method: o.method(), path: o.target(path), status: []int{http.StatusForbidden}}
			if o.op.Verb.IsWrite() || o.op.Verb.String() == "patch" {
				a.body = object(body, field{}, "")
			}
			all = append(all, a)
		}
	}
	refused(t, r, all...)
}
