package metrics_test

import (
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/metrics"
)

func TestText(t *testing.T) {
	m := metrics.New("1.2.3")
	m.Ran("kv.read", "ok", 2*time.Millisecond)
	m.Ran("kv.read", "denied", time.Millisecond)
	m.Answered("kv.read", 200, 3*time.Millisecond)
	m.Gauge("rotunda_connections", "Connections there are.", func() float64 { return 7 })
	m.Counter("rotunda_shed_total", "Requests turned away.", func() float64 { return 9 })
	b, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`rotunda_operations_total{operation="kv.read",outcome="ok"} 1`,
		`rotunda_operations_total{operation="kv.read",outcome="denied"} 1`,
		`rotunda_operation_seconds_bucket{operation="kv.read",le="0.0025"} 2`,
		`rotunda_http_answers_total{operation="kv.read",status="200"} 1`,
		`rotunda_http_seconds_count{operation="kv.read"} 1`,
		"rotunda_connections 7",
		"rotunda_shed_total 9",
		`version="1.2.3"`,
		"go_goroutines ",
		"# TYPE rotunda_operations_total counter",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("Text() has no %q", want)
		}
	}
}
