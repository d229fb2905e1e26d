package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The hot path of a node from the door's handler on: without TLS and the
// network, with the audit record durable before each answer.
func BenchmarkOperations(b *testing.B) {
	n, root := wired(b)
	h := n.handler(Listener{})
	call := func(method, path, body string) int {
		r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
		r.Header.Set("X-Vault-Token", root)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	if code := call(http.MethodPost, "secret/data/app", `{"data":{"user":"app","password":"0123456789abcdef0123456789abcdef"}}`); code != http.StatusOK {
		b.Fatalf("writing a secret: status %d", code)
	}
	for _, c := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"kv-read", http.MethodGet, "secret/data/app", "", http.StatusOK},
		{"kv-write", http.MethodPost, "secret/data/app", `{"data":{"user":"app","password":"0123456789abcdef0123456789abcdef"}}`, http.StatusOK},
		{"token-create", http.MethodPost, "auth/token/create", `{"ttl":"60s","policies":["default"]}`, http.StatusOK},
		{"lookup-self", http.MethodGet, "auth/token/lookup-self", "", http.StatusOK},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if code := call(c.method, c.path, c.body); code != c.want {
						b.Errorf("%s %s: status %d; want %d", c.method, c.path, code, c.want)
						return
					}
				}
			})
		})
	}
}
