package vault

import (
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
)

func TestOpenAPI(t *testing.T) {
	b, err := OpenAPI(sampleOps(), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		t.Fatalf("loading the document: %v", err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("validating the document: %v", err)
	}
	path := doc.Paths.Find("/secret/data/{path}")
	if path == nil || path.Get == nil || path.Post == nil || path.Patch == nil || path.Delete == nil {
		t.Fatalf("operations at /secret/data/{path} = %v; want four", path)
	}
	if list := doc.Paths.Find("/secret/data/{path}/"); list == nil || list.Get == nil {
		t.Error("there is no list at /secret/data/{path}/")
	}
	login := doc.Paths.Find("/secret/login/{user}").Post
	if login.Security == nil || len(*login.Security) != 0 {
		t.Errorf("security of a login = %v; want none", login.Security)
	}
	for _, field := range []string{"password", "key", "whole"} {
		if s := doc.Components.Schemas["sample.every.request"].Value.Properties[field].Value; s.Format != "password" {
			t.Errorf("format of %s = %q; want password", field, s.Format)
		}
	}
	again, err := OpenAPI(sampleOps(), "1.2.3")
	if err != nil || string(again) != string(b) {
		t.Errorf("a second document differs from the first, %v", err)
	}
}

func TestOpenAPIMergesPathsThatNoOneCanTellApart(t *testing.T) {
	mounts := sampleOps()[:1]
	for i := range mounts[0].Ops {
		if mounts[0].Ops[i].Name == "sample.empty" {
			mounts[0].Ops[i].Path = "login/{name}"
			mounts[0].Ops[i].Verb = 1
		}
	}
	b, err := OpenAPI(mounts, "1")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	for p := range doc.Paths {
		if strings.HasPrefix(p, "/secret/login/") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d paths for one shape; want 1", n)
	}
}

func TestReference(t *testing.T) {
	page := string(Reference(Page{Title: "sample", Does: "One of everything.", Mount: "secret/", Ops: sampleOps()[0].Ops}))
	for _, want := range []string{
		"# sample\n", "## sample.get\n", "    GET /v1/secret/data/{path}\n", "Needs `read` on `secret/data/{path}`.",
		"| `password` | body | secret text | A secret. |", "| `version` | query | whole number | Version to read; 0 is the newest. |",
		"Answers nothing (204).", "Answers a token under `auth`.", "| the whole body | body | secret object |", "application/merge-patch+json",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
}
