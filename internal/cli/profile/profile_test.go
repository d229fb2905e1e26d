package profile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/secret"
)

func TestContextsComeBack(t *testing.T) {
	t.Parallel()
	s := Store{Config: filepath.Join(t.TempDir(), "rotunda"), State: filepath.Join(t.TempDir(), "rotunda")}
	got, err := s.Load()
	if err != nil || len(got.Contexts) != 0 {
		t.Fatalf("Load() of nothing = %v, %v; want no contexts", got, err)
	}
	want := Contexts{SchemaVersion: 1, Current: "local", Contexts: map[string]Context{
		"local": {Address: "https://127.0.0.1:8200", CACert: "-----BEGIN CERTIFICATE-----\n", Data: "/data"},
		"prod":  {Address: "https://vault.example.com", Mount: "kv"},
	}}
	if err := s.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err = s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load() after Save (-want +got):\n%s", diff)
	}
	if pem, err := os.ReadFile(s.CAFile("local")); err != nil || string(pem) != want.Contexts["local"].CACert {
		t.Errorf("the certificate file holds %q, %v; want the context's", pem, err)
	}
}

func TestTokenFileIsPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return
	}
	s := Store{Config: t.TempDir(), State: filepath.Join(t.TempDir(), "a", "rotunda")}
	if _, err := s.Token("local"); !errors.Is(err, ErrNoToken) {
		t.Fatalf("Token() before one is saved = %v, want ErrNoToken", err)
	}
	if err := s.SaveToken("local", secret.New("rts_x")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{s.TokenFile("local"): 0o600, filepath.Dir(s.TokenFile("local")): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	if got, err := s.Token("local"); err != nil || got.Reveal() != "rts_x" {
		t.Fatalf("Token() = %q, %v; want what was saved", got.Reveal(), err)
	}

	if err := os.Chmod(s.TokenFile("local"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token("local"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Token() of a file that others can read = %v, want a refusal with the command that mends it", err)
	}
	if wide, fixes := s.Wide(); len(wide) != 1 || len(fixes) != 1 {
		t.Errorf("Wide() = %q, %q; want the token file", wide, fixes)
	}
}

func TestWideDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return
	}
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(state, "tokens"), 0o777); err != nil { // what is under test
		t.Fatal(err)
	}
	s := Store{Config: t.TempDir(), State: state}
	if err := s.SaveToken("local", secret.New("x")); err == nil {
		t.Error("SaveToken() in a directory that others can change succeeds, want a refusal")
	}
	if entries, err := os.ReadDir(filepath.Join(state, "tokens")); err != nil || len(entries) != 0 {
		t.Errorf("the directory holds %v, %v; want nothing", entries, err)
	}
	if err := os.WriteFile(filepath.Join(state, "tokens", "local"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Token("local"); err == nil {
		t.Errorf("Token() in a directory that others can change = %v, want a refusal", got)
	}
}

func TestWithoutDirectories(t *testing.T) {
	t.Parallel()
	var s Store
	if all, err := s.Load(); err != nil || len(all.Contexts) != 0 {
		t.Errorf("Load() = %v, %v; want no contexts", all, err)
	}
	if _, err := s.Token("local"); !errors.Is(err, ErrNoToken) {
		t.Errorf("Token() = %v, want ErrNoToken", err)
	}
	if err := s.Save(Contexts{}); !errors.Is(err, ErrNoHome) {
		t.Errorf("Save() = %v, want ErrNoHome", err)
	}
	if err := s.SaveToken("local", secret.New("x")); !errors.Is(err, ErrNoHome) {
		t.Errorf("SaveToken() = %v, want ErrNoHome", err)
	}
	if err := s.DropToken("local"); err != nil {
		t.Errorf("DropToken() = %v, want nothing", err)
	}
	if wide, _ := s.Wide(); len(wide) != 0 {
		t.Errorf("Wide() = %v, want nothing", wide)
	}
}

func TestLinksAndNamesDoNotLeadElsewhere(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Store{Config: t.TempDir(), State: t.TempDir()}
	if err := s.SaveToken("first", secret.New("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, s.TokenFile("link")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token("link"); err == nil {
		t.Error("Token() follows a link, want a refusal")
	}
	if err := s.SaveToken("link", secret.New("new")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "before" {
		t.Errorf("the file behind the link holds %q, %v; want it untouched", b, err)
	}
	for _, name := range []string{"../../etc/x", "/etc/x", "", ".", "..", "a/b", "a\x00b", ".hidden", strings.Repeat("a", 65)} {
		if err := s.SaveToken(name, secret.New("x")); err == nil {
			t.Errorf("SaveToken(%q) succeeds, want a refusal", name)
		}
		if _, err := s.Token(name); err == nil || errors.Is(err, ErrNoToken) {
			t.Errorf("Token(%q) = %v, want a refusal", name, err)
		}
	}
}

func TestLinkedDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	elsewhere, state := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(state, "tokens")); err != nil {
		t.Fatal(err)
	}
	if err := (Store{Config: t.TempDir(), State: state}).SaveToken("local", secret.New("x")); err == nil {
		t.Error("SaveToken() through a linked directory succeeds, want a refusal")
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("the directory behind the link holds %v, %v; want nothing", entries, err)
	}
}
