// Package op declares operations: what the server can do, said once, in types.
//
// A [Def] is read by everything that must agree about an operation: the
// policy that guards it, the audit log that names it, the doors that serve
// it, and the help, OpenAPI and Markdown that describe it.
//
// # Fields of a request
//
// In is a struct. Its fields carry one of these tags:
//
//	path:"name"    taken from the place of {name} or {name...} in Def.Path
//	json:"name"    a top-level field of the body; for reads and deletes a query parameter
//	query:"name"   a query parameter only
//	body:"whole"   the whole body, as secret.JSON
//	doc:"text"     one sentence for people
//	audit:"clear"  of a string: shown as it is in the audit log, where it would be a keyed hash
//
// A field that may be absent and whose zero value means something is a pointer.
package op

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Verb is what a policy must allow for an operation to run. The zero Verb is
// not valid and allowed by nothing.
type Verb uint8

// The verbs of a policy, and Upsert, which is Create or Update as the thing
// exists or not.
const (
	NoVerb Verb = iota
	Read
	List
	Create
	Update
	Patch
	Delete
	Upsert
)

var verbs = [...]string{"", "read", "list", "create", "update", "patch", "delete", "upsert"}

// String returns the capability's name as policies spell it.
func (v Verb) String() string {
	if int(v) < len(verbs) {
		return verbs[v]
	}
	return ""
}

// IsWrite reports whether v is what a POST or PUT does.
func (v Verb) IsWrite() bool { return v == Create || v == Update || v == Upsert }

// Auth says who may call an operation. The zero value demands a token that a
// policy allows.
type Auth uint8

// The ways to be let in.
const (
	Token Auth = iota // a valid token whose policies allow it
	Open              // no token is needed and no policy asked; of a valid one the Call still says whose it is
	Login             // as Open; the answer holds a token, and the attempt is counted
)

// Shape says how the Vault dialect lays out an answer.
type Shape uint8

// The shapes of an answer.
const (
	Enveloped Shape = iota // under "data" in the envelope
	Injected               // the same, and its fields once more beside the envelope's
	Bare                   // as the whole body
)

// Effects says what an operation touches besides answering.
type Effects uint8

// The reaches of an operation.
const (
	StoreOnly Effects = iota // reads or writes our store only
	Outside                  // has effects outside our store: its intent is journalled first
)

// Limit bounds a request; zero fields stand for the listener's defaults.
type Limit struct {
	Body int64 // bytes
	Long bool  // takes long, and gets the time of such operations
}

// Def declares one operation. In and Out are structs.
type Def[In, Out any] struct {
	Name    string // "kv.get": stable, unique, the same in logs, metrics and docs
	Verb    Verb
	Path    string // "data/{path...}": what a policy names and the Vault door serves, under the mount
	Does    string // one sentence for people
	Auth    Auth
	Sudo    bool // needs the sudo capability too
	Sealed  bool // can be called while sealed; such an operation is Open and touches no engine
	Shape   Shape
	Effects Effects
	Limit   Limit
	Stream  bool // answers piece by piece, for as long as that takes; see Raw
	Hidden  bool // left out of the generated documentation: an older spelling of another operation
	Repairs bool // must go on when the disk is full: sealing and revoking
}

// Op is a Def bound to the function that performs it, its types closed over.
type Op struct {
	Name, Path, Does string
	Verb             Verb
	Auth             Auth
	Sudo, Sealed     bool
	Shape            Shape
	Effects          Effects
	Limit            Limit
	Stream, Hidden   bool
	Repairs          bool
	In, Out          reflect.Type // for those who describe; nothing is decided by them
	InTransaction    bool         // the work is one transaction, and its outcome is recorded in it
	pattern          pattern
	run              func(ctx context.Context, c *Call, src Source, allow Allow) (any, error)
}

// Empty is the Out of an operation that answers nothing (204).
type Empty struct{}

// Nothing is the In of an operation that takes nothing.
type Nothing struct{}

// Raw is the Out of an operation whose answer is not JSON or is sent as it is.
type Raw struct {
	ContentType string
	Body        []byte

	// Stream writes the answer, instead of Body, when its record is durable. It
	// is called once at most, after the operation has ended, and is inside no
	// session: it enters one itself. An error of it cuts the answer off. The Def
	// is a Stream.
	Stream func(ctx context.Context, w io.Writer) error `json:"-"`
}

// Mount is where an operation is called.
type Mount struct {
	Path     name.Path // "secret/"
	ID       string    // random, 32 hex digits; stays when the mount moves
	Accessor string    // "kv_1a2b3c4d": what clients call the mount
	Kind     string    // "kv"
}

// Caller is who calls, as the token says. The zero Caller is nobody.
type Caller struct {
	TokenID     string // the token's id in the store: a keyed hash; empty for nobody
	Accessor    string
	DisplayName string
	Policies    []name.Name
	EntityID    string
	Kind        string // "service" or "batch"
	Root        bool   // holds the policy root
	Cubby       string // id of the token's own cubbyhole; empty for batch tokens
}

// Call is what is known of a request besides its arguments.
type Call struct {
	ID      string    // of the request: a UUIDv4 made by the server
	Time    time.Time // read once, at the door; everything it decides agrees on it
	Remote  netip.AddrPort
	Mount   Mount
	Caller  Caller
	Token   secret.Text // as presented; empty for none
	WrapTTL time.Duration
	Args    []Arg // path fields, bound by the router; empty where In is filled whole

	// May reports whether the caller may do verb to resource, parameters left
	// aside: for lists that show only what can be seen. Nil allows nothing.
	May func(verb Verb, resource string) bool

	// Sudo reports whether the caller may do verb to resource with the sudo
	// capability. Nil reports no.
	Sudo func(verb Verb, resource string) bool

	// Sees reports whether the caller may do anything at all at or below the
	// prefix, which ends in a slash. Nil sees nothing.
	Sees func(prefix string) bool

	// Found is what Exists has found for the Do that follows in the same run of
	// the same transaction; theirs alone.
	Found any

	Reply Reply // what the operation says besides its value

	// Asked is what the policy was asked; In and Out are the request and the
	// answer as values. Run sets them, for the audit record.
	Asked   Ask
	In, Out any
}

// Arg is the value of one path field.
type Arg struct{ Name, Value string }

// Reply is what an operation answers besides its Out.
type Reply struct {
	Warnings []string
	Auth     *Grant
	Lease    *Lease
	Wrap     *Wrap
	Status   int // an HTTP status other than the usual one; 0 for the usual one

	// Told is called once after the answer was handed to the caller's connection,
	// with what went wrong on the way if anything did; nil where the operation
	// has nothing to do then.
	Told func(error)
}

// Warn adds a warning for the caller.
func (c *Call) Warn(format string, args ...any) {
	c.Reply.Warnings = append(c.Reply.Warnings, fmt.Sprintf(format, args...))
}

// Grant is a token that was given or renewed.
type Grant struct {
	ClientToken      secret.Text
	Accessor         string
	Policies         []name.Name
	TokenPolicies    []name.Name
	IdentityPolicies []name.Name
	Metadata         map[string]string
	TTL              time.Duration
	Renewable        bool
	EntityID         string
	Kind             string // "service" or "batch"
	Orphan           bool
	NumUses          int
}

// Lease is the loan that an answer comes with.
type Lease struct {
	ID        string
	TTL       time.Duration
	Renewable bool
}

// Wrap stands in the place of an answer that was wrapped.
type Wrap struct {
	Token           secret.Text
	Accessor        string
	TTL             time.Duration
	CreationTime    time.Time
	CreationPath    string
	WrappedAccessor string
}

// Param is one top-level parameter of a request as it was sent.
type Param struct {
	Name  string
	Value jsontext.Value
}

// Source is a request's arguments, as a door has them.
type Source interface {
	// Fill sets the fields of the struct that in points to, path fields aside.
	Fill(in any) error
	// Params returns the parameters as they were sent, for policies that
	// constrain them.
	Params() ([]Param, error)
}

// Ask is a question to the policy.
type Ask struct {
	Verb     Verb
	Resource string // the mount's path and the Def's with its fields filled in; ends in a slash for List
	Sudo     bool
	WrapTTL  time.Duration
	Params   func() ([]Param, error) // nil for none
}

// Allow says whether the caller may do what is asked: nil, or a fault of kind Denied.
type Allow func(Ask) error

// Runner runs an operation by its name: the broker, or a fake of it.
type Runner interface {
	Run(ctx context.Context, c *Call, opName string, src Source) (any, error)
}

// With binds d to do, which may use any number of transactions. It panics if
// Path names a field that In does not have, or if d is an Upsert: see [Def.WithExists].
func (d Def[In, Out]) With(do func(context.Context, *Call, In) (Out, error)) Op {
	if d.Verb == Upsert {
		panic("op: internal error: " + d.Name + " is an Upsert and needs WithExists or InTx")
	}
	return d.bind(false, func(ctx context.Context, c *Call, in In, ask Ask, allow Allow) (Out, error) {
		if err := d.allowed(allow, ask); err != nil {
			return *new(Out), err
		}
		c.Asked = ask
		return do(ctx, c, in)
	})
}

// WithExists binds an Upsert to do; exists says whether the thing is there,
// which do must find out again in the transaction that it writes in.
func (d Def[In, Out]) WithExists(do func(context.Context, *Call, In) (Out, error), exists func(context.Context, *Call, In) (bool, error)) Op {
	if d.Verb != Upsert {
		panic("op: internal error: " + d.Name + " is not an Upsert")
	}
	return d.bind(false, func(ctx context.Context, c *Call, in In, ask Ask, allow Allow) (Out, error) {
		verb, err := d.settle(ask, allow, func() (bool, error) { return exists(ctx, c, in) })
		c.Asked.Verb = verb
		if err != nil {
			return *new(Out), err
		}
		return do(ctx, c, in)
	})
}

// Work is the body of an operation that is one transaction.
type Work[In, Out any] struct {
	// Locks returns the scopes that the work touches, as far as they are known.
	Locks func(c *Call, in In) storage.Locks
	// Exists says whether the thing is there; for an Upsert and for nothing else.
	Exists func(r storage.Reader, c *Call, in In) (bool, error)
	// Do does it. It may run again, as every function given to a Store's Update.
	Do func(tx storage.Tx, c *Call, in In) (Out, error)
}

// InTx binds d to work that is one transaction of store. The audit record of
// its outcome is kept in the same transaction.
func (d Def[In, Out]) InTx(store storage.Store, w Work[In, Out]) Op {
	if (d.Verb == Upsert) != (w.Exists != nil) {
		panic("op: internal error: " + d.Name + " needs Exists if and only if it is an Upsert")
	}
	return d.bind(true, func(ctx context.Context, c *Call, in In, ask Ask, allow Allow) (Out, error) {
		var out Out
		c.Asked = ask
		creates, updates := error(nil), error(nil)
		if d.Verb == Upsert {
			creates, updates = d.asked(allow, ask, Create), d.asked(allow, ask, Update)
			if creates != nil && updates != nil {
				c.Asked.Verb = Update
				return out, updates
			}
		} else if err := d.allowed(allow, ask); err != nil {
			return out, err
		}
		var locks storage.Locks
		if w.Locks != nil {
			locks = w.Locks(c, in)
		}
		said := c.Reply
		err := store.Update(ctx, locks, func(tx storage.Tx) error {
			c.Reply = said
			if w.Exists != nil {
				there, err := w.Exists(tx, c, in)
				if err != nil {
					return err
				}
				verdict := creates
				c.Asked.Verb = Create
				if there {
					verdict, c.Asked.Verb = updates, Update
				}
				if verdict != nil {
					return verdict
				}
			}
			var err error
			out, err = w.Do(tx, c, in)
			c.Out = out
			return err
		})
		return out, err
	})
}

func (d Def[In, Out]) allowed(allow Allow, ask Ask) error {
	if d.Auth != Token {
		return nil
	}
	return allow(ask)
}

func (d Def[In, Out]) asked(allow Allow, ask Ask, v Verb) error {
	ask.Verb = v
	return d.allowed(allow, ask)
}

// settle asks about both readings of an Upsert, and looks whether the thing
// exists only where the answers differ or the record needs it.
func (d Def[In, Out]) settle(ask Ask, allow Allow, exists func() (bool, error)) (Verb, error) {
	creates, updates := d.asked(allow, ask, Create), d.asked(allow, ask, Update)
	if creates != nil && updates != nil {
		return Update, updates
	}
	there, err := exists()
	if err != nil {
		return Update, err
	}
	if there {
		return Update, updates
	}
	return Create, creates
}

func (d Def[In, Out]) bind(tx bool, do func(ctx context.Context, c *Call, in In, ask Ask, allow Allow) (Out, error)) Op {
	if d.Name == "" || d.Verb == NoVerb || d.Does == "" {
		panic(fmt.Sprintf("op: internal error: incomplete Def %+v", d))
	}
	at := parse[In](d.Path)
	o := Op{
		Name: d.Name, Path: d.Path, Does: d.Does, Verb: d.Verb, Auth: d.Auth, Sudo: d.Sudo, Sealed: d.Sealed, Shape: d.Shape,
		Effects: d.Effects, Limit: d.Limit, Stream: d.Stream, Hidden: d.Hidden, Repairs: d.Repairs,
		In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](), InTransaction: tx, pattern: at,
	}
	o.run = func(ctx context.Context, c *Call, src Source, allow Allow) (any, error) {
		var in In
		if err := src.Fill(&in); err != nil {
			if fault.KindOf(err) != fault.Internal {
				return nil, err
			}
			return nil, fault.Wrap(fault.Invalid, err, "malformed request")
		}
		if err := at.set(&in, c.Args); err != nil {
			return nil, err
		}
		c.In = in
		ask := Ask{Verb: d.Verb, Resource: at.resource(c.Mount.Path, &in, d.Verb), Sudo: d.Sudo, WrapTTL: c.WrapTTL, Params: src.Params}
		c.Asked = ask
		checked := func(a Ask) error {
			if err := allow(a); err != nil {
				return err
			}
			return validate(c.In)
		}
		if d.Auth != Token {
			if err := validate(c.In); err != nil {
				return nil, err
			}
		}
		out, err := do(ctx, c, in, ask, checked)
		c.Out = out
		if err != nil && fault.KindOf(err) != fault.Deleted {
			return nil, err
		}
		return c.Out, err
	}
	return o
}

func validate(in any) error {
	v, ok := in.(interface{ Validate() error })
	if !ok {
		return nil
	}
	err := v.Validate()
	if err == nil || fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Invalid, err, "%v", err)
}

// Run fills a request, asks allow about what it names, checks it, and only
// then does the work. There is no other way to the work. The value comes
// together with an error where that is of kind Deleted, and never otherwise.
func (o Op) Run(ctx context.Context, c *Call, src Source, allow Allow) (any, error) {
	return o.run(ctx, c, src, allow)
}

// Do runs d with a request that the caller has as a Go value, as the doors
// with a fixed set of actions do. The compiler checks both ends.
func (d Def[In, Out]) Do(ctx context.Context, r Runner, c *Call, in In) (Out, error) {
	out, err := r.Run(ctx, c, d.Name, whole[In]{in})
	if err != nil {
		return *new(Out), err
	}
	return out.(Out), nil //nolint:forcetypeassert,errcheck // Run returns what d was bound to
}

type whole[In any] struct{ in In }

func (w whole[In]) Fill(in any) error        { *in.(*In) = w.in; return nil } //nolint:forcetypeassert,errcheck // only d's own run calls it
func (w whole[In]) Params() ([]Param, error) { return nil, nil }

// pattern is a Path taken apart once, so that a value is only ever a value:
// one that looks like a {name} stays as it is, and cannot make the policy be
// asked about another resource.
type pattern []part

type part struct {
	text  string // as it stands, if field is negative
	name  string
	field int  // of In, whose value goes here
	rest  bool // {name...}: takes every segment that is left, before literal ones at the end
}

func parse[In any](path string) pattern {
	var p pattern
	for rest := path; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if text != "" {
			p = append(p, part{text: text, field: -1})
		}
		if !found {
			break
		}
		field, tail, _ := strings.Cut(after, "}")
		bare := strings.TrimSuffix(field, "...")
		p = append(p, part{name: bare, field: fieldTagged(reflect.TypeFor[In](), bare), rest: bare != field})
		rest = tail
	}
	return p
}

func fieldTagged(t reflect.Type, tag string) int {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("path") == tag {
			return i
		}
	}
	panic(fmt.Sprintf("op: internal error: %v has no field tagged path:%q", t, tag))
}

var nameType = reflect.TypeFor[name.Name]()

// set puts the router's arguments into the path fields of in. A field of type
// name.Name takes the canonical name, so that policy and store see the same.
func (p pattern) set(in any, args []Arg) error {
	if len(args) == 0 {
		return nil
	}
	v := reflect.ValueOf(in).Elem()
	for _, part := range p {
		if part.field < 0 {
			continue
		}
		for _, a := range args {
			if a.Name != part.name {
				continue
			}
			f := v.Field(part.field)
			switch {
			case f.Type() == nameType:
				n, err := name.Parse(a.Value)
				if err != nil {
					return err
				}
				f.SetString(string(n))
			case f.Kind() == reflect.String:
				f.SetString(a.Value)
			case f.CanInt():
				n, err := strconv.ParseInt(a.Value, 10, 64)
				if err != nil || f.OverflowInt(n) {
					return fault.New(fault.Invalid, "%s must be a number", a.Name)
				}
				f.SetInt(n)
			default:
				panic("op: internal error: a path field must be text or a number")
			}
		}
	}
	return nil
}

func (p pattern) resource(mount name.Path, in any, verb Verb) string {
	v := reflect.ValueOf(in).Elem()
	var b strings.Builder
	b.WriteString(string(mount))
	for _, part := range p {
		switch {
		case part.field < 0:
			b.WriteString(part.text)
		case v.Field(part.field).Kind() == reflect.String:
			b.WriteString(v.Field(part.field).String())
		default:
			b.WriteString(strconv.FormatInt(v.Field(part.field).Int(), 10))
		}
	}
	s := b.String()
	if verb == List && !strings.HasSuffix(s, "/") {
		s += "/"
	}
	return s
}
