package replay

import (
	"flag"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/server/servertest"
)

var hostile = flag.Float64("hostile", 0.25, "part of the hostile requests that is sent, up to 1")

// must says what the answer to a hostile request has to be.
type must uint8

const (
	mustRefuse must = iota // 4xx
	mayAccept              // 4xx, or what was asked for is done
)

// shot is one hostile request.
type shot struct {
	attack
	must must
}

// always are bodies that no operation takes, whatever its fields.
var always = map[string]string{
	"cut off": `{"a":"` + canary, "an array": `["` + canary + `"]`, "text": `"` + canary + `"`, "a number": `1e400`, "true": `true`, "not JSON": canary, "an empty array": `[]`, "text x": `"x"`,
	"XML":         `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;` + canary + `</x>`,
	"a key twice": `{"a":1,"a":"` + canary + `"}`, "a key twice, escaped": `{"a":1,"\u0061":2}`, "a key twice, deep": `{"a":{"b":[{"c":1,"c":2}]}}`,
	"more after it": `{} ` + canary, "two": `{}{}`, "a comma": `{"a":1,}`, "a comment": `{/**/}`, "NaN": `{"a":NaN}`, "infinity": `{"a":-Infinity}`, "hexadecimal": `{"a":0x1}`, "octal": `{"a":01}`, "a plus": `{"a":+1}`,
	"a byte order mark": "\ufeff{}", "bad UTF-8": "{\"a\":\"\xff\xfe\"}", "overlong UTF-8": "{\"a\":\"\xc0\xae\"}", "a surrogate": `{"a":"\udc00"}`, "a surrogate of two": `{"a":"\ud800x"}`, "UTF-16": "{\x00}\x00",
	"NUL": "{\"a\":\"\x00\"}", "a line feed": "{\"a\":\"\n\"}", "deep": `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "very deep": `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	"objects, very deep": strings.Repeat(`{"a":`, 8000), "many": `{"a":[` + strings.Repeat("0,", 10_000) + `0]}`, "a long key": `{"` + strings.Repeat("k", 300) + `":1}`, "single quotes": `{'a':1}`, "no quotes": `{a:1}`, "a bare NUL": "\x00",
}

// heads are headers that no operation takes.
var heads = map[string][]string{
	"a namespace": {"X-Vault-Namespace", "ns/"}, "wrap for ever": {"X-Vault-Wrap-Ttl", "9999999h"}, "wrap backwards": {"X-Vault-Wrap-Ttl", "-1s"}, "wrap for a word": {"X-Vault-Wrap-Ttl", canary},
	"wrap twice": {"X-Vault-Wrap-Ttl", "1", "X-Vault-Wrap-Ttl", "2"}, "wrap beyond": {"X-Vault-Wrap-Ttl", "9223372036854775808"}, "another token": {"Authorization", "Bearer " + canary},
	"two bearers": {"Authorization", "Bearer a", "Authorization", "Bearer b"}, "a token more": {"X-Vault-Token", canary}, "a long bearer": {"Authorization", "Bearer " + strings.Repeat("a", 9<<10)},
	"a hundred tokens": strings.Split(strings.Repeat("X-Vault-Token\x00a\x00", 100)+"X-Vault-Token\x00a", "\x00"), "a wrapping format": {"X-Vault-Wrap-Ttl", "60", "X-Vault-Wrap-Format", "jwt"},
}

// media are headers that no body may have.
var media = map[string][]string{
	"gzip": {"Content-Encoding", "gzip"}, "zstd": {"Content-Encoding", "zstd"}, "several": {"Content-Encoding", "identity, gzip"}, "multipart": {"Content-Type", "multipart/form-data; boundary=x"},
}

// targets are what no path may end in, and no query may be.
var targets = []string{
	"/../x", "/./x", "/%2e%2e/x", "/.%2E/x", "/%252e%252e/x", "%2f", "%2F", "%2f%2fx", "%2f..%2fx", "%2f%2e", "//", "//x", "%00", "%0a", "%0d%0aX:y", "%C0%AE", "%C0%AE%C0%AE/x", "%zz", "%", "%2", "%20", "%09", "%E2%80%AE", "%E2%80%8B", "%E2%84%AA%CC%81", "e%CC%81",
	"/" + strings.Repeat("a", 300), strings.Repeat("/a", 40), "%5c..%5cx", "\\x", "%ff", "%F0%90%80", "/%20x", "%EF%BB%BF", "/..;/x", "/%2e", "/.", "/..", "/%2e%2e%2f",
	"?a=%zz", "?a=1;b=2", "?a=%ff", "?list=maybe", "?help=maybe", "?scan=true", "?=x", "?a=" + strings.Repeat("a", 5000), "?list=true&list=false", "?%00=%zz",
}

// methods are none of ours.
var methods = []string{"TRACE", "OPTIONS", "SCAN", "PROPFIND", "get", "BREW", "PURGE", "PRI"}

// values are tried in every field, as JSON.
var values = []string{
	`null`, `[]`, `{}`, `"x"`, `[{}]`, `[[]]`, `[null]`, `{"a":{}}`, `true`, `false`, `0`, `-1`, `1.5`, `1e3`, `1e400`, `-0`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`, `18446744073709551616`,
	`"NaN"`, `"1h"`, `3600`, `"-1s"`, `"9999999h"`, `""`, `" "`, `"a\u0000b"`, `"a\r\nb"`, `"\u202eabc"`, `"a\u200bb"`, `"\u212a"`, `"\u017f"`, `"\ufeffabc"`, `"cafe\u0301"`, `"../../x"`, `"%2e%2e%2f"`, `"*"`, `"+"`, `"{{identity.entity.id}}"`,
	`"` + strings.Repeat("x", 64<<10) + `"`, `"0x10"`, `"1_000"`, `"` + canary + `"`, `["` + canary + `"]`, `{"k":"` + canary + `"}`, `"\u0000"`, `"<script>alert(1)</script>"`, `"'; DROP TABLE x; --"`, `"${jndi:ldap://x}"`,
	// These can be no value at all.
	`"\ud800"`, "\"\xff\"", strings.Repeat("[", 40) + strings.Repeat("]", 40), `{"a":1,"a":2}`, `NaN`, `undefined`, `'x'`,
}

const impossible = 7 // of values, at its end

// spellings are tried in every field of a path, as they stand in a request line.
var spellings = []string{
	"..", ".", "%2e%2e", "%2E%2e", "%252e%252e", "..%2f..%2fx", "%2fx", "a%2fb", "%00", "a%00", "%0d%0a", "%20", "a%20", "%20a", "%09", "%C0%AE", "%C0%AE%C0%AE", "%E2%80%AE", "a%E2%80%8Bb", "%E2%84%AA", "%C5%BF", "e%CC%81", "%EF%BB%BF",
	"a;b", "a;b=c", "..;", "a%5cb", `a\b`, "a.", "a%2e", "A", "ROOT", "root", "*", "%2a", "+", "%2b", "a*", "%7B%7Bx%7D%7D", strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a/", 33) + "a", "%ff", "%zz", "%", "~", "-a", "a:b", "a,b",
	"%F0%9F%94%91", "%D7%90%D7%91", "con", "a%3Fb", "a%23b", "%25", "%25zz", "a//b", "a/./b", "a/../b", "a/",
}

// wrong returns values that can never be that of a field, by its type.
func wrong(f field) map[string]bool {
	out := map[string]bool{}
	for _, v := range values[len(values)-impossible:] {
		out[v] = true
	}
	if f.from == inQuery || !f.op.Verb.IsWrite() && f.op.Verb.String() != "patch" {
		out = map[string]bool{"\"\xff\"": true} // what stands in a query is text, whatever it looks like
		if f.typ.Kind() == reflect.Int {
			out[`"x"`], out[`9223372036854775808`], out[`"1h"`] = true, true, true
		}
		return out
	}
	if _, custom := reflect.PointerTo(f.typ).MethodByName("UnmarshalJSON"); custom {
		return out
	}
	add := func(all ...string) {
		for _, v := range all {
			out[v] = true
		}
	}
	switch {
	case f.typ == reflect.TypeFor[secret.JSON]():
	case f.typ == reflect.TypeFor[name.Name]():
		add(`[]`, `{}`, `" "`, `"a\u0000b"`, `"../../x"`, `"*"`)
	case f.typ == reflect.TypeFor[secret.Text](), f.typ.Kind() == reflect.String:
		add(`[]`, `{}`, `[{}]`, `{"a":{}}`)
	case f.typ.Kind() == reflect.Bool:
		add(`[]`, `{}`, `"x"`, `1.5`, `"NaN"`, `"1h"`, `"`+canary+`"`)
	case f.typ.Kind() == reflect.Int:
		add(`[]`, `{}`, `"x"`, `true`, `1.5`, `1e400`, `9223372036854775808`, `"1h"`, `"0x10"`, `"1_000"`, `"`+canary+`"`)
	}
	return out
}

// aim makes every hostile request to one operation.
func (s scene) aim(o operation) (all []shot) {
	path, usual := s.usual(o)
	method, target, writes := o.method(), o.target(path), o.op.Verb.IsWrite() || o.method() == http.MethodPatch
	body := ""
	if writes {
		body = object(usual, field{}, "")
	}
	add := func(what string, m must, a attack) {
		a.what = o.op.Name + ": " + what
		if a.method == "" {
			a.method = method
		}
		if a.path == "" {
			a.path = target
		}
		all = append(all, shot{a, m})
	}
	for _, end := range targets {
		add("target "+end, mustRefuse, attack{path: target + end, body: body})
	}
	for what, h := range heads {
		add(what, mustRefuse, attack{headers: h, body: body})
	}
	for _, m := range methods {
		add("method "+m, mustRefuse, attack{method: m})
	}
	if writes {
		for what, b := range always {
			add(what, mustRefuse, attack{body: b})
		}
		for what, h := range media {
			add(what, mustRefuse, attack{body: body, headers: h})
		}
		add("a directory", mustRefuse, attack{path: target + "/", body: body})
		add("a list", mustRefuse, attack{path: target + "?list=true", body: body})
		add("another method by a header", mayAccept, attack{method: "BREW", body: body, headers: []string{"X-HTTP-Method-Override", method}})
	}
	for _, f := range o.fields {
		if f.from == inPath {
			for _, sp := range spellings {
				if method == http.MethodDelete && strings.Trim(sp, "%2eE./") == "" {
					continue // means what is above it, and refusing that is what targets are about
				}
				add("path "+sp, mayAccept, s.request(o, f, sp))
			}
			continue
		}
		if f.from == isBody {
			continue // takes any object
		}
		never := wrong(f)
		for _, v := range values {
			if f.clear && strings.Contains(v, canary) {
				continue // the journal shows it, as declared
			}
			m := mayAccept
			if never[v] {
				m = mustRefuse
			}
			add(f.name+" "+v, m, s.request(o, f, v))
		}
		if writes {
			add(f.name+" twice", mustRefuse, attack{body: `{` + quote(f.name) + `:null,` + quote(f.name) + `:null}`})
			add(f.name+" in another case", mustRefuse, attack{body: `{` + quote(strings.ToUpper(f.name)) + `:null}`})
		}
	}
	return all
}

// isSafe reports an operation that may be done with whatever is accepted:
// sealing ends the test, and so does giving back root's token.
func isSafe(o operation) bool {
	return o.op.Name != "system.seal" && o.op.Name != "token.revoke-self"
}

// TestHostileRequests sends what no honest client sends to every operation and
// every field, over connections that are kept.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	const shards = 4
	var sent, refusedOnes atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for shard := range shards {
		r, _ := timed(t) // no token ends by itself
		s := stage(t, r)
		ops := operations(t, r)
		wg.Go(func() {
			first := r.Last()
			ids := map[string]string{}
			n := 0
			for i, o := range ops {
				if i%shards != shard {
					continue
				}
				for _, x := range s.aim(o) {
					if !isSafe(o) && x.must != mustRefuse {
						continue
					}
					if n++; float64(n*61%100) >= *hostile*100 {
						continue
					}
					sent.Add(1)
					mark := r.Mark()
					got, err := patient(r, r.Root, x.attack)
					if err != nil {
						t.Errorf("%s: %s %.120s %.120s: %v", x.what, x.method, x.path, x.body, err)
						continue
					}
					ok := got.Status/100 == 4 && got.Status != http.StatusTooManyRequests
					if ok {
						refusedOnes.Add(1)
					}
					if !ok && (x.must == mustRefuse || got.Status/100 != 2) && !isHealth(o, got.Status) {
						t.Errorf("%.200s: %s %.120s %.120q = %d %.300s", x.what, x.method, x.path, x.body, got.Status, got.Body)
					}
					if got.Status < 400 {
						continue
					}
					if got.ID == "" { // refused as bytes, before it was a request
						continue
					}
					if !isGeneric(got.Body) {
						t.Errorf("%.200s: %s %.120s %.120q answered %.800s; want few words and none of what was sent", x.what, x.method, x.path, x.body, got.Body)
					}
					if len(r.Changed(mark)) > 0 {
						unchanged(t, r, x.attack)
					}
					if !o.op.Sealed || o.op.Verb.IsWrite() {
						ids[got.ID] = x.what
					}
				}
			}
			recorded(t, r, first, ids)
			alive(t, r)
		})
	}
	wg.Wait()
	if n := sent.Load(); n < 5000 && *hostile >= 0.25 {
		t.Errorf("%d requests; want at least 5000", n)
	}
	t.Logf("%d hostile requests, %d refused, in %v", sent.Load(), refusedOnes.Load(), time.Since(began))
}

// isHealth reports a status that the caller itself asked for.
func isHealth(o operation, status int) bool { return o.op.Name == "system.health" && status != 500 }

// unchanged makes a request that is refused again, until nothing is written
// meanwhile: what was may have been the end of a token that was revoked before.
func unchanged(t *testing.T, r *servertest.Rig, a attack) {
	t.Helper()
	var changed []string
	for range 50 {
		mark := r.Mark()
		if got, err := r.Try(r.Root, a.method, a.path, a.body, a.headers...); err != nil || got.Status < 400 {
			return
		}
		if changed = r.Changed(mark); len(changed) == 0 {
			return
		}
	}
	t.Errorf("%.200s: %s %.120s %.120q is refused and changes %v", a.what, a.method, a.path, a.body, changed)
}
