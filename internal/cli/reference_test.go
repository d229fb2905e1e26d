package cli

import (
	"context"
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sampleMore stands for a command of another package.
func sampleMore() []Command {
	return []Command{{Name: "measure", Short: "Measure", Long: "Measure.", Example: "  rotunda measure --times 3", Flags: func() *flag.FlagSet {
		f := flag.NewFlagSet("measure", flag.ContinueOnError)
		f.Int("times", 1, "how often")
		f.String("output", "table", "how to print")
		return f
	}}}
}

// tree returns every command that help lists, and the groups of them.
func tree(root *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				all = append(all, sub)
				walk(sub)
			}
		}
	}
	walk(root)
	return all
}

// TestReferenceHasEverything holds that every command is in the reference with
// an example and its exit codes, and each of its flags.
func TestReferenceHasEverything(t *testing.T) {
	t.Parallel()
	page := Reference(sampleMore())
	sections := map[string]string{}
	for section := range strings.SplitSeq(page, "\n### rotunda ") {
		head, rest, _ := strings.Cut(section, "\n")
		sections[head] = rest
	}
	root := newApp(Program{Server: Server{More: sampleMore()}}).root
	commands := tree(root)
	if len(commands) < 100 {
		t.Fatalf("there are %d commands, want many", len(commands))
	}
	for _, c := range commands {
		use := strings.TrimPrefix(strings.TrimSpace(strings.TrimSuffix(c.UseLine(), "[flags]")), "rotunda ")
		section, ok := sections[use]
		if !ok {
			t.Errorf("the reference lacks rotunda %s", use)
			continue
		}
		if !strings.Contains(section, "Example:\n\n```\n") {
			t.Errorf("rotunda %s has no example", pathOf(c))
		}
		if !c.HasAvailableSubCommands() && !strings.Contains(section, "\nExit codes: 0") && !strings.Contains(section, "\nExit codes: the program's own") {
			t.Errorf("rotunda %s has no exit codes", pathOf(c))
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !f.Hidden && !strings.Contains(section, "--"+f.Name) {
				t.Errorf("the reference lacks --%s of rotunda %s", f.Name, pathOf(c))
			}
		})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(page, "`--"+f.Name) && !strings.Contains(page, ", --"+f.Name) {
			t.Errorf("the reference lacks --%s", f.Name)
		}
	})
	for _, c := range absent {
		if !strings.Contains(page, "| `"+c.path+"` |") {
			t.Errorf("the reference does not say that %s is not here", c.path)
		}
	}
	for path := range examples {
		c, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 {
			t.Errorf("there is an example of %q, which is no command", path)
		} else if c.Example != "  "+strings.ReplaceAll(examples[path], "\n", "\n  ") {
			t.Errorf("rotunda %s has an example of its own, and one in the list", path)
		}
	}
	for path := range exits {
		if _, rest, err := root.Find(strings.Fields(path)); (err != nil || len(rest) > 0) && path != "bench" {
			t.Errorf("there are exit codes of %q, which is no command", path)
		}
	}
}

// TestExamplesCanBeGiven parses every command line of an example, and of the
// advice for commands that are not here.
func TestExamplesCanBeGiven(t *testing.T) {
	t.Parallel()
	lines := []string{}
	for _, c := range tree(newApp(Program{Server: Server{More: sampleMore()}}).root) {
		lines = append(lines, strings.Split(c.Example, "\n")...)
	}
	for _, c := range absent {
		lines = append(lines, c.next...)
	}
	command := regexp.MustCompile(`rotunda ([^|><)]*)`)
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "   (")
		found := command.FindStringSubmatch(line)
		if found == nil {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "journalctl") {
				t.Errorf("%q is an example of nothing", line)
			}
			continue
		}
		a := newApp(Program{Server: Server{More: sampleMore()}})
		args := normalise(strings.Fields(strings.ReplaceAll(found[1], `"`, "")), longFlags(a.root))
		c, rest, err := a.root.Find(args)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if err := c.ParseFlags(rest); err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if err := c.ValidateArgs(c.Flags().Args()); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestMoreCommandsTakeTheFlagsOfAll holds that a command of another package has
// the flags that every command has, beside its own.
func TestMoreCommandsTakeTheFlagsOfAll(t *testing.T) {
	t.Parallel()
	s := newShell(t, nil)
	more := sampleMore()
	var got Call
	more[0].Run = func(_ context.Context, c Call) int { got = c; return 3 }
	s.server.More = more
	if o := s.run("measure -times=3 -address=http://elsewhere:1 -format=json"); o.code != 3 {
		t.Fatalf("measure: %+v, want its own exit code", o)
	}
	if want := []string{"--times=3", "--output=json"}; !slices.Equal(got.Args, want) || got.Address != "http://elsewhere:1" {
		t.Errorf("measure is given %q for %s, want %q for http://elsewhere:1", got.Args, got.Address, want)
	}
	if o := s.run("measure --no-such"); o.code != 1 {
		t.Errorf("measure with a flag that there is not: %+v, want exit code 1", o)
	}
}
