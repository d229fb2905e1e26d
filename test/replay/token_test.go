package replay

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// start is where clocks of tests begin.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// timed starts a node whose clock stands still.
func timed(t *testing.T) (*servertest.Rig, *clocktest.Fake) {
	t.Helper()
	c := clocktest.New(start)
	return servertest.Start(t, servertest.Config{Clock: c}), c
}

// from returns a client of r that comes from another loopback address.
func from(t *testing.T, r *servertest.Rig, address string) *http.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: r.TLS.Clone(), DialContext: d.DialContext}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// asks makes a request by a client and returns its status.
func asks(t *testing.T, r *servertest.Rig, c *http.Client, token, path string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestH018HeadersOfProxiesMeanNothing sends what an internal hop might send.
func TestH018HeadersOfProxiesMeanNothing(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("creator", `path "auth/token/create" { capabilities = ["update"] }`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/here", `{"allowed_policies":["creator"],"token_bound_cidrs":"127.0.0.1"}`)
	token := r.Must(r.Root, http.MethodPost, "auth/token/create/here", `{}`).Text("auth.client_token")
	forged := []string{
		"X-Forwarded-User", "root", "X-Vault-Forward", "active-node", "X-Internal-Auth", "true", "X-Real-IP", "127.0.0.1", "X-Forwarded-For", "127.0.0.1",
		"Forwarded", "for=127.0.0.1", "X-Client-IP", "127.0.0.1", "X-Vault-No-Request-Forwarding", "true", "X-Remote-User", "root", "X-Forwarded-Host", "127.0.0.1",
		"X-HTTP-Method-Override", "DELETE", "X-Original-URL", "/v1/sys/seal", "X-Rewrite-URL", "/v1/sys/seal", "X-Vault-Entity", "root", "X-Vault-Policy-Override", "true",
	}
	if got := asks(t, r, r.Client, token, "auth/token/lookup-self"); got != http.StatusOK {
		t.Errorf("from where it may be used = %d; want 200", got)
	}
	elsewhere := from(t, r, "127.0.0.2")
	if got := asks(t, r, elsewhere, token, "auth/token/lookup-self", forged...); got != http.StatusForbidden {
		t.Errorf("a bound token from elsewhere with headers that say otherwise = %d; want 403", got)
	}
	refused(t, r,
		attack{what: "no token", token: nobody, method: http.MethodGet, path: "auth/token/lookup-self", headers: forged, status: []int{http.StatusForbidden}},
		attack{what: "hop by hop", token: nobody, method: http.MethodGet, path: "sys/mounts", headers: []string{"Connection", "X-Vault-Token, Authorization", "Authorization", "Basic cm9vdDpyb290"}},
		attack{what: "a namespace", method: http.MethodGet, path: "sys/mounts", headers: append([]string{"X-Vault-Namespace", "root"}, forged...)},
	)
	before := r.Last()
	r.Must(token, http.MethodGet, "auth/token/lookup-self", "", forged...)
	for _, rec := range r.Records(before) {
		if rec.Op != "token.read-self" || !strings.HasPrefix(rec.Remote, "127.0.0.1:") || len(rec.Headers) > 0 {
			t.Errorf("the record is of %s from %s with headers %v; want of who asked", rec.Op, rec.Remote, rec.Headers)
		}
	}
	r.Must(r.Root, http.MethodGet, "sys/mounts", "") // not sealed by X-Original-URL
}

// TestH023BadNetworksAreRefused tries bad networks in every field that takes them.
func TestH023BadNetworksAreRefused(t *testing.T) {
	t.Parallel()
	r := plain(t)
	s := stage(t, r)
	found := 0
	for _, f := range fields(t, r, func(f field) bool { return strings.Contains(f.name, "cidr") }) {
		found++
		o := opOf(t, r, f)
		for _, good := range []string{`["10.0.0.0/8","::1"]`, `"10.0.0.0/8,192.0.2.1"`, `[]`, `null`} {
			a := s.request(o, f, good)
			r.Must(r.Root, a.method, a.path, a.body)
		}
		var all []attack
		for _, bad := range []string{
			`"10.0.0.0/33"`, `"10.0.0.0/-1"`, `"10.0.0/8"`, `"10.0.0.0/8/8"`, `"::/129"`, `"localhost"`, `"10.0.0.0/8,x"`, `["10.0.0.0/8","10.0.0.0/33"]`, `"*"`, `"0/0"`,
			`"010.0.0.1"`, `"::ffff:10.0.0.0/104"`, `"10.0.0.1\u0000"`, `"fe80::1%eth0/64"`, `{}`, `{"a":"b"}`, `[{}]`, `[[]]`, `true`, `[null]`, `[true]`, `8`,
		} {
			all = append(all, s.request(o, f, bad))
		}
		refused(t, r, all...)
	}
	if found < 2 {
		t.Errorf("%d fields take networks; want at least 2: the generator no longer finds them", found)
	}
}

// TestH025ChildrenInheritBounds has children of a bound token.
func TestH025ChildrenInheritBounds(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Policy("creator", `
		path "auth/token/create" { capabilities = ["update"] }
		path "auth/token/create/*" { capabilities = ["update"] }
		path "auth/token/create-orphan" { capabilities = ["update"] }
		path "auth/token/lookup" { capabilities = ["update"] }`)
	r.Policy("other", `path "secret/*" { capabilities = ["read"] }`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/here", `{"allowed_policies":["creator"],"token_bound_cidrs":"127.0.0.1"}`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/wide", `{"allowed_policies":["creator"],"token_bound_cidrs":"0.0.0.0/0"}`)
	r.Must(r.Root, http.MethodPost, "auth/token/roles/apart", `{"allowed_policies":["creator"],"token_bound_cidrs":"10.0.0.0/8"}`)
	parent := r.Must(r.Root, http.MethodPost, "auth/token/create/here", `{"ttl":"1h","explicit_max_ttl":"1h"}`).Text("auth.client_token")
	elsewhere := from(t, r, "127.0.0.2")
	for what, at := range map[string][2]string{
		"a child": {"create", `{}`}, "a batch child": {"create", `{"type":"batch"}`}, "a child of a wider role": {"create/wide", `{}`},
		"a child that asks for bounds": {"create", `{"bound_cidrs":"0.0.0.0/0","token_bound_cidrs":"0.0.0.0/0"}`},
		"an orphan":                    {"create-orphan", `{}`},
	} {
		child := r.Must(parent, http.MethodPost, "auth/token/"+at[0], at[1]).Text("auth.client_token")
		if got := asks(t, r, r.Client, child, "auth/token/lookup-self"); got != http.StatusOK {
			t.Errorf("%s from where it may be used = %d; want 200", what, got)
		}
		if got := asks(t, r, elsewhere, child, "auth/token/lookup-self"); got != http.StatusForbidden {
			t.Errorf("%s from elsewhere = %d; want 403", what, got)
		}
		self := r.Must(child, http.MethodGet, "auth/token/lookup-self", "")
		if self.Text("data.bound_cidrs.0") != "127.0.0.1" && self.Text("data.bound_cidrs.0") != "127.0.0.1/32" {
			t.Errorf("%s is bound to %v; want 127.0.0.1", what, self.Value("data.bound_cidrs"))
		}
	}
	refused(t, r,
		attack{what: "networks apart", token: parent, path: "auth/token/create/apart", body: `{}`},
		attack{what: "more policies", token: parent, path: "auth/token/create", body: `{"policies":["other"]}`},
		attack{what: "more policies", token: parent, path: "auth/token/create", body: `{"policies":["creator","other"]}`},
		attack{what: "a period", token: parent, path: "auth/token/create", body: `{"period":"24h"}`},
		attack{what: "no parent", token: parent, path: "auth/token/create", body: `{"no_parent":true}`},
		attack{what: "an id", token: parent, path: "auth/token/create", body: `{"id":"` + canary + `"}`},
		attack{what: "an entity", token: parent, path: "auth/token/create", body: `{"entity_alias":"` + canary + `"}`},
		attack{what: "a namespace", token: parent, path: "auth/token/create", body: `{}`, headers: []string{"X-Vault-Namespace", "ns1"}},
	)
	child := r.Must(parent, http.MethodPost, "auth/token/create", `{"ttl":"700h"}`).Text("auth.client_token")
	r.Must(parent, http.MethodPost, "auth/token/revoke-self", "")
	refused(t, r, attack{settles: true, what: "a child that outlives its parent", token: child, method: http.MethodGet, path: "auth/token/lookup-self", status: []int{http.StatusForbidden}})
}

// isDuration reports a field that takes a length of time.
func isDuration(f field) bool {
	n := strings.ToLower(f.name)
	return strings.HasSuffix(n, "ttl") || strings.HasSuffix(n, "period") || n == "lease" || n == "increment" || n == "wait" || strings.Contains(n, "version_after")
}

// TestH097NoTimeIsForEver renews around the end of a token's life, and tries
// hostile durations in every field that takes one.
func TestH097NoTimeIsForEver(t *testing.T) {
	t.Parallel()
	r, clock := timed(t)
	const longest = 10 * time.Second
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"ttl":"4s","explicit_max_ttl":"10s","policies":["default"]}`)
	token, end := made.Text("auth.client_token"), start.Add(longest)
	for range 2 {
		clock.Advance(3 * time.Second)
		r.Must(token, http.MethodPost, "auth/token/renew-self", `{"increment":"1h"}`)
	}
	clock.Advance(2 * time.Second) // two seconds to go
	for step := range 301 {
		got := r.Do(token, http.MethodPost, "auth/token/renew-self", `{"increment":"`+[]string{"0", "1h", "1", "876000h"}[step%4]+`"}`)
		now := clock.Now()
		switch {
		case !now.Before(end) && got.Status != http.StatusForbidden:
			t.Errorf("renewing at the end %+v = %d %s; want 403", now.Sub(end), got.Status, got.Body)
		case got.Status == http.StatusOK:
			ttl := time.Duration(got.Number("auth.lease_duration")) * time.Second
			if ttl <= 0 || now.Add(ttl).After(end.Add(time.Second)) {
				t.Errorf("renewing %v before the end gave %v", end.Sub(now), ttl)
			}
			if self := r.Do(token, http.MethodGet, "auth/token/lookup-self", ""); self.Status == http.StatusOK {
				expires, err := time.Parse(time.RFC3339Nano, self.Text("data.expire_time"))
				if err != nil || expires.After(end) {
					t.Errorf("renewed, the token expires at %q; want at most %v", self.Text("data.expire_time"), end)
				}
			}
		case got.Status != http.StatusBadRequest && got.Status != http.StatusForbidden:
			t.Errorf("renewing = %d %s", got.Status, got.Body)
		}
		clock.Advance(10 * time.Millisecond)
	}
	if got := r.Do(token, http.MethodGet, "auth/token/lookup-self", ""); got.Status != http.StatusForbidden {
		t.Errorf("the token past its end = %d %s; want 403", got.Status, got.Body)
	}

	s := stage(t, r)
	found := 0
	for _, f := range fields(t, r, isDuration) {
		found++
		o := opOf(t, r, f)
		var all []attack
		for _, bad := range []string{`-2`, `"-1s"`, `"-5"`, `9223372036854775808`, `9223372036854775807`, `"9223372036854775807"`, `1e400`, `1e30`, `"9999999h"`, `"1y"`, `"soon"`, `"` + canary + `"`, `[]`, `{}`, `true`, `"0x10"`, `"1h-"`, `"NaN"`, `"Infinity"`, `"1_000"`, `"--1s"`, `"876001h"`} {
			a := s.request(o, f, bad)
			if o.op.Name == "kv.config-write" && strings.HasPrefix(strings.Trim(bad, `"`), "-") {
				continue // a mount's -1s means never, as clients know it
			}
			all = append(all, a)
		}
		refused(t, r, all...)
		for _, odd := range []string{`0`, `1`, `-1`, `"0s"`, `"1ns"`, `"876000h"`, `3153600000`, `""`, `null`, `1.5`, `"36500d"`} {
			a := s.request(o, f, odd)
			got := r.Do(r.Root, a.method, a.path, a.body)
			if got.Status >= 500 {
				t.Errorf("%s %s %s = %d %s; want no 5xx", a.what, a.path, a.body, got.Status, got.Body)
			}
			child := got.Text("auth.client_token")
			if got.Status != http.StatusOK || child == "" {
				continue
			}
			info := r.Must(r.Root, http.MethodPost, "auth/token/lookup", `{"token":"`+child+`"}`)
			expires, err := time.Parse(time.RFC3339Nano, info.Text("data.expire_time"))
			if err != nil || expires.After(clock.Now().Add(768*time.Hour+time.Second)) || !expires.After(clock.Now().Add(-time.Second)) {
				t.Errorf("%s %s gave a token that expires at %q", a.what, a.body, info.Text("data.expire_time"))
			}
		}
		s = stage2(t, r)
	}
	if found < 12 {
		t.Errorf("%d fields take durations; want at least 12: the generator no longer finds them", found)
	}
	// Of all tokens only root's of the initialization has no end.
	forever := 0
	list := r.Must(r.Root, "LIST", "auth/token/accessors", "")
	keys, _ := list.Value("data.keys").([]any)
	for _, k := range keys {
		info := r.Do(r.Root, http.MethodPost, "auth/token/lookup-accessor", `{"accessor":"`+fmt.Sprint(k)+`"}`)
		if info.Status == http.StatusOK && info.Value("data.expire_time") == nil {
			forever++
		}
	}
	if forever != 1 {
		t.Errorf("%d tokens have no end; want 1", forever)
	}
}

// stage2 makes a token anew for a scene that is there.
func stage2(t *testing.T, r *servertest.Rig) scene {
	t.Helper()
	r.Must(r.Root, http.MethodPost, "auth/token/roles/app", `{"allowed_policies":["app"],"period":0,"explicit_max_ttl":0,"token_period":0,"token_explicit_max_ttl":0}`)
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["app"]}`)
	return scene{token: made.Text("auth.client_token"), accessor: made.Text("auth.accessor")}
}

// TestH099TokensExpireWhileTheServerIsDown has tokens end while nobody looks.
func TestH099TokensExpireWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	r, clock := timed(t)
	var short []string
	for i := range 60 {
		kind := []string{`"service"`, `"batch"`}[i%2]
		short = append(short, r.Must(r.Root, http.MethodPost, "auth/token/create", `{"ttl":"5s","policies":["default"],"type":`+kind+`}`).Text("auth.client_token"))
	}
	long := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"ttl":"1h","policies":["default"]}`).Text("auth.client_token")
	r.Must(short[0], http.MethodGet, "auth/token/lookup-self", "")
	r.Must(short[1], http.MethodGet, "auth/token/lookup-self", "")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	clock.Advance(6 * time.Second)
	r.Restart()
	var all []attack
	for _, token := range short {
		all = append(all, attack{settles: true, what: "expired while down", token: token, method: http.MethodGet, path: "auth/token/lookup-self", status: []int{http.StatusForbidden}})
	}
	refused(t, r, all...)
	r.Must(long, http.MethodGet, "auth/token/lookup-self", "")
}

// TestH103AccessorsTellNothing asks about accessors that are none.
func TestH103AccessorsTellNothing(t *testing.T) {
	t.Parallel()
	r := plain(t)
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["default"]}`)
	gone := made.Text("auth.accessor")
	r.Must(r.Root, http.MethodPost, "auth/token/lookup-accessor", `{"accessor":"`+gone+`"}`)
	r.Must(r.Root, http.MethodPost, "auth/token/revoke-accessor", `{"accessor":"`+gone+`"}`)
	refused(t, r, attack{what: "a token that is gone", token: made.Text("auth.client_token"), method: http.MethodGet, path: "auth/token/lookup-self", settles: true})
	for _, o := range operations(t, r) {
		for _, f := range o.fields {
			if f.name != "accessor" || f.op.Name == "system.policy-explain" {
				continue
			}
			said := map[string]string{}
			var all []attack
			for _, acc := range []string{gone, "doesnotexistatall123456", "ns1/" + gone, gone + ".ns1", strings.ToUpper(gone), gone[1:], "../" + gone, ""} {
				a := scene{accessor: acc}.request(o, f, quote(acc))
				got := r.Do(r.Root, a.method, a.path, a.body)
				if acc != "" {
					said[fmt.Sprint(got.Status)+strings.ReplaceAll(string(got.Body), got.ID, "")] = acc
				}
				if f.op.Name == "token.revoke-accessor" && acc != "" {
					a.status = []int{http.StatusOK} // with a warning, as clients expect
				}
				all = append(all, a)
			}
			if len(said) > 1 {
				t.Errorf("%s answers differently: %q; want one answer for all", f.op.Name, said)
			}
			refused(t, r, all...)
		}
	}
}

// TestH104OddNamesCanBeRevoked has names with what separates things elsewhere.
func TestH104OddNamesCanBeRevoked(t *testing.T) {
	t.Parallel()
	r := plain(t)
	for _, n := range []string{"a.b", "a%25", "a+b", "a:b", "a%20b", "caf%C3%A9", "a@b", "a=b", "a,b", "%E6%97%A5%E6%9C%AC", "a'b", "a%22b", "a$b", "~a", "a%3Fb", "a%23b", "a&b"} {
		for _, at := range []string{"secret/data/x/", "cubbyhole/x/"} {
			body := `{"data":{"a":"` + canary + `"}}`
			r.Must(r.Root, http.MethodPost, at+n, body)
			if got := r.Must(r.Root, http.MethodGet, at+n, ""); !strings.Contains(string(got.Body), canary) {
				t.Errorf("GET %s%s = %s", at, n, got.Body)
			}
			list := strings.Replace(at, "/data/", "/metadata/", 1)
			if got := r.Must(r.Root, "LIST", list, ""); len(got.Value("data.keys").([]any)) != 1 {
				t.Errorf("LIST %s = %s; want one name", list, got.Body)
			}
			r.Must(r.Root, http.MethodDelete, strings.Replace(at, "/data/", "/metadata/", 1)+n, "")
			if got := r.Do(r.Root, http.MethodGet, at+n, ""); got.Status != http.StatusNotFound {
				t.Errorf("GET %s%s after its deletion = %d %s; want 404", at, n, got.Status, got.Body)
			}
			if got := r.Do(r.Root, "LIST", list, ""); got.Status != http.StatusNotFound {
				t.Errorf("LIST %s after the deletion = %d %s; want 404", list, got.Status, got.Body)
			}
		}
	}
	for _, id := range []string{"a/b", "a%b", "a+b", "a:b", "a@b=c", "~"} {
		made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"id":`+quote(id)+`,"policies":["default"]}`)
		r.Must(id, http.MethodGet, "auth/token/lookup-self", "")
		r.Must(id, http.MethodPost, "auth/token/renew-self", "{}")
		r.Must(r.Root, http.MethodPost, "auth/token/revoke", `{"token":`+quote(id)+`}`)
		refused(t, r, attack{settles: true, what: "a token that was revoked", token: id, method: http.MethodGet, path: "auth/token/lookup-self", status: []int{http.StatusForbidden}})
		if made.Text("auth.client_token") != id {
			t.Errorf("the token is %q; want %q", made.Text("auth.client_token"), id)
		}
	}
}

// TestH107UsesAreCounted races for the uses of tokens, and looks for what a
// used-up token leaves.
func TestH107UsesAreCounted(t *testing.T) {
	t.Parallel()
	r := plain(t)
	for _, uses := range []int{1, 2, 7} {
		token := r.Must(r.Root, http.MethodPost, "auth/token/create", fmt.Sprintf(`{"policies":["default"],"num_uses":%d}`, uses)).Text("auth.client_token")
		before := r.Last()
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				got, err := r.Try(token, http.MethodGet, "auth/token/lookup-self", "")
				switch {
				case err != nil:
					t.Errorf("a racer: %v", err)
				case got.Status == http.StatusOK:
					won.Add(1)
				case got.Status != http.StatusForbidden:
					t.Errorf("a racer = %d %s; want 200 or 403", got.Status, got.Body)
				}
			})
		}
		wg.Wait()
		if won.Load() != int64(uses) {
			t.Errorf("%d of 50 racers won; want %d", won.Load(), uses)
		}
		if n := len(r.Records(before)); n < 50 {
			t.Errorf("%d records of 50 requests", n)
		}
	}
	// The last use ends what the token had.
	made := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"policies":["default"],"num_uses":2}`)
	token, accessor := made.Text("auth.client_token"), made.Text("auth.accessor")
	refused(t, r, attack{settles: true, what: "a child of a token of few uses", token: r.Must(r.Root, http.MethodPost, "auth/token/create", `{"num_uses":5}`).Text("auth.client_token"), path: "auth/token/create", body: `{}`, status: []int{http.StatusBadRequest, http.StatusForbidden}})
	r.Must(token, http.MethodPost, "cubbyhole/x", `{"a":"`+canary+`"}`)
	r.Must(token, http.MethodGet, "cubbyhole/x", "")
	refused(t, r,
		attack{settles: true, what: "used up", token: token, method: http.MethodGet, path: "cubbyhole/x", status: []int{http.StatusForbidden}},
		attack{settles: true, what: "used up", path: "auth/token/lookup-accessor", body: `{"accessor":"` + accessor + `"}`},
	)
	// A wrapping token opens once.
	wrapped := r.Must(r.Root, http.MethodPost, "sys/wrapping/wrap", `{"a":"b"}`, "X-Vault-Wrap-TTL", "60").Text("wrap_info.token")
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := r.Try(wrapped, http.MethodPost, "sys/wrapping/unwrap", ""); err == nil && got.Status == http.StatusOK {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 50 unwrapped; want 1", won.Load())
	}
}

// TestH109PrefixesEndAtSlashes removes what begins like something else.
func TestH109PrefixesEndAtSlashes(t *testing.T) {
	t.Parallel()
	r := plain(t)
	for _, m := range []string{"db", "db2", "dbx/cr", "dbx/creds2"} {
		r.Must(r.Root, http.MethodPost, "sys/mounts/"+m, `{"type":"kv"}`)
		r.Must(r.Root, http.MethodPost, m+"/cr", `{"a":"b"}`)
	}
	r.Must(r.Root, http.MethodDelete, "sys/mounts/db", "")
	r.Must(r.Root, http.MethodDelete, "sys/mounts/dbx/cr", "")
	r.Must(r.Root, http.MethodGet, "db2/cr", "")
	r.Must(r.Root, http.MethodGet, "dbx/creds2/cr", "")
	for _, p := range []string{"db/cr", "db/creds2", "db/cr/x"} {
		r.Must(r.Root, http.MethodPost, "secret/data/"+p, `{"data":{"a":"b"}}`)
	}
	r.Must(r.Root, http.MethodDelete, "secret/metadata/db/cr", "")
	r.Must(r.Root, http.MethodGet, "secret/data/db/creds2", "")
	r.Must(r.Root, http.MethodGet, "secret/data/db/cr/x", "")
	refused(t, r,
		attack{what: "all of a mount", method: http.MethodDelete, path: "secret/metadata/"},
		attack{what: "all of a mount", method: http.MethodDelete, path: "secret/metadata"},
		attack{what: "all of a mount", method: http.MethodDelete, path: "secret/data/"},
		attack{what: "a pattern", method: http.MethodDelete, path: "sys/mounts/*"},
		attack{what: "every mount", method: http.MethodDelete, path: "sys/mounts/"},
		attack{what: "every mount", method: http.MethodDelete, path: "sys/mounts"},
		attack{what: "a prefix of leases", method: http.MethodPut, path: "sys/leases/revoke-prefix/"},
		attack{what: "a prefix of leases", method: http.MethodPut, path: "sys/leases/revoke-prefix/auth", status: []int{http.StatusNoContent}},
		attack{what: "a prefix of leases", method: http.MethodPut, path: "sys/revoke-prefix/db/cr", status: []int{http.StatusNoContent}},
		attack{what: "every lease", method: http.MethodPut, path: "sys/revoke-prefix/"},
		attack{what: "every lease", method: http.MethodPut, path: "sys/leases/revoke-force/"},
		attack{what: "a prefix of leases, by nobody", token: nobody, method: http.MethodPut, path: "sys/leases/revoke-prefix/auth"},
	)
	r.Must(r.Root, http.MethodGet, "auth/token/lookup-self", "")
	r.Must(r.Root, http.MethodGet, "secret/data/db/creds2", "")
}

// TestX006TimeDoesNotGoBack moves the clock back and far ahead.
func TestX006TimeDoesNotGoBack(t *testing.T) {
	t.Parallel()
	clock := clocktest.New(start)
	r := servertest.Start(t, servertest.Config{Clock: clock, Guard: &door.GuardConfig{}}) // what counts by time is on
	service := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"ttl":"10m","policies":["default"]}`).Text("auth.client_token")
	batch := r.Must(r.Root, http.MethodPost, "auth/token/create", `{"ttl":"10m","policies":["default"],"type":"batch"}`).Text("auth.client_token")
	wrapped := r.Must(r.Root, http.MethodPost, "sys/wrapping/wrap", `{"a":"`+canary+`"}`, "X-Vault-Wrap-TTL", "600").Text("wrap_info.token")
	r.Must(service, http.MethodGet, "auth/token/lookup-self", "")
	r.Must(batch, http.MethodGet, "auth/token/lookup-self", "")
	clock.Advance(11 * time.Minute)
	denied := func(what string) {
		t.Helper()
		refused(t, r,
			attack{settles: true, what: what, token: service, method: http.MethodGet, path: "auth/token/lookup-self", status: []int{http.StatusForbidden}},
			attack{settles: true, what: what, token: batch, method: http.MethodGet, path: "auth/token/lookup-self", status: []int{http.StatusForbidden}},
			attack{settles: true, what: what, token: wrapped, path: "sys/wrapping/unwrap"},
			attack{settles: true, what: what, token: service, path: "auth/token/renew-self", body: "{}", status: []int{http.StatusForbidden}},
		)
	}
	denied("at its end")
	clock.Advance(-time.Hour)
	denied("an hour back")
	r.Must(r.Root, http.MethodGet, "sys/mounts", "")
	clock.Advance(time.Hour + 10*365*24*time.Hour)
	denied("ten years ahead")
	r.Must(r.Root, http.MethodGet, "sys/mounts", "")
	clock.Advance(-10 * 365 * 24 * time.Hour)
	denied("ten years back")
	// A write still works, and is read.
	r.Must(r.Root, http.MethodPost, "secret/data/a", `{"data":{"a":"b"}}`)
	r.Must(r.Root, http.MethodGet, "secret/data/a", "")
}

// TestH113NamespacesAreNotThere names namespaces in every way.
func TestH113NamespacesAreNotThere(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "secret/data/a", `{"data":{"a":"b"}}`)
	r.Must(r.Root, http.MethodGet, "secret/data/a", "", "X-Vault-Namespace", "")
	var all []attack
	for _, ns := range []string{"root", "ROOT", "root/", ".", "..", "/", "//", "%72oot", "other/../", "ns1", "-", "*"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			all = append(all, attack{what: "header " + ns, method: method, path: "secret/data/a", body: `{"data":{"a":"c"}}`, headers: []string{"X-Vault-Namespace", ns}, status: []int{http.StatusBadRequest, http.StatusNotFound}})
			if ns != "*" {
				all = append(all, attack{what: "path " + ns, method: method, path: ns + "/secret/data/a", body: `{"data":{"a":"c"}}`})
			}
		}
		all = append(all, attack{what: "twice", method: http.MethodGet, path: "secret/data/a", headers: []string{"X-Vault-Namespace", "", "X-Vault-Namespace", ns}})
		all = append(all, attack{what: "namespaces", path: "sys/namespaces/" + ns, body: `{}`})
	}
	refused(t, r, all...)
	if got := r.Must(r.Root, http.MethodGet, "secret/data/a", ""); got.Text("data.data.a") != "b" {
		t.Errorf("the secret became %s", got.Body)
	}
}
