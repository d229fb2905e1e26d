package cli

import (
	"strings"
	"testing"
)

// TestWithoutValue holds what each command does with a secret that has
// metadata and no version, and with one whose current version is deleted.
func TestWithoutValue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		line string
		code int
		says string
		next string
	}{
		{"get meta", 2, "meta in secret/ has metadata and no value yet", "rotunda set meta"},
		{"kv get -mount=secret meta", 2, "meta in secret/ has metadata and no value yet", "rotunda set meta"},
		{"history meta", 0, "meta has metadata and no value yet", "rotunda set meta"},
		{"diff meta", 1, "has metadata and no value yet", "rotunda set meta"},
		{"rollback meta", 2, "has metadata and no value yet", "rotunda set meta"},
		{"rollback meta --to 1", 2, "there is no version 1 of meta", "rotunda history meta"},
		{"rm meta", 2, "there is no version to delete", "rotunda rm --purge meta"},
		{"rm --purge meta --yes", 0, "Destroyed meta", ""},
		{"run -p meta -- true", 2, "meta in secret/ has metadata and no value yet", "rotunda set meta"},
		{"run -p dir -- env", 0, "dir/meta is left out: it has metadata and no value yet", ""},
		{"run -p dir/ -- env", 0, "dir/gone is left out: version 1 of dir/gone was deleted", ""},
		{"run -p empty -- true", 2, "no secret at empty of secret/ has a value", "rotunda ls -r"},
		{"set meta a=1", 0, "version 1", ""},

		{"get dir/gone", 2, "version 1 of dir/gone was deleted", "rotunda kv undelete -mount=secret -versions=1 dir/gone"},
		{"rollback dir/gone", 2, "no older version that can be read", "rotunda kv undelete -mount=secret -versions=1 dir/gone"},
		{"diff dir/gone", 1, "no older version", "rotunda kv undelete"},
		{"run -p dir/gone -- true", 2, "was deleted", "rotunda kv undelete"},
		{"rm dir/gone", 0, "dir/gone in secret/ was deleted already", ""},
		{"set dir/gone a=1", 0, "version 2", ""},
	} {
		t.Run(tc.line, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			s := newShell(t, f)
			for _, m := range []string{"meta", "dir/meta", "empty/meta"} {
				s.good("kv metadata put -mount=secret " + m)
			}
			s.good("kv put secret/dir/a value=there")
			s.good("kv put secret/dir/gone value=x")
			s.good("rm dir/gone")
			o := s.run(tc.line)
			if o.code != tc.code || !strings.Contains(o.err, tc.says) || !strings.Contains(o.err, tc.next) {
				t.Errorf("rotunda %s: %+v\nwant exit code %d, %q and %q", tc.line, o, tc.code, tc.says, tc.next)
			}
			if strings.HasSuffix(tc.line, "env") && !strings.Contains(o.out, "A=") {
				t.Errorf("rotunda %s gives %q, want what has a value", tc.line, o.out)
			}
		})
	}
}

// TestVersionsThatEndByThemselves have a deletion time before they are deleted.
func TestVersionsThatEndByThemselves(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/a v=1")
	s.good("kv put secret/a v=2")
	f.answer("GET secret/metadata/a", 200, `{"data":{"current_version":2,"versions":{
		"1":{"created_time":"2026-01-02T03:04:05Z","deletion_time":"9000-01-02T03:04:05Z","destroyed":false},
		"2":{"created_time":"2026-01-02T03:04:05Z","deletion_time":"9000-01-02T03:04:05Z","destroyed":false}}}}`)
	if got := s.good("history a"); strings.Contains(got, "deleted") || !strings.Contains(got, "current, until 9000-") {
		t.Errorf("history = %q; want versions that live until then", got)
	}
	if o := s.run("rollback a"); o.code != 0 || !strings.Contains(o.err, "Brought back version 1") {
		t.Errorf("rollback: %+v, want the older version", o)
	}
}

// TestWrappingIsForWhatIsHandedOver holds that commands which work with what
// they read never have it wrapped.
func TestWrappingIsForWhatIsHandedOver(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	s.good("kv put secret/a value=1")
	s.good("kv put secret/a value=2")
	before := len(f.asked())
	s.env = append(s.env, "VAULT_WRAP_TTL=1m")
	for _, line := range []string{"run -- true", "diff a", "history a", "rollback a", "ls", "set a b=1", "kv rollback -mount=secret -version=1 a"} {
		s.run(line)
	}
	for _, r := range f.asked()[before:] {
		if r.header.Get("X-Vault-Wrap-Ttl") != "" && !strings.HasPrefix(r.line, "PUT") {
			t.Errorf("%s is asked to be wrapped, want it as it is", r.line)
		}
	}
	before = len(f.asked())
	for _, line := range []string{"get a", "kv get secret/a", "read secret/data/a"} {
		s.run(line)
	}
	for _, r := range f.asked()[before:] {
		if r.header.Get("X-Vault-Wrap-Ttl") != "1m" {
			t.Errorf("%s is not asked to be wrapped, want it", r.line)
		}
	}
	if o := s.run("diff a --wrap-ttl 1m"); o.code != 1 || !strings.Contains(o.err, "--wrap-ttl does not go with this command") {
		t.Errorf("diff --wrap-ttl: %+v, want a refusal", o)
	}
}
