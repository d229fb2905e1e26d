package server_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// plainly speaks HTTP to the TLS port of r until it is told not to.
func plainly(t *testing.T, r *servertest.Rig) {
	t.Helper()
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(c); !strings.Contains(string(b), "HTTPS") {
		t.Fatalf("plain HTTP is answered %q; want to be told of HTTPS", b)
	}
}

func TestWhatIsRefusedBeforeItIsARequestIsRecorded(t *testing.T) {
	t.Parallel()
	r := servertest.Start(t, servertest.Config{})
	after := r.Last()
	for range 3 {
		plainly(t, r)
	}
	if text := string(r.Must(r.Root, "GET", "sys/metrics?format=prometheus", "").Body); !strings.Contains(text, `rotunda_refused_total{kind="refused-plain-http"} 3`) {
		t.Error("the metrics do not count three refusals")
	}
	r.Restart() // the end of a node records what is not recorded yet
	var told []*audit.Record
	for _, rec := range r.Records(after) {
		if rec.Event == "refused-plain-http" {
			told = append(told, rec)
		}
	}
	if len(told) != 1 || told[0].Remote != "127.0.0.0/24" || !strings.HasPrefix(told[0].Note, "3 from 127.0.0.0/24 since ") {
		t.Errorf("three refusals are told of by %+v; want one record, with their count", told)
	}
}

func TestWhatIsRefusedWhileSealedIsToldInWords(t *testing.T) {
	t.Parallel()
	r := servertest.Start(t, servertest.Config{Uninitialized: true})
	for range 3 {
		plainly(t, r)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	events, err := audit.OpenSealedReader(filepath.Join(r.Data, "audit"), r.Keys)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = events.Close() }()
	n := 0
	for rec, err := range events.Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Event == "refused-plain-http" {
			n++
			if rec.Note != "" || rec.Remote != "" {
				t.Errorf("%+v; want words alone", rec)
			}
		}
	}
	if n != 1 {
		t.Errorf("three refusals while sealed are told of %d times; want once", n)
	}
}
