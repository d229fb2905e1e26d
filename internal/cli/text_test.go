package cli

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const noText = "a\xffb"

// every calls do with each command that does something, and the words that call it.
func every(t *testing.T, do func(c *cobra.Command, words []string)) {
	t.Helper()
	n := 0
	var walk func(c *cobra.Command, words []string)
	walk = func(c *cobra.Command, words []string) {
		for _, sub := range c.Commands() {
			here := append(append([]string{}, words...), sub.Name())
			if sub.Runnable() && !sub.HasSubCommands() {
				n++
				do(sub, here)
			}
			walk(sub, here)
		}
	}
	more := Server{More: []Command{{Name: "bench", Short: "Test", Run: func(context.Context, Call) int { t.Error("bench ran"); return 0 }}}}
	walk(newApp(Program{Server: more}).root, nil)
	if n < 60 {
		t.Fatalf("%d commands, want all of them", n)
	}
}

func TestArgumentsThatAreNoTextAreRefused(t *testing.T) {
	t.Parallel()
	s := newShell(t, newFake(t))
	s.server.More = []Command{{Name: "bench", Short: "Test", Run: func(context.Context, Call) int { return 0 }}}
	refused := func(words ...string) {
		t.Helper()
		o := s.runWith("", words...)
		if o.code != 1 || o.out != "" || !strings.Contains(o.err, "is not UTF-8 text") || !strings.Contains(o.err, "base64 it") || strings.Contains(o.err, "internal error") {
			t.Errorf("rotunda %q: %+v, want a refusal that says what is no text", words, o)
		}
	}
	every(t, func(c *cobra.Command, words []string) {
		for n := range 3 {
			args := append(append([]string{}, words...), "x", "k=v", "y")[:len(words)+n]
			refused(append(args, noText)...)
			refused(append(args, "k="+noText)...)
		}
		each := func(f *pflag.Flag) {
			refused(append(append([]string{}, words...), "--"+f.Name+"="+noText)...)
			if f.NoOptDefVal == "" {
				refused(append(append([]string{}, words...), "--"+f.Name, noText)...)
			}
		}
		c.LocalFlags().VisitAll(each)
		c.InheritedFlags().VisitAll(each)
	})
	if o := s.runWith("", "kv", "put", "secret/a", "pass="+noText); !strings.Contains(o.err, "the value of pass is not") {
		t.Errorf("a field that is no text: %+v, want its name", o)
	}
	if o := s.runWith("", "lease", "renew", "--increment", noText, "x"); !strings.Contains(o.err, "behind --increment") {
		t.Errorf("a flag that is no text: %+v, want its name", o)
	}
}

// What a program is given behind -- is its own.
func TestBehindTheDashesAnythingGoes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/app value=x")
	if o := s.runWith("", "run", "-p", "app", "--", "printf", "%s", noText); o.code != 0 || o.out != noText {
		t.Errorf("run with an argument that is no text: %+v, want it passed on", o)
	}
}

func TestInputThatIsNoTextIsNoPanic(t *testing.T) {
	t.Parallel()
	s := newShell(t, newFake(t))
	at := "@" + s.file("input", noText+"\n")
	every(t, func(c *cobra.Command, words []string) {
		if c.Name() == "bench" {
			return
		}
		for _, in := range []string{"-", at, "k=-", "k=" + at, strings.TrimPrefix(at, "@")} {
			for n := range 3 {
				args := append(append([]string{}, words...), "secret/x", "y")
				args = append(args[:min(len(args), len(words)+n)], in, "--yes")
				if o := s.runWith(noText+"\n", args...); strings.Contains(o.err, "internal error") {
					t.Errorf("rotunda %q with input that is no text: %+v, want no panic", args, o)
				}
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, in := range []string{"-", at, strings.TrimPrefix(at, "@")} {
				args := append(append([]string{}, words...), "--"+f.Name+"="+in, "secret/x", "--yes")
				if o := s.runWith(noText+"\n", args...); strings.Contains(o.err, "internal error") {
					t.Errorf("rotunda %q with input that is no text: %+v, want no panic", args, o)
				}
			}
		})
	})
}

// The advice for a value that is no text is a command that stores it.
func TestAdviceForBytesFitsTheCommand(t *testing.T) {
	t.Parallel()
	s := newShell(t, newFake(t))
	file := s.file("key.der", noText)
	for _, tc := range []struct{ line, next string }{
		{"set app @" + file, "base64 FILE | rotunda set app -\n"},
		{"set -m old app @" + file, "base64 FILE | rotunda set --mount old app -\n"},
		{"set app --field key @" + file, "base64 FILE | rotunda set app key=-\n"},
		{"set app key=@" + file, "base64 FILE | rotunda set app key=-\n"},
		{"kv put secret/app key=@" + file, "base64 FILE | rotunda kv put secret/app key=-\n"},
		{"kv put -mount=secret app key=@" + file, "base64 FILE | rotunda kv put --mount secret app key=-\n"},
		{"kv patch secret/app key=@" + file, "base64 FILE | rotunda kv patch secret/app key=-\n"},
		{"write secret/data/app key=@" + file, "base64 FILE | rotunda write secret/data/app key=-\n"},
		{"patch secret/data/app key=@" + file, "base64 FILE | rotunda patch secret/data/app key=-\n"},
	} {
		if o := s.run(tc.line); o.code != 1 || !strings.Contains(o.err, "not UTF-8") || !strings.Contains(o.err, "next: "+tc.next) {
			t.Errorf("%s: %+v, want %q", tc.line, o, tc.next)
		}
	}
}

func TestSettingsAndTokensThatAreNoText(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"VAULT_TOKEN", "ROTUNDA_ADDR", "BAO_NAMESPACE", "VAULT_FORMAT"} {
		s := newShell(t, newFake(t))
		s.env = append(s.env, name+"="+noText)
		if o := s.run("env"); o.code != 1 || !strings.Contains(o.err, name) || !strings.Contains(o.err, "UTF-8") {
			t.Errorf("%s that is no text: %+v, want a refusal that names it", name, o)
		}
	}
	s := newShell(t, newFake(t))
	s.env = append(s.env, "VAULT_TOKEN=", "VAULT_TOKEN_PATH="+s.file("token", noText))
	if err := os.Chmod(s.home+"/token", 0o600); err != nil {
		t.Fatal(err)
	}
	if o := s.run("env"); o.code != 1 || !strings.Contains(o.err, "UTF-8") {
		t.Errorf("a token file that is no text: %+v, want a refusal", o)
	}
}

func TestAPanicIsOneLine(t *testing.T) {
	t.Parallel()
	var errs strings.Builder
	code := guarded(&errs, func() int { panic("s3cret") })
	if code != 1 || strings.Count(errs.String(), "\n") != 1 || strings.Contains(errs.String(), "s3cret") || !strings.Contains(errs.String(), "internal error, please report") {
		t.Errorf("a panic: exit code %d and %q, want 1 and one line that tells nothing", code, errs.String())
	}
}
