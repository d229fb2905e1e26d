package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

const (
	benchPath  = "secret/data/app"
	benchValue = `{"data":{"user":"app","password":"0123456789abcdef0123456789abcdef"}}`
)

// hot is a whole node whose handler is called without TLS and the network,
// with the audit record durable before each answer.
type hot struct {
	tb   testing.TB
	h    http.Handler
	root string
}

func newHot(tb testing.TB) *hot {
	tb.Helper()
	n, root := wired(tb)
	h := &hot{tb, n.handler(Listener{}), root}
	h.must(http.MethodPost, benchPath, benchValue)
	return h
}

func (h *hot) call(token, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
	r.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	h.h.ServeHTTP(w, r)
	return w
}

// must calls as root and demands success.
func (h *hot) must(method, path, body string) []byte {
	h.tb.Helper()
	w := h.call(h.root, method, path, body)
	if w.Code >= http.StatusMultipleChoices {
		h.tb.Fatalf("%s %s: status %d: %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// token returns a token that holds so many policies, of 20 paths each; the
// last of them lets it read the secret.
func (h *hot) token(policies int) string {
	h.tb.Helper()
	var names []string
	for i := range policies {
		var text strings.Builder
		for j := range 19 {
			fmt.Fprintf(&text, "path \"secret/data/team-%d/app-%d/*\" { capabilities = [\"read\", \"list\"] }\n", i, j)
		}
		if i == policies-1 {
			fmt.Fprintf(&text, "path %q { capabilities = [\"read\"] }\n", benchPath)
		} else {
			fmt.Fprintf(&text, "path \"secret/data/+/team-%d\" { capabilities = [\"read\"] }\n", i)
		}
		name := fmt.Sprintf("bench-%d-of-%d", i, policies)
		body, err := json.Marshal(map[string]string{"policy": text.String()})
		if err != nil {
			h.tb.Fatal(err)
		}
		h.must(http.MethodPost, "sys/policies/acl/"+name, string(body))
		names = append(names, name)
	}
	body, err := json.Marshal(map[string]any{"policies": names, "ttl": "1h"})
	if err != nil {
		h.tb.Fatal(err)
	}
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(h.must(http.MethodPost, "auth/token/create", string(body)), &made); err != nil {
		h.tb.Fatal(err)
	}
	return made.Auth.ClientToken
}

func BenchmarkOperations(b *testing.B) {
	h := newHot(b)
	one, many := h.token(1), h.token(50)
	for i := range 1000 {
		h.must(http.MethodPost, fmt.Sprintf("secret/data/list/a-name-of-usual-length-%d", i), benchValue)
	}
	for _, c := range []struct {
		name, token, method, path, body string
		want                            int
	}{
		{"kv-read", h.root, http.MethodGet, benchPath, "", http.StatusOK},
		{"kv-read-1-policy", one, http.MethodGet, benchPath, "", http.StatusOK},
		{"kv-read-50-policies", many, http.MethodGet, benchPath, "", http.StatusOK},
		{"kv-write", h.root, http.MethodPost, benchPath, benchValue, http.StatusOK},
		{"list-1000", h.root, http.MethodGet, "secret/metadata/list?list=true", "", http.StatusOK},
		{"token-create", h.root, http.MethodPost, "auth/token/create", `{"ttl":"60s","policies":["default"]}`, http.StatusOK},
		{"lookup-self", h.root, http.MethodGet, "auth/token/lookup-self", "", http.StatusOK},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			before := processCPU(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if code := h.call(c.token, c.method, c.path, c.body).Code; code != c.want {
						b.Errorf("%s %s: status %d; want %d", c.method, c.path, code, c.want)
						return
					}
				}
			})
			b.ReportMetric(float64((processCPU(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// The most that one request may allocate, its making and its recording by
// httptest included. What is beyond that is either worth it, and said here, or
// a mistake: see docs/performance.md.
func TestAllocationBudget(t *testing.T) {
	h := newHot(t)
	many := h.token(50)
	for _, c := range []struct {
		name, token, method, path, body string
		most                            float64
	}{
		{"kv-read", h.root, http.MethodGet, benchPath, "", 150},
		{"kv-read-50-policies", many, http.MethodGet, benchPath, "", 160},
		{"kv-write", h.root, http.MethodPost, benchPath, benchValue, 550},
		{"lookup-self", h.root, http.MethodGet, "auth/token/lookup-self", "", 150},
		{"token-create", h.root, http.MethodPost, "auth/token/create", `{"ttl":"60s","policies":["default"]}`, 1000},
	} {
		got := testing.AllocsPerRun(200, func() {
			if w := h.call(c.token, c.method, c.path, c.body); w.Code != http.StatusOK {
				t.Errorf("%s: status %d", c.name, w.Code)
			}
		})
		if got > c.most {
			t.Errorf("%s: %.0f allocations; at most %.0f", c.name, got, c.most)
		} else {
			t.Logf("%s: %.0f allocations of at most %.0f", c.name, got, c.most)
		}
	}
}
