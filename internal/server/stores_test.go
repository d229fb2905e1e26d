package server

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/gate"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// makeStore makes a store to keep: go test ./internal/server -run Stores -make-store v2.
// A store that a release has written is never made anew.
var makeStore = flag.String("make-store", "", "make the store of this name in testdata/stores")

var stores = filepath.Join("..", "..", "testdata", "stores")

// kept is what is known of a store in testdata/stores, in its file known.json.
// Its keys and tokens keep nothing secret.
type kept struct {
	Made    time.Time `json:"made"`
	Root    string    `json:"root"` // token, which does not expire
	Shares  []string  `json:"shares"`
	Asked   []asked   `json:"asked"`
	Records []noted   `json:"records"` // of the journal, the first ones
}

// asked is a request and its answer.
type asked struct {
	Token  string         `json:"token,omitzero"` // root's if empty
	Method string         `json:"method"`
	Path   string         `json:"path"`
	Body   string         `json:"body,omitzero"`
	Status int            `json:"status"`
	Data   jsontext.Value `json:"data,omitzero"`
}

type noted struct {
	Seq     uint64 `json:"seq"`
	ID      string `json:"id"`
	Op      string `json:"op,omitzero"`
	Path    string `json:"path,omitzero"`
	Outcome string `json:"outcome,omitzero"`
}

// opened is a node over a store of testdata/stores, or one that is made to be one.
type opened struct {
	n *Node
	h http.Handler
}

func openKept(t *testing.T, dir string, c clock.Clock, change func(*Config)) *opened {
	t.Helper()
	h, err := findHome(filepath.Join(dir, "data"), filepath.Join(dir, "config"))
	if err != nil {
		t.Fatal(err)
	}
	config := nodeOfHome(h, slog.New(slog.DiscardHandler))
	config.Clock = c
	config.testJournal = func(a *audit.Config) { a.Reserve, a.SegmentBytes = -1, 16<<10 }
	if change != nil {
		change(&config)
	}
	n, err := Open(config)
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	return &opened{n, n.handler(Listener{})}
}

func (o *opened) ask(token string, a asked) (status int, answer map[string]jsontext.Value) {
	var body io.Reader
	if a.Body != "" {
		body = strings.NewReader(a.Body)
	}
	r := httptest.NewRequest(a.Method, "/v1/"+a.Path, body)
	r.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // there may be none
	return w.Code, answer
}

// stable returns an answer's data without what changes with time.
func stable(answer map[string]jsontext.Value) (jsontext.Value, error) {
	raw := answer["data"]
	if len(raw) == 0 || raw.Kind() != '{' {
		return raw, nil
	}
	var data map[string]any
	if err := json.Unmarshal(raw, &data); err != nil {
		return nil, err
	}
	delete(data, "ttl")
	return json.Marshal(data, json.Deterministic(true))
}

// Stores that released versions have written open for ever, and give what was
// put into them.
func TestStoresOpenForEver(t *testing.T) {
	if *makeStore != "" {
		makeKept(t, filepath.Join(stores, *makeStore))
	}
	names, err := filepath.Glob(filepath.Join(stores, "*", "known.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("stores: %v, %v", names, err)
	}
	for _, file := range names {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			var known kept
			b, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(b, &known)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Run("as it was", func(t *testing.T) { testKept(t, filepath.Dir(file), &known) })
			t.Run("today", func(t *testing.T) {
				o := openKept(t, copyKept(t, filepath.Dir(file)), clock.System{}, nil)
				defer func() { _ = o.n.Close() }()
				if err := o.n.gate.AutoUnseal(t.Context()); err != nil {
					t.Fatal(err)
				}
				status, answer := o.ask(known.Root, asked{Method: http.MethodGet, Path: "secret/data/app/db"})
				if status != http.StatusOK || !strings.Contains(string(answer["data"]), "third") {
					t.Errorf("reading a secret = %d %s", status, answer["data"])
				}
				if status, _ := o.ask(known.Root, asked{Method: http.MethodPost, Path: "secret/data/app/db", Body: `{"data":{"v":"today"},"options":{"cas":3}}`}); status != http.StatusOK {
					t.Errorf("writing a secret = %d", status)
				}
			})
			t.Run("by people", func(t *testing.T) {
				o := openKept(t, copyKept(t, filepath.Dir(file)), clocktest.New(known.Made.Add(time.Minute)), func(c *Config) { c.Seals = nil })
				defer func() { _ = o.n.Close() }()
				for _, s := range known.Shares[:2] {
					if err := o.n.gate.Submit(t.Context(), secret.New(s)); err != nil {
						t.Fatal(err)
					}
				}
				if status, _ := o.ask(known.Root, asked{Method: http.MethodGet, Path: "secret/data/app/db"}); status != http.StatusOK {
					t.Errorf("reading a secret = %d", status)
				}
			})
		})
	}
}

func testKept(t *testing.T, dir string, known *kept) {
	t.Helper()
	o := openKept(t, copyKept(t, dir), clocktest.New(known.Made.Add(time.Minute)), nil)
	defer func() {
		if err := o.n.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	if _, err := o.n.journal.Reader().Verify(t.Context(), nil); err != nil {
		t.Errorf("the journal: %v", err)
	}
	if err := o.n.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range known.Asked {
		token := a.Token
		if token == "" {
			token = known.Root
		}
		status, answer := o.ask(token, a)
		data, err := stable(answer)
		if status != a.Status || err != nil {
			t.Errorf("%s %s = %d, %v; want %d", a.Method, a.Path, status, err, a.Status)
			continue
		}
		if missing := lacks(a.Data, data); missing != "" {
			t.Errorf("%s %s gives\n%s\nwant\n%s\n(%s)", a.Method, a.Path, data, a.Data, missing)
		}
	}
	if _, err := o.n.journal.Reader().Verify(t.Context(), nil); err != nil {
		t.Errorf("the journal, with its key: %v", err)
	}
	i := 0
	for r, err := range o.n.journal.Reader().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if i < len(known.Records) {
			if got := (noted{r.Seq, r.ID, r.Op, r.Path, r.Outcome}); got != known.Records[i] {
				t.Errorf("record %d is %+v; want %+v", i, got, known.Records[i])
			}
		}
		i++
	}
	if i < len(known.Records) {
		t.Errorf("the journal has %d records; want %d and more", i, len(known.Records))
	}
}

// lacks says what of want is not in got: a later version may answer more.
func lacks(want, got jsontext.Value) string {
	var w, g any
	if len(want) == 0 {
		return ""
	}
	if err := errors.Join(json.Unmarshal(want, &w), json.Unmarshal(got, &g)); err != nil {
		return err.Error()
	}
	var in func(path string, w, g any) string
	in = func(path string, w, g any) string {
		switch w := w.(type) {
		case map[string]any:
			m, _ := g.(map[string]any)
			for name, v := range w {
				if missing := in(path+"."+name, v, m[name]); missing != "" {
					return missing
				}
			}
			return ""
		default:
			a, _ := json.Marshal(w, json.Deterministic(true))
			b, _ := json.Marshal(g, json.Deterministic(true))
			if !bytes.Equal(a, b) {
				return fmt.Sprintf("%s is %s", path, b)
			}
			return ""
		}
	}
	return in("", w, g)
}

// copyKept copies a store to where it can be written to, for its owner alone.
func copyKept(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// makeKept fills a store with some of everything and keeps it in dir.
func makeKept(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s is there already", dir)
	}
	work := t.TempDir()
	if _, err := makeHome(filepath.Join(work, "data"), filepath.Join(work, "config")); err != nil {
		t.Fatal(err)
	}
	o := openKept(t, work, clock.System{}, nil)
	if err := o.n.journal.Sealed(t.Context(), "unseal-refused"); err != nil {
		t.Fatal(err)
	}
	made, err := o.n.gate.Init(t.Context(), gate.InitIn{Shares: 3, Threshold: 2})
	if err != nil {
		t.Fatal(err)
	}
	known := kept{Made: time.Now().UTC().Truncate(time.Second), Root: made.RootToken.Reveal()}
	for _, s := range made.Shares {
		known.Shares = append(known.Shares, s.Hex.Reveal())
	}
	do := func(token, method, path, body string) map[string]jsontext.Value {
		if token == "" {
			token = known.Root
		}
		status, answer := o.ask(token, asked{Method: method, Path: path, Body: body})
		if status/100 != 2 {
			t.Fatalf("%s %s = %d %s", method, path, status, answer)
		}
		return answer
	}
	text := func(answer map[string]jsontext.Value, in, name string) string {
		var m map[string]any
		_ = json.Unmarshal(answer[in], &m)
		s, _ := m[name].(string)
		return s
	}
	post := func(path, body string) { do("", http.MethodPost, path, body) }
	post("sys/mounts/secret", `{"type":"kv","options":{"version":"2"},"description":"versions"}`)
	post("sys/mounts/old", `{"type":"kv","options":{"version":"1"}}`)
	post("sys/mounts/was-here", `{"type":"kv-v2","config":{"default_lease_ttl":"1h"}}`)
	post("sys/mounts/gone", `{"type":"kv-v2"}`)
	for _, v := range []string{"first", "second", "third"} {
		post("secret/data/app/db", `{"data":{"user":"app","password":"`+v+`","port":5432,"big":18446744073709551615}}`)
	}
	post("secret/delete/app/db", `{"versions":[2]}`)
	post("secret/destroy/app/db", `{"versions":[1]}`)
	post("secret/metadata/app/db", `{"custom_metadata":{"owner":"team"},"max_versions":5}`)
	post("secret/metadata/app/empty", `{"cas_required":true}`)
	for i := range 9 {
		post(fmt.Sprintf("secret/data/many/%02d", i), fmt.Sprintf(`{"data":{"n":%d}}`, i))
	}
	o.wide(t)
	post("secret/data/deleted", `{"data":{"v":"1"}}`)
	do("", http.MethodDelete, "secret/data/deleted", "")
	post("secret/config", `{"max_versions":7}`)
	post("old/a/b", `{"v":"one","list":[1,2,3]}`)
	post("was-here/data/x", `{"data":{"v":"moved along"}}`)
	post("sys/remount", `{"from":"was-here","to":"is/here"}`)
	post("gone/data/x", `{"data":{"v":"gone"}}`)
	do("", http.MethodDelete, "sys/mounts/gone", "")
	post("sys/policies/acl/reader", `{"policy":"path \"secret/data/app/*\" { capabilities = [\"read\"] }\npath \"cubbyhole/*\" { capabilities = [\"read\"] }"}`)
	post("auth/token/roles/ci", `{"allowed_policies":["reader"],"orphan":true,"token_period":"24h"}`)
	child := text(do("", http.MethodPost, "auth/token/create", `{"policies":["reader"],"ttl":"700h","meta":{"for":"tests"}}`), "auth", "client_token")
	role := text(do("", http.MethodPost, "auth/token/create/ci", ``), "auth", "client_token")
	batch := text(do("", http.MethodPost, "auth/token/create", `{"policies":["reader"],"type":"batch","ttl":"700h"}`), "auth", "client_token")
	post("auth/token/create", `{"id":"chosen-by-root","policies":["default"],"num_uses":9}`)
	revoked := text(do("", http.MethodPost, "auth/token/create", `{"policies":["reader"]}`), "auth", "client_token")
	post("auth/token/revoke", `{"token":"`+revoked+`"}`)
	do(child, http.MethodPost, "cubbyhole/mine", `{"v":"of the child"}`)
	r := httptest.NewRequest(http.MethodPost, "/v1/sys/wrapping/wrap", strings.NewReader(`{"v":"wrapped"}`))
	r.Header.Set("X-Vault-Token", known.Root)
	r.Header.Set("X-Vault-Wrap-TTL", "10h")
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	var answer map[string]jsontext.Value
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // then there is no token
	wrapped := text(answer, "wrap_info", "token")
	if wrapped == "" {
		t.Fatalf("wrapping: %s", w.Body)
	}
	status, _ := o.ask(child, asked{Method: http.MethodGet, Path: "old/a/b"})
	if status != http.StatusForbidden {
		t.Fatalf("a denied read = %d", status)
	}
	// It is opened again, so that it was sealed once.
	if err := o.n.Close(); err != nil {
		t.Fatal(err)
	}
	o = openKept(t, work, clock.System{}, nil)
	if err := o.n.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range []asked{
		{Path: "secret/data/app/db"},
		{Path: "secret/data/app/db?version=1"},
		{Path: "secret/data/app/db?version=2"},
		{Path: "secret/metadata/app/db"},
		{Path: "secret/metadata/app/empty"},
		{Path: "secret/metadata?list=true"},
		{Path: "secret/metadata/many?list=true"},
		{Path: "secret/metadata/wide?list=true"},
		{Path: "secret/data/many/07"},
		{Path: "secret/data/deleted"},
		{Path: "secret/config"},
		{Path: "old/a/b"},
		{Path: "old?list=true"},
		{Path: "is/here/data/x"},
		{Path: "was-here/data/x"},
		{Path: "gone/data/x"},
		{Path: "sys/mounts"},
		{Path: "sys/mounts/is/here/tune"},
		{Path: "sys/auth"},
		{Path: "sys/policies/acl?list=true"},
		{Path: "sys/policies/acl/reader"},
		{Path: "sys/policies/acl/default"},
		{Path: "auth/token/roles?list=true"},
		{Path: "auth/token/roles/ci"},
		{Path: "auth/token/lookup-self"},
		{Path: "auth/token/lookup-self", Token: child},
		{Path: "auth/token/lookup-self", Token: role},
		{Path: "auth/token/lookup-self", Token: batch},
		{Path: "auth/token/lookup-self", Token: revoked},
		{Method: http.MethodPost, Path: "auth/token/lookup", Body: `{"token":"chosen-by-root"}`},
		{Path: "cubbyhole/mine", Token: child},
		{Path: "cubbyhole/mine"},
		{Path: "secret/data/app/db", Token: child},
		{Path: "secret/data/app/db", Token: batch},
		{Path: "old/a/b", Token: child},
		{Method: http.MethodPost, Path: "sys/wrapping/lookup", Body: `{"token":"` + wrapped + `"}`},
	} {
		if a.Method == "" {
			a.Method = http.MethodGet
		}
		token := a.Token
		if token == "" {
			token = known.Root
		}
		var answer map[string]jsontext.Value
		a.Status, answer = o.ask(token, a)
		if a.Data, err = stable(answer); err != nil {
			t.Fatal(err)
		}
		known.Asked = append(known.Asked, a)
	}
	known.Asked = append(known.Asked,
		asked{Method: http.MethodPost, Path: "sys/wrapping/unwrap", Body: `{"token":"` + wrapped + `"}`, Status: http.StatusOK, Data: jsontext.Value(`{"v":"wrapped"}`)},
		asked{Method: http.MethodPost, Path: "sys/wrapping/unwrap", Body: `{"token":"` + wrapped + `"}`, Status: http.StatusBadRequest},
	)
	for r, err := range o.n.journal.Reader().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		known.Records = append(known.Records, noted{r.Seq, r.ID, r.Op, r.Path, r.Outcome})
	}
	if err := o.n.Close(); err != nil {
		t.Fatal(err)
	}
	keepStore(t, work, dir, &known)
}

// wide gives the mount at secret/ a directory of several pages, of names alone:
// so many writes would make a large journal.
func (o *opened) wide(t *testing.T) {
	t.Helper()
	err := o.n.gate.With(t.Context(), func(ctx context.Context, b *broker.Broker) error {
		p := b.Parts()
		moment, err := p.Fence.Arrive(ctx)
		if err != nil {
			return err
		}
		m, _, err := p.Mounts.Find(ctx, moment, "secret/")
		if err != nil {
			return err
		}
		id, err := barrier.ParseSpaceID(m.Entry.ID)
		if err != nil {
			return err
		}
		space, err := p.Barrier.Space(ctx, id)
		if err != nil {
			return err
		}
		for batch := range 30 {
			err := space.Update(ctx, storage.Locks{Own: directory.LocksFor("wide/x")}, func(tx storage.Tx) error {
				for i := range 10 {
					if err := directory.Insert(tx, fmt.Sprintf("wide/%d-%02d", i, batch)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keepStore copies what makeKept has made, the store without its empty space.
func keepStore(t *testing.T, work, dir string, known *kept) {
	t.Helper()
	for _, away := range []string{"data/audit/reserve", "data/audit/lock", "data/store/store.db"} {
		if away == "data/store/store.db" {
			compact(t, filepath.Join(work, away))
			continue
		}
		if err := os.Remove(filepath.Join(work, away)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(work)); err != nil {
		t.Fatal(err)
	}
	tiles, err := filepath.Glob(filepath.Join(dir, "data", "audit", "*.tiles"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tiles { // which are as long as they will ever be
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, bytes.TrimRight(b, "\x00"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(known, jsontext.WithIndent("\t"), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "known.json"), append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func compact(t *testing.T, path string) {
	t.Helper()
	from, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := bbolt.Open(path+".small", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bbolt.Compact(to, from, 0), to.Close(), from.Close(), os.Rename(path+".small", path)); err != nil {
		t.Fatal(err)
	}
}
