package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
)

// step is one request, and what it makes of what it is sent to.
type step struct {
	op       string // as the journal calls it
	path     string // likewise
	atomic   bool   // one transaction, with its record in it
	token    string // the owner's if empty
	method   string
	url      string
	body     any
	want     int   // status; 0 for any 2xx
	after    model // nil where nothing changes
	readback func(*answer) error
}

// model is what one thing on the server is known to be. It does not change.
type model interface {
	// plan returns something to do next.
	plan(r *rand.Rand) step
	// text says what there is; two that are the same say the same.
	text() string
	// observe returns the text of what the server has.
	observe(n *node) (string, error)
}

// cell is one thing on the server that one writer alone writes to.
type cell struct {
	is      model
	pending *step // was sent and never answered
}

// padded is a value that shows it when half of it is missing.
func padded(v string, size int) map[string]any {
	return map[string]any{"data": map[string]any{"v": v, "pad": strings.Repeat(v, size/len(v)+1)}}
}

func unpadded(data map[string]any) string {
	v, _ := data["v"].(string)
	pad, _ := data["pad"].(string)
	if v == "" || pad == "" || strings.ReplaceAll(pad, v, "") != "" {
		return fmt.Sprintf("a broken value %.100v", data)
	}
	return v
}

func unexpected(what string, a *answer) error {
	return fmt.Errorf("%s: status %d %.300s", what, a.status, a.body)
}

// kv2 is a secret with versions.
type kv2 struct {
	path     string // below secret/
	serial   int    // of the next value
	current  int
	custom   string
	versions map[int]version // nil where there is no secret
}

type version struct {
	value              string
	deleted, destroyed bool
}

const keptVersions = 10

func (k kv2) text() string {
	if k.versions == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "current %d custom %q", k.current, k.custom)
	for n := 1; n <= k.current; n++ {
		v, ok := k.versions[n]
		switch {
		case !ok:
		case v.destroyed:
			fmt.Fprintf(&b, " %d:destroyed", n)
		case v.deleted:
			fmt.Fprintf(&b, " %d:deleted", n)
		default:
			fmt.Fprintf(&b, " %d:%s", n, v.value)
		}
	}
	return b.String()
}

func (k kv2) clone() kv2 {
	versions := map[int]version{}
	maps.Copy(versions, k.versions)
	k.versions = versions
	return k
}

func (k kv2) url(kind string) string { return "secret/" + kind + "/" + k.path }

// pick returns a version that ok holds for; 0 for none.
func (k kv2) pick(r *rand.Rand, ok func(version) bool) int {
	var found []int
	for n, v := range k.versions {
		if ok(v) {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	if len(found) == 0 {
		return 0
	}
	return found[r.IntN(len(found))]
}

func (k kv2) put(r *rand.Rand) step {
	next := k.clone()
	next.serial++
	value := fmt.Sprintf("%s#%d;", k.path, k.serial)
	next.current++
	next.versions[next.current] = version{value: value}
	delete(next.versions, next.current-keptVersions)
	size := 20
	if r.IntN(12) == 0 {
		size = 20_000
	}
	body := padded(value, size)
	s := step{op: "kv.write", path: k.url("data"), atomic: true, method: http.MethodPost, url: k.url("data"), body: body, after: next}
	switch c := r.IntN(10); {
	case c < 5:
		body["options"] = map[string]any{"cas": k.current}
	case c == 5:
		body["options"] = map[string]any{"cas": k.current + 1 + r.IntN(3)}
		s.want, s.after = http.StatusBadRequest, nil
	}
	want := next.current
	if s.after != nil {
		s.readback = func(a *answer) error {
			if got := a.number("data.version"); got != want {
				return fmt.Errorf("a write made version %d; want %d", got, want)
			}
			return nil
		}
	}
	return s
}

func (k kv2) plan(r *rand.Rand) step {
	if k.versions == nil {
		return k.put(r)
	}
	next := k.clone()
	change := func(kind, op string, ok func(version) bool, do func(*version)) (step, bool) {
		n := k.pick(r, ok)
		if n == 0 {
			return step{}, false
		}
		v := next.versions[n]
		do(&v)
		next.versions[n] = v
		return step{
			op: op, path: k.url(kind), atomic: true, method: http.MethodPost, url: k.url(kind), body: map[string]any{"versions": []int{n}}, after: next,
		}, true
	}
	live := func(v version) bool { return !v.deleted && !v.destroyed }
	switch c := r.IntN(100); {
	case c < 6:
		if s, ok := change("delete", "kv.delete-versions", live, func(v *version) { v.deleted = true }); ok {
			return s
		}
	case c < 16:
		if s, ok := change("undelete", "kv.undelete", func(v version) bool { return v.deleted && !v.destroyed }, func(v *version) { v.deleted = false }); ok {
			return s
		}
	case c < 22:
		if s, ok := change("destroy", "kv.destroy", func(v version) bool { return !v.destroyed }, func(v *version) { v.destroyed = true }); ok {
			return s
		}
	case c < 30:
		if live(next.versions[k.current]) {
			v := next.versions[k.current]
			v.deleted = true
			next.versions[k.current] = v
			return step{op: "kv.delete", path: k.url("data"), atomic: true, method: http.MethodDelete, url: k.url("data"), after: next}
		}
	case c < 36:
		if live(next.versions[k.current]) {
			next.serial++
			value := fmt.Sprintf("%s#%d;", k.path, k.serial)
			next.current++
			next.versions[next.current] = version{value: value}
			delete(next.versions, next.current-keptVersions)
			return step{
				op: "kv.patch", path: k.url("data"), atomic: true, method: http.MethodPatch, url: k.url("data"), body: padded(value, 20), after: next,
			}
		}
	case c < 40:
		next.serial++
		next.custom = fmt.Sprintf("c%d", k.serial)
		return step{
			op: "kv.metadata-write", path: k.url("metadata"), atomic: true, method: http.MethodPost, url: k.url("metadata"),
			body: map[string]any{"custom_metadata": map[string]string{"c": next.custom}}, after: next,
		}
	case c < 43:
		return step{
			op: "kv.metadata-delete", path: k.url("metadata"), method: http.MethodDelete, url: k.url("metadata"), after: kv2{path: k.path, serial: k.serial},
		}
	case c < 55: // a read must give what is known
		want, dead := k.versions[k.current], !live(k.versions[k.current])
		s := step{op: "kv.read", path: k.url("data"), method: http.MethodGet, url: k.url("data")}
		if dead {
			s.want = http.StatusNotFound
			return s
		}
		s.readback = func(a *answer) error {
			if got := unpadded(a.object("data.data")); got != want.value {
				return fmt.Errorf("a read gave %q; want %q", got, want.value)
			}
			return nil
		}
		return s
	}
	return k.put(r)
}

func (k kv2) observe(n *node) (string, error) {
	meta, err := n.do(n.root, http.MethodGet, k.url("metadata"), nil)
	if err != nil {
		return "", err
	}
	if meta.status == http.StatusNotFound {
		return kv2{}.text(), nil
	}
	if meta.status != http.StatusOK {
		return "", unexpected("reading metadata of "+k.path, meta)
	}
	got := kv2{current: meta.number("data.current_version"), versions: map[int]version{}, custom: meta.text("data.custom_metadata.c")}
	for name := range meta.object("data.versions") {
		var number int
		if _, err := fmt.Sscan(name, &number); err != nil {
			return "", err
		}
		v := version{
			destroyed: meta.at("data.versions."+name+".destroyed") == true,
			deleted:   meta.text("data.versions."+name+".deletion_time") != "",
		}
		read, err := n.do(n.root, http.MethodGet, k.url("data")+"?version="+name, nil)
		if err != nil {
			return "", err
		}
		switch data := read.object("data.data"); {
		case v.destroyed, v.deleted:
			if read.status != http.StatusNotFound || data != nil {
				return "", unexpected("reading a version that is deleted of "+k.path, read)
			}
		case read.status != http.StatusOK:
			return "", unexpected("reading version "+name+" of "+k.path, read)
		default:
			v.value = unpadded(data)
		}
		got.versions[number] = v
	}
	return got.text(), nil
}

// kv1 is a secret without versions.
type kv1 struct {
	path   string // below one/
	serial int
	value  string // empty where there is none
}

func (k kv1) text() string { return "value " + k.value }

func (k kv1) plan(r *rand.Rand) step {
	url := "one/" + k.path
	if k.value != "" && r.IntN(4) == 0 {
		return step{op: "kv1.delete", path: url, atomic: true, method: http.MethodDelete, url: url, after: kv1{path: k.path, serial: k.serial}}
	}
	next := kv1{path: k.path, serial: k.serial + 1, value: fmt.Sprintf("%s#%d;", k.path, k.serial)}
	return step{op: "kv1.write", path: url, atomic: true, method: http.MethodPut, url: url, body: padded(next.value, 20)["data"], after: next}
}

func (k kv1) observe(n *node) (string, error) {
	a, err := n.do(n.root, http.MethodGet, "one/"+k.path, nil)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusNotFound:
		return kv1{}.text(), nil
	case a.status != http.StatusOK:
		return "", unexpected("reading "+k.path, a)
	}
	return kv1{value: unpadded(a.object("data"))}.text(), nil
}

// rule is a policy.
type rule struct {
	name   string
	serial int
	body   string
}

func (p rule) text() string { return "policy " + p.body }

func (p rule) plan(r *rand.Rand) step {
	url := "sys/policies/acl/" + p.name
	if p.body != "" && r.IntN(4) == 0 {
		return step{op: "system.policy.delete", path: url, atomic: true, method: http.MethodDelete, url: url, after: rule{name: p.name, serial: p.serial}}
	}
	next := rule{name: p.name, serial: p.serial + 1, body: fmt.Sprintf(`path "secret/data/%s/%d" { capabilities = ["read"] }`, p.name, p.serial)}
	return step{op: "system.policy.write", path: url, atomic: true, method: http.MethodPut, url: url, body: map[string]any{"policy": next.body}, after: next}
}

func (p rule) observe(n *node) (string, error) {
	a, err := n.do(n.root, http.MethodGet, "sys/policies/acl/"+p.name, nil)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusNotFound:
		return rule{}.text(), nil
	case a.status != http.StatusOK:
		return "", unexpected("reading policy "+p.name, a)
	}
	return rule{body: a.text("data.policy")}.text(), nil
}

// ticket is a row of tokens, one after another, the last few of which are
// looked at: each is made with a chosen id, used a few times, and revoked or
// left alone.
type ticket struct {
	owner  string
	serial int
	tokens []tok
}

type tok struct {
	id      string
	uses    int // left; 0 for no bound
	revoked bool
}

const keptTokens = 6

func (t ticket) text() string {
	var b strings.Builder
	for _, x := range t.tokens {
		switch {
		case x.revoked:
			fmt.Fprintf(&b, " %s:revoked", x.id)
		default:
			fmt.Fprintf(&b, " %s:%d", x.id, x.uses)
		}
	}
	return "tokens" + b.String()
}

func (t ticket) plan(r *rand.Rand) step {
	next := ticket{owner: t.owner, serial: t.serial, tokens: slices.Clone(t.tokens)}
	if len(t.tokens) > 0 {
		last := &next.tokens[len(next.tokens)-1]
		switch c := r.IntN(10); {
		case !last.revoked && last.uses > 0 && c < 5:
			s := step{op: "token.read-self", path: "auth/token/lookup-self", token: last.id, method: http.MethodGet, url: "auth/token/lookup-self", after: next}
			if last.uses--; last.uses == 0 {
				last.revoked = true
			}
			return s
		case !last.revoked && c < 7:
			last.revoked, last.uses = true, 0
			return step{
				op: "token.revoke", path: "auth/token/revoke", atomic: true, method: http.MethodPost, url: "auth/token/revoke",
				body: map[string]any{"token": last.id}, after: next,
			}
		}
	}
	x := tok{id: fmt.Sprintf("%s-%d", t.owner, t.serial)}
	if r.IntN(2) == 0 {
		x.uses = 3 + r.IntN(4)
	}
	next.serial++
	if next.tokens = append(next.tokens, x); len(next.tokens) > keptTokens {
		next.tokens = next.tokens[1:]
	}
	return step{
		op: "token.create", path: "auth/token/create", atomic: true, method: http.MethodPost, url: "auth/token/create",
		body: map[string]any{"id": x.id, "policies": []string{"default"}, "num_uses": x.uses, "meta": map[string]string{"owner": x.id}}, after: next,
	}
}

// observe looks at the tokens that t has; a token that was made without an
// answer is looked for by the model that has it.
func (t ticket) observe(n *node) (string, error) {
	got := ticket{tokens: slices.Clone(t.tokens)}
	for i := range got.tokens {
		x := &got.tokens[i]
		a, err := n.do(n.root, http.MethodPost, "auth/token/lookup", map[string]any{"token": x.id})
		switch {
		case err != nil:
			return "", err
		case a.status == http.StatusOK:
			x.revoked, x.uses = false, a.number("data.num_uses")
			if a.text("data.meta.owner") != x.id {
				return "", unexpected("looking up "+x.id, a)
			}
			if x.uses == 0 { // it has no bound, or its last use was taken and it is not cleaned up: then it is good for nothing
				if a, err = n.do(x.id, http.MethodGet, "auth/token/lookup-self", nil); err != nil {
					return "", err
				}
				x.revoked = a.status == http.StatusForbidden
			}
		case a.status == http.StatusForbidden || a.status == http.StatusNotFound:
			x.revoked = true
		default:
			return "", unexpected("looking up "+x.id, a)
		}
	}
	return got.text(), nil
}

// engine is a mount that is made, written to, moved and removed.
type engine struct {
	name   string
	serial int
	at     string // empty where there is none
	value  string
}

func (e engine) text() string { return "mount " + e.at + " " + e.value }

func (e engine) plan(r *rand.Rand) step {
	next := e
	next.serial++
	switch {
	case e.at == "":
		next.at = fmt.Sprintf("%s-%d", e.name, e.serial)
		return step{
			op: "system.mounts.enable", path: "sys/mounts/" + next.at, method: http.MethodPost, url: "sys/mounts/" + next.at,
			body: map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}, after: next,
		}
	case e.value == "":
		next.value = fmt.Sprintf("%s#%d;", e.at, e.serial)
		return step{op: "kv1.write", path: e.at + "/a/b", atomic: true, method: http.MethodPut, url: e.at + "/a/b", body: padded(next.value, 20)["data"], after: next}
	case r.IntN(2) == 0:
		next.at = fmt.Sprintf("%s-%d", e.name, e.serial)
		return step{
			op: "system.remount", path: "sys/remount", atomic: true, method: http.MethodPost, url: "sys/remount",
			body: map[string]any{"from": e.at, "to": next.at}, after: next,
		}
	}
	next.at, next.value = "", ""
	return step{op: "system.mounts.disable", path: "sys/mounts/" + e.at, method: http.MethodDelete, url: "sys/mounts/" + e.at, after: next}
}

func (e engine) observe(n *node) (string, error) {
	list, err := n.do(n.root, http.MethodGet, "sys/mounts", nil)
	if err != nil {
		return "", err
	}
	if list.status != http.StatusOK {
		return "", unexpected("listing mounts", list)
	}
	got := engine{}
	for path := range list.object("data") {
		at := strings.TrimSuffix(path, "/")
		if !strings.HasPrefix(at, e.name+"-") {
			continue
		}
		if got.at != "" {
			return "", fmt.Errorf("there are mounts at %s and at %s", got.at, at)
		}
		got.at = at
		a, err := n.do(n.root, http.MethodGet, at+"/a/b", nil)
		switch {
		case err != nil:
			return "", err
		case a.status == http.StatusOK:
			got.value = unpadded(a.object("data"))
		case a.status != http.StatusNotFound:
			return "", unexpected("reading in the mount "+at, a)
		}
	}
	return got.text(), nil
}
