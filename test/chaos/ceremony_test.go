package chaos

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// vault is a node that people open with shares, and all that is known of it.
type vault struct {
	t       *testing.T
	n       *node
	good    []string // shares that open it for certain
	maybe   []string // that do so if what was not answered has happened
	mu      sync.Mutex
	values  map[string]string // guarded by mu, as what follows
	gone    map[string]bool   // secrets that were destroyed, and it was acknowledged
	unsure  map[string]bool   // and it was not
	aged    bool              // there is a slot for the recipient
	begging bool              // it was asked to be the other way, and there was no answer
	tokens  []string          // of owners
	kills   int
	wrong   []string // that reads have found
}

func newVault(t *testing.T) *vault {
	t.Helper()
	n := newNode(t)
	n.config = filepath.Join(n.home, "server.hcl")
	text := fmt.Sprintf(`enable_generate_root = true
listener "tcp" {
  address     = "127.0.0.1:0"
  tls_disable = true
}
storage "bolt" {
  path = %q
}
`, n.data)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, n: n, values: map[string]string{}, gone: map[string]bool{}, unsure: map[string]bool{}}
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	made := n.must(http.MethodPut, "sys/init", map[string]any{"secret_shares": 3, "secret_threshold": 2})
	n.root = made.text("root_token")
	v.tokens = []string{n.root}
	v.good = texts(made.at("keys"))
	if !v.opens(v.good) {
		t.Fatal("the first shares do not open it")
	}
	n.must(http.MethodPost, "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	for i := range 60 {
		v.put(fmt.Sprintf("d%d/s%d", i%4, i))
	}
	return v
}

func texts(v any) (all []string) {
	list, _ := v.([]any)
	for _, x := range list {
		s, _ := x.(string)
		all = append(all, s)
	}
	return all
}

func (v *vault) put(name string) {
	v.n.must(http.MethodPost, "secret/data/"+name, padded(name+";", 100))
	v.values[name] = name + ";"
}

// opens reports whether two of the shares open the node.
func (v *vault) opens(shares []string) bool {
	if len(shares) < 2 {
		return false
	}
	if a, err := v.n.do("", http.MethodPut, "sys/unseal", map[string]any{"reset": true}); err != nil || a.status != http.StatusOK {
		v.t.Fatalf("resetting: %v, %v", a, err)
	}
	for _, share := range shares[len(shares)-2:] {
		a, err := v.n.do("", http.MethodPut, "sys/unseal", map[string]any{"key": share})
		if err != nil {
			v.t.Fatal(err)
		}
		if a.status == http.StatusOK && a.at("sealed") == false {
			return true
		}
	}
	return false
}

// anew starts the node after it was killed, opens it, and reads everything.
func (v *vault) anew(what string) {
	v.t.Helper()
	v.kills++
	if _, err := v.n.start(); err != nil {
		v.t.Fatalf("%s: %v", what, err)
	}
	if !v.opens(v.good) {
		if !v.opens(v.maybe) {
			v.t.Fatalf("%s: no shares open it%s", what, v.n.said)
		}
		v.good = v.maybe
	}
	v.maybe = nil
	v.read(what)
}

func (v *vault) problem(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

func (v *vault) read(what string) {
	v.t.Helper()
	for name, want := range v.values {
		a, err := v.n.do(v.n.root, http.MethodGet, "secret/data/"+name, nil)
		if err != nil {
			v.t.Fatalf("%s: %v", what, err)
		}
		got := unpadded(a.object("data.data"))
		there, lost := a.status == http.StatusOK && got == want, a.status == http.StatusNotFound
		switch {
		case v.gone[name] && !lost:
			v.problem("%s: %s was destroyed, and a read gives %d %s", what, name, a.status, a.body)
		case v.gone[name]:
		case v.unsure[name] && lost:
			v.gone[name] = true
		case !there:
			v.problem("%s: a read of %s gives %d %s", what, name, a.status, a.body)
		}
		delete(v.unsure, name)
	}
	slots := v.n.must(http.MethodGet, "sys/seal/slots", nil)
	aged := strings.Contains(string(slots.body), recipient)
	if aged != v.aged && !v.begging {
		v.problem("%s: a slot for the recipient: %v; want %v", what, aged, v.aged)
	}
	v.aged, v.begging = aged, false
	for _, token := range v.tokens {
		if a, err := v.n.do(token, http.MethodGet, "auth/token/lookup-self", nil); err != nil || a.status != http.StatusOK {
			v.problem("%s: a token of an owner: %v, %v", what, a, err)
		}
	}
}

// killIn kills the node in a while. What it returns waits for that.
func (v *vault) killIn(while time.Duration) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-time.After(while)
		v.n.kill()
	}()
	return func() { <-done }
}

// steps are those of a ceremony. Each returns false when no answer has come.
type steps []func() bool

func (v *vault) ask(method, path string, body any) (*answer, bool) {
	a, err := v.n.do(v.n.root, method, path, body)
	if err != nil {
		return nil, false
	}
	if a.status/100 != 2 {
		v.t.Errorf("%v", unexpected(method+" "+path, a))
		return nil, false
	}
	return a, true
}

func (v *vault) rekey() steps {
	var nonce, proof string
	var made []string
	bring := func(share func() string) func() bool {
		return func() bool {
			a, ok := v.ask(http.MethodPost, "sys/rotate/root/update", map[string]any{"key": share(), "nonce": nonce})
			if ok && a.at("data.complete") == true {
				made, proof = texts(a.at("data.keys")), a.text("data.verification_nonce")
			}
			return ok
		}
	}
	prove := func(i int) func() bool {
		return func() bool {
			v.maybe = made
			a, ok := v.ask(http.MethodPost, "sys/rotate/root/verify", map[string]any{"key": made[i], "nonce": proof})
			if ok && a.at("data.complete") == true {
				v.good, v.maybe = made, nil
			}
			return ok
		}
	}
	return steps{
		func() bool {
			a, ok := v.ask(http.MethodPost, "sys/rotate/root/init", map[string]any{"secret_shares": 3, "secret_threshold": 2})
			if ok {
				nonce = a.text("data.nonce")
			}
			return ok
		},
		bring(func() string { return v.good[0] }), bring(func() string { return v.good[1] }), prove(0), prove(1),
	}
}

func (v *vault) slot() steps {
	return steps{func() bool {
		v.begging = true
		if !v.aged {
			_, ok := v.ask(http.MethodPost, "sys/seal/slots", map[string]any{"kind": "age", "recipients": []string{recipient}})
			v.aged, v.begging = ok, !ok
			return ok
		}
		list, ok := v.ask(http.MethodGet, "sys/seal/slots", nil)
		if !ok {
			return false
		}
		slots, _ := list.at("data.slots").([]any)
		for i := range slots {
			if list.text(fmt.Sprintf("data.slots.%d.kind", i)) == "age" {
				_, ok = v.ask(http.MethodDelete, "sys/seal/slots/"+list.text(fmt.Sprintf("data.slots.%d.id", i)), nil)
				v.aged, v.begging = !ok, !ok
			}
		}
		return ok
	}}
}

func (v *vault) generate() steps {
	var pad, nonce string
	bring := func(i int) func() bool {
		return func() bool {
			a, ok := v.ask(http.MethodPut, "sys/generate-root/update", map[string]any{"key": v.good[i], "nonce": nonce})
			if !ok || a.at("complete") != true {
				return ok
			}
			hidden, err := base64.RawStdEncoding.DecodeString(a.text("encoded_root_token"))
			if err != nil || len(hidden) != len(pad) {
				v.t.Errorf("%v", unexpected("generate-root", a))
				return false
			}
			for i := range hidden {
				hidden[i] ^= pad[i]
			}
			v.tokens = append(v.tokens, string(hidden))
			return true
		}
	}
	return steps{
		func() bool {
			a, ok := v.ask(http.MethodPut, "sys/generate-root/attempt", map[string]any{})
			if ok {
				pad, nonce = a.text("otp"), a.text("nonce")
			}
			return ok
		}, bring(0), bring(1),
	}
}

// rotate turns a key, while secrets are destroyed.
func (v *vault) rotate(path string, r *rand.Rand) steps {
	return steps{func() bool {
		a, err := v.n.do(v.n.root, http.MethodPost, path, nil)
		if err != nil {
			return false
		}
		if a.status/100 != 2 && a.status != http.StatusBadRequest { // the key before is still there
			v.t.Errorf("%v", unexpected("POST "+path, a))
		}
		return true
	}, func() bool {
		name := fmt.Sprintf("race%d/s%d", r.IntN(4), r.IntN(1<<30))
		body := padded(name+";", 100)
		a, err := v.n.do(v.n.root, http.MethodPost, "secret/data/"+name, body)
		if err != nil {
			return false
		}
		if a.status != http.StatusOK {
			v.t.Errorf("%v", unexpected("writing "+name, a))
			return false
		}
		v.mu.Lock()
		v.values[name], v.unsure[name] = name+";", true
		v.mu.Unlock()
		a, err = v.n.do(v.n.root, http.MethodPut, "secret/destroy/"+name, map[string]any{"versions": []int{1}})
		if err != nil {
			return false
		}
		if a.status/100 != 2 {
			v.t.Errorf("%v", unexpected("destroying "+name, a))
			return false
		}
		v.mu.Lock()
		v.gone[name] = true
		delete(v.unsure, name)
		v.mu.Unlock()
		return true
	}}
}

// Killed at each step of what is done to its keys, before the step is answered and
// after, a node can be opened by the old shares or by the new, everything is there,
// and what was destroyed stays so. ROTUNDA_CHAOS_CEREMONIES says how often for each.
func TestKillCeremonies(t *testing.T) {
	t.Parallel()
	times := int(fromEnv(t, "ROTUNDA_CHAOS_CEREMONIES", 3))
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROTUNDA_CHAOS_SEED=%d ROTUNDA_CHAOS_CEREMONIES=%d", seed, times)
	r := rand.New(rand.NewPCG(seed, 8))
	v := newVault(t)
	for _, c := range []struct {
		name string
		make func() steps
	}{
		{"rekey", v.rekey},
		{"seal slots", v.slot},
		{"generate-root", v.generate},
		{"keyring", func() steps { return v.rotate("sys/rotate", r) }},
		{"mount", func() steps { return v.rotate("sys/mounts/secret/rotate", r) }},
	} {
		before := v.kills
		for range times {
			for at := range c.make() {
				v.interrupted(c.name, c.make(), at, time.Duration(r.IntN(6000))*time.Microsecond)
				v.interrupted(c.name, c.make(), at, -1)
			}
		}
		t.Logf("%s: killed %d times; everything was there", c.name, v.kills-before)
	}
	for _, at := range []string{"rekey", "slot"} {
		all := v.rekey()
		if at == "slot" {
			all = v.slot()
		}
		for i, step := range all {
			if !step() {
				t.Errorf("step %d of %s at the end does not work", i, at)
			}
		}
	}
	v.n.kill()
	v.anew("at the end")
	v.report()
	t.Logf("%d secrets are read, of which %d were destroyed while keys were turned; %d tokens of owners", len(v.values), len(v.gone), len(v.tokens))
}

// interrupted takes the steps up to at, and kills the node while it takes that
// one, in a while, or where that is negative, after it.
func (v *vault) interrupted(name string, all steps, at int, while time.Duration) {
	v.t.Helper()
	what := fmt.Sprintf("%s, step %d, killed after %v", name, at, while)
	for i := range at {
		if !all[i]() {
			v.t.Fatalf("%s: step %d does not work%s", what, i, v.n.said)
		}
	}
	wait := v.n.kill
	if while >= 0 {
		wait = v.killIn(while)
	}
	all[at]()
	wait()
	v.anew(what)
	v.report()
}

func (v *vault) report() {
	v.t.Helper()
	for _, wrong := range v.wrong {
		v.t.Error(wrong)
	}
	v.wrong = nil
}

// The reads find what they are for.
func TestPlantedCeremonyFaults(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for name, plant := range map[string]func(){
		"destroyed":                func() { v.gone["d1/s1"] = true },
		"a token of an owner":      func() { v.tokens = append(v.tokens, "never made") },
		"a slot for the recipient": func() { v.aged = true },
		"a read of":                func() { v.values["d2/s2"] = "other;" },
	} {
		plant()
		v.n.kill()
		v.anew("planted")
		if said := strings.Join(v.wrong, "\n"); !strings.Contains(said, name) {
			t.Errorf("the reads do not find it: %s", said)
		}
		v.wrong, v.gone, v.tokens, v.values["d2/s2"] = nil, map[string]bool{}, v.tokens[:1], "d2/s2;"
	}
}
