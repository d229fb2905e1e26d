package chaos

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copyDir makes to what from is, modes included.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An old copy of the data directory that is put back, or of the store alone, is
// refused, and nothing of it is served, until it is accepted: then every token
// of it is revoked, and the journal says so.
func TestOldCopyPutBack(t *testing.T) {
	t.Parallel()
	n, _ := filled(t)
	spare := n.must(http.MethodPost, "auth/token/create-orphan", map[string]any{"policies": []string{"root"}, "ttl": "1h"}).text("auth.client_token")
	batch := n.must(http.MethodPost, "auth/token/create", map[string]any{"policies": []string{"default"}, "type": "batch", "ttl": "1h"}).text("auth.client_token")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	old, newest := filepath.Join(n.home, "old"), filepath.Join(n.home, "newest")
	copyDir(t, old, n.data)
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	n.must(http.MethodPost, "secret/data/later", padded("later", 10))
	n.must(http.MethodPost, "auth/token/revoke", map[string]any{"token": spare})
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	copyDir(t, newest, n.data)

	for _, what := range []string{".", "store"} {
		copyDir(t, filepath.Join(n.data, what), filepath.Join(old, what))
		_, err := n.start()
		if err == nil {
			t.Fatalf("%s: an old copy is served from", what)
		}
		for _, want := range []string{"an old copy of the store was put back", "rotunda operator accept-rollback"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %q", what, err, want)
			}
		}
		copyDir(t, n.data, newest)
		if _, err := n.start(); err != nil {
			t.Fatalf("%s: the newest one put back: %v", what, err)
		}
		if got := unpadded(n.must(http.MethodGet, "secret/data/later", nil).object("data.data")); got != "later" {
			t.Errorf("a read gave %q", got)
		}
		if out, code, err := n.run("operator", "accept-rollback", "--data", n.data, "--yes"); code == 0 || err != nil || !strings.Contains(out, "is running") {
			t.Errorf("accept-rollback beside a running node: code %d, %v: %s", code, err, out)
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		copyDir(t, newest, n.data)
	}

	if out, code, err := n.run("operator", "accept-rollback", "--data", n.data, "--yes"); code == 0 || err != nil || !strings.Contains(out, "nothing to accept") {
		t.Errorf("accept-rollback of the newest store: code %d, %v: %s", code, err, out)
	}
	// The journal of the old copy lacks records that the node has seen, which is
	// accepted by a gesture of its own.
	copyDir(t, n.data, old)
	if out, code, err := n.run("operator", "accept-rollback", "--data", n.data, "--yes"); code == 0 || err != nil || !strings.Contains(out, "audit accept-loss") {
		t.Errorf("accept-rollback with an old journal: code %d, %v: %s; want it to say what is to be done first", code, err, out)
	}
	if out, code, err := n.run("audit", "accept-loss", "--data", n.data, "--yes"); code != 0 || err != nil {
		t.Errorf("accept-loss: code %d, %v: %s", code, err, out)
	}
	out, code, err := n.run("operator", "accept-rollback", "--data", n.data, "--yes")
	if err != nil || code != 0 || !strings.Contains(out, "tokens were revoked") {
		t.Fatalf("accept-rollback: code %d, %v: %s", code, err, out)
	}
	before := n.root
	n.pool = nil // another owner's token is learned
	if _, err := n.start(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the owner's of before": before, "the one that was revoked": spare, "a batch token": batch} {
		if a, err := n.do(text, http.MethodGet, "auth/token/lookup-self", nil); err != nil || a.status != http.StatusForbidden {
			t.Errorf("%s: lookup = %v, %v; want it denied", name, a, err)
		}
	}
	if got := n.must(http.MethodGet, "secret/data/dir0/s0", nil); got.status != http.StatusOK {
		t.Errorf("a read of a secret of the old copy = %d", got.status)
	}
	found, err := n.records(0)
	if err != nil {
		t.Fatal(err)
	}
	events := map[string]int{}
	for _, r := range found {
		events[r.eventName]++
	}
	if events["old-store-accepted"] != 1 || events["journal-loss-accepted"] != 1 {
		t.Errorf("events: %v; want that an old store and the loss of a journal were accepted, once each", events)
	}
}
