//go:build unix

package file_test

import (
	"crypto/sha256"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/audit/audittest"
	"rotunda.dev/rotunda/internal/audit/file"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/storage/mem"
)

var update = flag.Bool("update", false, "write golden files")

func hasher() *audit.Hasher {
	return audit.NewHasher(func(parts ...[]byte) [32]byte { return sha256.Sum256(parts[0]) })
}

func config(dir string) file.Config {
	return file.Config{Dir: dir, Path: "audit.json", HMACAccessor: true, Hasher: hasher()}
}

func TestConform(t *testing.T) {
	dir := t.TempDir()
	audittest.Conform(t, func(t *testing.T) audit.Sink {
		t.Helper()
		s, err := file.Open(config(dir))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, func(t *testing.T) (ids []string) {
		t.Helper()
		for _, line := range lines(t, filepath.Join(dir, "audit.json")) {
			var l struct {
				Type    string `json:"type"`
				Request struct {
					ID string `json:"id"`
				} `json:"request"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if l.Type == "response" && l.Request.ID != "" {
				ids = append(ids, l.Request.ID)
			}
		}
		return ids
	})
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// The lines are what clients of Vault's audit log read; a difference here is
// one that they see.
func TestGoldenLines(t *testing.T) {
	base := func() *audit.Record {
		return &audit.Record{
			Seq: 12, ID: "0001", Kind: audit.Request, Time: time.Date(2026, 11, 24, 8, 0, 0, 123456789, time.UTC), Node: "n1", RequestID: "4c2f0d5e-3b2a-4a9e-8d2e-0a1b2c3d4e5f",
			Op: "kv.get", Verb: "read", Path: "secret/data/app/db", MountPath: "secret/", MountKind: "kv", MountAccessor: "kv_0a1b2c3d", MountID: "ff",
			Actor: audit.Actor{
				TokenHash: "hmac-sha256:01", Accessor: "acc", DisplayName: "token-alice", EntityID: "e1", TokenKind: "service", Policies: []string{"default", "dev"},
			},
			Remote: "192.0.2.1:4711", Allowed: true, Rule: `policy "dev": path "secret/*" { capabilities = ["read"] }`, Outcome: audit.OutcomeOK,
			Headers: []audit.Header{{Name: "X-Correlation", Value: "a"}, {Name: "X-Correlation", Value: "b"}},
			In:      jsontext.Value(`{"path":"hmac-sha256:02"}`), Out: jsontext.Value(`{"data":{"password":"hmac-sha256:03"}}`),
		}
	}
	denied := base()
	denied.Allowed, denied.Outcome, denied.Error, denied.Out, denied.Rule = false, "denied", "permission denied", nil, ""
	wrapped := base()
	wrapped.Wrapped, wrapped.WrapTTL, wrapped.Out = true, time.Minute, jsontext.Value(`{"token":"hmac-sha256:04"}`)
	intent, outcome := base(), base()
	intent.Kind, intent.Outcome, intent.Out = audit.Intent, "", nil
	outcome.Kind, outcome.MountPath, outcome.MountKind = audit.Outcome, "auth/token/", "token"
	event := &audit.Record{Seq: 13, Kind: audit.Event, Time: base().Time, Event: "retention", Note: "records 1 to 7 were removed"}
	nobody := &audit.Record{Kind: audit.Request, Time: base().Time, RequestID: "r", Remote: "@", Verb: "update", Path: "sys/unseal", MountPath: "sys/", Error: "a\nb"}

	dir := t.TempDir()
	s, err := file.Open(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*audit.Record{base(), denied, wrapped, intent, outcome, event, nobody} {
		if err := s.Write(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines(t, filepath.Join(dir, "audit.json")), "\n") + "\n"
	for line := range strings.Lines(got) {
		if !jsontext.Value(line).IsValid() {
			t.Errorf("not JSON: %s", line)
		}
	}
	golden := filepath.Join("testdata", "lines.json")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the lines are\n%s, want\n%s", got, want)
	}
}

func TestAccessorsInClear(t *testing.T) {
	dir := t.TempDir()
	c := config(dir)
	c.HMACAccessor = false
	s, err := file.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	r := audittest.Record(1)
	if err := s.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l := lines(t, filepath.Join(dir, "audit.json"))[0]; !strings.Contains(l, `"accessor":"`+r.Actor.Accessor+`"`) {
		t.Errorf("the accessor is not shown: %s", l)
	}
}

// H074, H075: what an audit sink writes to is a regular file in its directory,
// and can never be run.
func TestOpenRefuses(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "target")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(outside, nil, 0o600))
	must(os.WriteFile(filepath.Join(dir, "inside"), nil, 0o600))
	must(os.Symlink(outside, filepath.Join(dir, "link-out")))
	must(os.Symlink("inside", filepath.Join(dir, "link-in")))
	must(os.Symlink(filepath.Dir(outside), filepath.Join(dir, "dir-out")))
	must(os.Symlink("nothing", filepath.Join(dir, "dangling")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	for _, path := range []string{
		"", ".", "..", "../target", "dir/../../target", outside, "/proc/self/environ", "link-out", "link-in", "dir-out/target", "dir-out/new",
		"dangling", "fifo", "dir", "no/such/dir",
	} {
		c := config(dir)
		c.Path = path
		if s, err := file.Open(c); err == nil {
			t.Errorf("Open(%q) = nil, want an error", path)
			must(s.Close())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made through a dangling link")
	}
	c := config(dir)
	c.Mode = 0o777
	s, err := file.Open(c)
	must(err)
	must(s.Close())
	info, err := os.Stat(filepath.Join(dir, "audit.json"))
	must(err)
	if info.Mode().Perm() != 0o666 {
		t.Errorf("mode 0777 became %o, want no execute bits", info.Mode().Perm())
	}
	must(os.Chmod(filepath.Join(dir, "inside"), 0o755))
	c.Path = "inside"
	s, err = file.Open(c)
	must(err)
	must(s.Close())
	info, err = os.Stat(filepath.Join(dir, "inside"))
	must(err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("a file of mode 0755 became %o, want no execute bits", info.Mode().Perm())
	}
	c = config(dir)
	c.Path = "fresh"
	s, err = file.Open(c)
	must(err)
	must(s.Close())
	if info, err = os.Stat(filepath.Join(dir, "fresh")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file that was made has mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestReopenFollowsARotation(t *testing.T) {
	dir := t.TempDir()
	s, err := file.Open(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "audit.json")
	write := func(i int) {
		t.Helper()
		if err := s.Write(t.Context(), audittest.Record(i)); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(2)
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if was, is := len(lines(t, path+".1")), len(lines(t, path)); was != 4 || is != 2 {
		t.Errorf("%d lines in the old file and %d in the new one, want 4 and 2", was, is)
	}
}

func newSet(t *testing.T, dir string) (*file.Set, *audit.Journal) {
	t.Helper()
	j := audittest.NewRig(t, mem.New(mem.Config{})).Open(t)
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return file.NewSet(j, hasher(), dir, file.Own{}), j
}

// Every option is held to the same rules under every name that it has.
func TestSetChecksWhatTheAPIDefines(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	set, _ := newSet(t, dir)
	for _, key := range []string{"file_path", "path"} {
		for _, path := range []string{
			"", "/etc/passwd", "../x", "a/../../x", dir, dir + "/", dir + "/..", dir + "/../x", filepath.Dir(dir) + "/x", "/proc/self/fd/1", "stdout", "discard", "a\x00b", "..", "./..",
		} {
			err := set.Check(audit.SinkConfig{Name: "f", Kind: "file", Options: map[string]string{key: path}})
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("Check of %s %q = %v, want Invalid", key, path, err)
			}
		}
		for _, path := range []string{"etc/x", "etc"} { // as text inside, as the file system has it outside
			err := set.Start(audit.SinkConfig{Name: "f", Kind: "file", Options: map[string]string{key: path}})
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("Start of %s %q = %v, want Invalid", key, path, err)
			}
		}
		for _, path := range []string{"audit.json", "./a.json", dir + "/b.json"} {
			if err := set.Check(audit.SinkConfig{Name: "f", Kind: "file", Options: map[string]string{key: path}}); err != nil {
				t.Errorf("Check of %s %q = %v", key, path, err)
			}
		}
	}
	for name, options := range map[string]map[string]string{
		"two paths":       {"file_path": "a", "path": "b"},
		"log_raw":         {"file_path": "a", "log_raw": "true"},
		"log_raw as 1":    {"file_path": "a", "log_raw": "1"},
		"log_raw as what": {"file_path": "a", "log_raw": "yes"},
		"executable":      {"file_path": "a", "mode": "0777"},
		"writable":        {"file_path": "a", "mode": "0622"},
		"setuid":          {"file_path": "a", "mode": "4600"},
		"no mode":         {"file_path": "a", "mode": "rw"},
		"prefix":          {"file_path": "a", "prefix": "#!/bin/sh\n"},
		"other format":    {"file_path": "a", "format": "jsonx"},
		"unknown option":  {"file_path": "a", "File_Path": "b"},
		"no path":         {"mode": "0600"},
	} {
		if err := set.Check(audit.SinkConfig{Name: "f", Kind: "file", Options: options}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Check = %v, want Invalid", name, err)
		}
	}
	if err := set.Check(audit.SinkConfig{Name: "f", Kind: "socket", Options: map[string]string{"file_path": "a"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("Check of a socket = %v, want Invalid", err)
	}
	none, _ := newSet(t, "")
	if err := none.Check(audit.SinkConfig{Name: "f", Kind: "file", Options: map[string]string{"file_path": "/tmp/a"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("Check with no directory = %v, want Invalid", err)
	}
}

// What is tried one after another is held apart as what is started.
func TestSetTries(t *testing.T) {
	dir := t.TempDir()
	set, _ := newSet(t, dir)
	sink := func(name, path string) audit.SinkConfig {
		return audit.SinkConfig{Name: name, Kind: "file", Options: map[string]string{"file_path": path}}
	}
	for _, c := range []struct {
		name, path string
		ok         bool
	}{{"one", "a.json", true}, {"two", "./a.json", false}, {"three", "b.json", true}} {
		if err := set.Try(sink(c.name, c.path)); (err == nil) != c.ok {
			t.Errorf("Try of %s at %s = %v; want it to be taken: %t", c.name, c.path, err, c.ok)
		}
	}
}

// A file is one sink's alone, and none of the server's, by whatever name.
func TestSetKeepsFilesApart(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	_, j := newSet(t, dir)
	set := file.NewSet(j, hasher(), dir, file.Own{Dirs: []string{own}})
	sink := func(name, path string) audit.SinkConfig {
		return audit.SinkConfig{Name: name, Kind: "file", Options: map[string]string{"file_path": path}}
	}
	if err := set.Start(sink("first", "a.json")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(filepath.Join(own, "segment"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Link(in("a.json"), in("hard.json")), os.Symlink("a.json", in("soft.json")), os.Symlink(".", in("same")),
		os.Link(filepath.Join(own, "segment"), in("segment")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"a.json", "./a.json", in("a.json"), "hard.json", "soft.json", "same/a.json", "segment"} {
		if err := set.Check(sink("second", path)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Check of %q = %v, want Invalid", path, err)
		}
		if err := set.Start(sink("second", path)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Start of %q = %v, want Invalid", path, err)
		}
	}
	c := sink("declared", filepath.Join(own, "new"))
	c.Declared = true
	if err := set.Start(c); !fault.Is(err, fault.Invalid) {
		t.Errorf("Start of a file among the server's own = %v, want Invalid", err)
	}
	if err := os.Rename(in("a.json"), in("a.json.1")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"a.json", "a.json.1"} { // moved away, and not opened anew
		if err := set.Check(sink("second", path)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Check of %q during a rotation = %v, want Invalid", path, err)
		}
	}
	if err := set.Check(sink("second", "b.json")); err != nil {
		t.Errorf("Check of another file = %v", err)
	}
}

func TestSetFeedsItsSinks(t *testing.T) {
	dir := t.TempDir()
	set, j := newSet(t, dir)
	declared := audit.SinkConfig{Name: "declared", Kind: "file", Declared: true, Options: map[string]string{"file_path": filepath.Join(dir, "declared.json"), "mode": "0640"}}
	enabled := audit.SinkConfig{Name: "enabled", Kind: "file", Options: map[string]string{"path": "enabled.json", "log_raw": "false", "hmac_accessor": "false"}}
	for _, c := range []audit.SinkConfig{declared, enabled} {
		if err := set.Start(c); err != nil {
			t.Fatalf("Start(%s) = %v", c.Name, err)
		}
	}
	if err := set.Start(enabled); !fault.Is(err, fault.Invalid) {
		t.Errorf("a second Start = %v, want Invalid", err)
	}
	for i := range 10 {
		if err := j.Append(t.Context(), audittest.Record(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Reopen(); err != nil {
		t.Errorf("Reopen() = %v", err)
	}
	j.Lock() // brings them up to date
	for _, name := range []string{"declared.json", "enabled.json"} {
		if n := len(lines(t, filepath.Join(dir, name))); n != 21 {
			t.Errorf("%d lines in %s, want 20 and the event of locking", n, name)
		}
	}
	if err := set.Stop("enabled"); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	if feeds, err := j.Feeds(); err != nil || len(feeds) != 1 {
		t.Errorf("Feeds() = %v, %v, want the declared one", feeds, err)
	}
}
