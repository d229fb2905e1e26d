package op

import (
	"fmt"
	"slices"
	"strings"

	"rotunda.dev/rotunda/internal/fault"
)

// Routes finds the operation that a verb and a path below a mount mean. An
// operation that is not in it does not exist.
type Routes struct {
	ops    []Op
	routes []route // most specific first
}

type route struct {
	segs []part // one a segment
	dir  bool   // the path ends in a slash
	ops  []int  // of Routes.ops, one a verb
}

// NewRoutes returns the routes of ops. It panics where two operations would
// answer the same request.
func NewRoutes(ops []Op) *Routes {
	r := &Routes{ops: ops}
	for i, o := range ops {
		segs := o.pattern.segments()
		if at := slices.IndexFunc(segs, func(x part) bool { return x.rest }); at >= 0 {
			if slices.ContainsFunc(segs[at+1:], func(x part) bool { return x.field >= 0 }) {
				panic("op: internal error: " + o.Name + " has a field behind {" + segs[at].name + "...}")
			}
		}
		at := slices.IndexFunc(r.routes, func(x route) bool { return sameShape(x.segs, segs) })
		if at < 0 {
			at = len(r.routes)
			r.routes = append(r.routes, route{segs: segs, dir: strings.HasSuffix(o.Path, "/")})
		}
		for _, j := range r.routes[at].ops {
			if class(ops[j].Verb) == class(o.Verb) {
				panic(fmt.Sprintf("op: internal error: %s and %s answer the same request", ops[j].Name, o.Name))
			}
		}
		r.routes[at].ops = append(r.routes[at].ops, i)
	}
	slices.SortStableFunc(r.routes, func(a, b route) int { return compareShape(a.segs, b.segs) })
	return r
}

// Ops returns every operation, in the order given.
func (r *Routes) Ops() []Op { return r.ops }

// Match returns the operation for verb at path, which is relative to the mount
// and canonical, with the values of its path fields. Of verb, Create, Update
// and Upsert are one. The error is a fault of kind NoRoute, or Unsupported
// where the path exists with other verbs.
func (r *Routes) Match(verb Verb, path string) (Op, []Arg, error) {
	known := false
	rel := strings.TrimSuffix(path, "/")
	for i := range r.routes {
		args, ok := r.routes[i].match(rel)
		if !ok {
			continue
		}
		for _, j := range r.routes[i].ops {
			if class(r.ops[j].Verb) == class(verb) {
				return r.ops[j], args, nil
			}
		}
		known = true
	}
	if known {
		return Op{}, nil, fault.New(fault.Unsupported, "unsupported operation")
	}
	return Op{}, nil, fault.New(fault.NoRoute, "unsupported path")
}

func (rt *route) match(path string) ([]Arg, bool) {
	var args []Arg
	for i := range rt.segs {
		seg := &rt.segs[i]
		if seg.rest {
			// Also empty, where nothing comes after it: the operation's own Validate decides.
			for _, last := range slices.Backward(rt.segs[i+1:]) {
				rest, ok := strings.CutSuffix(path, "/"+last.text)
				if !ok || rest == "" {
					return nil, false
				}
				path = rest
			}
			return append(args, Arg{seg.name, path}), true
		}
		if path == "" {
			return nil, false
		}
		head, tail, _ := strings.Cut(path, "/")
		switch {
		case seg.field >= 0:
			args = append(args, Arg{seg.name, head})
		case seg.text != head:
			return nil, false
		}
		path = tail
	}
	return args, path == ""
}

// Free returns where in path, which o answers at and which is relative to the
// mount, the value of its {name...} lies: the one part of it whose slashes are
// not o's. Both are 0 where o has no such part.
func (o *Op) Free(path string) (from, to int) {
	segs := o.pattern.segments()
	at := slices.IndexFunc(segs, func(x part) bool { return x.rest })
	if at < 0 {
		return 0, 0
	}
	to = len(strings.TrimSuffix(path, "/"))
	for range at {
		i := strings.IndexByte(path[from:to], '/')
		if i < 0 {
			return 0, 0
		}
		from += i + 1
	}
	for _, last := range segs[at+1:] {
		to -= len(last.text) + 1
	}
	return from, max(from, to)
}

// segments takes the pattern apart at its slashes. A field fills a segment.
func (p pattern) segments() []part {
	var segs []part
	for _, x := range p {
		if x.field >= 0 {
			segs = append(segs, x)
			continue
		}
		for s := range strings.SplitSeq(strings.Trim(x.text, "/"), "/") {
			if s != "" {
				segs = append(segs, part{text: s, field: -1})
			}
		}
	}
	return segs
}

func class(v Verb) Verb {
	if v.IsWrite() {
		return Update
	}
	return v
}

func sameShape(a, b []part) bool {
	return slices.EqualFunc(a, b, func(x, y part) bool {
		return x.text == y.text && x.rest == y.rest && (x.field >= 0) == (y.field >= 0)
	})
}

// compareShape orders literals before fields before rests, segment by segment;
// of two where one begins the other, a rest with more behind it comes first,
// and a rest that may be empty last.
func compareShape(a, b []part) int {
	rank := func(x part) int {
		switch {
		case x.rest:
			return 2
		case x.field >= 0:
			return 1
		}
		return 0
	}
	for i := range min(len(a), len(b)) {
		if d := rank(a[i]) - rank(b[i]); d != 0 {
			return d
		}
	}
	if n := min(len(a), len(b)); n > 0 && (a[n-1].rest || b[n-1].rest) {
		return len(b) - len(a)
	}
	return len(a) - len(b)
}
