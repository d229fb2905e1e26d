package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
)

func (a *app) leaseCommand() *cobra.Command {
	var increment string
	renew := &cobra.Command{
		Use: "renew ID", Short: "Make a lease last longer", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := object{}
			body.set("lease_id", args[0])
			if increment != "" {
				body.set("increment", increment)
			}
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/renew", Body: body.json()}, "Success! The lease is renewed")
		},
	}
	renew.Flags().StringVarP(&increment, "increment", "i", "", "ask for so `long` from this moment on")

	var prefix, force, sync bool
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "End a lease", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := trimPath(args[0])
			switch {
			case force && !prefix:
				return usageError{errors.New("--force goes with --prefix"), cmd.CommandPath()}
			case force:
				return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke-force/" + id}, "Success! Forgot all leases under: "+id)
			case prefix:
				return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke-prefix/" + id, Body: new(object).set("sync", sync).json()}, "Success! Revoked all leases under: "+id)
			}
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/revoke", Body: new(object).set("lease_id", id).set("sync", sync).json()}, "Success! Revoked the lease (if it existed): "+id)
		},
	}
	revoke.Flags().BoolVar(&prefix, "prefix", false, "all leases whose ids begin with ID")
	revoke.Flags().BoolVarP(&force, "force", "f", false, "forget them even where taking back fails")
	revoke.Flags().BoolVar(&sync, "sync", false, "wait until it is done")

	lookup := &cobra.Command{
		Use: "lookup ID", Short: "Print a lease", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/leases/lookup", Body: new(object).set("lease_id", args[0]).json()}, "")
		},
	}
	return group("lease", "Look at leases, make them longer, end them", lookup, renew, revoke)
}
