package replay

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/server/servertest"
)

var (
	damage  = flag.Int("damage", 1, "how many times as many bytes of files are changed, each on its own")
	hostile = flag.Float64("hostile", 0.02, "part of the hostile requests that is sent over TLS too, up to 1")
	within  = flag.Duration("within", 0, "the longest that an answer to a hostile request may take; 0 for any time")
)

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

// texts are what no name should be, as they stand within quotes of JSON. Each
// is tried in every field by itself, in a list, as a value and as a name.
var texts = []string{
	"..", ".", "/", "//", "a/../b", "/etc/passwd", `C:\\x`, "%00", "%2f", "%252f", "a;b=c", "a\\u007fb", "\\u0085", "\\u2028", "\\u2066x", "\\ufffe", "\\ud83d\\udd11", "\\uff52\\uff4f\\uff4f\\uff54", "ROOT", "root ", "root\\u0000", "sys/", "auth/token/",
	"-9223372036854775808", "1e400", "0", "-0", "٣", "1h1h", "1.0e-9s", "::1/129", "10.0.0.0/33", "base64:!!", "${env:HOME}", "{{.}}", "`id`", "a,b,,c", "k=v=w", "*/+", "hvs.x", "\\t", canary, canary + "\\u0000",
}

// inText returns values of JSON that hold s.
func inText(s string) (plain, list, value, key string) {
	return `"` + s + `"`, `["` + s + `"]`, `{"k":"` + s + `"}`, `{"` + s + `":"k"}`
}

// manyValues returns all that is tried in a field, and those of it that are
// lists and objects.
func manyValues() (all []string, lists, objects map[string]bool) {
	all, lists, objects = slices.Clone(values), map[string]bool{}, map[string]bool{}
	for _, s := range texts {
		plain, list, value, key := inText(s)
		all = append(all, plain, list, value, key)
		lists[list], objects[value], objects[key] = true, true, true
	}
	return all, lists, objects
}

// manySpellings returns what is tried in a field of a path: spellings, and
// names that mean something elsewhere in every way of writing them that is known.
func manySpellings() []string {
	all := slices.Clone(spellings)
	for _, base := range []string{"..", ".", "app", "Root", "a.b", "\u017f", "\u212a", "e\u0301"} {
		escaped, twice := "", ""
		for _, b := range []byte(base) {
			escaped += fmt.Sprintf("%%%02X", b)
			twice += fmt.Sprintf("%%25%02x", b)
		}
		all = append(all, escaped, strings.ToLower(escaped), twice, escaped+"%2F"+escaped, escaped+";p", escaped+"%5C", `\`+escaped, escaped+".", escaped+"%20", escaped+"/", escaped+"%00", "%C0%AF"+escaped)
	}
	return all
}

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
	_, lists, objects := manyValues()
	switch {
	case f.typ == reflect.TypeFor[secret.JSON]():
	case f.typ == reflect.TypeFor[name.Name]():
		add(`[]`, `{}`, `" "`, `"a\u0000b"`, `"../../x"`, `"*"`)
	case f.typ == reflect.TypeFor[secret.Text](), f.typ.Kind() == reflect.String:
		maps.Copy(out, objects)
		add(`[]`, `{}`, `[{}]`, `{"a":{}}`)
	case f.typ.Kind() == reflect.Bool:
		maps.Copy(out, lists)
		maps.Copy(out, objects)
		add(`[]`, `{}`, `"x"`, `1.5`, `"NaN"`, `"1h"`, `"`+canary+`"`)
	case f.typ.Kind() == reflect.Int:
		maps.Copy(out, lists)
		maps.Copy(out, objects)
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
			for _, sp := range manySpellings() {
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
		all, _, _ := manyValues()
		for _, v := range all {
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

// hostility counts what was sent to a node and holds the answers.
type hostility struct {
	t       *testing.T
	r       *servertest.Rig
	sent    *atomic.Int64
	refused *atomic.Int64
	slowest time.Duration
	first   uint64            // the last record before
	ids     map[string]string // of requests that need a record, and what was tried
}

// TestP3P5HostileRequests sends what no honest client sends to every operation and
// every field: all of it to the node's handler as a listener would call it,
// which is the same code behind TLS, and a part of it over TLS as well.
func TestP3P5HostileRequests(t *testing.T) {
	const shards = 4
	var sent, refused atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for shard := range shards {
		r, _ := timed(t) // no token ends by itself
		s := stage(t, r)
		ops := operations(t, r)
		slices.SortStableFunc(ops, func(a, b operation) int { return cmp.Compare(readsJournal(b), readsJournal(a)) })
		wg.Go(func() {
			h := &hostility{t: t, r: r, sent: &sent, refused: &refused, first: r.Last(), ids: map[string]string{}}
			n := 0
			for i := shard; i < len(ops); i += shards {
				for _, x := range s.aim(ops[i]) {
					if !isSafe(ops[i]) && x.must != mustRefuse {
						continue
					}
					h.try(ops[i], x, direct)
					if n++; float64(n*61%100) < *hostile*100 {
						h.try(ops[i], x, overTLS)
					}
				}
			}
			recorded(t, r, h.first, h.ids)
			alive(t, r)
		})
	}
	wg.Wait()
	if n := sent.Load(); n < 50_000 {
		t.Errorf("%d requests; want at least 50000", n)
	}
	t.Logf("%d hostile requests, %d refused, in %v", sent.Load(), refused.Load(), time.Since(began))
}

// sender is a way to a node.
type sender func(r *servertest.Rig, token string, a attack) (*servertest.Answer, error)

// overTLS sends a request as a client does.
func overTLS(r *servertest.Rig, token string, a attack) (*servertest.Answer, error) {
	return patient(r, token, a)
}

// direct gives a request to the node's handler, with the request line as it is.
func direct(r *servertest.Rig, token string, a attack) (*servertest.Answer, error) {
	req := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(a.body))
	if a.body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Method, req.RequestURI = a.method, "/v1/"+a.path
	req.Header.Set("X-Vault-Token", token)
	if a.method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for pair := range slices.Chunk(a.headers, 2) {
		key := http.CanonicalHeaderKey(pair[0])
		req.Header[key] = append(req.Header[key], pair[1])
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return &servertest.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes(), ID: w.Header().Get("X-Request-Id")}, nil
}

// try makes one request and holds its answer.
func (h *hostility) try(o operation, x shot, send sender) {
	t := h.t
	h.sent.Add(1)
	mark := h.r.Mark()
	began := time.Now()
	got, err := send(h.r, h.r.Root, x.attack)
	if err != nil {
		t.Errorf("%s: %s %.120s %.120s: %v", x.what, x.method, x.path, x.body, err)
		return
	}
	h.timely(x, time.Since(began), send)
	ok := got.Status/100 == 4 && got.Status != http.StatusTooManyRequests
	if ok {
		h.refused.Add(1)
	}
	if !ok && (x.must == mustRefuse || got.Status/100 != 2) && !isHealth(o, got.Status) {
		t.Errorf("%.200s: %s %.120s %.120q = %d %.300s", x.what, x.method, x.path, x.body, got.Status, got.Body)
	}
	if got.Status < 400 || got.ID == "" { // the latter was refused as bytes, before it was a request
		return
	}
	if !isGeneric(got.Body) {
		t.Errorf("%.200s: %s %.120s %.120q answered %.800s; want few words and none of what was sent", x.what, x.method, x.path, x.body, got.Body)
	}
	if len(h.r.Changed(mark)) > 0 {
		unchanged(t, h.r, x.attack)
	}
	if !o.op.Sealed || o.op.Verb.IsWrite() {
		h.ids[got.ID] = x.what
	}
}

// timely holds an answer to its time, where there is one: of three, as the
// machine may have had something else to do.
func (h *hostility) timely(x shot, took time.Duration, send sender) {
	for n := 0; *within > 0 && took > *within && n < 2; n++ {
		began := time.Now()
		if _, err := send(h.r, h.r.Root, x.attack); err != nil {
			return
		}
		took = min(took, time.Since(began))
	}
	if h.slowest = max(h.slowest, took); *within > 0 && took > *within {
		h.t.Errorf("%.200s: %s %.120s took %v; want %v at most", x.what, x.method, x.path, took, *within)
	}
}

// readsJournal returns 1 for an operation that reads all of the journal, which
// each request makes longer: such go first.
func readsJournal(o operation) int {
	if strings.HasPrefix(o.op.Name, "system.audit-journal") {
		return 1
	}
	return 0
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
