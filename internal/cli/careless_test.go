package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPathsThatNobodyMeans are refused before anything is sent, and name what
// is wrong with them.
func TestPathsThatNobodyMeans(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	imported := s.file("x.env", "A=1\n")
	for _, path := range []string{"..", "../a", "a/../b", "a/..", ".", "a/./b", "a//b", "//a", "a//"} {
		for _, args := range [][]string{
			{"set", path, "-"},
			{"set", path, "--generate", "8"},
			{"get", path},
			{"history", path},
			{"diff", path},
			{"diff", "a", "--with", path},
			{"rollback", path},
			{"rm", "ok", path, "--yes"},
			{"ls", path},
			{"run", "-p", path, "--", "true"},
			{"import", imported, path, "--yes"},
		} {
			before := len(f.asked())
			if o := s.runWith("v", args...); o.code != 1 || !strings.Contains(o.err, "the path ") || len(f.asked()) != before {
				t.Errorf("rotunda %q: %+v and %d requests; want a refusal of the path", args, o, len(f.asked())-before)
			}
		}
	}
	for _, args := range [][]string{{"get", ""}, {"get", "/"}, {"rm", ""}, {"history", "/"}, {"set", "", "-"}, {"set", "a/", "-"}} {
		if o := s.runWith("v", args...); o.code != 1 || !strings.Contains(o.err, "a secret needs a name") {
			t.Errorf("rotunda %q: %+v, want that a name is missing", args, o)
		}
	}
	for _, path := range []string{"a b", "é🔑", "a?b#c", "-x", "a/b", "/lead"} {
		if o := s.runWith("v", "set", "--", path, "-"); o.code != 0 {
			t.Errorf("set %q: %+v, want success", path, o)
		}
		if o := s.runWith("", "get", "--", path); o.out != "v" {
			t.Errorf("get %q: %+v, want the value", path, o)
		}
	}
}

func TestPathThatBeginsWithTheMount(t *testing.T) {
	t.Parallel()
	s := newShell(t, newFake(t))
	if o := s.runWith("v", "set", "secret/app", "-"); o.code != 0 || !strings.Contains(o.err, "this is secret/secret/app to other commands") {
		t.Errorf("set secret/app: %+v, want a warning that names the whole path", o)
	}
}

// TestNothingOnStandardInput is what a failing command before a pipe gives.
func TestNothingOnStandardInput(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	for _, args := range [][]string{{"set", "a", "-"}, {"set", "a", "user=x", "password=-"}} {
		if o := s.runWith("", args...); o.code != 1 || !strings.Contains(o.err, "standard input is empty, and nothing was stored") {
			t.Errorf("rotunda %q: %+v, want a refusal", args, o)
		}
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
	s.good("set a @" + s.file("empty", ""))
	if o := s.run("get a"); o.code != 0 || o.out != "" {
		t.Errorf("get of an empty value: %+v, want nothing", o)
	}
}

// TestNoHome holds that nothing is read from the working directory where there
// is no home: it may be anybody's.
func TestNoHome(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll(filepath.Join("rotunda"), 0o700); err != nil {
		t.Fatal(err)
	}
	hostile := `{"schema_version":1,"current":"x","contexts":{"x":{"address":"` + f.URL + `"}}}`
	if err := os.WriteFile(filepath.Join("rotunda", "contexts.json"), []byte(hostile), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][]string{{}, {"HOME="}, {"HOME=."}, {"HOME=rotunda/.."}} {
		s := &shell{t: t, env: env}
		if o := s.run("context show --field address"); o.out != defaultAddress {
			t.Errorf("with %q the server is %q: %+v, want %s", env, o.out, o, defaultAddress)
		}
		s.env = append(s.env, "VAULT_ADDR="+f.URL, "VAULT_TOKEN=t")
		f.answer("GET x", 200, `{"request_id":"r","data":{"a":"b"}}`)
		if o := s.run("read -field=a x"); o.out != "b" {
			t.Errorf("read with %q and the variables: %+v, want the answer", env, o)
		}
		f.answer("GET auth/token/lookup-self", 200, `{"data":{"policies":["root"]}}`)
		if o := s.runWith("tok", "login", "-"); o.code != 1 || !strings.Contains(o.err, "there is no home directory") || !strings.Contains(o.err, "set HOME") {
			t.Errorf("login with %q: %+v, want a refusal that names HOME", env, o)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the working directory holds %v, %v; want nothing written there", entries, err)
	}
}

func TestTokensThatAreNone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	for _, variable := range []string{"VAULT_TOKEN=a\nb", "VAULT_TOKEN=a\x00b", "VAULT_TOKEN=\xff"} {
		s.env[len(s.env)-1] = variable
		if o := s.run("read x"); o.code != 1 || strings.Contains(o.err, "X-Vault-Token") {
			t.Errorf("read with %q: %+v, want a refusal that says what is wrong", variable, o)
		}
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}
