package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/seal/keyfile"
)

// TestBackupOverTheAPI takes a backup of a node that serves, and verifies it.
func TestBackupOverTheAPI(t *testing.T) {
	n, root := wired(t)
	if w := ask(n, root, http.MethodPost, "secret/data/app", `{"data":{"a":"b"}}`); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	w := ask(n, root, http.MethodGet, "sys/backup", "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("backup = %d %v", w.Code, w.Header())
	}
	sealer := keyfile.New(keyfile.Config{Path: filepath.Join(n.c.Keys, keyFile)})
	o, err := backup.Open(t.Context(), bytes.NewReader(w.Body.Bytes()), sealer.Unseal)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	report, err := o.Check(t.Context())
	if err != nil || report.Opened < 10 || report.Spaces < 3 || report.Lost != 0 {
		t.Errorf("Check = %+v, %v", report, err)
	}
	if w := ask(n, "", http.MethodGet, "sys/backup", ""); w.Code != http.StatusForbidden {
		t.Errorf("backup by nobody = %d", w.Code)
	}
	made := ask(n, root, http.MethodPost, "auth/token/create", `{"policies":["default"]}`)
	_, token, _ := strings.Cut(made.Body.String(), `"client_token":"`)
	token, _, _ = strings.Cut(token, `"`)
	if w := ask(n, token, http.MethodGet, "sys/backup", ""); w.Code != http.StatusForbidden {
		t.Errorf("backup by one who may not = %d", w.Code)
	}
}

// TestBackupIsCutOffBySealing seals the node while a backup is written: the
// gate shuts, and the answer does not end as a whole one.
func TestBackupIsCutOffBySealing(t *testing.T) {
	n, _ := wired(t)
	err := n.gate.With(t.Context(), func(ctx context.Context, b *broker.Broker) error {
		shut := make(chan error, 1)
		w := pieces(func([]byte) (int, error) {
			go func() { shut <- n.gate.Shut() }()
			<-ctx.Done()
			return 0, ctx.Err()
		})
		_, err := backup.Write(ctx, b.Parts().Barrier, "", w)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Write while sealing = %v", err)
	}
}

type pieces func([]byte) (int, error)

func (p pieces) Write(b []byte) (int, error) { return p(b) }

var _ io.Writer = pieces(nil)

// TestQuarantine marks a node's store as restored: it answers, does nothing by
// itself until it is resumed, and is then as any other.
func TestQuarantine(t *testing.T) {
	n, root := wired(t)
	status := func(want string) {
		t.Helper()
		if w := ask(n, root, http.MethodGet, "sys/quarantine", ""); !strings.Contains(w.Body.String(), want) {
			t.Errorf("quarantine = %s, want %s", w.Body, want)
		}
	}
	status(`"quarantined":false`)
	if w := ask(n, root, http.MethodPost, "sys/quarantine/resume", "{}"); w.Code != http.StatusBadRequest {
		t.Errorf("resume without a quarantine = %d", w.Code)
	}
	err := n.gate.With(t.Context(), func(ctx context.Context, b *broker.Broker) error { return quarantine(ctx, b.Parts().Barrier) })
	if err != nil {
		t.Fatal(err)
	}
	if err := n.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := n.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	status(`"quarantined":true,"reason":"restored"`)
	if w := ask(n, root, http.MethodPost, "secret/data/app", `{"data":{"a":"b"}}`); w.Code != http.StatusOK {
		t.Errorf("a write in quarantine = %d %s", w.Code, w.Body)
	}
	if w := ask(n, root, http.MethodGet, "secret/data/app", ""); w.Code != http.StatusOK {
		t.Errorf("a read in quarantine = %d %s", w.Code, w.Body)
	}
	if w := ask(n, root, http.MethodPost, "sys/quarantine/resume", "{}"); w.Code != http.StatusNoContent {
		t.Errorf("resume = %d %s", w.Code, w.Body)
	}
	status(`"quarantined":false`)
}

// TestAnotherNameQuarantines opens a store under another cluster's name.
func TestAnotherNameQuarantines(t *testing.T) {
	n, root := wired(t)
	if err := n.gate.Shut(); err != nil {
		t.Fatal(err)
	}
	n.c.Info.ClusterName = "copy"
	if err := n.gate.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := ask(n, root, http.MethodGet, "sys/quarantine", "")
	if !strings.Contains(w.Body.String(), `"quarantined":true,"reason":"renamed"`) {
		t.Errorf("quarantine = %s", w.Body)
	}
}
