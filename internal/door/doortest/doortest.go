// Package doortest holds front doors to their contract: a fake of what is
// behind them, and golden files of what they say on the wire.
//
// A golden file is a txtar archive. Its sections are, in order and any number
// of times:
//
//	given     requests that are made first, separated by lines of "---"; their answers do not matter
//	request   one request as it stands on the wire; Content-Length is added where it is missing
//	response  what must come: status, headers, an empty line and the body
//
// A comment before the first section says what the file shows. In requests
// $NAME stands for a value that the test's setup gave. In responses what
// differs from run to run is replaced by what it is: <uuid>, <time>, <token>.
//
// "go test -update" writes the responses.
package doortest

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what came into the golden files")

// varying is what differs from run to run, and what stands for it.
var varying = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`(hv[sb]\.|rt[a-z]_)[A-Za-z0-9_-]{8,}`), "<token>"},
	{regexp.MustCompile(`"((wrapped_)?accessor)":"[A-Za-z0-9_]{16,}"`), `"$1":"<accessor>"`},
	{regexp.MustCompile(`"(creation_time|expire_time|issue_time|last_renewal_time)":\d{9,}`), `"$1":<seconds>`},
	{regexp.MustCompile(`"server_time_utc":\d{9,}`), `"server_time_utc":<seconds>`},
	{regexp.MustCompile(`rotunda-[0-9a-f]{8}"`), `<cluster>"`},
	{regexp.MustCompile(`"ttl":359\d`), `"ttl":3600`}, // an hour, and a moment later
	{regexp.MustCompile(`_[0-9a-f]{8}"`), `_<accessor>"`},
	{regexp.MustCompile(`rotunda\.dev/audit/[^"]*`), "<signed by the journal>"},
	{regexp.MustCompile(`"(root|record|record_key)":"[A-Za-z0-9+/=]{8,}"`), `"$1":"<base64>"`},
	{regexp.MustCompile(`"path":\[("[A-Za-z0-9+/]{43}=",?)*\]`), `"path":[<hashes>]`},
	{regexp.MustCompile(`"(size|to_size)":\d+`), `"$1":<records>`},
}

// Setup makes a door for one golden file, with the values that its requests
// may name.
type Setup func(t *testing.T) (http.Handler, map[string]string)

// Run runs every golden file in dir, each against a door of its own.
func Run(t *testing.T, dir string, setup Setup) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files in %s: %v, %v; want some", dir, files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			runFile(t, file, setup)
		})
	}
}

func runFile(t *testing.T, file string, setup Setup) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Errorf("%s has no comment that says what it shows", file)
	}
	handler, vars := setup(t)
	out := &txtar.Archive{Comment: archive.Comment}
	var came string
	for i, section := range archive.Files {
		switch section.Name {
		case "given":
			for raw := range strings.SplitSeq(string(section.Data), "\n---\n") {
				send(t, handler, vars, raw)
			}
			out.Files = append(out.Files, section)
		case "request":
			came = Stable(send(t, handler, vars, string(section.Data)))
			out.Files = append(out.Files, section, txtar.File{Name: "response", Data: []byte(came)})
			if *update {
				continue
			}
			want := ""
			if i+1 < len(archive.Files) && archive.Files[i+1].Name == "response" {
				want = string(archive.Files[i+1].Data)
			}
			if diff := cmp.Diff(want, came); diff != "" {
				t.Errorf("%s: request %d: answer differs (-want +came):\n%s", file, i, diff)
			}
		case "response":
		default:
			t.Errorf("%s: section %q; want given, request or response", file, section.Name)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
}

// send makes one request that is written as it stands on the wire.
func send(t *testing.T, handler http.Handler, vars map[string]string, raw string) *httptest.ResponseRecorder {
	t.Helper()
	raw = os.Expand(raw, func(name string) string {
		if v, ok := vars[name]; ok {
			return v
		}
		return "$" + name
	})
	head, body, _ := strings.Cut(strings.TrimRight(raw, "\n"), "\n\n")
	line, headers, _ := strings.Cut(strings.Trim(head, "\n"), "\n")
	if !strings.Contains(line, " HTTP/") {
		line += " HTTP/1.1"
	}
	if !strings.Contains(strings.ToLower(headers), "host:") {
		headers = "Host: localhost\n" + headers
	}
	wire := strings.ReplaceAll(line+"\n"+strings.TrimRight(headers, "\n"), "\n", "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatalf("request %q: %v", line, err)
	}
	r = r.WithContext(t.Context())
	if body != "" {
		r.Body = io.NopCloser(strings.NewReader(body))
		r.ContentLength = int64(len(body))
	}
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// Stable writes an answer as golden files have it: without what differs from
// run to run.
func Stable(w *httptest.ResponseRecorder) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", w.Code, http.StatusText(w.Code))
	var names []string
	for name := range w.Header() {
		if name != "Date" && name != "Content-Length" { // the length of what varies varies
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range w.Header()[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	b.WriteByte('\n')
	body := w.Body.Bytes()
	b.Write(body)
	if len(body) > 0 && body[len(body)-1] != '\n' {
		b.WriteByte('\n')
	}
	s := b.String()
	for _, v := range varying {
		s = v.pattern.ReplaceAllString(s, v.stands)
	}
	return s
}
