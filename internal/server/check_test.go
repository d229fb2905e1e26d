//go:build unix

package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/localca"
)

// namesBelow is every name below dir.
func namesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestCheck holds that `rotunda server --check` finds what would keep a server
// from starting or being initialized, says where that stands in the file and
// what to do, and makes nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(in(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(name string, mode fs.FileMode) {
		t.Helper()
		if err := os.MkdirAll(in(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(in(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := localca.Ensure(in("tls"), []string{"localhost"}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	write("file", "x", 0o600)
	write("short.key", "x", 0o600)
	write("open.key", strings.Repeat("x", 32), 0o644)
	write("good.key", strings.Repeat("x", 32), 0o600)
	write("empty", "", 0o600)
	write("passphrase", "correct horse", 0o600)
	write("identity", identity.String()+"\n", 0o600)
	write("other", other.String()+"\n", 0o600)
	mkdir("wide", 0o755)
	mkdir("kept/store", 0o700)
	mkdir("kept", 0o700)
	mkdir("logs", 0o700)
	for _, err := range []error{
		os.Link(in("file"), in("hard")), os.Link(in("file"), in("kept/file")), os.Symlink(in("empty"), in("soft")), os.Symlink(in("logs"), in("linked")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	base := map[string]string{
		"listener": `listener "tcp" { tls_disable = true }`, "storage": fmt.Sprintf(`storage "bolt" { path = %q }`, in("data")), "keys": fmt.Sprintf("keys_dir = %q", in("keys")),
	}
	for name, c := range map[string]struct {
		replace string   // of base
		text    string   // in its place, or the last line
		want    []string // parts of what is said; none where the configuration is good
	}{
		"plain":                            {"", "", nil},
		"storage is a file":                {"storage", fmt.Sprintf(`storage "bolt" { path = %q }`, in("file")), []string{":2:", ": path: ", "is not a directory"}},
		"storage below a file":             {"storage", fmt.Sprintf(`storage "bolt" { path = %q }`, in("file/data")), []string{":2:", ": path: ", "not a directory"}},
		"storage that others see":          {"storage", fmt.Sprintf(`storage "bolt" { path = %q }`, in("wide")), []string{":2:", ": path: ", "chmod 0700"}},
		"keys that others see":             {"keys", fmt.Sprintf("keys_dir = %q", in("wide")), []string{":3:", ": keys_dir: ", "chmod 0700"}},
		"certificate missing":              {"listener", fmt.Sprintf("listener \"tcp\" {\n tls_cert_file = %q\n tls_key_file = %q\n}", in("none.pem"), ca.KeyFile()), []string{":2:", ": tls_cert_file: ", "none.pem"}},
		"key missing":                      {"listener", fmt.Sprintf("listener \"tcp\" {\n tls_cert_file = %q\n tls_key_file = %q\n}", ca.CertFile(), in("none.pem")), []string{":3:", ": tls_key_file: ", "none.pem"}},
		"certificate and key":              {"listener", fmt.Sprintf("listener \"tcp\" {\n tls_cert_file = %q\n tls_key_file = %q\n}", ca.CertFile(), ca.KeyFile()), nil},
		"socket in no directory":           {"listener", fmt.Sprintf("listener \"unix\" { address = %q }", in("file/socket")), []string{":1:", ": address: ", "not a directory"}},
		"journal is a file":                {"", fmt.Sprintf("journal {\n path = %q\n}", in("file")), []string{":5:", ": path: ", "is not a directory"}},
		"backups are in a file":            {"", fmt.Sprintf("backup {\n dir = %q\n}", in("file/x")), []string{":5:", ": dir: ", "not a directory"}},
		"audit file in no directory":       {"", fmt.Sprintf("audit \"file\" \"a\" {\n file_path = %q\n}", in("none/audit.json")), []string{":5:", ": file_path: ", "mkdir -p " + in("none")}},
		"audit file is a directory":        {"", fmt.Sprintf("audit \"file\" \"a\" {\n file_path = %q\n}", in("logs")), []string{":5:", ": file_path: ", "is a directory"}},
		"audit file to be made":            {"", fmt.Sprintf("audit \"file\" \"a\" {\n file_path = %q\n}", in("logs/audit.json")), nil},
		"audit to the standard output":     {"", "audit \"file\" \"a\" { file_path = \"stdout\" }", nil},
		"audit files that are one":         {"", fmt.Sprintf("audit \"file\" \"a\" { file_path = %q }\naudit \"file\" \"b\" { file_path = %q }", in("logs/audit.json"), in("logs")+"/./x/../audit.json"), []string{":5:", ": file_path: ", `of audit "a" already`}},
		"audit files by a hard link":       {"", fmt.Sprintf("audit \"file\" \"a\" { file_path = %q }\naudit \"file\" \"b\" { file_path = %q }", in("file"), in("hard")), []string{":5:", ": file_path: ", `of audit "a" already`}},
		"audit files by a symbolic link":   {"", fmt.Sprintf("audit \"file\" \"a\" { file_path = %q }\naudit \"file\" \"b\" { file_path = %q }", in("logs/audit.json"), in("linked/audit.json")), []string{":5:", ": file_path: ", `of audit "a" already`}},
		"audit file behind a link":         {"", fmt.Sprintf("audit \"file\" \"a\" { file_path = %q }", in("soft")), []string{":4:", ": file_path: ", "symbolic link"}},
		"audit file in the store":          {"", fmt.Sprintf("audit \"file\" \"a\" { file_path = %q }", in("data/store/x")), []string{":4:", ": file_path: ", "own files"}},
		"audit file in the journal":        {"", fmt.Sprintf("journal {\n path = %q\n}\naudit \"file\" \"a\" { file_path = %q }", in("logs"), in("linked/x")), []string{":7:", ": file_path: ", "own files"}},
		"audit file that is the log":       {"", fmt.Sprintf("log_file = %q\naudit \"file\" \"a\" { file_path = %q }", in("file"), in("hard")), []string{":5:", ": file_path: ", "own files"}},
		"audit file linked from the keys":  {"keys", fmt.Sprintf("keys_dir = %q\naudit \"file\" \"a\" { file_path = %q }", in("kept"), in("hard")), []string{":4:", ": file_path: ", "own files"}},
		"directory of sinks missing":       {"", fmt.Sprintf("audit_file_dir = %q", in("none")), []string{":4:", ": audit_file_dir: ", "mkdir -p"}},
		"log in no directory":              {"", fmt.Sprintf("log_file = %q", in("none/log")), []string{":4:", ": log_file: ", "mkdir -p"}},
		"process's number in no directory": {"", fmt.Sprintf("pid_file = %q", in("none/pid")), []string{":4:", ": pid_file: ", "mkdir -p"}},
		"key file that others see":         {"", fmt.Sprintf("seal \"keyfile\" { path = %q }", in("open.key")), []string{":4:", ": path: ", "0644", "chmod it to 0600"}},
		"key file that is none":            {"", fmt.Sprintf("seal \"keyfile\" { path = %q }", in("short.key")), []string{":4:", ": path: ", "1 bytes, not 32"}},
		"key file":                         {"", fmt.Sprintf("seal \"keyfile\" { path = %q }", in("good.key")), nil},
		"key file to be made":              {"", fmt.Sprintf("seal \"keyfile\" { path = %q }", in("later/seal.key")), nil},
		"key file of a store, lost":        {"storage", fmt.Sprintf("storage \"bolt\" { path = %q }\nseal \"keyfile\" { path = %q }", in("kept"), in("later/seal.key")), []string{":3:", ": path: ", "put it back"}},
		"passphrase missing":               {"", fmt.Sprintf("seal \"passphrase\" { passphrase = %q }", "file:"+in("none")), []string{":4:", ": passphrase: ", "none"}},
		"passphrase empty":                 {"", fmt.Sprintf("seal \"passphrase\" { passphrase = %q }", "file:"+in("empty")), []string{":4:", ": passphrase: ", "empty"}},
		"passphrase":                       {"", fmt.Sprintf("seal \"passphrase\" { passphrase = %q }", "file:"+in("passphrase")), nil},
		"recipient with a typo":            {"", "seal \"age\" { recipients = [\"age1zz\"] }", []string{":4:", ": recipients: ", "age1zz"}},
		"identity of another":              {"", fmt.Sprintf("seal \"age\" {\n recipients = [%q]\n identity = %q\n}", identity.Recipient(), "file:"+in("other")), []string{":6:", ": identity: "}},
		"identity":                         {"", fmt.Sprintf("seal \"age\" {\n recipients = [%q]\n identity = %q\n}", identity.Recipient(), "file:"+in("identity")), nil},
	} {
		parts := map[string]string{"listener": base["listener"], "storage": base["storage"], "keys": base["keys"]}
		last := c.text
		if c.replace != "" {
			parts[c.replace], last = c.text, ""
		}
		config := filepath.Join(t.TempDir(), "server.hcl")
		text := strings.Join([]string{parts["listener"], parts["storage"], parts["keys"], last}, "\n") + "\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := namesBelow(t, dir)
		var out bytes.Buffer
		err := serve(t.Context(), cli.ServeConfig{File: config, Check: true, Out: &out, Log: &out})
		if len(c.want) == 0 {
			if err != nil || !strings.Contains(out.String(), "is good") {
				t.Errorf("%s: --check = %v, %q; want it good", name, err, out.String())
			}
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: --check = %v; want it to say %q", name, err, want)
			}
		}
		if after := namesBelow(t, dir); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("%s: --check leaves %q, there was %q", name, after, before)
		}
	}
}

// What this user may not write to is told with the command that mends it.
func TestCheckOfWhatIsAnothers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{enterable("/proc/self/fdinfo/none"), writable("/proc/self/fdinfo/none")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("access of what is not there = %v; want that it is not there", err)
		}
	}
	if err := refused("/srv/data", syscall.EROFS); !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a read-only file system = %v; want it named", err)
	}
	if err := refused("/srv/data", syscall.EACCES); !strings.Contains(err.Error(), fmt.Sprintf("chown %d /srv/data", os.Geteuid())) {
		t.Errorf("another user's directory = %v; want a command", err)
	}
	if os.Geteuid() == 0 {
		return // who may do everything
	}
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := usable(filepath.Join(dir, "data")); err == nil || !strings.Contains(err.Error(), "cannot be made") {
		t.Errorf("usable below a directory that cannot be written = %v", err)
	}
}
