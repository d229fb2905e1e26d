package cli

import "github.com/spf13/cobra"

// topic is a page of help that is no command.
func topic(name, short, long string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Long: long}
}

func exitCodesTopic() *cobra.Command {
	return topic("exit-codes", "What the exit codes mean", `Exit codes are part of the interface and do not change.

  0    it worked
  1    the command line or this machine: a flag, a file, a question that nobody
       could be asked
  2    the server: it refused, did not answer, or has no such thing
  130  interrupted

Some commands say more with theirs:

  status          0 unsealed, 1 no answer, 2 sealed
  operator init   with -status: 0 initialized, 1 no answer, 2 not yet
  diff            0 no difference, 2 they differ, 1 they could not be compared
  audit verify    0 the journal is whole, 2 it is not
  doctor          0 all is well or there are only warnings, 1 something is bad
  run             the program's own: 128+n where it died by signal n, 127 where
                  there is no such program, 126 where it cannot be run`)
}

func environmentTopic() *cobra.Command {
	return topic("environment", "Which variables are read", `Each of these is looked for as ROTUNDA_…, then BAO_…, then VAULT_…. A flag goes
before a variable, and a variable before what is saved in a context. With the
flag --context, what says which server is meant and who asks it comes from the
context alone.

  ADDR              address of the server; unix:///path is a socket
  AGENT_ADDR        the same, and goes before it
  TOKEN             the token
  TOKEN_PATH        a file that holds the token, of mode 0600
  NAMESPACE         the namespace
  CACERT            a file of the certificates to trust, in PEM
  CACERT_BYTES      the same, as text
  CAPATH            a directory of such files
  CLIENT_CERT       a file of the certificate to show, in PEM
  CLIENT_KEY        a file of its key, in PEM
  TLS_SERVER_NAME   the name that the server's certificate must have
  SKIP_VERIFY       true: do not check the server's certificate
  CLIENT_TIMEOUT    how long to wait for an answer (60s)
  MAX_RETRIES       how often to ask again (2)
  WRAP_TTL          have answers wrapped, for so long
  MFA               credential of a second factor, for servers that ask for one
  FORMAT            how to print: table, json, yaml, env, raw
  DISABLE_REDIRECTS true: do not follow a redirect
  PROXY_ADDR        the proxy to use; HTTP_PROXY likewise
  CONTEXT           the context to use
  MOUNT             the mount of the short commands

As well: HTTPS_PROXY and NO_PROXY; NO_COLOR, CLI_NO_COLOR (with a prefix),
CLICOLOR_FORCE and TERM=dumb; CI, for no progress bars; XDG_CONFIG_HOME (contexts), XDG_STATE_HOME (tokens, logs) and
XDG_DATA_HOME (data of rotunda up).

A token that is saved for one address is never sent to another. RATE_LIMIT and
SRV_LOOKUP, which other clients read, are not: nothing is held back, and an
address is a host's.`)
}

func pathsTopic() *cobra.Command {
	return topic("paths", "How secrets are named", `The short commands (set, get, ls, rm, history, diff, rollback, import, run) work
in one mount. It is the one of -m, else of ROTUNDA_MOUNT, else of the context,
else secret. Their paths are below it and never begin with it:

  rotunda set app/db           the secret app/db in the mount secret
  rotunda set -m team app/db   the secret app/db in the mount team

Vault's commands name the mount with -mount, or as the beginning of the path:

  rotunda kv get -mount=secret app/db
  rotunda kv get secret/app/db

read, write, list and delete take paths of the API, as they are:

  rotunda read secret/data/app/db

A secret that set stores is {"value": TEXT} for other clients.`)
}
