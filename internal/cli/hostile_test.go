package cli

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// drives is what would change the title of a terminal, clear it, and turn text around.
const drives = "\x1b]0;owned\a\x1b[2J\u009b2J\u202e\u2066"

// spiked returns a handler whose JSON answers are h's, with what drives a
// terminal behind every string that no command decides by.
func spiked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		var v any
		if !strings.Contains(r.URL.Path, "internal/ui/mounts") && json.Unmarshal(body, &v) == nil {
			if spikedBody, err := json.Marshal(spike("", v)); err == nil {
				body = spikedBody
			}
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body) // the client is in this process
	})
}

func spike(name string, v any) any {
	switch x := v.(type) {
	case string:
		if name == "type" || name == "version" || strings.HasSuffix(name, "time") {
			return x
		}
		return x + drives
	case []any:
		for i := range x {
			x[i] = spike(name, x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = spike(k, x[k])
		}
	}
	return v
}

// TestNoServerDrivesATerminal runs commands that print for people against a
// server whose every text would drive a terminal.
func TestNoServerDrivesATerminal(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/app user=x pass=y")
	s.good("kv put secret/app user=x pass=z")
	s.good("kv metadata put -custom-metadata=owner=me secret/app")
	for line, body := range map[string]string{
		"GET sys/mounts":                    `{"data":{"secret/":{"type":"kv","description":"d","accessor":"kv_1","options":{"version":"2"},"config":{}}}}`,
		"GET sys/auth":                      `{"data":{"token/":{"type":"token","description":"d","accessor":"auth_1","config":{}}}}`,
		"GET sys/audit":                     `{"data":{"file/":{"type":"file","description":"d","options":{"file_path":"f"}}}}`,
		"GET auth/token/lookup-self":        `{"data":{"display_name":"me","policies":["p"],"accessor":"a","path":"auth/token/create","meta":{"k":"v"},"ttl":60}}`,
		"GET sys/policies/acl?list=true":    `{"data":{"keys":["p"]}}`,
		"GET sys/policies/acl/p":            `{"data":{"name":"p","policy":"path \"x\" {}"}}`,
		"GET sys/seal-status":               `{"type":"shamir","initialized":true,"sealed":false,"t":1,"n":1,"progress":0,"version":"1.0.0","cluster_name":"c","cluster_id":"i","storage_type":"bolt"}`,
		"GET sys/leader":                    `{"ha_enabled":false,"leader_address":"l"}`,
		"GET sys/any":                       `{"data":{"a":"b","list":["x"],"deep":{"k":"v"}},"warnings":["w"]}`,
		"GET sys/key-status":                `{"data":{"term":1,"install_time":"2026-01-01T00:00:00Z"}}`,
		"GET sys/leases/lookup/x?list=true": `{"data":{"keys":["l"]}}`,
	} {
		f.answer(line, http.StatusOK, body)
	}
	f.answer("GET denied", http.StatusForbidden, `{"errors":["permission denied for you"]}`)
	f.answer("GET broken", http.StatusInternalServerError, `{"errors":["broken\nnext: do this"]}`)
	f.Config.Handler = spiked(f)
	shown := 0
	for _, line := range []string{
		"get app", "ls", "history app", "diff app", "kv get secret/app", "kv metadata get secret/app", "kv list secret",
		"kv put secret/app a=b", "kv get -version=9 secret/app", "get nothing", "read sys/any", "list secret/metadata", "read denied", "read broken",
		"secrets list", "secrets list -detailed", "auth list", "audit list", "policy list", "policy read p",
		"token lookup", "token create", "whoami", "status", "operator key-status", "operator members", "lease lookup x",
		"unwrap x", "audit tail", "audit search", "operator seal-slots", "operator backup-status", "version-history",
		"rollback app --yes", "rm app --yes", "import x.json app --yes",
	} {
		for _, format := range []string{"", " -o json"} {
			o := s.runWith("", strings.Fields(line+format)...)
			for _, text := range []string{o.out, o.err} {
				if i := strings.IndexAny(text, "\x1b\a\u009b\u202e\u2066"); i >= 0 {
					t.Errorf("rotunda %s%s prints what drives a terminal: %q", line, format, text[max(0, i-40):min(len(text), i+60)])
				}
				if strings.Contains(text, `\u202e`) || strings.Contains(text, `\u202E`) {
					shown++
				}
			}
		}
	}
	if shown < 20 {
		t.Errorf("%d outputs show what the server wrote; want most, or nothing is tried", shown)
	}
}
