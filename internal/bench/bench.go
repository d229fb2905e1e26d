// Package bench measures a server of the Vault API under load, and beside it,
// in the same run, the least that any server with a durable audit log can do.
//
// Absolute rates say more about a machine than about a server; the ratio of
// two rates that were measured in one run is what can be compared.
package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
)

// Call is one call of the command.
type Call struct {
	Args    []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Address string // "https://127.0.0.1:8200"
	Token   string
	CACert  []byte
}

type options struct {
	workloads   string
	connections int
	seconds     float64
	size        int
	secrets     int
	mount       string
	limit       bool
	pin         bool
	dir         string
	line        int
	output      string

	serve  bool
	answer int
}

// Help says how the command is used.
const Help = `Measures a server of the Vault API: rotunda bench [flags]

Workloads: kv-read, kv-write, mixed (9 reads to 1 write), list (1,000 names), token (create and revoke in turn).
The secrets that it makes are under MOUNT/bench- and are removed at the end.

With --limit it measures in the same run a bare TLS server that appends a line as long as an audit record to a
file and waits for a group-committed fdatasync before each answer, and prints the ratio to it, and how often a
second this disk syncs one line at a time. Beside kv-write it measures bbolt.DB.Batch with values as large, from as
many goroutines.
`

// Flags returns the flags that [Run] takes.
func Flags() *flag.FlagSet { return new(options).flags() }

func (o *options) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.workloads, "workload", "kv-read,kv-write,mixed,list,token", "what to measure, with commas between")
	flags.IntVar(&o.connections, "connections", 64, "connections, each with one request under way")
	flags.Float64Var(&o.seconds, "seconds", 5, "length of each workload")
	flags.IntVar(&o.size, "size", 256, "bytes of a secret's value")
	flags.IntVar(&o.secrets, "secrets", 1000, "secrets to read")
	flags.StringVar(&o.mount, "mount", "secret", "KV v2 mount to use")
	flags.BoolVar(&o.limit, "limit", false, "measure the limit too")
	flags.BoolVar(&o.pin, "pin", false, "keep the server under test on core 0 and the load on core 1 (Linux, local server)")
	flags.StringVar(&o.dir, "dir", "", "directory, on the server's disk, for the limit's file; the working directory if empty")
	flags.IntVar(&o.line, "line", 0, "bytes of the limit's audit line; 0 measures the server's")
	flags.StringVar(&o.output, "output", "table", "table or json")
	flags.BoolVar(&o.serve, "serve-limit", false, "be the limit; used by --limit itself")
	flags.IntVar(&o.answer, "answer", 700, "bytes of the limit's answer")
	return flags
}

// Run performs the command and returns its exit code.
func Run(ctx context.Context, c Call) int {
	var o options
	flags := o.flags()
	flags.SetOutput(c.Stderr)
	flags.Usage = func() { fmt.Fprint(c.Stderr, Help+"\n"); flags.PrintDefaults() }
	if err := flags.Parse(c.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 1
	}
	var err error
	switch {
	case o.connections < 1 || o.connections > 10000 || o.seconds <= 0 || o.size < 1 || o.size > 512<<10 || o.secrets < 1 || flags.NArg() > 0:
		err = errors.New("a flag is out of its range; see rotunda bench --help")
	case o.output != "table" && o.output != "json":
		err = fmt.Errorf("--output is %q and must be table or json", o.output)
	case o.serve:
		err = serveLimit(ctx, o.dir, max(o.line, 2), o.answer, c.Stdin, c.Stdout, slog.New(slog.NewTextHandler(c.Stderr, nil)))
	default:
		err = measure(ctx, c, o)
	}
	if err != nil {
		fmt.Fprintln(c.Stderr, "Error: "+err.Error())
		return 1
	}
	return 0
}

// Row is one measured workload.
type Row struct {
	Workload   string  `json:"workload"`
	Rate       float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	CPU        float64 `json:"server_cpu_us_per_request,omitzero"`
	Failures   int     `json:"failures"`
	LimitRate  float64 `json:"limit_requests_per_second,omitzero"`
	LimitCPU   float64 `json:"limit_cpu_us_per_request,omitzero"`
	RateRatio  float64 `json:"rate_ratio,omitzero"`
	CPURatio   float64 `json:"cpu_ratio,omitzero"`
	LineBytes  int     `json:"audit_line_bytes,omitzero"`
	SyncsASec  float64 `json:"raw_syncs_per_second,omitzero"`
	BatchRate  float64 `json:"bbolt_batch_writes_per_second,omitzero"`
	BatchRatio float64 `json:"bbolt_batch_ratio,omitzero"`
	firstError int
}

type run struct {
	o      options
	target target
	pid    int
	prefix string
	value  []byte
	out    io.Writer
	err    io.Writer
}

func measure(ctx context.Context, c Call, o options) (err error) {
	t, err := targetOf(c)
	if err != nil {
		return err
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	r := &run{o: o, target: t, prefix: "bench-" + hex.EncodeToString(id), out: c.Stdout, err: c.Stderr}
	value := make([]byte, o.size/2+1)
	_, _ = rand.Read(value) // never fails
	r.value = []byte(`{"data":{"value":"` + hex.EncodeToString(value)[:o.size] + `"}}`)
	if host, port, err := net.SplitHostPort(t.addr); err == nil && isLocal(host) {
		if n, err := strconv.Atoi(port); err == nil {
			r.pid = listener(n)
		}
	}
	if o.pin {
		if r.pid == 0 || runtime.NumCPU() < 2 {
			return errors.New("--pin needs a server on this machine and two cores")
		}
		if err := errors.Join(pin(r.pid, 0), pin(os.Getpid(), 1)); err != nil {
			return err
		}
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.clean(context.WithoutCancel(ctx))) }()
	var rows []Row
	for w := range strings.SplitSeq(o.workloads, ",") {
		row, err := r.workload(ctx, strings.TrimSpace(w))
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return r.report(rows)
}

func targetOf(c Call) (target, error) {
	u, err := url.Parse(c.Address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return target{}, fmt.Errorf("the address %q is not https://HOST:PORT; start a server with `rotunda up`", c.Address)
	}
	if c.Token == "" {
		return target{}, errors.New("no token; log in with `rotunda login`")
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	if len(c.CACert) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(c.CACert) {
			return target{}, errors.New("the CA certificate is not PEM")
		}
	}
	return target{addr: addr, tls: config, host: u.Host, token: c.Token}, nil
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// prepare writes the secrets that are read and listed.
func (r *run) prepare(ctx context.Context) error {
	return r.once(ctx, max(r.o.secrets, 1000), func(buf []byte, i int) []byte {
		return r.target.request(buf, "POST", r.secret(i), r.value)
	})
}

func (r *run) clean(ctx context.Context) error {
	err := r.once(ctx, max(r.o.secrets, 1000), func(buf []byte, i int) []byte {
		return r.target.request(buf, "DELETE", fmt.Sprintf("/v1/%s/metadata/%s/%d", r.o.mount, r.prefix, i), nil)
	})
	return errors.Join(err, r.once(ctx, r.o.connections, func(buf []byte, i int) []byte {
		return r.target.request(buf, "DELETE", fmt.Sprintf("/v1/%s/metadata/%s-w/%d", r.o.mount, r.prefix, i), nil)
	}))
}

func (r *run) secret(i int) string {
	return "/v1/" + r.o.mount + "/data/" + r.prefix + "/" + strconv.Itoa(i)
}

// once sends n requests, each once, over as many connections as a load has.
func (r *run) once(ctx context.Context, n int, request func(buf []byte, i int) []byte) error {
	work := make(chan int)
	errs := make(chan error, r.o.connections)
	for range r.o.connections {
		go func() { errs <- r.sender(ctx, work, request) }()
	}
	var failed error
	left := r.o.connections
	for i := range n {
		select {
		case work <- i:
		case err := <-errs:
			left--
			failed = errors.Join(failed, err)
		}
		if failed != nil {
			break
		}
	}
	close(work)
	for range left {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}

func (r *run) sender(ctx context.Context, work <-chan int, request func([]byte, int) []byte) error {
	dialer := tls.Dialer{Config: r.target.tls}
	c, err := dialer.DialContext(ctx, "tcp", r.target.addr)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", r.target.addr, err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	var buf, spare []byte
	for i := range work {
		buf = request(buf[:0], i)
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("sending a request: %w", err)
		}
		status, body, err := answer(in, spare)
		spare = body
		if err != nil {
			return fmt.Errorf("reading an answer: %w", err)
		}
		if status >= 300 && status != 404 {
			return fmt.Errorf("preparing secrets in %s/: the server answered %d", r.o.mount, status)
		}
	}
	return nil
}

// maker returns the requests of a workload.
func (r *run) maker(workload string) (maker, error) {
	read := func(buf []byte, w, n int, _ []byte) []byte {
		return r.target.request(buf, "GET", r.secret((w*7919+n*31)%r.o.secrets), nil)
	}
	write := func(buf []byte, w, _ int, _ []byte) []byte {
		return r.target.request(buf, "POST", "/v1/"+r.o.mount+"/data/"+r.prefix+"-w/"+strconv.Itoa(w), r.value)
	}
	switch workload {
	case "kv-read":
		return read, nil
	case "kv-write":
		return write, nil
	case "mixed":
		return func(buf []byte, w, n int, last []byte) []byte {
			if n%10 == 9 {
				return write(buf, w, n, last)
			}
			return read(buf, w, n, last)
		}, nil
	case "list":
		return func(buf []byte, _, _ int, _ []byte) []byte {
			return r.target.request(buf, "GET", "/v1/"+r.o.mount+"/metadata/"+r.prefix+"/?list=true", nil)
		}, nil
	case "token":
		return func(buf []byte, _, n int, last []byte) []byte {
			if made := clientToken(last); n%2 == 1 && made != "" {
				as := r.target
				as.token = made
				return as.request(buf, "POST", "/v1/auth/token/revoke-self", []byte(`{}`))
			}
			return r.target.request(buf, "POST", "/v1/auth/token/create", []byte(`{"ttl":"60s","policies":["default"]}`))
		}, nil
	}
	return nil, fmt.Errorf("no workload %q; there are kv-read, kv-write, mixed, list and token", workload)
}

// clientToken returns the token that the body of an answer gives, if any.
func clientToken(body []byte) string {
	_, after, ok := strings.Cut(string(body), `"client_token":"`)
	if !ok {
		return ""
	}
	made, _, _ := strings.Cut(after, `"`)
	return made
}

func (r *run) workload(ctx context.Context, name string) (Row, error) {
	next, err := r.maker(name)
	if err != nil {
		return Row{}, err
	}
	length := time.Duration(r.o.seconds * float64(time.Second))
	fmt.Fprintf(r.err, "%s: %d connections for %s\n", name, r.o.connections, length)
	before := r.audited(ctx)
	cpu := r.cpu(r.pid)
	got, err := load(ctx, r.target, r.o.connections, length, next)
	if err != nil {
		return Row{}, fmt.Errorf("loading the server with %s: %w", name, err)
	}
	spent := r.cpu(r.pid) - cpu
	row := Row{Workload: name, Rate: got.rate(), P50: ms(got.quantile(0.5)), P99: ms(got.quantile(0.99)), Failures: got.failures, firstError: got.status}
	if spent > 0 {
		row.CPU = float64(spent.Microseconds()) / float64(max(got.requests, 1))
	}
	if !r.o.limit {
		return row, nil
	}
	row.LineBytes = r.o.line
	if row.LineBytes == 0 {
		row.LineBytes = lineSize(before, r.audited(ctx))
	}
	return r.besideLimit(ctx, row, next, length)
}

// besideLimit measures the limit with the same requests, and the disk alone.
func (r *run) besideLimit(ctx context.Context, row Row, next maker, length time.Duration) (_ Row, err error) {
	self, err := os.Executable()
	if err != nil {
		return row, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "bench", "--serve-limit", "--dir", r.o.dir, "--line", strconv.Itoa(row.LineBytes)) //nolint:gosec // this very program
	cmd.Stderr = r.err
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return row, fmt.Errorf("starting the limit: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return row, fmt.Errorf("starting the limit: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return row, fmt.Errorf("starting the limit: %w", err)
	}
	defer func() { err = errors.Join(err, stdin.Close(), cmd.Wait()) }()
	addr, certificate, err := readLimit(bufio.NewReader(stdout))
	if err != nil {
		return row, fmt.Errorf("starting the limit: %w", err)
	}
	if r.o.pin {
		if err := pin(cmd.Process.Pid, 0); err != nil {
			return row, err
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	t := target{addr: addr, host: addr, tls: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}}}
	cpu := r.cpu(cmd.Process.Pid)
	got, err := load(ctx, t, r.o.connections, length, next)
	if err != nil {
		return row, fmt.Errorf("loading the limit: %w", err)
	}
	spent := r.cpu(cmd.Process.Pid) - cpu
	row.LimitRate = got.rate()
	row.RateRatio = row.Rate / row.LimitRate
	if spent > 0 {
		row.LimitCPU = float64(spent.Microseconds()) / float64(max(got.requests, 1))
		if row.CPU > 0 {
			row.CPURatio = row.CPU / row.LimitCPU
		}
	}
	dir := r.o.dir
	if dir == "" {
		dir = "."
	}
	if row.SyncsASec, err = syncRate(dir, row.LineBytes, time.Second); err != nil || row.Workload != "kv-write" {
		return row, err
	}
	row.BatchRate, err = batchRate(dir, r.o.connections, r.o.size, length)
	if err == nil {
		row.BatchRatio = row.Rate / row.BatchRate
	}
	return row, err
}

func (r *run) cpu(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	d, err := cpuTime(pid)
	if err != nil {
		return 0
	}
	return d
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (r *run) report(rows []Row) error {
	for _, row := range rows {
		if row.Failures > 0 {
			fmt.Fprintf(r.err, "%s: %d requests failed, one of them with status %d\n", row.Workload, row.Failures, row.firstError)
		}
	}
	if r.o.output == "json" {
		b, err := json.Marshal(rows)
		if err != nil {
			return fmt.Errorf("encoding the result: %w", err)
		}
		_, err = r.out.Write(append(b, '\n'))
		return err
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "workload\trequests/s\tp50 ms\tp99 ms\tserver µs\tlimit/s\tlimit µs\trate ratio\tCPU ratio\tline B\tsyncs/s\tbatch/s\tbatch ratio\t")
	for _, x := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t\n", x.Workload, x.Rate, x.P50, x.P99,
			shown(x.CPU, 1), shown(x.LimitRate, 0), shown(x.LimitCPU, 1), shown(x.RateRatio, 2), shown(x.CPURatio, 2), x.LineBytes, shown(x.SyncsASec, 0),
			shown(x.BatchRate, 0), shown(x.BatchRatio, 2))
	}
	return w.Flush()
}

func shown(f float64, digits int) string {
	if f == 0 {
		return "-"
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}
