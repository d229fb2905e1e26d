package chaos

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/test/chaos/disk"
)

// whole is a node that was stopped, all of whose bytes are as they should be,
// and what it answers.
type whole struct {
	base    *disk.Disk
	old     *disk.Disk // as it was before some secrets were written again
	from    *node
	secrets []string
	answers map[string]string
	records string // of the journal, as they are searched
	backup  string // a file
	keyFile string
}

// newWhole fills a node and stops it.
func newWhole(t *testing.T) *whole {
	t.Helper()
	n := newNodeOn(t, disk.New())
	x := &whole{from: n}
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	write := func(round int) {
		for i := range 60 {
			name := fmt.Sprintf("dir%d/s%d", i%5, i)
			n.must(http.MethodPost, "secret/data/"+name, padded(fmt.Sprintf("%s#%d;", name, round), 100+i*20+i%7/6*15_000))
			if round == 0 {
				x.secrets = append(x.secrets, name)
			}
		}
	}
	write(0)
	n.must(http.MethodPut, "sys/policies/acl/reader", map[string]any{"policy": `path "secret/data/*" { capabilities = ["read"] }`})
	n.must(http.MethodPost, "auth/token/create", map[string]any{"id": "a-token", "policies": []string{"reader"}})
	x.old = x.stopped(t)
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	write(1)
	n.must(http.MethodPost, "sys/mounts/secret/rotate", nil)
	n.must(http.MethodPost, "secret/destroy/"+x.secrets[3], map[string]any{"versions": []int{1}})
	x.answers = n.answers(t, x.secrets)
	if keys, err := filepath.Glob(filepath.Join(n.home, "config", "rotunda", "keys", "*", "seal.key")); err != nil || len(keys) != 1 {
		t.Fatalf("key files: %v, %v", keys, err)
	} else if b, err := os.ReadFile(keys[0]); err != nil {
		t.Fatal(err)
	} else if x.keyFile = filepath.Join(t.TempDir(), "seal.key"); os.WriteFile(x.keyFile, b, 0o600) != nil {
		t.Fatal("the key file cannot be copied")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	x.backup = filepath.Join(t.TempDir(), "backup")
	if out, code, err := n.run("operator", "backup", x.backup, "--data", n.data); err != nil || code != 0 {
		t.Fatalf("a backup: code %d, %v: %s", code, err, out)
	}
	x.records = n.searched(t)
	if out, code, err := n.run("doctor", "--verify", "--data", n.data); err != nil || code != 0 {
		t.Fatalf("what is whole is not: code %d, %v: %s", code, err, out)
	}
	if out, code, err := n.run("operator", "restore-check", x.backup, "--key-file", x.keyFile); err != nil || code != 0 {
		t.Fatalf("a backup that is whole is not: code %d, %v: %s", code, err, out)
	}
	if err := n.unplug(); err != nil {
		t.Fatal(err)
	}
	n.disk.PowerCut(nil)
	x.base = n.disk
	return x
}

// stopped stops the node and returns a copy of its disk, and plugs that in again.
func (x *whole) stopped(t *testing.T) *disk.Disk {
	t.Helper()
	if err := x.from.stop(); err != nil {
		t.Fatal(err)
	}
	if err := x.from.unplug(); err != nil {
		t.Fatal(err)
	}
	d := x.from.disk.Clone()
	if err := x.from.plug(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (n *node) searched(t *testing.T) string {
	t.Helper()
	out, code, err := n.run("audit", "search", "--data", n.data, "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		return ""
	}
	return out
}

// answers asks for everything. An answer that says that something did not work
// is "refused".
func (n *node) answers(t *testing.T, secrets []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ask := func(token, method, path, at string) {
		a, err := n.do(token, method, path, nil)
		switch {
		case err != nil:
			t.Errorf("%s %s: %v%s", method, path, err, n.logTail())
			all[path] = "refused"
		case a.status >= http.StatusInternalServerError:
			all[path] = "refused"
		case a.status == http.StatusOK:
			all[path] = fmt.Sprint(a.at(at))
		default:
			all[path] = fmt.Sprintf("status %d", a.status)
		}
	}
	for _, name := range secrets {
		ask("a-token", http.MethodGet, "secret/data/"+name, "data.data")
		ask(n.root, http.MethodGet, "secret/data/"+name+"?version=1", "data.data")
	}
	for i := range 5 {
		ask(n.root, "LIST", fmt.Sprintf("secret/metadata/dir%d", i), "data.keys")
	}
	ask(n.root, http.MethodGet, "sys/policies/acl/reader", "data.policy")
	ask("a-token", http.MethodGet, "auth/token/lookup-self", "data.policies")
	return all
}

// flip is a byte that is another.
type flip struct {
	file string // below home, or the backup
	kind string // of what it is in
	at   int64
	bits byte
}

// verdictOf is what became of a flip.
type verdictOf struct {
	refused, found, hurt bool
	wrong                []string
}

// try lets a node stand on d, which is changed somewhere, and says what comes of it.
func (x *whole) try(t *testing.T, d *disk.Disk) (v verdictOf) {
	t.Helper()
	n := newNodeOn(t, d)
	n.root, n.pool = x.from.root, x.from.pool
	out, code, err := n.run("doctor", "--verify", "--data", n.data)
	if err != nil || code > 1 || strings.Contains(out, "goroutine ") {
		v.wrong = append(v.wrong, fmt.Sprintf("doctor --verify: code %d, %v: %s", code, err, out))
	}
	v.found = code != 0
	if records := n.searched(t); records != "" && records != x.records && !v.found {
		v.wrong = append(v.wrong, "the records that are found are others, and doctor --verify says nothing")
	}
	if _, err := n.start(); err != nil {
		v.refused = true
		n.kill()
		v.wrong = append(v.wrong, n.crashes()...)
		return v
	}
	for path, got := range n.answers(t, x.secrets) {
		switch want := x.answers[path]; {
		case got == want:
		case got == "refused":
			v.hurt = true
		case !strings.HasPrefix(got, "status ") && !strings.HasSuffix(path, "?version=1") || strings.HasPrefix(want, "status "):
			v.wrong = append(v.wrong, fmt.Sprintf("%s gave %.200s; want %.200s", path, got, want))
		case !v.found:
			v.wrong = append(v.wrong, fmt.Sprintf("%s gave %.200s, and doctor --verify says nothing; want %.200s", path, got, want))
		default:
			v.hurt = true
		}
	}
	if a, err := n.do(n.root, http.MethodPost, "secret/data/new", padded("v", 10)); err != nil {
		v.wrong = append(v.wrong, fmt.Sprintf("a write: %v, %v", a, err))
	}
	n.kill()
	v.wrong = append(v.wrong, n.crashes()...)
	return v
}

// tryBackup returns what comes of a backup that is changed somewhere.
func (x *whole) tryBackup(t *testing.T, f flip) (v verdictOf) {
	t.Helper()
	b, err := os.ReadFile(x.backup)
	if err != nil {
		t.Fatal(err)
	}
	b[f.at] ^= f.bits
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, code, err := x.from.run("operator", "restore-check", file, "--key-file", x.keyFile)
	if err != nil || code == 0 || strings.Contains(out, "goroutine ") {
		v.wrong = append(v.wrong, fmt.Sprintf("restore-check: code %d, %v: %s", code, err, out))
	}
	v.refused, v.found = code != 0, code != 0
	return v
}

// pages returns the pages of a store by what they are.
func pages(t *testing.T, b []byte) map[string][]int64 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kinds := map[string][]int64{}
	err = db.View(func(tx *bbolt.Tx) error {
		for id := 0; ; {
			p, err := tx.Page(id)
			if err != nil || p == nil {
				return err
			}
			for range 1 + p.OverflowCount {
				kinds[p.Type] = append(kinds[p.Type], int64(id))
				id++
				if p.Type == "free" {
					break
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// flips returns bytes of everything that the node keeps, some of each kind.
func (x *whole) flips(t *testing.T, each int, r *rand.Rand) (all []flip) {
	t.Helper()
	bits := func() byte { return byte(1) << r.IntN(8) }
	const store = "data/store/store.db"
	b, err := x.base.Bytes(store)
	if err != nil {
		t.Fatal(err)
	}
	kinds := pages(t, b)
	for _, kind := range []string{"meta", "freelist", "branch", "leaf", "free"} {
		ids := kinds[kind]
		if len(ids) == 0 {
			t.Fatalf("the store has no page of kind %s: %v", kind, kinds)
		}
		for i := range each {
			at := int64(r.IntN(4096))
			if i%2 == 0 || kind == "meta" {
				at = int64(r.IntN(96)) // heads, and what they lead to
			}
			all = append(all, flip{store, kind + " page", ids[r.IntN(len(ids))]*4096 + at, bits()})
		}
	}
	for _, name := range x.base.Names("data/audit") {
		b, err := x.base.Bytes("data/audit/" + name)
		used := len(bytes.TrimRight(b, "\x00"))
		if err != nil || used == 0 {
			continue
		}
		n := max(1, each/4)
		if strings.HasPrefix(name, "journal-0") {
			n = each
		}
		for range n {
			all = append(all, flip{"data/audit/" + name, "audit", int64(r.IntN(used)), bits()})
		}
	}
	info, err := os.Stat(x.backup)
	if err != nil {
		t.Fatal(err)
	}
	for range each {
		all = append(all, flip{"", "backup", r.Int64N(info.Size()), bits()})
	}
	return all
}

// A byte that is another, anywhere in the store, the journal or a backup, is
// refused where it is read, found by doctor --verify, or changes no answer; and it
// is never another value, or the end of the process. ROTUNDA_CHAOS_FLIPS says how
// many of each kind.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	x := newWhole(t)
	seed := fromEnv(t, "ROTUNDA_CHAOS_SEED", uint64(time.Now().UnixNano()))
	each := int(fromEnv(t, "ROTUNDA_CHAOS_FLIPS", 3))
	t.Logf("ROTUNDA_CHAOS_SEED=%d ROTUNDA_CHAOS_FLIPS=%d", seed, each)
	flips := x.flips(t, each, rand.New(rand.NewPCG(seed, 6)))
	type counts struct{ tried, refused, found, hurt, fine int }
	var (
		mu    sync.Mutex
		kinds = map[string]*counts{}
		all   sync.WaitGroup
		next  = make(chan flip)
	)
	for range 2 {
		all.Go(func() {
			for f := range next {
				t.Run(fmt.Sprintf("%s %s %d", f.kind, filepath.Base(f.file), f.at), func(t *testing.T) {
					v := x.tryFlip(t, f)
					for _, wrong := range v.wrong {
						t.Errorf("bits %08b: %s", f.bits, wrong)
					}
					mu.Lock()
					defer mu.Unlock()
					c := kinds[f.kind]
					if c == nil {
						c = &counts{}
						kinds[f.kind] = c
					}
					c.tried++
					for _, x := range []struct {
						is bool
						n  *int
					}{{v.refused, &c.refused}, {v.found, &c.found}, {v.hurt, &c.hurt}, {!v.refused && !v.found && !v.hurt, &c.fine}} {
						if x.is {
							*x.n++
						}
					}
				})
			}
		})
	}
	for _, f := range flips {
		next <- f
	}
	close(next)
	all.Wait()
	var names []string
	for kind := range kinds {
		names = append(names, kind)
	}
	slices.Sort(names)
	for _, kind := range names {
		c := kinds[kind]
		if t.Failed() {
			break
		}
		t.Logf("%s: %d bytes changed: %d starts or reads of backups were refused, %d were found by doctor --verify, %d had reads that were refused, %d were of no account; 0 gave another value",
			kind, c.tried, c.refused, c.found, c.hurt, c.fine)
	}
}

func (x *whole) tryFlip(t *testing.T, f flip) verdictOf {
	t.Helper()
	if f.kind == "backup" {
		return x.tryBackup(t, f)
	}
	d := x.base.Clone()
	if err := d.Flip(f.file, f.at, f.bits); err != nil {
		t.Fatal(err)
	}
	return x.try(t, d)
}

// The checks find what they are for: a disk that is whole, and holds other values.
func TestPlantedFlip(t *testing.T) {
	t.Parallel()
	x := newWhole(t)
	if v := x.try(t, x.base.Clone()); len(v.wrong) > 0 || v.found || v.hurt || v.refused {
		t.Errorf("nothing is changed: %+v", v)
	}
	v := x.try(t, x.old.Clone())
	if !strings.Contains(strings.Join(v.wrong, "\n"), "; want ") {
		t.Errorf("an older disk is taken for this one: %+v", v)
	}
}
