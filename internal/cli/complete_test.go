package cli

import (
	"strings"
	"testing"
)

func TestCompletionOfNames(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	f.answer("GET sys/internal/ui/mounts", 200, `{"data":{"secret":{"secret/":{"type":"kv"},"old/":{"type":"kv"},"sys/":{"type":"system"}},"auth":{}}}`)
	f.answer("GET sys/policies/acl?list=true", 200, `{"data":{"keys":["ci","default","root"]}}`)
	for _, name := range []string{"app/db", "app/mail", "alone", "evil/x"} {
		s.good("kv put secret/" + name + " value=the-value")
	}
	s.good("kv put old/one a=1")
	for line, want := range map[string]string{
		"get|a":                  "alone app/",
		"get|app/":               "app/db app/mail",
		"get|app/d":              "app/db",
		"get|app/db|":            "",
		"rm|alone|ap":            "app/",
		"run|-p|ap":              "app/",
		"get|-m|s":               "secret",
		"get|-m|old|o":           "one",
		"get|-m|":                "secret old",
		"kv|get|se":              "secret/",
		"kv|get|secret/a":        "secret/alone secret/app/",
		"kv|get|secret/app/d":    "secret/app/db",
		"kv|get|-mount=secret|a": "alone app/",
		"kv|get|-mount|se":       "secret",
		"kv|metadata|get|old/":   "old/one",
		"kv|list|secret/ap":      "secret/app/",
		"policy|read|d":          "default",
		"policy|write|c":         "ci",
		"policy|explain|up":      "create read update patch delete list sudo",
		"get|-o|":                "table json yaml env raw",
	} {
		o := s.runWith("", append([]string{"__complete"}, strings.Split(line, "|")...)...)
		got, _, _ := strings.Cut(strings.ReplaceAll("\n"+o.out, "\n", " "), " :")
		if got = strings.TrimSpace(got); o.code != 0 || got != want {
			t.Errorf("completing %q gives %q (%+v), want %q", line, got, o, want)
		}
		if strings.Contains(o.out+o.err, "the-value") {
			t.Errorf("completing %q shows a value", line)
		}
	}
	for _, r := range f.asked() {
		if strings.HasPrefix(r.line, "GET secret/data") {
			t.Errorf("a value is asked for: %s", r.line)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := s.run("completion " + shell); o.code != 0 || !strings.Contains(o.out, "rotunda") {
			t.Errorf("completion %s: %+v, want a script", shell, o)
		}
	}
}

func TestUnknownCommands(t *testing.T) {
	t.Parallel()
	s := newShell(t, nil)
	for line, want := range map[string]string{
		"gat x": "next: rotunda get\n", "frobnicate": "next: rotunda --help\n", "kv frob": "next: rotunda kv --help\n", "kv pit x": "next: rotunda kv put\n",
	} {
		if o := s.run(line); o.code != 1 || !strings.Contains(o.err, "there is no command") || !strings.Contains(o.err, want) {
			t.Errorf("rotunda %s: %+v, want %q", line, o, want)
		}
	}
}
