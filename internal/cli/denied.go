package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// preflightPath is where it is asked which mount answers at a path.
const preflightPath = "sys/internal/ui/mounts/"

// selfPath is where a token looks itself up.
const selfPath = "auth/token/lookup-self"

// A standing is what the server thinks of a token.
type standing int

// A token is unsure where the server could not be asked.
const (
	unsure standing = iota
	valid
	invalid
)

// explainDenied says why a request was denied: servers give one answer to a
// token that is no more and to one that may not, so the token is asked about
// itself.
func (a *app) explainDenied(ctx context.Context, e *api.Error) (why string, next []string) {
	t, err := a.target()
	if err != nil {
		return "", nil
	}
	if t.token.Empty() {
		return "no token was sent to " + t.address, []string{"rotunda login"}
	}
	standing, policies := a.standing(ctx, t, e)
	if standing == invalid {
		return "your token (from " + t.source + ") is not valid: it has expired, was revoked or is another server's (or it was made without the policy default)",
			relogin(t)
	}
	preflight := strings.Contains(strings.ToLower(e.Error()), "preflight")
	if !preflight && strings.ToLower(e.Error()) != "permission denied" {
		return "", nil // it says more itself
	}
	who := "the token (from " + t.source + ")"
	if standing == valid {
		who = "your token (from " + t.source + ", with the policies " + show.Clean(strings.Join(policies, ", ")) + ")"
	}
	if preflight {
		mount := strings.Trim(strings.TrimPrefix(e.Path, preflightPath), "/")
		mount, _, _ = strings.Cut(mount, "/")
		if slices.Contains(policies, "root") {
			return "nothing is mounted at " + show.Clean(mount) + "/", []string{"rotunda secrets list", "rotunda secrets enable -path=" + show.Shell(mount) + " -version=2 kv"}
		}
		return fmt.Sprintf("nothing is mounted at %s/, or %s reaches nothing in it; to read there it needs a policy like: %s", show.Clean(mount), who, stanza(mount+"/data/*", "read")),
			[]string{"rotunda policy explain read " + show.Shell(mount+"/data/NAME"), "rotunda secrets list"}
	}
	verb := capability(e.Method)
	why = fmt.Sprintf("%s may not %s %s; it needs a policy like: %s", who, verb, show.Clean(e.Path), stanza(e.Path, verb))
	if standing == unsure {
		why = who + " is not valid, or its policies do not allow this"
	}
	return why, []string{"rotunda whoami", "rotunda policy explain " + verb + " " + show.Shell(e.Path)}
}

// standing asks the server whether it knows the token that was denied e, and
// which policies it has.
func (a *app) standing(ctx context.Context, t target, e *api.Error) (standing, []string) {
	if e.Path == selfPath {
		return invalid, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cl, err := a.clientFor(t)
	if err != nil {
		return unsure, nil
	}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: selfPath, NoWrap: true, NoRetry: true})
	if api.StatusOf(err) == 403 {
		return invalid, nil
	}
	if err != nil {
		return unsure, nil
	}
	policies, _ := show.Field(resp.Data, "policies")
	return valid, texts(policies)
}

// relogin is what someone does whose token is no more.
func relogin(t target) []string {
	if variable, ok := strings.CutPrefix(t.source, fromVariable); ok {
		return []string{"unset " + variable + "   (the saved token is used then)", "rotunda login"}
	}
	if t.context.Data != "" {
		return []string{"rotunda login", "rotunda operator recover --data " + show.Shell(t.context.Data) + "   (makes another token for its owner)"}
	}
	return []string{"rotunda login"}
}

// stanza is the rule of a policy that allows verb at path, on one line.
func stanza(path, verb string) string {
	return fmt.Sprintf(`path "%s" { capabilities = [%s] }`, show.Clean(path), capabilities(verb, path))
}

// capabilities are those that verb at path needs, as a policy lists them.
func capabilities(verb, path string) string {
	verbs := `"` + verb + `"`
	if verb == "update" {
		verbs = `"create", "update"`
	}
	if needsSudo(verb, path) {
		verbs += `, "sudo"`
	}
	return verbs
}

// policyFor is the rule that a policy needs for r.
func policyFor(r api.Request) string {
	verb := capability(r.Method)
	if r.Query.Get("list") == "true" {
		verb = "list"
	}
	return fmt.Sprintf("path \"%s\" {\n  capabilities = [%s]\n}", show.Clean(r.Path), capabilities(verb, r.Path))
}

// sudoPaths are the paths that need the sudo capability as well, some for one
// verb; an asterisk stands for anything.
var sudoPaths = []string{
	"auth/token/accessors", "auth/token/revoke-orphan", "sys/audit", "sys/audit/*", "sys/audit-journal", "sys/audit-journal/consistency",
	"sys/audit-journal/prove", "sys/audit-journal/search", "sys/audit-journal/verify", "sys/auth/*", "sys/backup", "sys/config/cors",
	"sys/leases/lookup/*", "sys/leases/revoke-force/*", "sys/leases/revoke-prefix/*", "update sys/mounts/*/rotate", "sys/plugins/catalog/*", "sys/quarantine/resume", "sys/remount", "sys/rotate",
	"sys/rotate/keyring", "sys/rotate/recovery/*", "sys/rotate/root/*", "sys/seal", "sys/seal/slots", "sys/seal/slots/*", "sys/step-down",
}

func needsSudo(verb, path string) bool {
	path = strings.TrimSuffix(path, "/")
	for _, p := range sudoPaths {
		p = strings.TrimPrefix(p, verb+" ")
		begin, end, open := strings.Cut(p, "*")
		if path == p || open && len(path) > len(begin)+len(end) && strings.HasPrefix(path, begin) && strings.HasSuffix(path, end) {
			return true
		}
	}
	return false
}
