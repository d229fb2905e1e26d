package cli

import (
	"strings"
	"testing"
)

// TestVersionOne holds what works in a mount that keeps no versions, and that
// the rest says why it does not.
func TestVersionOne(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.env = append(s.env, "ROTUNDA_MOUNT=old")
	s.good("set a x=1 y=2")
	s.good("set a y=3")
	if got := s.good("get a --field x") + s.good("get a --field y"); got != "13" {
		t.Errorf("get after two sets = %q, want the field that was not named kept", got)
	}
	s.good("set b x=1")
	if got := s.good("ls"); got != "a\nb\n" {
		t.Errorf("ls = %q, want both", got)
	}
	if got := s.good("run -p a -- env"); !strings.Contains(got, "x=1\n") {
		t.Errorf("run gives %q, want the fields", got)
	}
	s.good("import " + s.file("x.env", "C=1\n") + " --yes")
	if got := s.good("get C"); got != "1" {
		t.Errorf("get of what was imported = %q", got)
	}
	o := s.run("diff a --with b")
	if o.code != 2 || !strings.Contains(o.err, "from b to a:") {
		t.Errorf("diff --with: %+v, want what differs between the two", o)
	}
	if o := s.run("rm b"); o.code != 1 || !strings.Contains(o.err, "--yes") {
		t.Errorf("rm: %+v; want a question, because it cannot be brought back", o)
	}
	s.good("rm b --yes")
	if o := s.run("rm b --yes"); o.code != 2 {
		t.Errorf("rm of what is not there: %+v, want exit code 2", o)
	}
	const why = "old/ is KV version 1, which keeps no versions and no metadata: "
	for line, next := range map[string]string{
		"history a":                       "rotunda kv enable-versioning old",
		"rollback a":                      "rotunda kv enable-versioning old",
		"diff a":                          "rotunda diff a --with OTHER",
		"get a --version 1":               "rotunda kv enable-versioning old",
		"set a x=1 --cas 1":               "rotunda kv enable-versioning old",
		"rm a --versions 1":               "rotunda rm a",
		"rm a --versions 1 --destroy":     "rotunda rm a",
		"kv patch -mount=old a x=1":       "rotunda set -m old a KEY=-",
		"kv metadata get -mount=old a":    "rotunda kv enable-versioning old",
		"kv metadata put -mount=old a":    "rotunda kv enable-versioning old",
		"kv metadata patch -mount=old a":  "rotunda kv enable-versioning old",
		"kv metadata delete -mount=old a": "rotunda kv enable-versioning old",
		"kv undelete -versions=1 old/a":   "rotunda kv enable-versioning old",
		"kv destroy -versions=1 old/a":    "rotunda kv enable-versioning old",
		"kv rollback -version=1 old/a":    "rotunda kv enable-versioning old",
		"kv delete -versions=1 old/a":     "rotunda kv enable-versioning old",
		"kv put -cas=1 old/a x=1":         "rotunda kv enable-versioning old",
		"kv get -version=1 -mount=old a":  "rotunda kv enable-versioning old",
	} {
		if o := s.run(line); o.code != 1 || !strings.Contains(o.err, why) || !strings.Contains(o.err, next) || o.out != "" {
			t.Errorf("rotunda %s: %+v; want exit code 1, %q and %q", line, o, why, next)
		}
	}
}

// TestMountsThatHoldNoSecrets are refused by the short commands.
func TestMountsThatHoldNoSecrets(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	f.answer("GET sys/internal/ui/mounts/sys", 200, `{"data":{"path":"sys/","type":"system"}}`)
	for _, line := range []string{"ls -m sys", "get -m sys mounts", "set -m sys x a=1", "run -m sys -- true"} {
		if o := s.run(line); o.code != 1 || !strings.Contains(o.err, "sys/ is a mount of type system") {
			t.Errorf("rotunda %s: %+v, want a refusal", line, o)
		}
	}
}
