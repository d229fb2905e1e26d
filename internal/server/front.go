package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/broker"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/vault"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// front is what the doors talk to: the broker while there is one, and beside it
// what can be called while the node is sealed.
type front struct {
	n      *Node
	sealed *op.Routes
}

var _ door.Handler = (*front)(nil)

const systemPath = "sys/"

func newFront(n *Node) *front {
	var ops []op.Op
	for _, o := range system.SealOps(n.gate, n.c.Info) {
		if o.Sealed {
			ops = append(ops, o)
		}
	}
	return &front{n: n, sealed: op.NewRoutes(ops)}
}

// beside returns the operation that is called beside the broker, if the path means one.
func (f *front) beside(verb op.Verb, path name.Path) (op.Op, bool) {
	rest, ok := strings.CutPrefix(string(path), systemPath)
	if !ok {
		return op.Op{}, false
	}
	o, _, err := f.sealed.Match(verb, rest)
	return o, err == nil
}

// Handle implements door.Handler.
func (f *front) Handle(ctx context.Context, r *door.Request) (*door.Response, error) {
	if o, ok := f.beside(r.Verb, r.Path); ok && !r.Help {
		return f.runBeside(ctx, o, r)
	}
	var response *door.Response
	err := f.n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) (err error) {
		response, err = b.Handle(ctx, r)
		return err
	})
	return response, err
}

// runBeside runs an operation that needs no broker. It must not be inside the
// gate, because it may open or wait for it. What only reads gives nothing away
// that needs a record; what changes something is recorded, while sealed with
// neither names nor values.
func (f *front) runBeside(ctx context.Context, o op.Op, r *door.Request) (*door.Response, error) {
	call := &op.Call{ID: r.ID, Time: r.Time, Remote: r.Remote, Mount: op.Mount{Path: systemPath, Kind: "system"}}
	if o.Effects == op.Outside { // what it tells must be told, so that it was asked for is durable before
		if err := f.recordBeside(ctx, o, r, "begun", ""); err != nil {
			return nil, err
		}
	}
	value, err := o.Run(ctx, call, r.Source, func(op.Ask) error { return fault.New(fault.Denied, "permission denied") })
	outcome := audit.OutcomeOK
	if err != nil {
		outcome = fault.KindOf(err).String()
	}
	if o.Verb != op.Read {
		if recorded := f.recordBeside(ctx, o, r, outcome, publicOf(err)); recorded != nil {
			f.n.c.Log.LogAttrs(ctx, slog.LevelError, "recording an outcome", slog.String("request_id", r.ID), slog.Any("cause", recorded))
			if o.Effects != op.Outside {
				return nil, recorded
			}
		}
	}
	f.n.metrics.Ran(o.Name, outcome, f.n.c.Clock.Now().Sub(r.Time))
	if told := call.Reply.Told; told != nil {
		call.Reply.Told = func(lost error) {
			if lost != nil {
				f.recordLost(ctx, o, r, lost)
			}
			told(lost)
		}
	}
	if err != nil {
		if fault.KindOf(err) == fault.Internal {
			f.n.c.Log.LogAttrs(ctx, slog.LevelError, "operation failed", slog.String("request_id", r.ID), slog.String("operation", o.Name), slog.Any("cause", err))
		}
		return nil, err
	}
	return &door.Response{Op: o, Mount: call.Mount, Value: value, Reply: call.Reply}, nil
}

func (f *front) recordBeside(ctx context.Context, o op.Op, r *door.Request, outcome, said string) error {
	ctx = context.WithoutCancel(ctx)
	err := f.n.gate.WithNow(ctx, func(ctx context.Context, b *broker.Broker) error {
		return b.Parts().Journal.Append(context.WithoutCancel(ctx), &audit.Record{
			Kind: audit.Request, Time: r.Time, Node: f.n.c.Info.ClusterName, RequestID: r.ID, Op: o.Name, Verb: o.Verb.String(),
			Path: string(r.Path), Remote: r.Remote.String(), Allowed: true, Outcome: outcome, Error: said, Critical: true,
		})
	})
	if fault.Is(err, fault.Sealed) {
		return f.n.journal.Sealed(ctx, strings.ReplaceAll(o.Name, ".", "-")+"-"+outcome)
	}
	return err
}

// recordLost records that nobody may have heard what o answered.
func (f *front) recordLost(ctx context.Context, o op.Op, r *door.Request, lost error) {
	f.n.c.Log.LogAttrs(ctx, slog.LevelError, "an answer did not reach who asked", slog.String("request_id", r.ID), slog.String("operation", o.Name), slog.Any("cause", lost))
	if err := f.recordBeside(ctx, o, r, "unheard", ""); err != nil {
		f.n.c.Log.LogAttrs(ctx, slog.LevelError, "recording an outcome", slog.String("request_id", r.ID), slog.Any("cause", err))
	}
}

func publicOf(err error) string {
	if err == nil {
		return ""
	}
	return fault.Public(err)
}

// Route implements door.Handler.
func (f *front) Route(ctx context.Context, verb op.Verb, path name.Path) (o op.Op, at name.Path, err error) {
	if o, ok := f.beside(verb, path); ok {
		return o, "", nil
	}
	err = f.n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		o, at, err = b.Route(ctx, verb, path)
		return err
	})
	return o, at, err
}

// Refused implements door.Handler. While the node is sealed there is nothing
// to refuse but what answers anyway.
func (f *front) Refused(ctx context.Context, r *door.Request, cause error) error {
	err := f.n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error { return b.Refused(ctx, r, cause) })
	if fault.Is(err, fault.Sealed) {
		return nil
	}
	return err
}

// Operations implements door.Handler.
func (f *front) Operations(ctx context.Context) (all []door.MountedOps, err error) {
	err = f.n.gate.With(ctx, func(ctx context.Context, b *broker.Broker) error {
		p := b.Parts()
		moment, err := p.Fence.Arrive(ctx)
		if err != nil {
			return fmt.Errorf("asking the store what has changed: %w", err)
		}
		mounted, err := p.Mounts.Mounted(ctx, moment)
		if err != nil {
			return err
		}
		for _, m := range mounted {
			all = append(all, door.MountedOps{Mount: m.Call, Ops: m.Routes.Ops()})
		}
		return nil
	})
	return all, err
}

// describe returns the OpenAPI document of what is mounted.
func (f *front) describe(ctx context.Context) ([]byte, error) {
	all, err := f.Operations(ctx)
	if err != nil {
		return nil, err
	}
	return vault.OpenAPI(all, f.n.c.Info.Version)
}
