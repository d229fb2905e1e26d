package cli

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSetAndGet(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)

	if o := s.runWith("hunter2\n", "set", "DB_PASSWORD", "-"); o.code != 0 || o.out != "" || !strings.Contains(o.err, "version 1") {
		t.Fatalf("set: %+v; want success, nothing on standard output and the version", o)
	}
	if got := s.good("get DB_PASSWORD"); got != "hunter2" {
		t.Errorf("get = %q, want the value byte for byte", got)
	}
	if o := s.runWith("-----BEGIN\nline\n-----END\n", "set", "tls/key", "-"); o.code != 0 {
		t.Fatalf("set of many lines: %+v", o)
	}
	if got := s.good("get tls/key"); got != "-----BEGIN\nline\n-----END\n" {
		t.Errorf("get = %q, want many lines byte for byte", got)
	}
	path := s.file("value", "from a file\n")
	s.good("set other @" + path)
	if got := s.good("get other -o raw"); got != "from a file\n" {
		t.Errorf("get = %q, want the file byte for byte", got)
	}
	s.good("set made --generate 24 --charset hex")
	if got := s.good("get made"); !regexp.MustCompile(`^[0-9a-f]{24}$`).MatchString(got) {
		t.Errorf("get = %q, want 24 hex digits", got)
	}
	if o := s.run("set made --generate 24"); strings.Contains(o.out+o.err, s.good("get made")) {
		t.Errorf("set --generate prints the value: %+v", o)
	}
	for _, r := range f.asked() {
		if r.token != "rts_test" {
			t.Errorf("%s was sent with the token %q, want the environment's", r.line, r.token)
		}
	}
}

func TestSetFields(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	if o := s.runWith("p w\n", "set", "app/db", "user=app", "password=-"); o.code != 0 {
		t.Fatalf("set: %+v", o)
	}
	if got := s.good("get app/db --field password"); got != "p w" {
		t.Errorf("get --field password = %q, want one line without its end", got)
	}
	s.runWith("p w\n", "set", "--exact", "app/db", "password=-")
	if got := s.good("get app/db --field password"); got != "p w\n" {
		t.Errorf("get --field password = %q, want the line as it came", got)
	}
	s.good("set app/db port=5432")
	s.good("set app/db --field password --generate 8 --charset digits")
	if got := s.good("get app/db --field port"); got != "5432" {
		t.Errorf("get --field port = %q, want 5432", got)
	}
	if got := s.good("get app/db --field user"); got != "app" {
		t.Errorf("get --field user = %q: a field that was not named must keep its value", got)
	}
	if got := s.good("get app/db --field password"); !regexp.MustCompile(`^\d{8}$`).MatchString(got) {
		t.Errorf("get --field password = %q, want 8 digits", got)
	}
	if o := s.run("get app/db --field nope"); o.code != 1 {
		t.Errorf("get of a field that is not there: %+v, want exit code 1", o)
	}
}

func TestValuesOnTheCommandLineAreRefused(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	for _, line := range []string{"set X hunter2", "set X aHVudGVyMg=="} {
		o := s.run(line)
		if o.code != 1 || strings.Contains(o.err, "hunter2") || strings.Contains(o.err, "aHVudGVyMg") {
			t.Errorf("rotunda %s: %+v; want a refusal that does not repeat the value", line, o)
		}
	}
	if o := s.run("set X aHVudGVyMg="); o.code != 1 {
		t.Errorf("set of text that looks like FIELD=: %+v, want a refusal", o)
	}
	if o := s.run("set X"); o.code != 1 || !strings.Contains(o.err, "-") {
		t.Errorf("set where nobody can be asked: %+v, want a refusal that names -", o)
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}

func TestHistoryDiffRollback(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	for _, v := range []string{"a=1 b=1", "b=2 c=1"} {
		s.good("kv put secret/app " + v)
	}
	golden(t, "history", s.good("history app"))
	o := s.run("diff app")
	if o.code != 2 || strings.Contains(o.out, "1\n") {
		t.Errorf("diff of two versions that differ: %+v, want exit code 2 and no values", o)
	}
	golden(t, "diff", o.out)
	golden(t, "diff-show", s.run("diff app --show -o json").out)
	if o := s.run("diff app 1 1"); o.code != 0 {
		t.Errorf("diff of a version with itself: %+v, want exit code 0", o)
	}
	if o := s.run("diff nope"); o.code != 1 {
		t.Errorf("diff of what is not there: %+v, want exit code 1", o)
	}
	if o := s.run("rollback app"); o.code != 0 || !strings.Contains(o.err, "version 3") {
		t.Errorf("rollback: %+v, want version 3", o)
	}
	if o := s.run("diff app 1 3"); o.code != 0 {
		t.Errorf("diff of the version and what it was brought back as: %+v, want none", o)
	}
	s.good("rm app")
	o = s.run("get app")
	if o.code != 2 || !strings.Contains(o.err, "rotunda kv undelete -mount=secret -versions=3 app") {
		t.Errorf("get of a deleted version: %+v; want exit code 2 and how to bring it back", o)
	}
	s.good("kv undelete -mount=secret -versions=3 app")
	if got := s.good("get app --field a"); got != "1" {
		t.Errorf("get after undelete = %q, want 1", got)
	}
	if o := s.run("rm app --versions 1 --destroy"); o.code != 1 || !strings.Contains(o.err, "--yes") {
		t.Errorf("rm --destroy where nobody can be asked: %+v, want a refusal that names --yes", o)
	}
	s.good("rm app --versions 1 --destroy --yes")
	golden(t, "history-destroyed", s.good("history app -o yaml"))
	s.good("rm app --purge --yes")
	if o := s.run("rm app"); o.code != 2 {
		t.Errorf("rm of what is not there: %+v, want exit code 2", o)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	path := s.file("d.json", `{"user":"it's","big":18446744073709551616,"list":[1,"x"],"multi":"a\nb"}`)
	s.good("kv put secret/app @" + path)
	s.good("kv put secret/one value=x")
	for _, format := range formats {
		golden(t, "get-"+format, s.good("get app -o "+format))
		golden(t, "get-one-"+format, s.good("get one -o "+format))
		golden(t, "kv-get-"+format, s.good("kv get -format="+format+" secret/app"))
	}
	s.env = append(s.env, "VAULT_FORMAT=json")
	golden(t, "ls-json", s.good("ls"))
	if o := s.run("ls -o xml"); o.code != 1 || !strings.Contains(o.err, "table, json, yaml, env, raw") {
		t.Errorf("an unknown format: %+v, want the ones that are known", o)
	}
}

func TestVaultVerbs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	if o := s.runWith("p\n", "kv", "put", "-mount=secret", "-cas=0", "app", "user=x", "pass=-", `at=\@x`, "user=y"); o.code != 0 {
		t.Fatalf("kv put: %+v", o)
	}
	if got := s.good("kv get -mount secret -field=pass app"); got != "p\n" {
		t.Errorf("kv get -field=pass = %q, want standard input byte for byte", got)
	}
	if got := s.good("kv get -format=json -field=user secret/app"); got != "[\n  \"x\",\n  \"y\"\n]\n" {
		t.Errorf("kv get of a key that came twice = %q, want a list", got)
	}
	if o := s.run("kv put -cas=0 secret/app a=b"); o.code != 2 || !strings.Contains(o.err, "check-and-set") || !strings.Contains(o.err, "rotunda history") {
		t.Errorf("kv put with the wrong version: %+v, want exit code 2 and advice", o)
	}
	s.good("kv patch secret/app user=z")
	s.good("kv patch -method=rw -remove-data=at secret/app n=1")
	golden(t, "kv-get-patched", s.good("kv get secret/app"))
	golden(t, "kv-metadata-get", s.good("kv metadata get secret/app"))
	golden(t, "kv-list", s.good("kv list secret"))
	if got := s.good("kv list -format=json -mount=secret"); got != "[\n  \"app\"\n]\n" {
		t.Errorf("kv list -format=json = %q, want a list", got)
	}
	golden(t, "read", s.good("read secret/data/app -format=json"))
	s.good("delete secret/data/app")
	if o := s.run("kv get secret/app"); o.code != 2 {
		t.Errorf("kv get of a deleted version: %+v, want exit code 2", o)
	}
	s.good("kv undelete -versions=3 secret/app")
	s.good("kv rollback -version=1 secret/app")
	if got := s.good("kv get -field=user -format=json secret/app"); !strings.Contains(got, "x") {
		t.Errorf("kv get after rollback = %q, want the first version", got)
	}
	s.good("kv put old/x a=1")
	s.good("kv put -mount=old x a=2")
	if got := s.good("kv get -field=a old/x"); got != "2" {
		t.Errorf("kv get of version 1 = %q, want 2", got)
	}
	if o := s.run("kv rollback -version=1 old/x"); o.code != 1 || !strings.Contains(o.err, "keeps no versions") {
		t.Errorf("kv rollback in version 1: %+v, want a refusal", o)
	}
	s.good("kv metadata put -max-versions=3 -custom-metadata=owner=me secret/app")
	last := f.asked()[len(f.asked())-1]
	if last.line != "PUT secret/metadata/app" || last.body != `{"max_versions":3,"custom_metadata":{"owner":"me"}}` {
		t.Errorf("kv metadata put sends %s %s", last.line, last.body)
	}
	s.good("kv metadata patch -remove-custom-metadata=owner secret/app")
	last = f.asked()[len(f.asked())-1]
	if last.line != "PATCH secret/metadata/app" || last.body != `{"custom_metadata":{"owner":null}}` {
		t.Errorf("kv metadata patch sends %s %s", last.line, last.body)
	}
}

// TestRequests holds what each command sends, as other servers and their
// clients know it.
func TestRequests(t *testing.T) {
	t.Parallel()
	const ok = `{"request_id":"r","data":{"keys":["a"],"id":"x","capabilities":["read","list"],"policy":"path \"x\" {}","allowed":true},"auth":{"client_token":"made"}}`
	for _, tc := range []struct{ line, want, body string }{
		{"token create -policy=a -policy=b -ttl=1h -use-limit=2 -display-name=n -metadata=k=v", "POST auth/token/create", `{"policies":["a","b"],"ttl":"1h","display_name":"n","num_uses":2,"renewable":true,"meta":{"k":"v"}}`},
		{"token create -orphan -type=batch", "POST auth/token/create-orphan", `{"type":"batch"}`},
		{"token create -role=r", "POST auth/token/create/r", `{"renewable":true}`},
		{"token lookup", "GET auth/token/lookup-self", ""},
		{"token lookup -accessor A", "POST auth/token/lookup-accessor", `{"accessor":"A"}`},
		{"token lookup T", "POST auth/token/lookup", `{"token":"T"}`},
		{"token renew -increment=1h", "PUT auth/token/renew-self", `{"increment":"1h"}`},
		{"token renew T", "PUT auth/token/renew", `{"token":"T"}`},
		{"token revoke -self", "PUT auth/token/revoke-self", ""},
		{"token revoke -mode=orphan T", "PUT auth/token/revoke-orphan", `{"token":"T"}`},
		{"token revoke -accessor A", "POST auth/token/revoke-accessor", `{"accessor":"A"}`},
		{"token capabilities secret/x", "POST sys/capabilities-self", `{"path":"secret/x"}`},
		{"token capabilities T secret/x", "POST sys/capabilities", `{"path":"secret/x","token":"T"}`},
		{"policy list", "GET sys/policies/acl?list=true", ""},
		{"policy read p", "GET sys/policies/acl/p", ""},
		{"policy delete p", "DELETE sys/policies/acl/p", ""},
		{"policy explain update secret/data/x --policy a,b", "POST sys/policy-explain", `{"path":"secret/data/x","capability":"update","policies":["a","b"]}`},
		{"secrets enable -path=team -version=2 -description=d kv", "POST sys/mounts/team", `{"type":"kv","description":"d","local":false,"seal_wrap":false,"config":{},"options":{"version":"2"}}`},
		{"secrets tune -max-lease-ttl=1h -description= team/", "POST sys/mounts/team/tune", `{"max_lease_ttl":"1h","description":""}`},
		{"secrets disable team/", "DELETE sys/mounts/team", ""},
		{"kv enable-versioning old/", "POST sys/mounts/old/tune", `{"options":{"version":"2"}}`},
		{"audit enable -path=x file file_path=/a", "PUT sys/audit/x", `{"type":"file","description":"","options":{"file_path":"/a"},"local":false}`},
		{"audit disable x/", "DELETE sys/audit/x", ""},
		{"lease renew -increment=5m a/b/c", "PUT sys/leases/renew", `{"lease_id":"a/b/c","increment":"5m"}`},
		{"lease revoke -sync a/b/c", "PUT sys/leases/revoke", `{"lease_id":"a/b/c","sync":true}`},
		{"lease revoke -prefix a/b", "PUT sys/leases/revoke-prefix/a/b", `{"sync":false}`},
		{"lease revoke -force -prefix a/b", "PUT sys/leases/revoke-force/a/b", ""},
		{"lease lookup a/b/c", "PUT sys/leases/lookup", `{"lease_id":"a/b/c"}`},
		{"unwrap W", "PUT sys/wrapping/unwrap", `{"token":"W"}`},
		{"write -f sys/x", "PUT sys/x", "null"},
		{"write sys/x a=1 b=", "PUT sys/x", `{"a":"1","b":""}`},
		{"patch sys/x a=1", "PATCH sys/x", `{"a":"1"}`},
		{"delete sys/x a=1", "DELETE sys/x?a=1", ""},
		{"list /sys/x/", "GET sys/x?list=true", ""},
		{"path-help sys/x", "GET sys/x?help=1", ""},
		{"operator seal", "PUT sys/seal", ""},
		{"operator key-status", "GET sys/key-status", ""},
		{"read sys/a%20b/c?d", "GET sys/a%20b/c?d", ""},
	} {
		t.Run(tc.line, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer(tc.want, 200, ok)
			o := newShell(t, f).run(tc.line)
			if o.code != 0 {
				t.Fatalf("rotunda %s: %+v", tc.line, o)
			}
			asked := f.asked()
			if len(asked) != 1 {
				t.Fatalf("rotunda %s sends %d requests, want 1: %v", tc.line, len(asked), asked)
			}
			if got := asked[0]; got.line != tc.want || got.body != tc.body {
				t.Errorf("rotunda %s sends %s %s, want %s %s", tc.line, got.line, got.body, tc.want, tc.body)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		code   int
	}{
		{"unsealed", 200, `{"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0,"version":"1.19.0","storage_type":"bolt"}`, 0},
		{"sealed", 200, `{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"version":"1.19.0","storage_type":"bolt"}`, 2},
		{"not initialized", 200, `{"type":"shamir","initialized":false,"sealed":true,"t":0,"n":0,"progress":0,"version":"1.19.0","storage_type":"bolt"}`, 2},
		{"refused", 400, `{"errors":["no"]}`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer("GET sys/seal-status", tc.status, tc.body)
			f.answer("GET sys/leader", 200, `{"ha_enabled":false}`)
			o := newShell(t, f).run("status")
			if o.code != tc.code {
				t.Errorf("status: %+v, want exit code %d", o, tc.code)
			}
			golden(t, "status-"+strings.ReplaceAll(tc.name, " ", "-"), o.out)
			for _, r := range f.asked() {
				if r.token != "" {
					t.Errorf("%s was sent with a token, want none", r.line)
				}
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, line string
		status     int
		body       string
		code       int
		want       []string
	}{
		{"sealed", "read a/b", 503, `{"errors":["Vault is sealed"]}`, 2, []string{"rotunda operator unseal"}},
		{"not initialized", "read a/b", 503, `{"errors":["server is not initialized"]}`, 2, []string{"rotunda operator init"}},
		{"denied", "read a/b", 403, `{"errors":["permission denied"]}`, 2, []string{"rotunda whoami", "rotunda policy explain read a/b", "VAULT_TOKEN"}},
		{"no route", "read a/b", 404, `{"errors":["no handler for route \"a/b\". route entry not found."]}`, 2, []string{"rotunda secrets list"}},
		{"nothing there", "read a/b", 404, `{"errors":[]}`, 2, []string{"there is nothing at a/b"}},
		{"no body", "read a/b", 400, ``, 2, []string{"bad request"}},
		{"plain text", "read a/b", 400, "not JSON\nsecond line", 2, []string{"not JSON"}},
		{"a list of one", "read a/b", 404, `{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}`, 2, []string{"rotunda: unsupported path\n"}},
		{"escapes", "read a/b", 400, `{"errors":["\u001b[31mred"]}`, 2, []string{`\u001b[31mred`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer("GET a/b", tc.status, tc.body)
			s := newShell(t, f)
			s.env = append(s.env, "VAULT_MAX_RETRIES=0")
			o := s.run(tc.line)
			if o.code != tc.code || o.out != "" {
				t.Errorf("rotunda %s: %+v; want exit code %d and nothing on standard output", tc.line, o, tc.code)
			}
			for _, w := range tc.want {
				if !strings.Contains(o.err, w) {
					t.Errorf("rotunda %s says:\n%swant it to say %q", tc.line, o.err, w)
				}
			}
			if strings.Contains(o.err, "rts_test") {
				t.Errorf("rotunda %s shows the token: %s", tc.line, o.err)
			}
		})
	}
}

func TestConnectionErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	secure := httptest.NewTLSServer(f)
	t.Cleanup(secure.Close)
	closed := httptest.NewServer(f)
	closed.Close()
	for _, tc := range []struct{ name, address, want string }{
		{"nobody listens", closed.URL, "rotunda up"},
		{"unknown authority", secure.URL, "--ca-cert FILE"},
		{"plain HTTP", strings.Replace(f.URL, "http:", "https:", 1), "plain HTTP"},
		{"no such name", "https://name.invalid", "rotunda context list"},
		{"no URL", "127.0.0.1:8200", "https://127.0.0.1:8200"},
		{"a password in it", "https://a:b@127.0.0.1", "must not hold"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, nil)
			s.env = append(s.env, "VAULT_TOKEN=rts_test", "VAULT_MAX_RETRIES=0")
			o := s.run("read x -address " + tc.address)
			if o.code == 0 || !strings.Contains(o.err, tc.want) {
				t.Errorf("rotunda read x at %s: %+v; want a failure that says %q", tc.address, o, tc.want)
			}
		})
	}
	s := newShell(t, nil)
	ca := s.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	f.answer("GET x", 200, `{"request_id":"r","data":{"a":1}}`)
	if o := s.run("read x -address " + secure.URL + " -ca-cert " + ca); o.code != 0 {
		t.Errorf("with the certificate: %+v, want success", o)
	}
	if _, err := x509.ParseCertificate(secure.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
}

func TestLoginKeepsATokenForItsServerOnly(t *testing.T) {
	t.Parallel()
	f, other := newFake(t), newFake(t)
	const self = `{"request_id":"r","data":{"display_name":"token","policies":["root"],"type":"service","ttl":0,"expire_time":null,"accessor":"a","id":"rts_saved"}}`
	f.answer("GET auth/token/lookup-self", 200, self)
	s := newShell(t, nil)
	o := s.runWith("rts_saved\n", "login", "-", "--address", f.URL)
	if o.code != 0 || strings.Contains(o.out+o.err, "rts_saved") {
		t.Fatalf("login: %+v; want success without the token", o)
	}
	if info, err := os.Stat(filepath.Join(s.home, ".local/state/rotunda/tokens/127.0.0.1")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token file: %v, %v; want mode 0600", info, err)
	}
	if o := s.run("whoami"); o.code != 0 || !strings.Contains(o.out, "root") {
		t.Errorf("whoami: %+v, want who it is", o)
	}
	// The token goes to the server that it is for, and to no other.
	o = s.run("whoami --address " + other.URL)
	if o.code != 1 || !strings.Contains(o.err, "rotunda login") {
		t.Errorf("whoami elsewhere: %+v, want to be told to log in", o)
	}
	s.run("read x --address " + other.URL)
	for _, r := range other.asked() {
		if r.token != "" {
			t.Errorf("%s was sent elsewhere with the token", r.line)
		}
	}
	// A context that is named is not mixed with what the environment says.
	with := &shell{t: t, home: s.home, env: append(slices.Clip(s.env), "VAULT_ADDR="+other.URL, "VAULT_TOKEN=rts_other", "VAULT_CACERT=/none")}
	if got := with.good("print token --context 127.0.0.1"); got != "rts_saved\n" {
		t.Errorf("print token --context = %q, want the context's", got)
	}
	before := len(other.asked())
	if o := with.run("whoami --context 127.0.0.1"); o.code != 0 || len(other.asked()) != before {
		t.Errorf("whoami --context: %+v, want the context's server to be asked", o)
	}
	if got := s.good("print token"); got != "rts_saved\n" {
		t.Errorf("print token = %q, want what was saved", got)
	}
	golden(t, "env", strings.ReplaceAll(s.good("env"), f.URL, "ADDRESS"))
	golden(t, "context-list", strings.ReplaceAll(s.good("context list"), f.URL, "ADDRESS"))
	s.good("logout")
	if o := s.run("whoami"); o.code != 1 {
		t.Errorf("whoami after logout: %+v, want exit code 1", o)
	}
	if o := s.run("login -method=oidc"); o.code != 1 || !strings.Contains(o.err, "oidc") {
		t.Errorf("login by another method: %+v, want a refusal", o)
	}
	f.answer("GET auth/token/lookup-self", 403, `{"errors":["permission denied"]}`)
	if o := s.runWith("bad\n", "login", "-"); o.code != 2 || strings.Contains(o.err, "bad\n") {
		t.Errorf("login with a token that is not known: %+v, want exit code 2", o)
	}
}

func TestEnvironmentOrder(t *testing.T) {
	t.Parallel()
	a, b, c := newFake(t), newFake(t), newFake(t)
	s := newShell(t, nil)
	s.env = append(s.env, "VAULT_ADDR="+c.URL, "BAO_ADDR="+b.URL, "ROTUNDA_ADDR="+a.URL, "VAULT_TOKEN=v", "BAO_TOKEN=b", "ROTUNDA_NAMESPACE=team", "VAULT_WRAP_TTL=60")
	s.run("read x")
	if len(a.asked()) != 1 || len(b.asked())+len(c.asked()) != 0 {
		t.Fatalf("the requests went to %d, %d, %d; want one to the first", len(a.asked()), len(b.asked()), len(c.asked()))
	}
	r := a.asked()[0]
	if r.token != "b" || r.header.Get("X-Vault-Namespace") != "team" || r.header.Get("X-Vault-Wrap-TTL") != "60" || r.header.Get("X-Vault-Request") != "true" {
		t.Errorf("the request has token %q and headers %v", r.token, r.header)
	}
	s.run("read x -address " + b.URL + " -ns other -wrap-ttl=5m -header=X-A=1")
	if r = b.asked()[0]; r.header.Get("X-Vault-Namespace") != "other" || r.header.Get("X-Vault-Wrap-TTL") != "5m" || r.header.Get("X-A") != "1" {
		t.Errorf("flags give headers %v", r.header)
	}
}

func TestCurl(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newShell(t, f).run("kv put -output-curl-string secret/app a=it's")
	if o.code != 0 || strings.Contains(o.out, "rts_test") || len(f.asked()) != 0 {
		t.Fatalf("-output-curl-string: %+v, %d requests; want no token and no request", o, len(f.asked()))
	}
	golden(t, "curl", strings.ReplaceAll(o.out, f.URL, "ADDRESS"))
}

func TestRetries(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET x", 502, `{"errors":["try again"]}`)
	f.answer("GET y", 501, `{"errors":["not here"]}`)
	f.answer("GET z", 503, `{"errors":["Vault is sealed"]}`)
	s := newShell(t, f)
	s.env = append(s.env, "VAULT_MAX_RETRIES=1")
	for path, want := range map[string]int{"x": 2, "y": 1, "z": 1} {
		s.run("read " + path)
		got := 0
		for _, r := range f.asked() {
			if r.line == "GET "+path {
				got++
			}
		}
		if got != want {
			t.Errorf("read %s is sent %d times, want %d", path, got, want)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/app/SAME value=1")
	s.good("kv put secret/app/OLD value=before")
	path := s.file(".env", "SAME=1\nOLD=after\nNEW='n e w'\n")
	o := s.run("import " + path + " app")
	if o.code != 1 || !strings.Contains(o.err, "--yes") || strings.Contains(o.err, "after") {
		t.Errorf("import where nobody can be asked: %+v; want a preview without values and a refusal", o)
	}
	golden(t, "import-dry-run", s.good("import --dry-run "+path+" app"))
	if got := s.good("get app/OLD"); got != "before" {
		t.Errorf("after --dry-run the value is %q, want it unchanged", got)
	}
	if o := s.run("import --yes " + path + " app"); o.code != 0 || !strings.Contains(o.err, "1 new, 1 changed, 1 the same") {
		t.Errorf("import: %+v", o)
	}
	if got := s.good("get app/NEW"); got != "n e w" {
		t.Errorf("get app/NEW = %q", got)
	}
	if got := s.good("history app/SAME -o json"); strings.Contains(got, `"current_version": 2`) {
		t.Errorf("what stayed the same was written: %s", got)
	}
	nested := s.file("c.yaml", "db:\n  user: a\n  port: 5432\n")
	s.good("import --yes " + nested + " cfg")
	if got := s.good("get cfg/db/port"); got != "5432" {
		t.Errorf("get cfg/db/port = %q", got)
	}
	s.good("import --yes --map " + nested + " whole")
	if got := s.good("get whole --field db.port"); got != "5432" {
		t.Errorf("get whole --field db.port = %q", got)
	}
	if o := s.runWith(`{"A":"1"}`, "import", "-", "--as", "json", "--yes"); o.code != 0 {
		t.Errorf("import of standard input: %+v", o)
	}
	if o := s.runWith(`{"A":"1"}`, "import", "-"); o.code != 1 || !strings.Contains(o.err, "--as") {
		t.Errorf("import of what has no name: %+v, want to be asked for --as", o)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.env = append(s.env, "KEPT=yes", "ROTUNDA_TOKEN=rts_test", "BAO_TOKEN=rts_test", "VAULT_TOKEN_PATH=/x")
	s.good("kv put secret/DB_PASSWORD value=hunter2-hunter2")
	s.good("kv put secret/app/db-url value=postgres://u:pw@host/x")
	s.good("kv put secret/app/smtp USER=mail.user port=25")

	o := s.runWith("", "run", "--", "sh", "-c", `printf '%s|' "$DB_PASSWORD"; env | grep -E 'TOKEN|KEPT' ; printf hunter2-; sleep 0; printf hunter2`)
	if o.code != 0 || strings.Contains(o.out, "hunter2-hunter2") || !strings.Contains(o.out, "KEPT=yes") || strings.Contains(o.out, "rts_test") || strings.Contains(o.out, "TOKEN") {
		t.Errorf("run: %+v; want the secret masked, the environment kept and no token in it", o)
	}
	o = s.runWith("", "run", "--no-masking", "-p", "app", "--prefix", "APP_", "--", "sh", "-c", `echo "$APP_DB_URL $APP_USER $APP_port $DB_PASSWORD"`)
	if o.out != "postgres://u:pw@host/x mail.user 25 \n" {
		t.Errorf("run -p app prints %q", o.out)
	}
	o = s.runWith("", "run", "--no-masking", "-p", "app/smtp", "-p", "DB_PASSWORD", "--preserve-env", "--", "sh", "-c", `echo "$USER $DB_PASSWORD"`)
	if o.out != "mail.user hunter2-hunter2\n" {
		t.Errorf("run -p twice prints %q", o.out)
	}
	if o := s.runWith("", "run", "--", "sh", "-c", "exit 7"); o.code != 7 || o.err != "" {
		t.Errorf("run of exit 7: %+v", o)
	}
	if o := s.runWith("", "run", "--", "sh", "-c", "kill -TERM $$"); o.code != 143 {
		t.Errorf("run of a program that dies by a signal: %+v, want 143", o)
	}
	if o := s.runWith("", "run", "--", "no-such-program"); o.code != 127 {
		t.Errorf("run of no program: %+v, want 127", o)
	}
	plain := s.file("plain", "x")
	if o := s.runWith("", "run", "--", plain); o.code != 126 {
		t.Errorf("run of a file that is no program: %+v, want 126", o)
	}
	if o := s.runWith("in put", "run", "--", "cat"); o.out != "in put" {
		t.Errorf("run of cat prints %q, want standard input", o.out)
	}
	if o := s.runWith("", "run", "-p", "nope", "--", "true"); o.code != 2 {
		t.Errorf("run with what is not there: %+v, want exit code 2", o)
	}
	s.good("kv put secret/bad LD_PRELOAD=/tmp/x.so")
	if o := s.runWith("", "run", "-p", "bad", "--", "true"); o.code != 1 || !strings.Contains(o.err, "LD_PRELOAD") {
		t.Errorf("run with a secret that loads code: %+v, want a refusal", o)
	}
}

func TestOperatorInitPrintsAsVaultDoes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET sys/seal-status", 200, `{"type":"shamir","initialized":false,"sealed":true,"recovery_seal":false}`)
	f.answer("PUT sys/init", 200, `{"keys":["aa","bb"],"keys_base64":["qg==","uw=="],"root_token":"rts_root"}`)
	s := newShell(t, f)
	golden(t, "init-json", s.good("operator init -key-shares=2 -key-threshold=2 -format=json"))
	golden(t, "init-table", s.good("operator init -key-shares=2 -key-threshold=2"))
	for _, r := range f.asked() {
		if r.line == "PUT sys/init" && (r.body != `{"secret_shares":2,"secret_threshold":2}` || r.token != "") {
			t.Errorf("operator init sends %s with token %q", r.body, r.token)
		}
	}
	f.answer("PUT sys/unseal", 200, `{"type":"shamir","initialized":true,"sealed":true,"t":2,"n":2,"progress":1,"version":"1.19.0","storage_type":"bolt"}`)
	if o := s.runWith("share\n", "operator", "unseal", "-"); o.code != 0 || !strings.Contains(o.out, "1/2") || strings.Contains(o.out+o.err, "share\n") {
		t.Errorf("operator unseal: %+v", o)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/app/db value=topsecret")
	s.good("kv put secret/alone value=topsecret")
	for _, sh := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := s.good("completion " + sh); !strings.Contains(out, "rotunda") {
			t.Errorf("completion %s prints no script", sh)
		}
	}
	if got := s.runWith("", "__complete", "get", "a").out; !strings.HasPrefix(got, "alone\napp/\n") || strings.Contains(got, "topsecret") {
		t.Errorf("completing get a = %q, want the names", got)
	}
	if got := s.runWith("", "__complete", "get", "app/").out; !strings.HasPrefix(got, "app/db\n") {
		t.Errorf("completing get app/ = %q, want what is below", got)
	}
	if got := s.runWith("", "__complete", "run", "-p", "al").out; !strings.HasPrefix(got, "alone\n") {
		t.Errorf("completing run -p al = %q, want the name", got)
	}
}

func TestTokenIsNoFlag(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, line := range []string{"read -token=rts_x a", "read --token rts_x a", "-token rts_x status"} {
		o := newShell(t, f).run(line)
		if o.code != 1 || strings.Contains(o.err, "rts_x") || !strings.Contains(o.err, "rotunda login") {
			t.Errorf("rotunda %s: %+v; want a refusal that does not repeat it", line, o)
		}
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/a x=1")
	for _, tc := range []struct {
		env    []string
		colour bool
	}{
		{nil, false},
		{[]string{"CLICOLOR_FORCE=1"}, true},
		{[]string{"CLICOLOR_FORCE=1", "NO_COLOR=1"}, false},
		{[]string{"CLICOLOR_FORCE=0"}, false},
		{[]string{"TERM=dumb"}, false},
	} {
		s := &shell{t: t, home: s.home, env: append(slices.Clip(s.env), tc.env...)}
		if got := strings.Contains(s.good("history a"), "\x1b["); got != tc.colour {
			t.Errorf("with %v colour is %v, want %v", tc.env, got, tc.colour)
		}
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	for _, set := range charsetNames {
		got, err := generate(200, set)
		if err != nil || len(got) != 200 || strings.Trim(got, charsets[set]) != "" {
			t.Errorf("generate(200, %q) = %q, %v; want 200 characters of it", set, got, err)
		}
	}
	if got, err := generate(50, "of:äb"); err != nil || len([]rune(got)) != 50 || strings.Trim(got, "äb") != "" {
		t.Errorf("generate(50, of:äb) = %q, %v", got, err)
	}
	for _, bad := range []struct {
		n   int
		set string
	}{{0, "hex"}, {5000, "hex"}, {8, "frob"}, {8, "of:"}, {8, "of:a"}, {8, "of:aa"}, {-1, "hex"}} {
		if got, err := generate(bad.n, bad.set); err == nil {
			t.Errorf("generate(%d, %q) = %q, want a refusal", bad.n, bad.set, got)
		}
	}
}

func TestHelpTopics(t *testing.T) {
	t.Parallel()
	s := newShell(t, nil)
	for _, topic := range []string{"exit-codes", "environment", "paths"} {
		if out := s.good("help " + topic); len(out) < 300 {
			t.Errorf("help %s = %q, want a page", topic, out)
		}
	}
	if o := s.run("kv frob"); o.code != 1 || !strings.Contains(o.err, "frob") {
		t.Errorf("kv frob: %+v, want a refusal", o)
	}
	if o := s.run("--version"); o.code != 0 || !strings.HasPrefix(o.out, "rotunda ") {
		t.Errorf("--version: %+v, want the version", o)
	}
}
