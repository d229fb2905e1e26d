package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// rowsOf returns all rows of a node's store.
func rowsOf(t *testing.T, n *Node) map[storage.Key]string {
	t.Helper()
	all := map[storage.Key]string{}
	if err := n.store.(storage.Whole).Whole(t.Context(), func(_ storage.Reader, each func(func(storage.Key, []byte) error) error) error {
		return each(func(k storage.Key, v []byte) error {
			all[k] = string(v)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// backedUp returns the backup of a node with a secret, and its rows.
func backedUp(t *testing.T, n *Node, root string) (file string, rows map[storage.Key]string) {
	t.Helper()
	if w := ask(n, root, http.MethodPost, "secret/data/app", `{"data":{"password":"hunter2"}}`); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	file = filepath.Join(t.TempDir(), "backup")
	for range 50 { // until nothing was tidied up beside it
		rows = rowsOf(t, n)
		w := ask(n, root, http.MethodGet, "sys/backup", "")
		if w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
		if err := os.WriteFile(file, w.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if maps.Equal(rows, rowsOf(t, n)) {
			return file, rows
		}
	}
	t.Fatal("the rows of a node at rest keep changing")
	return "", nil
}

func reopened(t *testing.T, data, config string) *Node {
	t.Helper()
	c, err := stopped(data, config, "")
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return n
}

// TestRestore restores a node to a blank directory with its key file: all that
// was there is there, tokens too, and it is quarantined.
func TestRestore(t *testing.T) {
	n, root := wired(t)
	file, rows := backedUp(t, n, root)
	dir := t.TempDir()
	c := cli.RestoreConfig{Backup: file, KeyFile: filepath.Join(n.c.Keys, keyFile)}
	c.Data, c.Config = filepath.Join(dir, "data"), filepath.Join(dir, "config")
	checked, err := checkBackup(t.Context(), c)
	if err != nil || checked.Rows != uint64(len(rows)) {
		t.Errorf("checkBackup = %+v, %v; want %d rows", checked, err, len(rows))
	}
	made, err := restore(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if made.Rows != uint64(len(rows)) || made.Data != c.Data {
		t.Errorf("restore = %+v; want %d rows", made, len(rows))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("beside the data there are %v, %v", left, err)
	}
	again := reopened(t, c.Data, c.Config)
	got := rowsOf(t, again)
	changed := 0
	for k, v := range rows {
		if got[k] != v {
			changed++
		}
	}
	if changed > 2 || len(got) != len(rows)-1 { // what says where the store belongs, and what is known of the original's journal
		t.Errorf("%d rows differ, and there are %d; want 2 and %d", changed, len(got), len(rows)-1)
	}
	if err := again.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := ask(again, root, http.MethodGet, "secret/data/app", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("reading from the restored node with a token of then = %d %s", w.Code, w.Body)
	}
	if w := ask(again, root, http.MethodGet, "sys/quarantine", ""); !strings.Contains(w.Body.String(), `"reason":"restored"`) {
		t.Errorf("quarantine = %s", w.Body)
	}
	if w := ask(again, root, http.MethodPost, "sys/quarantine/resume", "{}"); w.Code != http.StatusNoContent {
		t.Errorf("resume = %d %s", w.Code, w.Body)
	}
	if w := ask(n, root, http.MethodGet, "secret/data/app", ""); w.Code != http.StatusOK {
		t.Errorf("the original = %d %s after its copy was restored", w.Code, w.Body)
	}
	if _, err := restore(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restore over a node = %v", err)
	}
}

// TestRestoreByShares restores with shares of the root key: the node gets a key
// file of its own.
func TestRestoreByShares(t *testing.T) {
	n, root := wired(t)
	_, shares, err := n.gate.AddShares(t.Context(), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := backedUp(t, n, root)
	dir := t.TempDir()
	c := cli.RestoreConfig{Backup: file}
	c.Data, c.Config = filepath.Join(dir, "data"), filepath.Join(dir, "config")
	if _, err := checkBackup(t.Context(), c); err == nil {
		t.Error("checkBackup without shares = nil")
	}
	asked := 0
	c.Share = func(have, need int) (secret.Text, error) {
		if have != asked || need != 2 {
			t.Errorf("Share(%d, %d), want %d, 2", have, need, asked)
		}
		asked++
		return shares[asked].Hex, nil
	}
	if _, err := restore(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	again := reopened(t, c.Data, c.Config)
	if err := again.gate.AutoUnseal(t.Context()); err != nil {
		t.Errorf("unsealing with the key file that was made = %v", err)
	}
}

// TestRestoreRefuses tries what cannot be restored: nothing is left behind.
func TestRestoreRefuses(t *testing.T) {
	n, root := wired(t)
	file, _ := backedUp(t, n, root)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := wired(t)
	for what, try := range map[string]struct {
		file []byte
		key  string
	}{
		"a change at the end":  {append(bytes.Clone(good[:len(good)-40]), good[len(good)-39:]...), n.c.Keys},
		"another's key":        {good, other.c.Keys},
		"half of it":           {good[:len(good)/2], n.c.Keys},
		"something else":       {[]byte("no backup at all, but text"), n.c.Keys},
		"nothing":              {nil, n.c.Keys},
		"no key that is there": {good, t.TempDir()},
	} {
		dir := t.TempDir()
		c := cli.RestoreConfig{Backup: filepath.Join(t.TempDir(), "file"), KeyFile: filepath.Join(try.key, keyFile)}
		c.Data, c.Config = filepath.Join(dir, "data"), filepath.Join(dir, "config")
		if err := os.WriteFile(c.Backup, try.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := restore(t.Context(), c); err == nil {
			t.Errorf("restore of %s = nil", what)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("restore of %s left %v, %v", what, left, err)
		}
	}
	if _, _, err := backup.Scrub(bytes.NewReader(good)); errors.Is(err, backup.ErrDamaged) {
		t.Error(err)
	}
}

// TestReadFromABackup reads one secret out of a backup, and leaves nothing behind.
func TestReadFromABackup(t *testing.T) {
	n, root := wired(t)
	file, _ := backedUp(t, n, root)
	c := cli.RestoreConfig{Backup: file, KeyFile: filepath.Join(n.c.Keys, keyFile)}
	b, err := readBackup(t.Context(), c, "secret/data/app")
	if err != nil || !strings.Contains(string(b), "hunter2") {
		t.Errorf("readBackup = %s, %v", b, err)
	}
	if _, err := readBackup(t.Context(), c, "secret/data/none"); err == nil {
		t.Error("readBackup of what is not there = nil")
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the backup there are %v, %v", left, err)
	}
}

// TestBackupOfAStoppedNode writes a backup of a node that does not run.
func TestBackupOfAStoppedNode(t *testing.T) {
	dir := t.TempDir()
	h, err := makeHome(filepath.Join(dir, "data"), filepath.Join(dir, "config"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(nodeOfHome(h, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.adopt(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	stopped := cli.StoppedNode{Data: h.data, Config: filepath.Join(dir, "config")}
	var b bytes.Buffer
	if err := writeBackup(t.Context(), stopped, &b); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("writeBackup of a node that runs = %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := writeBackup(t.Context(), stopped, &b); err != nil {
		t.Fatal(err)
	}
	if _, _, err := backup.Scrub(&b); err != nil {
		t.Error(err)
	}
}

// TestRestoreBesideKnownKeys restores the store of a node by configuration whose
// directory of keys knows of the journal that went with the old store: another
// journal begins, and nothing of it is missed.
func TestRestoreBesideKnownKeys(t *testing.T) {
	n, root := wired(t)
	file, _ := backedUp(t, n, root)
	if err := n.gate.Shut(); err != nil { // and what is known is of its end
		t.Fatal(err)
	}
	if a, err := audit.PinnedAnchor(n.c.Keys); err != nil || a == nil {
		t.Fatalf("PinnedAnchor = %v, %v; want one", a, err)
	}
	pins, err := filepath.Glob(filepath.Join(n.c.Keys, "pin-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins { // of the store, which is a matter of its own
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "server.hcl")
	text := fmt.Sprintf(`listener "tcp" {
  address  = "127.0.0.1:0"
  tls_auto = true
}
storage "bolt" { path = %q }
seal "keyfile" { path = %q }
keys_dir = %q
`, filepath.Join(t.TempDir(), "data"), filepath.Join(n.c.Keys, keyFile), n.c.Keys)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := cli.RestoreConfig{Backup: file}
	c.File = config
	if _, err := restore(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	known, err := stopped("", "", config)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.gate.AutoUnseal(t.Context()); err != nil {
		t.Errorf("AutoUnseal of a restored store = %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	report, err := auditVerify(t.Context(), cli.AuditQuery{File: config})
	if err != nil || len(report.Problems) > 0 || report.Records == 0 {
		t.Errorf("auditVerify of a restored node = %+v, %v", report, err)
	}
}
