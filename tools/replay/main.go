// Command replay runs the tests of test/replay and writes what became of each
// row of its table: passed, failed, or what it waits for.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Row is a row of the table.
type Row struct {
	ID    string   `json:"id"`
	Known string   `json:"known_as"`
	Tests []string `json:"tests,omitempty"`
	State string   `json:"state"` // "passed", "failed" or "waits"
	Note  string   `json:"note,omitempty"`
}

// Report is what the run found.
type Report struct {
	Rows   []Row          `json:"rows"`
	Counts map[string]int `json:"counts"`
}

var (
	line = regexp.MustCompile(`^\| ([HX][0-9]{3}) \| (.*) \| (.*) \|$`)
	test = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
)

const waits = "not yet: "

// parse reads the rows of the table in r.
func parse(r io.Reader) ([]Row, error) {
	var rows []Row
	s := bufio.NewScanner(r)
	for s.Scan() {
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		row := Row{ID: m[1], Known: m[2]}
		if note, ok := strings.CutPrefix(m[3], waits); ok {
			row.State, row.Note = "waits", note
		} else {
			for _, t := range test.FindAllStringSubmatch(m[3], -1) {
				row.Tests = append(row.Tests, t[1])
			}
			_, row.Note, _ = strings.Cut(m[3], ": ")
			if len(row.Tests) == 0 {
				return nil, fmt.Errorf("row %s names neither a test nor what it waits for", row.ID)
			}
		}
		rows = append(rows, row)
	}
	return rows, s.Err()
}

// event is a line of `go test -json`.
type event struct {
	Action string
	Test   string
	Output string
}

// outcomes reads what became of each test from the output of `go test -json`,
// and copies what the tests say to log.
func outcomes(r io.Reader, log io.Writer) (map[string]string, error) {
	found := map[string]string{}
	d := jsontext.NewDecoder(r)
	for {
		var e event
		err := json.UnmarshalDecode(d, &e)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading what the tests did: %w", err)
		}
		if e.Test != "" && (e.Action == "pass" || e.Action == "fail") {
			found[e.Test] = e.Action
		}
		if _, err := io.WriteString(log, e.Output); err != nil {
			return nil, err
		}
	}
}

// judge fills in the state of each row. A test of which nothing was heard has failed.
func judge(rows []Row, found map[string]string) Report {
	r := Report{Rows: rows, Counts: map[string]int{}}
	for i := range rows {
		row := &rows[i]
		for _, t := range row.Tests {
			if found[t] != "pass" {
				row.State = "failed"
			}
		}
		if row.State == "" {
			row.State = "passed"
		}
		r.Counts[row.State]++
	}
	return r
}

func run(dir, out string) error {
	table, err := os.ReadFile(dir + "/README.md") //nolint:gosec // dir is the caller's own
	if err != nil {
		return err
	}
	rows, err := parse(bytes.NewReader(table))
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-json", "-count=1", "-run", "^Test[HX][0-9]", "./"+dir) //nolint:gosec // dir is the caller's own
	cmd.Stderr = os.Stderr
	heard, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("running the tests: %w", err)
	}
	found, err := outcomes(bytes.NewReader(heard), os.Stderr)
	if err != nil {
		return err
	}
	report := judge(rows, found)
	b, err := json.Marshal(report, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o600); err != nil { //nolint:gosec // out is the caller's own
		return err
	}
	_, _ = fmt.Fprintf(os.Stderr, "%s: %d passed, %d failed, %d wait\n", out, report.Counts["passed"], report.Counts["failed"], report.Counts["waits"])
	if report.Counts["failed"] > 0 {
		return errors.New("rows have failed")
	}
	return nil
}

func main() {
	dir := flag.String("dir", "test/replay", "folder of the tests and of their table")
	out := flag.String("out", "replay.json", "file to write")
	flag.Parse()
	if err := run(*dir, *out); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}
