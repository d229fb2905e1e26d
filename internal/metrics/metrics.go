// Package metrics counts what the server does, for Prometheus.
//
// Labels are names of operations, kinds of outcome and statuses: sets that the
// program knows in advance, and names of audit sinks, which those choose who
// look after the server. No path, no token, no name that another caller chose
// and no secret is ever in a metric.
package metrics

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// ContentType is that of what Text returns.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Metrics is one server's metrics. Make it with [New].
type Metrics struct {
	registry   *prometheus.Registry
	operations *prometheus.CounterVec
	work       *prometheus.HistogramVec
	answers    *prometheus.CounterVec
	latency    *prometheus.HistogramVec

	ran, answered sync.Map // of labels to *pair
}

// buckets are the bounds of latencies in seconds: a read from memory, a
// durable write, and what is too slow.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// New returns the metrics of a server of the given version.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rotunda_operations_total", Help: "Operations that were run or refused, by their outcome.",
		}, []string{"operation", "outcome"}),
		work: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rotunda_operation_seconds", Help: "How long operations took, their record in the audit journal included.", Buckets: buckets,
		}, []string{"operation"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rotunda_http_answers_total", Help: "HTTP answers, by their status.",
		}, []string{"operation", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rotunda_http_seconds", Help: "How long HTTP requests took, from their headers to the last byte of the answer.", Buckets: buckets,
		}, []string{"operation"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rotunda_build_info", Help: "Always 1; its labels say what runs.",
	}, []string{"version", "go"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.operations, m.work, m.answers, m.latency, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Ran counts an operation that was run or refused. The outcome is "ok" or the
// name of a fault's kind.
func (m *Metrics) Ran(operation, outcome string, took time.Duration) {
	p := m.pair(&m.ran, labels{operation, outcome}, m.operations, m.work)
	p.count.Inc()
	p.took.Observe(took.Seconds())
}

// labels are those of a counter; the first is that of the histogram beside it.
type labels struct{ operation, end string }

// pair is a counter and a histogram that are found already: finding them by
// their labels costs more than counting.
type pair struct {
	count prometheus.Counter
	took  prometheus.Observer
}

func (m *Metrics) pair(known *sync.Map, l labels, counts *prometheus.CounterVec, times *prometheus.HistogramVec) *pair {
	if p, ok := known.Load(l); ok {
		return p.(*pair) //nolint:errcheck,forcetypeassert // nothing else is kept
	}
	p, _ := known.LoadOrStore(l, &pair{counts.WithLabelValues(l.operation, l.end), times.WithLabelValues(l.operation)})
	return p.(*pair) //nolint:errcheck,forcetypeassert // nothing else is kept
}

// Answered counts an HTTP answer.
func (m *Metrics) Answered(operation string, status int, took time.Duration) {
	p := m.pair(&m.answered, labels{operation, strconv.Itoa(status)}, m.answers, m.latency)
	p.count.Inc()
	p.took.Observe(took.Seconds())
}

// Gauge adds a metric that goes up and down, read from fn whenever somebody
// asks. It panics where the name is taken.
func (m *Metrics) Gauge(name, help string, fn func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, fn))
}

// Counter adds a metric that only goes up, read from fn whenever somebody
// asks. It panics where the name is taken.
func (m *Metrics) Counter(name, help string, fn func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, fn))
}

// Gauges adds a metric with one label, whose values are read from fn whenever
// somebody asks. It panics where the name is taken.
func (m *Metrics) Gauges(name, help, label string, fn func() map[string]float64) {
	m.registry.MustRegister(labelled{prometheus.NewDesc(name, help, []string{label}, nil), prometheus.GaugeValue, fn})
}

// Counters is [Metrics.Gauges] for what only goes up.
func (m *Metrics) Counters(name, help, label string, fn func() map[string]float64) {
	m.registry.MustRegister(labelled{prometheus.NewDesc(name, help, []string{label}, nil), prometheus.CounterValue, fn})
}

// labelled is a metric whose values are read when somebody asks.
type labelled struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() map[string]float64
}

// Describe implements [prometheus.Collector].
func (l labelled) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

// Collect implements [prometheus.Collector].
func (l labelled) Collect(to chan<- prometheus.Metric) {
	for value, n := range l.read() {
		to <- prometheus.MustNewConstMetric(l.desc, l.kind, n, value)
	}
}

// Text returns every metric in Prometheus' text format.
func (m *Metrics) Text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gathering metrics: %w", err)
	}
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return nil, fmt.Errorf("encoding metrics: %w", err)
		}
	}
	return b.Bytes(), nil
}
