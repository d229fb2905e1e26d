package server

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/doortest"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/op"
)

// described returns the OpenAPI document that a node answers to root.
func described(t *testing.T, h http.Handler) *openapi3.T {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/sys/internal/specs/openapi", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("reading the document = %d %s", w.Code, w.Body)
	}
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatalf("loading the document: %v", err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("validating the document: %v", err)
	}
	return doc
}

// TestOpenAPIIsWhatIsServed: every operation that a whole node declares is in
// its document with its parameters and answers, and nothing else is.
func TestOpenAPIIsWhatIsServed(t *testing.T) {
	n, _ := wired(t)
	doc := described(t, wire(n))
	mounts, err := n.front.Operations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]op.Op{}
	for _, m := range mounts {
		for _, o := range m.Ops {
			if !o.Hidden {
				declared[strings.ReplaceAll(string(m.Mount.Path), "/", ".")+o.Name] = o
			}
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, got := range item.Operations() {
			o, ok := declared[got.OperationID]
			if !ok {
				t.Errorf("%s %s is described as %q, which is not declared, or twice", method, path, got.OperationID)
				continue
			}
			delete(declared, got.OperationID)
			wantDescribed(t, path, item, got, o)
		}
	}
	for id := range declared {
		t.Errorf("%s is declared and not described", id)
	}
}

func wantDescribed(t *testing.T, path string, item *openapi3.PathItem, got *openapi3.Operation, o op.Op) {
	t.Helper()
	if got.Summary == "" || got.Responses.Default() == nil || got.Responses.Len() < 2 {
		t.Errorf("%s: summary %q and %d answers; want a summary, success and failure", o.Name, got.Summary, got.Responses.Len())
	}
	inPath := strings.Count(path, "{")
	for _, p := range item.Parameters {
		if p.Value.In == "path" && p.Value.Required {
			inPath--
		}
	}
	if inPath != 0 {
		t.Errorf("%s: %s has parameters that are not described, or too many", o.Name, path)
	}
	for f := range o.In.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		query := f.Tag.Get("query")
		if name == "" && query == "" {
			continue
		}
		asParameter := slices.ContainsFunc(got.Parameters, func(p *openapi3.ParameterRef) bool {
			return p.Value.In == "query" && (p.Value.Name == name || p.Value.Name == query)
		})
		inBody := false
		if got.RequestBody != nil {
			for _, media := range got.RequestBody.Value.Content {
				inBody = media.Schema.Value.Properties[name] != nil
			}
		}
		if !asParameter && !inBody {
			t.Errorf("%s: the field %s%s is not described", o.Name, name, query)
		}
	}
}

// judged holds every answer of a handler to what the node's document says of it.
type judged struct {
	http.Handler
	t   *testing.T
	doc *openapi3.T
	op  string // that answered last
}

func (j *judged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := httptest.NewRecorder()
	j.op = ""
	j.Handler.ServeHTTP(got, r)
	maps.Copy(w.Header(), got.Header())
	w.WriteHeader(got.Code)
	_, _ = w.Write(got.Body.Bytes())
	if got.Code >= 300 || got.Body.Len() == 0 || r.Method == http.MethodHead || r.URL.Query().Has("help") {
		return
	}
	schema := j.answer(got.Code)
	if schema == nil {
		return
	}
	var value any
	if err := json.UnmarshalRead(bytes.NewReader(got.Body.Bytes()), &value); err != nil {
		j.t.Errorf("%s: reading its answer: %v", j.op, err)
		return
	}
	if err := schema.VisitJSON(value, openapi3.MultiErrors()); err != nil {
		j.t.Errorf("%s: the answer %s is not as described: %v", j.op, got.Body, err)
	}
	if at := stranger(schema, value, ""); at != "" {
		j.t.Errorf("%s: the answer %s has %s, which is not described", j.op, got.Body, at)
	}
}

// answer returns the schema of the operation's answer with a status; nil where
// the answer is not JSON or the operation is not described.
func (j *judged) answer(status int) *openapi3.Schema {
	for _, item := range j.doc.Paths.Map() {
		for _, o := range item.Operations() {
			if o.OperationID != j.op && !strings.HasSuffix(o.OperationID, "."+j.op) {
				continue
			}
			for _, key := range []string{strconv.Itoa(status), "2XX", "200"} { // 200 also where the caller chose the status
				if r := o.Responses.Value(key); r != nil {
					if media := r.Value.Content.Get("application/json"); media != nil {
						return media.Schema.Value
					}
					return nil
				}
			}
			j.t.Errorf("%s answers %d with a body, and describes none", j.op, status)
			return nil
		}
	}
	return nil
}

// stranger returns the path of a member of value that s does not know; empty
// where there is none.
func stranger(s *openapi3.Schema, value any, at string) string {
	switch v := value.(type) {
	case map[string]any:
		if len(s.Properties) == 0 || s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has {
			return ""
		}
		for k, member := range v {
			p := s.Properties[k]
			if p == nil {
				return at + "/" + k
			}
			if found := stranger(p.Value, member, at+"/"+k); found != "" {
				return found
			}
		}
	case []any:
		if s.Items == nil {
			return ""
		}
		for _, item := range v {
			if found := stranger(s.Items.Value, item, at+"[]"); found != "" {
				return found
			}
		}
	}
	return ""
}

// TestAnswersAreAsDescribed runs the golden files of the wire once more and
// holds each answer to the OpenAPI document, as a client made from it would.
func TestAnswersAreAsDescribed(t *testing.T) {
	doortest.Run(t, filepath.Join("testdata", "wire"), func(t *testing.T) (http.Handler, map[string]string) {
		n, root := wired(t)
		j := &judged{t: t}
		j.Handler = vault.New(door.Env{Handler: n.front, Clock: n.c.Clock, Observe: func(opName string, _ int, _ time.Duration) { j.op = opName }})
		j.doc = described(t, wire(n))
		return j, map[string]string{"ROOT": root}
	})
}
