package doortest

import (
	"context"
	"sync"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
)

// Fake is a door.Handler with operations and without anything behind it: it
// knows who may do what from a table, and keeps what it was asked.
type Fake struct {
	Mounts []door.MountedOps
	Sealed bool

	// Allow says whether the holder of a token may do what is asked; nil lets
	// every token in. The empty token is never asked about.
	Allow func(token string, ask op.Ask) error

	once   sync.Once
	routes []*op.Routes // of each mount; set once

	mu      sync.Mutex // guards what follows
	handled []door.Request
	refused []Refusal
}

// Refusal is a request that a door refused, and why.
type Refusal struct {
	Request door.Request
	Cause   error
}

// Handled returns the requests that came, in order.
func (f *Fake) Handled() []door.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]door.Request(nil), f.handled...)
}

// Refusals returns the requests that the door refused, in order.
func (f *Fake) Refusals() []Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Refusal(nil), f.refused...)
}

func (f *Fake) find(verb op.Verb, path name.Path) (op.Op, op.Mount, []op.Arg, error) {
	f.once.Do(func() {
		for _, m := range f.Mounts {
			f.routes = append(f.routes, op.NewRoutes(m.Ops))
		}
	})
	for i, m := range f.Mounts {
		rest, ok := cut(path.Dir(), m.Mount.Path)
		if !ok {
			continue
		}
		if !path.IsDir() && len(rest) > 0 {
			rest = rest[:len(rest)-1]
		}
		o, args, err := f.routes[i].Match(verb, rest)
		return o, m.Mount, args, err
	}
	return op.Op{}, op.Mount{}, nil, fault.New(fault.NoRoute, "no handler for route %q. route entry not found.", string(path))
}

func cut(path, mount name.Path) (string, bool) {
	if len(path) < len(mount) || path[:len(mount)] != mount {
		return "", false
	}
	return string(path[len(mount):]), true
}

// Route implements door.Handler.
func (f *Fake) Route(_ context.Context, verb op.Verb, path name.Path) (op.Op, name.Path, error) {
	o, mount, _, err := f.find(verb, path)
	return o, mount.Path, err
}

// Handle implements door.Handler.
func (f *Fake) Handle(ctx context.Context, r *door.Request) (*door.Response, error) {
	f.mu.Lock()
	f.handled = append(f.handled, *r)
	f.mu.Unlock()
	o, mount, args, err := f.find(r.Verb, r.Path)
	if f.Sealed && !o.Sealed {
		return nil, fault.New(fault.Sealed, "")
	}
	if (err != nil || o.Auth == op.Token) && r.Token.Empty() {
		return nil, fault.New(fault.Unauthenticated, "permission denied")
	}
	if err != nil {
		return nil, err
	}
	if r.Help {
		return &door.Response{Op: o, Mount: mount}, nil
	}
	call := &op.Call{ID: r.ID, Time: r.Time, Remote: r.Remote, Mount: mount, Token: r.Token, WrapTTL: r.WrapTTL, Args: args}
	value, err := o.Run(ctx, call, r.Source, func(ask op.Ask) error {
		if f.Allow == nil {
			return nil
		}
		return f.Allow(r.Token.Reveal(), ask)
	})
	if err != nil && !fault.Is(err, fault.Deleted) {
		return nil, err
	}
	return &door.Response{Op: o, Mount: mount, Value: value, Reply: call.Reply}, err
}

// Refused implements door.Handler.
func (f *Fake) Refused(_ context.Context, r *door.Request, cause error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = append(f.refused, Refusal{*r, cause})
	return nil
}

// Operations implements door.Handler.
func (f *Fake) Operations(context.Context) ([]door.MountedOps, error) {
	if f.Sealed {
		return nil, fault.New(fault.Sealed, "")
	}
	return f.Mounts, nil
}
