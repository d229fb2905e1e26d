package cli

import (
	"io"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

// AcceptConfig is a stopped node whose store is an old copy.
type AcceptConfig struct {
	StoppedNode
	RootToken bool // make one that ends after an hour

	// Share asks for a share of the root key, of which have are there and need are needed.
	Share func(have, need int) (secret.Text, error)
}

// Accepted is what was done with an old copy of a store.
type Accepted struct {
	ClusterID string
	Tokens    int         // that were revoked
	RootToken secret.Text // empty where none was asked for
}

func (a *app) operatorAcceptRollback() *cobra.Command {
	var data, config string
	var token bool
	c := &cobra.Command{
		Use:   "accept-rollback",
		Short: "Accept an old copy of the store of a stopped node, and revoke all that it has lent",
		Long: `Accept an old copy of the store of a node that is stopped. A node remembers beside
its keys how far its store has come, and does not serve from an older one: secrets
that were destroyed and tokens that were revoked since would be back. When the
newest store is lost and an old one is all there is, this accepts it: every token
and every lease of it is revoked, of all kinds, and that is recorded in the audit
journal. What was written since the copy was made is lost.

Where the store has key shares they are asked for, or read from standard input, one
a line; where it has none, whoever has its key file may do this.

With --root-token a token that may do everything is printed; it ends after an hour.
A node of rotunda up makes one for its owner at the next start.`,
		Example: "  rotunda operator accept-rollback --config /etc/rotunda/rotunda.hcl",
		Args:    atMost(0),
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of the data (default: $XDG_DATA_HOME/rotunda)")
	c.Flags().StringVar(&config, "config", "", "`FILE` of the server's configuration, where the node is not one of rotunda up")
	c.Flags().BoolVar(&token, "root-token", false, "print a root token that ends after an hour")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.Server.AcceptRollback == nil {
			return errNoServer
		}
		n, err := a.stoppedNode(data, config)
		if err != nil {
			return err
		}
		if err := a.confirm("Accept the old copy of the store, and revoke every token and lease?"); err != nil {
			return err
		}
		out, err := a.Server.AcceptRollback(cmd.Context(), AcceptConfig{StoppedNode: n, RootToken: token, Share: a.share})
		if err != nil {
			return err
		}
		doc := document().set("cluster_id", out.ClusterID).set("tokens_revoked", out.Tokens)
		if !out.RootToken.Empty() {
			doc.set("root_token", out.RootToken.Reveal())
		}
		return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
			if !out.RootToken.Empty() {
				if _, err := io.WriteString(w, "Root Token: "+out.RootToken.Reveal()+"\n"); err != nil {
					return err
				}
			}
			start := "rotunda up --data " + show.Shell(n.Data)
			if config != "" {
				start = "rotunda server --config " + show.Shell(config)
			}
			a.note("Accepted the old copy of the store. %d tokens were revoked, and all batch tokens.", out.Tokens)
			a.note("  next: %s", start)
			return nil
		}})
	}
	return c
}
