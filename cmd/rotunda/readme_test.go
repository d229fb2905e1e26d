package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/cli"
	"rotunda.dev/rotunda/internal/server"
)

// blocks matches the shell blocks of the README; the first group says whether
// it is one that runs.
var blocks = regexp.MustCompile("(?m)((?:^<!-- tested.*-->\n)?)^ *```sh\n((?s:.*?))^ *```$")

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReadmeRuns runs the blocks of the README that say that they are tested,
// in order, in one shell, with an empty home and a free port.
func TestReadmeRuns(t *testing.T) {
	t.Parallel()
	var script strings.Builder
	script.WriteString("set -eu\nrotunda() { case \"$1\" in up) shift; command rotunda up --listen 127.0.0.1:0 \"$@\" ;; *) command rotunda \"$@\" ;; esac; }\n")
	n := 0
	for _, m := range blocks.FindAllStringSubmatch(readme(t), -1) {
		if m[1] != "" {
			n++
			script.WriteString(m[2])
		}
	}
	if n < 4 {
		t.Fatalf("the README has %d blocks that are tested, want those of the first five minutes", n)
	}
	home := t.TempDir()
	t.Cleanup(func() {
		if err := stopNodes(home); err != nil {
			t.Error(err)
		}
	})
	shell := exec.CommandContext(t.Context(), "sh", "-c", script.String()) // the README's own words
	shell.Dir = home
	shell.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	if err := shell.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"the password is ********\n", "API_KEY=********", `"secret/data/app/*"`, "kv.read", "whole:", `"data":{"value":`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the README's commands do not print %q:\n%s", want, out.String())
		}
	}
}

// TestReadmeNamesCommands holds every command in the README to be one that the
// program has, with the flags that it is given there.
func TestReadmeNamesCommands(t *testing.T) {
	t.Parallel()
	calls := regexp.MustCompile(`(?:^|\s|/|\()rotunda ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)([^#|\n]*)`)
	flags := regexp.MustCompile(`\s--?([a-z][a-z-]+)`)
	n := 0
	for _, m := range blocks.FindAllStringSubmatch(readme(t), -1) {
		for _, call := range calls.FindAllStringSubmatch(m[2], -1) {
			n++
			mine, _, _ := strings.Cut(call[2], " -- ")
			args := append(strings.Fields(call[1]), "--help")
			var out bytes.Buffer
			code := cli.Main(t.Context(), cli.Program{
				Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Environ: []string{"HOME=" + t.TempDir()}, Server: server.CLI(),
			})
			if code != 0 {
				t.Errorf("the README calls rotunda %s: exit code %d\n%s", call[1], code, out.String())
			}
			for _, f := range flags.FindAllStringSubmatch(mine, -1) {
				if !strings.Contains(out.String(), "--"+f[1]) {
					t.Errorf("the README calls rotunda %s with --%s, which its help does not have", call[1], f[1])
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("found %d commands in the README; is it read right?", n)
	}
}
