//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
)

// A file of the audit log that is moved away and asked for again by SIGHUP, as
// logrotate does, under load: each record is in one of the files, whole, once.
func TestAuditFileIsRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "lines.json")
	p := serve(t, dir, fmt.Sprintf("seal \"keyfile\" { path = %q }\naudit \"file\" \"lines\" { file_path = %q }\n", filepath.Join(dir, "keys", "seal.key"), file))
	out, err := p.init(`{"recovery_shares":0}`)
	if err != nil {
		t.Fatal(err)
	}
	p.opens(out)
	const askers, each, rotations = 2, 60, 6
	var all sync.WaitGroup
	for a := range askers {
		all.Go(func() {
			for i := range each {
				if _, err := p.ask(http.MethodPut, fmt.Sprintf("cubbyhole/n-%d-%d", a, i), out.Root, `{"x":"y"}`); err != nil {
					t.Error(err)
				}
			}
		})
	}
	files := []string{file}
	for i := range rotations {
		old := fmt.Sprintf("%s.%d", file, i)
		if err := os.Rename(file, old); err != nil {
			t.Fatal(err)
		}
		files = append(files, old)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := until(func() bool { _, err := os.Stat(file); return err == nil }, "the file is opened again"); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	responses := func(check bool) map[string]int {
		found := map[string]int{}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(b) {
				var l struct {
					Type    string
					Request struct{ Path string }
				}
				if err := json.Unmarshal(line, &l, json.MatchCaseInsensitiveNames(true)); err != nil {
					if check {
						t.Errorf("%s has a line that is torn: %v: %q", f, err, line)
					}
					continue
				}
				if l.Type == "response" && strings.HasPrefix(l.Request.Path, "cubbyhole/n-") {
					found[l.Request.Path]++
				}
			}
		}
		return found
	}
	if err := until(func() bool { return len(responses(false)) == askers*each }, "all records are in the files"); err != nil {
		t.Errorf("%v: there are %d of %d", err, len(responses(false)), askers*each)
	}
	for path, n := range responses(true) {
		if n != 1 {
			t.Errorf("the response of %s is there %d times, want once", path, n)
		}
	}
}
