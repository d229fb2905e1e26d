package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are for the commands that have none of their own, by their path
// without the program's name.
var examples = map[string]string{
	"completion":                 "source <(rotunda completion bash)",
	"audit":                      "rotunda audit tail",
	"audit disable":              "rotunda audit disable file",
	"audit list":                 "rotunda audit list -detailed",
	"auth":                       "rotunda auth list",
	"auth disable":               "rotunda auth disable userpass",
	"auth enable":                "rotunda auth enable -path=people userpass",
	"auth list":                  "rotunda auth list -detailed",
	"auth move":                  "rotunda auth move userpass people",
	"auth tune":                  "rotunda auth tune -default-lease-ttl=1h token",
	"completion bash":            "source <(rotunda completion bash)",
	"completion fish":            "rotunda completion fish > ~/.config/fish/completions/rotunda.fish",
	"completion powershell":      "rotunda completion powershell | Out-String | Invoke-Expression",
	"completion zsh":             "rotunda completion zsh > \"${fpath[1]}/_rotunda\"",
	"context":                    "rotunda context list",
	"context list":               "rotunda context list -o json",
	"context remove":             "rotunda context remove work --yes",
	"context show":               "rotunda context show\nrotunda context show --field address",
	"context use":                "rotunda context use work",
	"delete":                     "rotunda delete secret/data/app/db",
	"diff":                       "rotunda diff app/db\nrotunda diff app/db 1 3\nrotunda diff prod/db --with staging/db",
	"doctor":                     "rotunda doctor",
	"env":                        "eval \"$(rotunda env)\"\nrotunda env --data DIR -o env",
	"history":                    "rotunda history app/db",
	"kv":                         "rotunda kv get -mount=secret app/db",
	"kv delete":                  "rotunda kv delete -mount=secret app/db\nrotunda kv delete -mount=secret -versions=1,2 app/db",
	"kv destroy":                 "rotunda kv destroy -mount=secret -versions=1 app/db",
	"kv enable-versioning":       "rotunda kv enable-versioning old",
	"kv get":                     "rotunda kv get -mount=secret app/db\nrotunda kv get -field=password secret/app/db",
	"kv list":                    "rotunda kv list secret\nrotunda kv list -mount=secret app",
	"kv metadata":                "rotunda kv metadata get -mount=secret app/db",
	"kv metadata delete":         "rotunda kv metadata delete -mount=secret app/db",
	"kv metadata get":            "rotunda kv metadata get -mount=secret app/db",
	"kv metadata patch":          "rotunda kv metadata patch -mount=secret -custom-metadata=owner=team-a app/db",
	"kv metadata put":            "rotunda kv metadata put -mount=secret -max-versions=5 -custom-metadata=owner=team-a app/db",
	"kv patch":                   "rotunda kv patch -mount=secret app/db password=-",
	"kv put":                     "rotunda kv put -mount=secret app/db user=app password=@password.txt\nrotunda kv put -mount=secret -cas=3 app/db @db.json",
	"kv rollback":                "rotunda kv rollback -mount=secret -version=2 app/db",
	"kv undelete":                "rotunda kv undelete -mount=secret -versions=3 app/db",
	"lease":                      "rotunda lease lookup LEASE_ID",
	"lease lookup":               "rotunda lease lookup LEASE_ID",
	"lease renew":                "rotunda lease renew -increment=1h LEASE_ID",
	"lease revoke":               "rotunda lease revoke LEASE_ID\nrotunda lease revoke -prefix database/creds/app",
	"list":                       "rotunda list secret/metadata/app",
	"logout":                     "rotunda logout\nrotunda logout --revoke",
	"operator":                   "rotunda operator status",
	"operator key-status":        "rotunda operator key-status",
	"operator members":           "rotunda operator members",
	"operator recover":           "rotunda operator recover --data DIR",
	"operator resume":            "rotunda operator resume",
	"operator seal":              "rotunda operator seal",
	"operator seal-slots":        "rotunda operator seal-slots list",
	"operator seal-slots list":   "rotunda operator seal-slots list",
	"operator seal-slots remove": "rotunda operator seal-slots remove SLOT",
	"operator status":            "rotunda operator status -format=json",
	"operator step-down":         "rotunda operator step-down",
	"operator unseal":            "rotunda operator unseal\npass share | rotunda operator unseal -",
	"patch":                      "rotunda patch secret/data/app/db @patch.json",
	"path-help":                  "rotunda path-help secret/data/app",
	"policy":                     "rotunda policy list",
	"policy delete":              "rotunda policy delete app-read",
	"policy fmt":                 "rotunda policy fmt app-read.hcl",
	"policy list":                "rotunda policy list -format=json",
	"policy read":                "rotunda policy read default",
	"policy write":               "rotunda policy write app-read app-read.hcl\nrotunda policy write app-read - < app-read.hcl",
	"print":                      "rotunda print token",
	"print token":                "rotunda print token",
	"read":                       "rotunda read secret/data/app/db\nrotunda read -field=ttl auth/token/lookup-self",
	"rm":                         "rotunda rm app/db\nrotunda rm app/db --versions 1,2 --destroy\nrotunda rm app/db --purge",
	"rollback":                   "rotunda rollback app/db\nrotunda rollback app/db --to 2",
	"secrets":                    "rotunda secrets list",
	"secrets disable":            "rotunda secrets disable team",
	"secrets list":               "rotunda secrets list -detailed",
	"secrets move":               "rotunda secrets move team teams/a",
	"secrets tune":               "rotunda secrets tune -max-lease-ttl=24h team",
	"server":                     "rotunda server --config /etc/rotunda/rotunda.hcl\nrotunda server --check --config rotunda.hcl",
	"status":                     "rotunda status\nrotunda status -format=json",
	"token":                      "rotunda token lookup",
	"token capabilities":         "rotunda token capabilities secret/data/app/db",
	"token lookup":               "rotunda token lookup\nrotunda token lookup -accessor ACCESSOR",
	"token renew":                "rotunda token renew -increment=1h",
	"token revoke":               "rotunda token revoke -self\nrotunda token revoke -accessor ACCESSOR",
	"unwrap":                     "rotunda unwrap - < wrapping-token",
	"version":                    "rotunda version",
	"version-history":            "rotunda version-history",
	"whoami":                     "rotunda whoami",
	"write":                      "rotunda write sys/policies/acl/app policy=@app.hcl\nrotunda write -f sys/rotate/keyring",
}

// exits are the exit codes of commands that say more with theirs than others.
var exits = map[string]string{
	"audit check-proof": "0 the proof holds, 1 it could not be checked, 2 it does not hold",
	"audit verify":      "0 the journal is whole, 1 it could not be read, 2 it is not whole",
	"bench":             "0 it was measured, 1 it could not be",
	"diff":              "0 no difference, 1 they could not be compared, 2 they differ",
	"doctor":            "0 all is well or there are only warnings, 1 something is bad",
	"operator init":     "0 it worked, 1 the command line, 2 the server; with -status: 0 initialized, 1 no answer, 2 not yet",
	"operator status":   "0 unsealed, 1 no answer, 2 sealed",
	"run":               "the program's own; 128+n where it died by signal n, 126 where it cannot be run, 127 where there is no such program; 1 or 2 where it was not run",
	"status":            "0 unsealed, 1 no answer, 2 sealed",
	"completion":        "0 it worked, 1 the command line",
	"context":           "0 it worked, 1 the command line or this machine",
	"env":               "0 it worked, 1 the command line or this machine",
	"print":             "0 it worked, 1 the command line or this machine",
	"version":           "0",
	"policy fmt":        "0 it worked, 1 the command line or the file",
}

// exitCodes says what the exit codes of a command mean.
func exitCodes(path string) string {
	if says, ok := exits[path]; ok {
		return says
	}
	if group, _, _ := strings.Cut(path, " "); group == "completion" || group == "context" || group == "print" {
		return exits[group]
	}
	return "0 it worked, 1 the command line or this machine, 2 the server"
}

// addExamples gives each command in the tree its example.
func addExamples(root *cobra.Command) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if text, ok := examples[pathOf(c)]; ok && c.Example == "" {
			c.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// pathOf returns the path of a command without the program's name.
func pathOf(c *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), c.Root().Name()), " ")
}
