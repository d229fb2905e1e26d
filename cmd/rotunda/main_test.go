//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rotunda.dev/rotunda/internal/clock"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rotunda": main})
}

// TestStories runs what a person does with the program, with the real server
// on a free port of this machine. Beside the commands of testscript a story has
//
//	stop            stops every node that `rotunda up` started, and waits
//	capture NAME    keeps the last standard output in a variable
//	freeport NAME   puts a port that is free into a variable
//	await           waits until the server at $VAULT_ADDR answers
//	mode PATH PERM  checks a file's permissions
//	lacks PATH TEXT fails where any file under PATH holds TEXT
func TestStories(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("USERPROFILE", home)
			env.Defer(func() {
				if err := stopNodes(home); err != nil {
					t.Error(err)
				}
			})
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"stop": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(stopNodes(ts.Getenv("HOME")))
			},
			"capture": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				_, port, err := net.SplitHostPort(l.Addr().String())
				ts.Check(err)
				ts.Check(l.Close())
				ts.Setenv(args[0], port)
			},
			"await": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(until(func() bool {
					resp, err := http.Get(ts.Getenv("VAULT_ADDR") + "/v1/sys/health") //nolint:noctx // a server of the test
					if err != nil {
						return false
					}
					return resp.Body.Close() == nil
				}, "the server answers"))
			},
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
			"lacks": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
					if err != nil || !d.Type().IsRegular() {
						return err
					}
					b, err := os.ReadFile(path) // a file of the test
					if err == nil && bytes.Contains(b, []byte(args[1])) {
						err = fmt.Errorf("%s holds %q", path, args[1])
					}
					return err
				}))
			},
		},
	})
}

// TestFirstFiveMinutes holds the promise of the first story: three commands,
// and nobody is asked anything.
func TestFirstFiveMinutes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/script/first-five-minutes.txtar")
	if err != nil {
		t.Fatal(err)
	}
	script, _, _ := strings.Cut(string(text), "\n# After them")
	if n := len(regexp.MustCompile(`(?m)^!? ?exec rotunda`).FindAllString(script, -1)); n == 0 || n > 3 {
		t.Errorf("the first story has %d commands, want 1 to 3", n)
	}
	if strings.Contains(script, "stdin") || strings.Contains(script, "--yes") {
		t.Error("the first story answers a question, want none")
	}
}

// until waits for something to become true.
func until(ok func() bool, what string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !ok() {
		c := clock.System{}
		if err := c.Wait(ctx, c.Now().Add(20*time.Millisecond)); err != nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
	}
	return nil
}

// stopNodes stops the nodes that were started with a home directory.
func stopNodes(home string) error {
	files, err := filepath.Glob(filepath.Join(home, ".local", "state", "rotunda", "nodes", "*.pid"))
	if err != nil {
		return err
	}
	for _, file := range files {
		b, err := os.ReadFile(file) // a file of the test
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return err
		}
		if err := until(func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }, "the node has stopped"); err != nil {
			return err
		}
	}
	return nil
}
