package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/conf"
	"rotunda.dev/rotunda/internal/seal/keyfile"
)

// TestScheduledBackups runs a node that writes backups by itself: what it
// writes opens, is told of, and is recorded.
func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backups")
	schedule, err := scheduleOf(conf.Backup{Dir: dir, Interval: time.Hour, Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	made, next := make(chan struct{}), schedule.Next
	schedule.Next = func(after time.Time) time.Time { // asked for the second when the first is there
		close(made)
		return next(after)
	}
	n, root := wiredWith(t, func(c *Config) { c.Backups = schedule })
	<-made
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files = %v, %v; want a backup", files, err)
	}
	f, err := os.Open(filepath.Join(dir, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := backup.Open(t.Context(), f, keyfile.New(keyfile.Config{Path: filepath.Join(n.c.Keys, keyFile)}).Unseal)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if r, err := o.Check(t.Context()); err != nil || r.Opened == 0 {
		t.Errorf("Check = %+v, %v", r, err)
	}
	w := ask(n, root, http.MethodGet, "sys/backup/status", "")
	for _, want := range []string{`"scheduled":true`, `"overdue":false`, `"failures":0`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("status = %s; want %s", w.Body, want)
		}
	}
	if text, err := n.metrics.Text(); err != nil || !strings.Contains(string(text), "rotunda_backup_overdue 0") || strings.Contains(string(text), "rotunda_backup_timestamp_seconds 0\n") {
		t.Errorf("metrics: %v", err)
	}
	if w := ask(n, root, http.MethodGet, "sys/audit-journal/search?oldest_first=true&limit=100", ""); !strings.Contains(w.Body.String(), `"backup-written"`) {
		t.Errorf("the journal has no record of the backup: %s", w.Body)
	}
}

func TestScheduleOf(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		conf conf.Backup
		want time.Time
	}{
		"nothing said": {conf.Backup{}, at.Add(24 * time.Hour)},
		"interval":     {conf.Backup{Interval: 90 * time.Minute}, at.Add(90 * time.Minute)},
		"cron":         {conf.Backup{Schedule: "30 3 * * *"}, time.Date(2026, 3, 2, 3, 30, 0, 0, time.UTC)},
		"a word":       {conf.Backup{Schedule: "@daily"}, time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)},
	} {
		s, err := scheduleOf(c.conf)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.Next(at); !got.Equal(c.want) {
			t.Errorf("%s: Next = %s, want %s", name, got, c.want)
		}
	}
	for _, bad := range []string{"daily", "61 * * * *", "* * * *", "0 0 31 2 *"} {
		if _, err := scheduleOf(conf.Backup{Schedule: bad}); err == nil {
			t.Errorf("scheduleOf(%q) succeeds", bad)
		}
	}
}
