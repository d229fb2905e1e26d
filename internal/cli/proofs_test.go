package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// proofs are what the journal's own tests keep.
var proofs = filepath.Join("..", "audit", "testdata", "proofs")

func TestProofsAreCheckedWithoutAServer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	at := func(name string) string {
		path, err := filepath.Abs(filepath.Join(proofs, name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := os.ReadFile(at("journal.pub"))
	if err != nil {
		t.Fatal(err)
	}
	record, err := os.ReadFile(at("record.proof"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, line string
		code       int
		out, err   string
	}{
		{"a record", "audit check-proof " + at("record.proof") + " --key " + at("journal.pub"), 0, `"request_id": "request-5"`, ""},
		{"the key as text", "audit check-proof " + at("record.proof") + " --key " + strings.TrimSpace(string(key)), 0, "holds: record 7", ""},
		{"as JSON", "audit check-proof " + at("record.proof") + " -o json --key " + at("journal.pub"), 0, `"holds": true`, ""},
		{"consistency", "audit check-proof " + at("day.proof") + " --key " + at("journal.pub"), 0, "holds: the 4 records", ""},
		{"with a kept checkpoint", "audit check-proof " + at("day.proof") + " --key " + at("journal.pub") + " --checkpoint " + at("older.checkpoint"), 0, "holds: the 4 records", ""},
		{"another record", "audit check-proof " + s.file("other", strings.Replace(string(record), `"sequence":7`, `"sequence":6`, 1)) + " --key " + at("journal.pub"), 2, "does NOT hold: the record has another sequence", ""},
		{"no key", "audit check-proof " + at("record.proof"), 1, "", "--key is missing"},
		{"a bad key", "audit check-proof " + at("record.proof") + " --key " + at("older.checkpoint"), 1, "", "public key"},
		{"no proof", "audit check-proof " + at("older.checkpoint") + " --key " + at("journal.pub"), 1, "", "reading a proof"},
		{"a copy without a key", "audit verify --audit-dir .", 1, "", "needs --key"},
		{"a key without a copy", "audit verify --key " + at("journal.pub"), 1, "", "--audit-dir is missing"},
		{"a copy and a node", "audit verify --audit-dir . --data . --key " + at("journal.pub"), 1, "", "without --data"},
		{"no copy", "audit verify --audit-dir " + t.TempDir() + " --key " + at("journal.pub"), 2, "NOT whole", ""},
	} {
		o := s.run(tc.line)
		if o.code != tc.code || !strings.Contains(o.out, tc.out) || !strings.Contains(o.err, tc.err) {
			t.Errorf("%s: %+v; want exit code %d, %q and %q", tc.name, o, tc.code, tc.out, tc.err)
		}
	}
	if asked := f.asked(); len(asked) > 0 {
		t.Errorf("a server was asked: %v", asked)
	}
}

func TestProofsAreAskedFor(t *testing.T) {
	t.Parallel()
	older, err := os.ReadFile(filepath.Join(proofs, "older.checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jsontext.AppendQuote(nil, string(older))
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0a", 16)
	digits := strings.Repeat("12", 16)
	for _, tc := range []struct{ line, want, data, out string }{
		{"audit key", "GET sys/audit-journal/key", `{"key":"k+1+2"}`, "k+1+2\n"},
		{"audit checkpoint", "GET sys/audit-journal/checkpoint", `{"checkpoint":` + string(text) + `}`, string(older)},
		{"audit prove 7", "GET sys/audit-journal/prove?seq=7", `{"rotunda_audit_proof": 1}`, `{"rotunda_audit_proof":1}` + "\n"},
		{"audit prove " + id, "GET sys/audit-journal/prove?id=" + id, `{}`, "{}\n"},
		{"audit prove " + digits, "GET sys/audit-journal/prove?id=" + digits, `{}`, "{}\n"},
		{"audit consistency 7", "GET sys/audit-journal/consistency?from=7", `{}`, "{}\n"},
		{"audit consistency CHECKPOINT 9", "GET sys/audit-journal/consistency?from=4&to=9", `{}`, "{}\n"},
	} {
		f := newFake(t)
		s := newShell(t, f)
		f.answer(tc.want, 200, `{"data":`+tc.data+`}`)
		line := strings.Replace(tc.line, "CHECKPOINT", s.file("older", string(older)), 1)
		if o := s.run(line); o.code != 0 || o.out != tc.out {
			t.Errorf("rotunda %s: %+v; want %q", tc.line, o, tc.out)
		}
	}
}

func TestAValueIsSearchedByItsHash(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	f.answer("POST sys/audit-hash/journal", 200, `{"data":{"hash":"hmac-sha256:ab"}}`)
	f.answer("GET sys/audit-journal/search?hash=hmac-sha256%3Aab&limit=500&oldest_first=true", 200,
		`{"data":{"records":[{"seq":1,"op":"kv.write","path":"secret/data/x"},{"seq":2,"op":"system.audit-hash","path":"sys/audit-hash/journal"}],"last":2}}`)
	o := s.runWith("topsecret\n", "audit", "search", "--value", "-o", "json")
	if o.code != 0 || !strings.Contains(o.out, "kv.write") || strings.Contains(o.out, "audit-hash") || strings.Contains(o.out+o.err, "topsecret") {
		t.Errorf("audit search --value: %+v; want the write alone", o)
	}
	if asked := f.asked(); len(asked) == 0 || asked[0].body != `{"input":"topsecret"}` {
		t.Errorf("the server was asked %v, want the value hashed first, without its line end", asked)
	}
	if o := s.runWith("", "audit", "search", "--value"); o.code != 1 {
		t.Errorf("audit search --value without one: %+v, want exit code 1", o)
	}
}
