package system

import (
	"context"
	"net/http"
	"strings"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/wire"
)

// LeaseIn names a lease.
type LeaseIn struct {
	LeaseID string `json:"lease_id" doc:"Id of the lease."`
}

// LeaseRenewIn asks for more time.
type LeaseRenewIn struct {
	LeaseID   string        `json:"lease_id" doc:"Id of the lease."`
	Increment wire.Duration `json:"increment" doc:"TTL that is asked for."`
}

// LeaseRenewPathIn is [LeaseRenewIn] with the id in the path.
type LeaseRenewPathIn struct {
	LeaseID   string        `path:"lease_id" doc:"Id of the lease."`
	Increment wire.Duration `json:"increment" doc:"TTL that is asked for."`
}

// LeaseRevokeIn names a lease that is to end.
type LeaseRevokeIn struct {
	LeaseID string `json:"lease_id" doc:"Id of the lease."`
	Sync    *bool  `json:"sync" doc:"false: answer 202 rather than 204. It is done before the answer either way."`
}

// LeaseRevokePathIn is [LeaseRevokeIn] with the id in the path.
type LeaseRevokePathIn struct {
	LeaseID string `path:"lease_id" doc:"Id of the lease."`
	Sync    *bool  `json:"sync" doc:"false: answer 202 rather than 204. It is done before the answer either way."`
}

// LeasePrefixIn names all leases whose ids begin alike.
type LeasePrefixIn struct {
	Prefix string `path:"prefix" doc:"What their ids begin with; not empty."`
	Sync   *bool  `json:"sync" doc:"false: answer 202 rather than 204. It is done before the answer either way."`
}

// LeaseListIn names a directory of leases.
type LeaseListIn struct {
	Prefix string `path:"prefix" doc:"What their ids begin with; empty is all."`
}

// LeaseOut is what is known of a lease.
type LeaseOut struct {
	ID string `json:"id"`
}

// LeaseList is names of leases and of directories of them.
type LeaseList struct {
	Keys []string `json:"keys"`
}

// LeaseCountIn says which leases are counted.
type LeaseCountIn struct {
	Type string `json:"type" audit:"clear" doc:"irrevocable, or nothing for all."`
}

// LeaseCount is how many leases there are.
type LeaseCount struct {
	Count    int            `json:"lease_count"`
	PerMount map[string]int `json:"counts"`
}

// leaseOps answer what clients ask about leases. No engine here lends
// anything, so no lease is known, and clients are told so in the words that
// they know.
func leaseOps() []op.Op {
	return append(leasesAt("system.leases", "leases/", false), leasesAt("system.lease", "", true)...)
}

// leasesAt are the operations below a path. The older spellings have no lookup,
// no count and no tidy.
func leasesAt(prefix, path string, older bool) []op.Op {
	ops := []op.Op{
		op.Def[LeaseRenewIn, LeaseOut]{
			Name: prefix + ".renew", Verb: op.Update, Path: path + "renew", Hidden: older, Does: "Renew a lease.",
		}.With(func(_ context.Context, _ *op.Call, in LeaseRenewIn) (LeaseOut, error) {
			if in.LeaseID == "" {
				return LeaseOut{}, noLeaseID()
			}
			return LeaseOut{}, noLease()
		}),
		op.Def[LeaseRenewPathIn, LeaseOut]{
			Name: prefix + ".renew.path", Verb: op.Update, Path: path + "renew/{lease_id...}", Hidden: older, Does: "Renew the lease named in the path.",
		}.With(func(context.Context, *op.Call, LeaseRenewPathIn) (LeaseOut, error) { return LeaseOut{}, noLease() }),
		op.Def[LeaseRevokeIn, op.Empty]{
			Name: prefix + ".revoke", Verb: op.Update, Path: path + "revoke", Hidden: older, Repairs: true, Does: "Revoke a lease; one that is not there is revoked already.",
		}.With(func(_ context.Context, c *op.Call, in LeaseRevokeIn) (op.Empty, error) {
			if in.LeaseID == "" {
				return op.Empty{}, noLeaseID()
			}
			return revoked(c, in.Sync)
		}),
		op.Def[LeaseRevokePathIn, op.Empty]{
			Name: prefix + ".revoke.path", Verb: op.Update, Path: path + "revoke/{lease_id...}", Hidden: older, Repairs: true,
			Does: "Revoke the lease named in the path; one that is not there is revoked already.",
		}.With(func(_ context.Context, c *op.Call, in LeaseRevokePathIn) (op.Empty, error) {
			return revoked(c, in.Sync)
		}),
		op.Def[LeasePrefixIn, op.Empty]{
			Name: prefix + ".revoke-prefix", Verb: op.Update, Path: path + "revoke-prefix/{prefix...}", Sudo: true, Hidden: older, Repairs: true,
			Does: "Revoke all leases whose ids begin alike.",
		}.With(func(_ context.Context, c *op.Call, in LeasePrefixIn) (op.Empty, error) {
			if err := checkPrefix(in.Prefix); err != nil {
				return op.Empty{}, err
			}
			return revoked(c, in.Sync)
		}),
		op.Def[LeasePrefixIn, op.Empty]{
			Name: prefix + ".revoke-force", Verb: op.Update, Path: path + "revoke-force/{prefix...}", Sudo: true, Hidden: older, Repairs: true,
			Does: "Forget all leases whose ids begin alike, even where what was lent cannot be taken back.",
		}.With(func(_ context.Context, _ *op.Call, in LeasePrefixIn) (op.Empty, error) {
			return op.Empty{}, checkPrefix(in.Prefix) // which is 204, whatever is asked
		}),
	}
	if older {
		return ops
	}
	return append(ops,
		op.Def[LeaseIn, LeaseOut]{
			Name: prefix + ".lookup", Verb: op.Update, Path: path + "lookup", Does: "Read a lease.",
		}.With(func(_ context.Context, _ *op.Call, in LeaseIn) (LeaseOut, error) {
			if in.LeaseID == "" {
				return LeaseOut{}, noLeaseID()
			}
			return LeaseOut{}, fault.New(fault.Invalid, "invalid lease")
		}),
		op.Def[LeaseListIn, LeaseList]{
			Name: prefix + ".list", Verb: op.List, Path: path + "lookup/{prefix...}", Sudo: true, Does: "List the ids of leases.",
		}.With(func(context.Context, *op.Call, LeaseListIn) (LeaseList, error) {
			return LeaseList{}, fault.New(fault.NotFound, "")
		}),
		op.Def[LeaseCountIn, LeaseCount]{
			Name: prefix + ".count", Verb: op.Read, Path: path + "count", Does: "Count the leases.",
		}.With(func(context.Context, *op.Call, LeaseCountIn) (LeaseCount, error) {
			return LeaseCount{PerMount: map[string]int{}}, nil
		}),
		op.Def[op.Nothing, op.Empty]{
			Name: prefix + ".tidy", Verb: op.Update, Path: path + "tidy", Does: "Remove what is left of leases that have ended.",
		}.With(func(_ context.Context, c *op.Call, _ op.Nothing) (op.Empty, error) {
			c.Reply.Status = http.StatusAccepted
			c.Warn("Tidy operation successfully started. There are no leases, so there is nothing to tidy.")
			return op.Empty{}, nil
		}),
	)
}

// revoked answers that leases have ended: 202 to who says that it does not wait
// for it, as the command line of https://developer.hashicorp.com/vault/docs/commands/lease/revoke
// does, and 204 to who says nothing.
func revoked(c *op.Call, sync *bool) (op.Empty, error) {
	if sync != nil && !*sync {
		c.Reply.Status = http.StatusAccepted
	}
	return op.Empty{}, nil
}

func checkPrefix(prefix string) error {
	if strings.Trim(prefix, "/") == "" {
		return fault.New(fault.Invalid, "a prefix is needed: all leases are not revoked at once")
	}
	return nil
}

func noLeaseID() error { return fault.New(fault.Invalid, "lease_id must be specified") }

func noLease() error { return fault.New(fault.Invalid, "lease not found") }
