package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestVaultCommandLines holds what Vault's documented commands and flags ask of
// the server, in the spellings that people have in their fingers.
// https://developer.hashicorp.com/vault/docs/commands
func TestVaultCommandLines(t *testing.T) {
	t.Parallel()
	const stdin = "stdin-text\n"
	for _, tc := range []struct {
		line  string
		asks  string // the last request, with its body behind a space
		heads string // a header that it has, as "Name: value"
	}{
		// kv, https://developer.hashicorp.com/vault/docs/commands/kv
		{"kv put -mount=secret app a=b", `PUT secret/data/app {"data":{"a":"b"},"options":{}}`, ""},
		{"kv put -cas=0 secret/app a=-", `PUT secret/data/app {"data":{"a":"stdin-text\n"},"options":{"cas":0}}`, ""},
		{"kv put -mount secret -cas 0 app a=b", `PUT secret/data/app {"data":{"a":"b"},"options":{"cas":0}}`, ""},
		{"kv put old/app a=b", `PUT old/app {"a":"b"}`, ""},
		{"kv get -version=1 -mount=secret there", "GET secret/data/there?version=1", ""},
		{"kv get -field=v secret/there", "GET secret/data/there", ""},
		{"kv patch -method=patch -cas=1 -mount=secret there a=b", `PATCH secret/data/there {"data":{"a":"b"},"options":{"cas":1}}`, "Content-Type: application/merge-patch+json"},
		{"kv patch -remove-data=v -mount=secret there a=b", `PATCH secret/data/there {"data":{"a":"b","v":null},"options":{}}`, ""},
		{"kv list -mount=secret", "GET secret/metadata?list=true", ""},
		{"kv list secret/", "GET secret/metadata?list=true", ""},
		{"kv delete -versions=1,2 secret/there", `PUT secret/delete/there {"versions":["1","2"]}`, ""},
		{"kv undelete -versions=1 secret/there", `PUT secret/undelete/there {"versions":["1"]}`, ""},
		{"kv destroy -mount=secret -versions=1 there", `PUT secret/destroy/there {"versions":["1"]}`, ""},
		{
			"kv metadata put -max-versions=5 -cas-required -delete-version-after=1h -custom-metadata=k=v secret/there",
			`PUT secret/metadata/there {"max_versions":5,"cas_required":true,"delete_version_after":"1h","custom_metadata":{"k":"v"}}`, "",
		},
		{"kv metadata patch -mount=secret -remove-custom-metadata=k there", `PATCH secret/metadata/there {"custom_metadata":{"k":null}}`, "Content-Type: application/merge-patch+json"},
		{"kv metadata delete -mount=secret there", "DELETE secret/metadata/there", ""},
		{"kv enable-versioning old/", `POST sys/mounts/old/tune {"options":{"version":"2"}}`, ""},

		// read, write, list, delete, patch
		{"read -field=data secret/data/there", "GET secret/data/there", ""},
		{"read secret/data/there version=1", "GET secret/data/there?version=1", ""},
		{"read -wrap-ttl=5m secret/data/there", "GET secret/data/there", "X-Vault-Wrap-Ttl: 5m"},
		{"read -header=X-Test=1 -ns=team/a secret/data/there", "GET secret/data/there", "X-Vault-Namespace: team/a"},
		{"read -namespace=team/a secret/data/there", "GET secret/data/there", "X-Vault-Namespace: team/a"},
		{"read -policy-override secret/data/there", "GET secret/data/there", "X-Vault-Policy-Override: true"},
		{"read -mfa=method:code secret/data/there", "GET secret/data/there", "X-Vault-Mfa: method:code"},
		{"write -f sys/any", "PUT sys/any null", ""},
		{"write -force sys/any", "PUT sys/any null", ""},
		{"write sys/any a=b b=-", `PUT sys/any {"a":"b","b":"stdin-text\n"}`, ""},
		{"list secret/metadata", "GET secret/metadata?list=true", ""},
		{"delete sys/any", "DELETE sys/any", ""},
		{"patch sys/any a=b", `PATCH sys/any {"a":"b"}`, "Content-Type: application/merge-patch+json"},
		{"path-help sys/any", "GET sys/any?help=1", ""},

		// secrets
		{"secrets list -detailed", "GET sys/mounts", ""},
		{
			"secrets enable -path=team -description=ours -version=2 -default-lease-ttl=1h -max-lease-ttl=2h kv",
			`POST sys/mounts/team {"type":"kv","description":"ours","local":false,"seal_wrap":false,"config":{"default_lease_ttl":"1h","max_lease_ttl":"2h"},"options":{"version":"2"}}`, "",
		},
		{
			"secrets enable -local -seal-wrap -force-no-cache -external-entropy-access -passthrough-request-headers=A -allowed-response-headers=B -audit-non-hmac-request-keys=c kv-v2",
			`POST sys/mounts/kv-v2 {"type":"kv-v2","description":"","local":true,"seal_wrap":true,"config":{"audit_non_hmac_request_keys":["c"],"passthrough_request_headers":["A"],"allowed_response_headers":["B"],"force_no_cache":true},"external_entropy_access":true}`, "",
		},
		{"secrets tune -description=x -listing-visibility=hidden -options=version=2 team/", `POST sys/mounts/team/tune {"listing_visibility":"hidden","description":"x","options":{"version":"2"}}`, ""},
		{"secrets move team/ other", `POST sys/remount {"from":"team","to":"other"}`, ""},
		{"secrets disable team/", "DELETE sys/mounts/team", ""},

		// auth
		{"auth list", "GET sys/auth", ""},
		{"auth enable -path=people -token-type=batch userpass", `POST sys/auth/people {"type":"userpass","description":"","local":false,"seal_wrap":false,"config":{"token_type":"batch"}}`, ""},
		{"auth tune -default-lease-ttl=1h auth/token/", `POST sys/auth/token/tune {"default_lease_ttl":"1h"}`, ""},
		{"auth move auth/a auth/b", `POST sys/remount {"from":"auth/a","to":"auth/b"}`, ""},
		{"auth disable people/", "DELETE sys/auth/people", ""},

		// policy
		{"policy list", "GET sys/policies/acl?list=true", ""},
		{"policy read default", "GET sys/policies/acl/default", ""},
		{"policy write p -", `PUT sys/policies/acl/p {"policy":"stdin-text\n"}`, ""},
		{"policy delete p", "DELETE sys/policies/acl/p", ""},

		// token
		{
			"token create -policy=a -policy=b -ttl=1h -explicit-max-ttl=2h -use-limit=3 -display-name=n -no-default-policy -renewable=false -metadata=k=v",
			`POST auth/token/create {"policies":["a","b"],"ttl":"1h","explicit_max_ttl":"2h","display_name":"n","num_uses":3,"no_default_policy":true,"renewable":false,"meta":{"k":"v"}}`, "",
		},
		{"token create -orphan -period=1h", `POST auth/token/create-orphan {"period":"1h","renewable":true}`, ""},
		{"token create -type=batch -role=r", `POST auth/token/create/r {"type":"batch"}`, ""},
		{"token create -id=-", `POST auth/token/create {"renewable":true,"id":"stdin-text"}`, ""},
		{"token lookup", "GET auth/token/lookup-self", ""},
		{"token lookup -accessor acc", `POST auth/token/lookup-accessor {"accessor":"acc"}`, ""},
		{"token lookup -", `POST auth/token/lookup {"token":"stdin-text"}`, ""},
		{"token renew -i=1h", `PUT auth/token/renew-self {"increment":"1h"}`, ""},
		{"token renew -increment 1h -accessor acc", `POST auth/token/renew-accessor {"accessor":"acc","increment":"1h"}`, ""},
		{"token revoke -self", "PUT auth/token/revoke-self", ""},
		{"token revoke -mode=orphan tok", `PUT auth/token/revoke-orphan {"token":"tok"}`, ""},
		{"token revoke -accessor acc", `POST auth/token/revoke-accessor {"accessor":"acc"}`, ""},
		{"token capabilities secret/x", `POST sys/capabilities-self {"path":"secret/x"}`, ""},
		{"token capabilities tok secret/x", `POST sys/capabilities {"path":"secret/x","token":"tok"}`, ""},

		// unwrap, lease, audit
		{"unwrap tok", `PUT sys/wrapping/unwrap {"token":"tok"}`, ""},
		{"unwrap", "PUT sys/wrapping/unwrap", ""},
		{"lease lookup id/1", `PUT sys/leases/lookup {"lease_id":"id/1"}`, ""},
		{"lease renew -i 1h id/1", `PUT sys/leases/renew {"lease_id":"id/1","increment":"1h"}`, ""},
		{"lease revoke -sync id/1", `PUT sys/leases/revoke {"lease_id":"id/1","sync":true}`, ""},
		{"lease revoke -prefix id", `PUT sys/leases/revoke-prefix/id {"sync":false}`, ""},
		{"lease revoke -f -prefix id", "PUT sys/leases/revoke-force/id", ""},
		{"audit list -detailed", "GET sys/audit", ""},
		{"audit enable -path=f -description=d -local file file_path=/x", `PUT sys/audit/f {"type":"file","description":"d","options":{"file_path":"/x"},"local":true}`, ""},
		{"audit disable f/", "DELETE sys/audit/f", ""},

		// operator
		{"operator init -n 3 -t=2", `PUT sys/init {"secret_shares":3,"secret_threshold":2}`, ""},
		{"operator init -key-shares=3 -key-threshold=2 -pgp-keys=a,b,c -root-token-pgp-key=d", `PUT sys/init {"secret_shares":3,"secret_threshold":2,"pgp_keys":["a","b","c"],"root_token_pgp_key":"d"}`, ""},
		{"operator init -status", "GET sys/init", ""},
		{"operator unseal -", `PUT sys/unseal {"key":"stdin-text"}`, ""},
		{"operator unseal -reset", `PUT sys/unseal {"reset":true}`, ""},
		{"operator unseal -migrate share", `PUT sys/unseal {"key":"share","migrate":true}`, ""},
		{"operator seal", "PUT sys/seal", ""},
		{"operator step-down", "PUT sys/step-down", ""},
		{"operator members", "GET sys/ha-status", ""},
		{"operator key-status", "GET sys/key-status", ""},
		{"operator rotate", "GET sys/key-status", ""},
		{"operator rekey -init -n=3 -t=2 -pgp-keys=a -backup", `POST sys/rotate/root/init {"secret_shares":3,"secret_threshold":2,"pgp_keys":["a"],"backup":true}`, ""},
		{"operator rekey -status -target=recovery", "GET sys/rotate/recovery/init", ""},
		{"operator rekey -cancel", "DELETE sys/rotate/root/init", ""},
		{"operator rekey -nonce=n -", `POST sys/rotate/root/update {"key":"stdin-text","nonce":"n"}`, ""},
		{"operator rekey -verify -nonce=n -", `POST sys/rotate/root/verify {"key":"stdin-text","nonce":"n"}`, ""},
		{"operator generate-root -init -otp=-", `POST sys/generate-root/attempt {"otp":"stdin-text"}`, ""},
		{"operator generate-root -init -pgp-key=k", `POST sys/generate-root/attempt {"pgp_key":"k"}`, ""},
		{"operator generate-root -generate-otp", "GET sys/generate-root/attempt", ""},
		{"operator generate-root -status", "GET sys/generate-root/attempt", ""},
		{"operator generate-root -cancel", "DELETE sys/generate-root/attempt", ""},
		{"operator generate-root -nonce=n -", `POST sys/generate-root/update {"key":"stdin-text","nonce":"n"}`, ""},

		// others
		{"version-history", "GET sys/version-history?list=true", ""},
		{"login -no-print token=tok", "GET auth/token/lookup-self", "X-Vault-Token: tok"},
		{"login -token-only -method=token -path=token -", "GET auth/token/lookup-self", "X-Vault-Token: stdin-text"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer("GET sys/mounts", 200, `{"data":{}}`)
			f.answer("GET sys/auth", 200, `{"data":{}}`)
			for _, line := range []string{
				"GET sys/audit", "GET sys/policies/acl?list=true", "GET sys/policies/acl/default",
				"POST sys/remount", "GET sys/ha-status", "GET sys/key-status", "POST sys/rotate/keyring",
				"GET sys/version-history?list=true", "PUT sys/wrapping/unwrap", "POST sys/capabilities-self", "POST sys/capabilities",
			} {
				f.answer(line, 200, `{"request_id":"r","data":{"v":"x"},"auth":null}`)
			}
			for _, line := range []string{"POST auth/token/create", "POST auth/token/create-orphan", "POST auth/token/create/r"} {
				f.answer(line, 200, `{"auth":{"client_token":"made"}}`)
			}
			f.answer("GET auth/token/lookup-self", 200, `{"data":{"policies":["root"]}}`)
			f.answer("PUT sys/init", 200, `{"keys":["aa"],"keys_base64":["qg=="],"root_token":"made"}`)
			f.answer("GET sys/seal-status", 200, `{"initialized":false,"sealed":true}`)
			f.answer("GET sys/init", 200, `{"initialized":true}`)
			f.answer("GET sys/generate-root/attempt", 200, `{"otp_length":28}`)
			f.answer("PUT sys/unseal", 200, `{"initialized":true,"sealed":true}`)
			for _, method := range []string{"GET", "DELETE", "POST"} {
				for _, path := range []string{"rotate/root/init", "rotate/root/update", "rotate/root/verify", "rotate/recovery/init", "generate-root/update"} {
					f.answer(method+" sys/"+path, 200, `{"data":{"nonce":"n"}}`)
				}
			}
			f.answer("DELETE sys/generate-root/attempt", 204, "")
			f.answer("POST sys/generate-root/attempt", 200, `{"nonce":"n"}`)
			for _, line := range []string{"GET sys/any?help=1", "PUT sys/any", "DELETE sys/any", "PATCH sys/any"} {
				f.answer(line, 200, `{"help":"text"}`)
			}
			for line := range strings.FieldsSeq("POST_sys/mounts/old/tune POST_sys/mounts/team POST_sys/mounts/kv-v2 POST_sys/mounts/team/tune DELETE_sys/mounts/team POST_sys/auth/people POST_sys/auth/token/tune DELETE_sys/auth/people " +
				"PUT_sys/policies/acl/p DELETE_sys/policies/acl/p POST_auth/token/lookup-accessor POST_auth/token/lookup PUT_auth/token/renew-self POST_auth/token/renew-accessor PUT_auth/token/revoke-self PUT_auth/token/revoke-orphan " +
				"POST_auth/token/revoke-accessor PUT_sys/leases/lookup PUT_sys/leases/renew PUT_sys/leases/revoke PUT_sys/leases/revoke-prefix/id PUT_sys/leases/revoke-force/id PUT_sys/audit/f DELETE_sys/audit/f PUT_sys/seal PUT_sys/step-down") {
				f.answer(strings.Replace(line, "_", " ", 1), 204, "")
			}
			s := newShell(t, f)
			s.good("kv put secret/there v=1")
			s.good("kv put old/there v=1")
			before := len(f.asked())
			o := s.runWith(stdin, strings.Fields(tc.line)...)
			if o.code != 0 {
				t.Fatalf("rotunda %s: %+v, want success", tc.line, o)
			}
			asked := f.asked()[before:]
			if len(asked) == 0 {
				t.Fatalf("rotunda %s asks for nothing", tc.line)
			}
			last := asked[len(asked)-1]
			if got := strings.TrimSuffix(last.line+" "+last.body, " "); got != tc.asks {
				t.Errorf("rotunda %s asks\n%s\nwant\n%s", tc.line, got, tc.asks)
			}
			if name, value, ok := strings.Cut(tc.heads, ": "); ok && !slices.Contains(last.header[name], value) {
				t.Errorf("rotunda %s sends %s %q, want %q", tc.line, name, last.header[name], value)
			}
			if strings.Contains(o.err, "stdin-text") {
				t.Errorf("rotunda %s shows what it was given: %s", tc.line, o.err)
			}
		})
	}
}

// TestVaultCommandsThatAreNotHere say so, and what to use.
func TestVaultCommandsThatAreNotHere(t *testing.T) {
	t.Parallel()
	s := newShell(t, newFake(t))
	for _, line := range []string{
		"agent -config=x", "debug -duration=1m", "events subscribe kv*", "monitor -log-level=debug", "namespace list", "pki health-check pki", "plugin list", "proxy -config=x", "ssh -role x", "transform import",
		"transit import x", "hcp connect", "auth help userpass", "operator diagnose", "operator import x", "operator migrate -config=x", "operator raft list-peers", "operator raft snapshot save x",
		"operator usage", "operator utilization",
	} {
		if o := s.run(line); o.code != 1 || !strings.Contains(o.err, "is not here: ") || o.out != "" {
			t.Errorf("rotunda %s: %+v; want exit code 1 and why it is not here", line, o)
		}
	}
	if o := s.run("server -dev"); o.code != 1 || !strings.Contains(o.err, "rotunda up") {
		t.Errorf("server -dev: %+v, want a refusal that names rotunda up", o)
	}
	if o := s.run("--help"); strings.Contains(o.out, "transit") {
		t.Errorf("help lists what is not here:\n%s", o.out)
	}
}

// TestVaultVariables holds that the variables of Vault's command are read.
func TestVaultVariables(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ variable, header, want string }{
		{"VAULT_TOKEN=tok", "X-Vault-Token", "tok"},
		{"VAULT_NAMESPACE=team", "X-Vault-Namespace", "team"},
		{"VAULT_WRAP_TTL=1m", "X-Vault-Wrap-Ttl", "1m"},
		{"VAULT_MFA=code", "X-Vault-Mfa", "code"},
	} {
		f := newFake(t)
		s := newShell(t, nil)
		s.env = append(s.env, "VAULT_ADDR="+f.URL, tc.variable)
		s.run("read x")
		if asked := f.asked(); len(asked) != 1 || asked[0].header.Get(tc.header) != tc.want {
			t.Errorf("with %s the server is asked %+v, want %s: %s", tc.variable, asked, tc.header, tc.want)
		}
	}
	f := newFake(t)
	s := newShell(t, nil)
	s.env = append(s.env, "VAULT_ADDR=http://127.0.0.1:1", "VAULT_AGENT_ADDR="+f.URL, "VAULT_TOKEN=t", "VAULT_FORMAT=json", "CLICOLOR_FORCE=1", "VAULT_CLI_NO_COLOR=1")
	f.answer("GET x", 200, `{"request_id":"r","data":{"a":1}}`)
	if o := s.run("read x"); !strings.HasPrefix(o.out, "{") {
		t.Errorf("read with VAULT_AGENT_ADDR and VAULT_FORMAT=json: %+v, want JSON", o)
	}
	if o := s.run("read x -format=table"); strings.Contains(o.out, "\x1b[") {
		t.Errorf("read with VAULT_CLI_NO_COLOR: %q, want no colour", o.out)
	}
}
