package cli

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"rotunda.dev/rotunda/internal/cli/intake"
)

// hardValues are what a shell, a reader of .env files, or both could take for
// something else.
var hardValues = []string{
	"", "x", " x ", "it's", `"`, `'"`, `"'`, `\`, `\'`, `'\`, `'\"`, "a\nb\n", "\n", "a\r\nb", "\t", "$HOME", "'$HOME", "${x}'", "$(id)'", "`id`", "'`id`", "!x!", "#", "a #b'", "a=b",
	"*", "~", ";rm", "&", "|", "<>", "%s", `\n`, `'\n`, `\\n'`, "é🔑'", "\x01\x7f", "--", "-n", "''", `'"'"'`, "x'\\\n$y\"`",
}

// TestEnvLinesSurvive holds that what -o env prints comes back as it was from
// `eval` of a shell and from our own import.
func TestEnvLinesSurvive(t *testing.T) {
	t.Parallel()
	var script strings.Builder
	script.WriteString("eval \"$(cat)\"\n")
	var lines strings.Builder
	for i, v := range hardValues {
		name := "V" + strings.Repeat("x", i)
		line := name + "=" + envQuote(v) + "\n"
		lines.WriteString(line)
		script.WriteString("printf '%s\\0' \"$" + name + "\"\n")
		items, err := intake.Parse([]byte(line), intake.Env, true)
		var got string
		if err == nil && len(items) == 1 {
			err = json.Unmarshal(items[0].Value, &got)
		}
		if want := strings.ReplaceAll(v, "\r\n", "\n"); err != nil || got != want {
			t.Errorf("import of %q gives %q, %v; want %q", line, got, err, want)
		}
	}
	for _, name := range []string{"sh", "bash", "dash", "zsh", "ksh"} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		cmd := exec.Command(name, "-c", script.String()) //nolint:noctx // ends by itself
		cmd.Stdin = strings.NewReader(lines.String() + "#")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, got := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			if i >= len(hardValues) || got != hardValues[i] {
				t.Errorf("%s gives %q, want value %d of %q", name, got, i, hardValues)
			}
		}
	}
}

func TestEnvRefusesWhatItCannotSay(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/a a-b=1 a_b=2")
	if o := s.run("get a -o env"); o.code != 1 || o.out != "" || !strings.Contains(o.err, "a-b and a_b would both be a_b") {
		t.Errorf("get -o env of two that would be one: %+v, want a refusal", o)
	}
	s.good("kv put secret/b @" + s.file("b.json", `{"x":"a\u0000b"}`))
	if o := s.run("get b -o env"); o.code != 1 || o.out != "" || !strings.Contains(o.err, "NUL") {
		t.Errorf("get -o env of a NUL: %+v, want a refusal", o)
	}
	s.good("kv put secret/c LD_PRELOAD=/x")
	if o := s.run("get c -o env"); o.code != 0 || !strings.Contains(o.err, "LD_PRELOAD changes how programs are loaded") {
		t.Errorf("get -o env of a loader's variable: %+v, want a warning", o)
	}
}

// TestImportKeepsWhatOthersWrote has someone write between the preview and the
// write: theirs stays, and the same command goes on where it ended.
func TestImportKeepsWhatOthersWrote(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/B value=old")
	s.good("kv put secret/B value=theirs")
	f.answer("GET secret/data/B", 200, `{"data":{"data":{"value":"old"},"metadata":{"version":1}}}`) // as it was before they wrote
	path := s.file("x.env", "A=1\nB=mine\nC=3\n")
	o := s.run("import " + path + " --yes")
	if o.code != 2 || !strings.Contains(o.err, "1 of 3 were stored; to go on, give the same command again") || !strings.Contains(o.err, "someone else wrote in between") {
		t.Fatalf("import over what someone wrote meanwhile: %+v, want exit code 2", o)
	}
	f.mu.Lock()
	delete(f.answers, "GET secret/data/B")
	f.mu.Unlock()
	if got := s.good("get B"); got != "theirs" {
		t.Errorf("get B = %q, want what the other wrote", got)
	}
	before := len(f.asked())
	if o := s.run("import " + path + " --yes"); o.code != 0 || !strings.Contains(o.err, "1 new, 1 changed, 1 the same") {
		t.Errorf("the same import again: %+v, want the rest of it", o)
	}
	for _, r := range f.asked()[before:] {
		if r.line == "PUT secret/data/A" {
			t.Error("what was stored already is written again")
		}
	}
	if got := s.good("get A") + s.good("get B") + s.good("get C"); got != "1mine3" {
		t.Errorf("after both %q, want all three", got)
	}
}
