package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/cli/show"
)

// fake is a server that knows KV version 2 at secret/, version 1 at old/, and
// what else a test gives it. It is as exact as the commands need.
type fake struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex // guards all below
	secrets  map[string]*fakeSecret
	old      map[string]jsontext.Value
	answers  map[string]answer // by "METHOD path"
	requests []request
}

type fakeSecret struct {
	versions []fakeVersion
}

type fakeVersion struct {
	data      jsontext.Value
	deleted   bool
	destroyed bool
}

type answer struct {
	status int
	body   string
}

type request struct {
	line   string // "GET sys/health?x=1"
	token  string
	body   string
	header http.Header
}

const fakeTime = "2026-01-02T03:04:05.123456789Z"

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, secrets: map[string]*fakeSecret{}, old: map[string]jsontext.Value{}, answers: map[string]answer{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// answer has the server answer a request in this way.
func (f *fake) answer(line string, status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[line] = answer{status, body}
}

// asked returns the requests so far, preflights aside.
func (f *fake) asked() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.requests), func(r request) bool { return strings.Contains(r.line, "internal/ui/mounts") })
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Errorf("reading a request: %v", err)
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	line := r.Method + " " + path
	if r.URL.RawQuery != "" {
		line += "?" + r.URL.RawQuery
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request{line, r.Header.Get("X-Vault-Token"), string(body), r.Header.Clone()})
	w.Header().Set("Content-Type", "application/json")
	if a, ok := f.answers[line]; ok {
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
		return
	}
	if rest, ok := strings.CutPrefix(path, "sys/internal/ui/mounts/"); ok {
		switch {
		case strings.HasPrefix(rest+"/", "secret/"):
			f.data(w, 200, `{"path":"secret/","type":"kv","options":{"version":"2"}}`)
		case strings.HasPrefix(rest+"/", "old/"):
			f.data(w, 200, `{"path":"old/","type":"kv","options":{"version":"1"}}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":["preflight capability check returned 403, please ensure client's policies grant access to path \"%s/\""]}`, rest)
		}
		return
	}
	if rest, ok := strings.CutPrefix(path, "secret/"); ok {
		kind, name, _ := strings.Cut(rest, "/")
		f.kv(w, r, kind, name, body)
		return
	}
	if name, ok := strings.CutPrefix(path+"/", "old/"); ok {
		name = strings.TrimSuffix(name, "/")
		f.v1(w, r, name, body)
		return
	}
	f.refuse(w, 404)
}

func (f *fake) data(w http.ResponseWriter, status int, data string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"request_id":"11111111-2222-4333-8444-555555555555","lease_id":"","renewable":false,"lease_duration":0,"data":%s,"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"}`, data)
}

func (f *fake) refuse(w http.ResponseWriter, status int, messages ...string) {
	w.WriteHeader(status)
	b, err := json.Marshal(map[string]any{"errors": append([]string{}, messages...)})
	if err != nil {
		f.t.Error(err)
	}
	fmt.Fprintf(w, "%s", b)
}

func (f *fake) list(w http.ResponseWriter, dir string, names []string) {
	if dir = strings.Trim(dir, "/"); dir != "" {
		dir += "/"
	}
	seen := map[string]bool{}
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, dir); ok {
			if head, _, more := strings.Cut(rest, "/"); more {
				rest = head + "/"
			}
			seen[rest] = true
		}
	}
	if len(seen) == 0 {
		f.refuse(w, 404)
		return
	}
	b, err := json.Marshal(slices.Sorted(maps.Keys(seen)))
	if err != nil {
		f.t.Error(err)
	}
	f.data(w, 200, `{"keys":`+string(b)+`}`)
}

func (f *fake) meta(s *fakeSecret, n int) string {
	v := s.versions[n-1]
	deletion := ""
	if v.deleted {
		deletion = fakeTime
	}
	return fmt.Sprintf(`{"created_time":%q,"custom_metadata":null,"deletion_time":%q,"destroyed":%v,"version":%d}`, fakeTime, deletion, v.destroyed, n)
}

func (f *fake) kv(w http.ResponseWriter, r *http.Request, kind, name string, body []byte) {
	if r.URL.Query().Get("list") == "true" {
		f.list(w, name, slices.Collect(maps.Keys(f.secrets)))
		return
	}
	s := f.secrets[name]
	switch r.Method + " " + kind {
	case "GET data":
		if s == nil {
			f.refuse(w, 404)
			return
		}
		n := len(s.versions)
		if q := r.URL.Query().Get("version"); q != "" {
			n, _ = strconv.Atoi(q) // 0 is refused below
		}
		if n < 1 || n > len(s.versions) {
			f.refuse(w, 404)
			return
		}
		v := s.versions[n-1]
		if v.deleted || v.destroyed {
			f.data(w, 404, `{"data":null,"metadata":`+f.meta(s, n)+`}`)
			return
		}
		f.data(w, 200, `{"data":`+string(v.data)+`,"metadata":`+f.meta(s, n)+`}`)
	case "PUT data", "PATCH data":
		data, _ := show.Field(body, "data")
		current := 0
		if s != nil {
			current = len(s.versions)
		}
		if r.Method == http.MethodPatch {
			if r.Header.Get("Content-Type") != "application/merge-patch+json" {
				f.refuse(w, 415)
				return
			}
			if current == 0 || s.versions[current-1].deleted {
				f.refuse(w, 404)
				return
			}
			merged := object(show.Members(s.versions[current-1].data))
			for _, m := range show.Members(data) {
				if m.Value.Kind() == 'n' {
					merged = slices.DeleteFunc(merged, func(o show.Member) bool { return o.Name == m.Name })
					continue
				}
				merged.put(m.Name, m.Value)
			}
			data = merged.json()
		}
		if cas, ok := show.Field(body, "options.cas"); ok && string(cas) != strconv.Itoa(current) {
			f.refuse(w, 400, "check-and-set parameter did not match the current version")
			return
		}
		if s == nil {
			s = &fakeSecret{}
			f.secrets[name] = s
		}
		s.versions = append(s.versions, fakeVersion{data: slices.Clone(data)})
		f.data(w, 200, f.meta(s, len(s.versions)))
	case "DELETE data":
		if s != nil {
			s.versions[len(s.versions)-1].deleted = true
		}
		w.WriteHeader(http.StatusNoContent)
	case "PUT delete", "PUT undelete", "PUT destroy":
		versions, _ := show.Field(body, "versions")
		for _, v := range texts(versions) {
			n, err := strconv.Atoi(v)
			if err != nil || s == nil || n > len(s.versions) {
				continue
			}
			switch kind {
			case "delete":
				s.versions[n-1].deleted = true
			case "undelete":
				s.versions[n-1].deleted = false
			case "destroy":
				s.versions[n-1].destroyed = true
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case "GET metadata":
		if s == nil {
			f.refuse(w, 404)
			return
		}
		var versions object
		for i := range s.versions {
			versions.set(strconv.Itoa(i+1), jsontext.Value(f.meta(s, i+1)))
		}
		f.data(w, 200, fmt.Sprintf(`{"cas_required":false,"created_time":%q,"current_version":%d,"custom_metadata":null,"delete_version_after":"0s","max_versions":0,"oldest_version":1,"updated_time":%q,"versions":%s}`,
			fakeTime, len(s.versions), fakeTime, versions.json()))
	case "DELETE metadata":
		delete(f.secrets, name)
		w.WriteHeader(http.StatusNoContent)
	case "PUT metadata", "PATCH metadata":
		if s == nil {
			f.secrets[name] = &fakeSecret{}
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		f.refuse(w, 405)
	}
}

func (f *fake) v1(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	switch {
	case r.URL.Query().Get("list") == "true":
		f.list(w, name, slices.Collect(maps.Keys(f.old)))
	case r.Method == http.MethodGet && f.old[name] != nil:
		f.data(w, 200, string(f.old[name]))
	case r.Method == http.MethodPut:
		f.old[name] = slices.Clone(jsontext.Value(body))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		delete(f.old, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		f.refuse(w, 404)
	}
}

// shell is a home directory and an environment in which command lines run.
type shell struct {
	t      *testing.T
	home   string
	env    []string
	server Server
}

func newShell(t *testing.T, f *fake) *shell {
	t.Helper()
	home := t.TempDir()
	s := &shell{t: t, home: home, env: []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}}
	if f != nil {
		s.env = append(s.env, "VAULT_ADDR="+f.URL, "VAULT_TOKEN=rts_test")
	}
	return s
}

type outcome struct {
	out, err string
	code     int
}

// run runs one command line; words are split at spaces.
func (s *shell) run(line string) outcome { return s.runWith("", strings.Fields(line)...) }

func (s *shell) runWith(stdin string, args ...string) outcome {
	s.t.Helper()
	var out, errs strings.Builder
	code := Main(context.Background(), Program{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Environ: s.env, Server: s.server})
	return outcome{out.String(), errs.String(), code}
}

// good runs a command line that must work, and returns its output.
func (s *shell) good(line string) string {
	s.t.Helper()
	o := s.run(line)
	if o.code != 0 {
		s.t.Fatalf("rotunda %s: exit code %d\n%s", line, o.code, o.err)
	}
	return o.out
}

func (s *shell) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}
