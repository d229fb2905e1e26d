package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/mount"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/wire"
)

// Sinks makes and ends the sinks of the audit log. The journal is none of them:
// it is always there.
type Sinks interface {
	// Declared returns the sinks of the configuration.
	Declared() []audit.SinkConfig
	// Check reports a sink that the API must not define, as a fault of kind Invalid.
	Check(audit.SinkConfig) error
	// Start opens a sink and feeds it. The error is a fault of kind Invalid
	// where the sink cannot be opened.
	Start(audit.SinkConfig) error
	// Stop ends a sink and forgets where it stood. One that is not there is
	// not an error.
	Stop(name string) error
}

// Sinks that the API has enabled are one row of the core space:
//
//	scope "a", row "sinks": JSON
//	  {"format":1,"sinks":[{"name":"file","kind":"file","options":{…}}, …]}
const (
	sinkScope  = "a"
	sinkRow    = "sinks"
	sinkFormat = 1
	maxSinks   = 64
)

type sinkTable struct {
	Format int                `json:"format"`
	Sinks  []audit.SinkConfig `json:"sinks"`
}

func readSinks(r storage.Reader) ([]audit.SinkConfig, error) {
	b, err := r.Get(storage.Key{Scope: sinkScope, Row: sinkRow})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit sinks: %w", err)
	}
	var t sinkTable
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("decoding the audit sinks: %w: %w", storage.ErrCorrupt, err)
	}
	if t.Format != sinkFormat {
		return nil, fmt.Errorf("decoding the audit sinks: format %d: %w", t.Format, storage.ErrNewer)
	}
	return t.Sinks, nil
}

func writeSinks(tx storage.Tx, sinks []audit.SinkConfig) error {
	slices.SortFunc(sinks, func(a, b audit.SinkConfig) int { return strings.Compare(a.Name, b.Name) })
	b, err := json.Marshal(sinkTable{sinkFormat, sinks}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encoding the audit sinks: %w", err)
	}
	tx.Put(storage.Key{Scope: sinkScope, Row: sinkRow}, b)
	return nil
}

// StartSinks starts the sinks of the configuration and those that the API has
// enabled, and lets go of what the journal keeps for others. One of the
// configuration that cannot be started is an error. One of the API is a
// warning: the journal keeps its records until it can be.
func StartSinks(ctx context.Context, p *Parts) error {
	var enabled []audit.SinkConfig
	err := p.Core.View(ctx, func(r storage.Reader) (err error) {
		enabled, err = readSinks(r)
		return err
	})
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, c := range p.Sinks.Declared() {
		wanted[c.Name] = true
		if err := p.Sinks.Start(c); err != nil {
			return fmt.Errorf("starting audit sink %q of the configuration: %w", c.Name, err)
		}
	}
	for _, c := range enabled {
		if wanted[c.Name] {
			p.Log.LogAttrs(ctx, slog.LevelWarn, "an audit sink of the configuration stands in the place of one that was enabled", slog.String("sink", c.Name))
			continue
		}
		wanted[c.Name] = true
		if err := p.Sinks.Start(c); err != nil {
			p.Log.LogAttrs(ctx, slog.LevelError, "an audit sink cannot be started; its records wait in the journal", slog.String("sink", c.Name), slog.Any("cause", err))
		}
	}
	feeds, err := p.Journal.Feeds()
	if err != nil {
		return err
	}
	for name := range feeds {
		if !wanted[name] {
			if err := p.Journal.Unfeed(name); err != nil {
				return fmt.Errorf("forgetting audit sink %q: %w", name, err)
			}
		}
	}
	return nil
}

// SinkInfo is a sink as clients see it.
type SinkInfo struct {
	Description string            `json:"description" audit:"clear"`
	Local       bool              `json:"local"`
	Options     map[string]string `json:"options"`
	Path        string            `json:"path" audit:"clear"`
	Type        string            `json:"type" audit:"clear"`
}

// SinkMap is a set of sinks under their paths.
type SinkMap map[string]SinkInfo

type sinkPathIn struct {
	Path string `path:"path" audit:"clear" doc:"Name of the sink."`
}

type sinkEnableIn struct {
	Path        string   `path:"path" audit:"clear" doc:"Name of the sink."`
	Type        string   `json:"type" audit:"clear" doc:"Kind of sink: file."`
	Description string   `json:"description" audit:"clear" doc:"What the sink is for, for people."`
	Options     wire.Map `json:"options" doc:"Of a file: file_path, mode, hmac_accessor, format."`
	Local       bool     `json:"local" doc:"Kept for clients; every sink is local."`
}

type auditHashIn struct {
	Path  string `path:"path" audit:"clear" doc:"Name of a sink, or journal."`
	Input string `json:"input" doc:"What is to be hashed."`
}

type auditHashOut struct {
	Hash string `json:"hash" audit:"clear"`
}

type journalOut struct {
	JournalID string            `json:"journal_id" audit:"clear"`
	First     uint64            `json:"first_sequence"`
	Last      uint64            `json:"last_sequence"`
	Segments  int               `json:"segments"`
	Bytes     int64             `json:"bytes"`
	Sinks     map[string]uint64 `json:"sinks" doc:"Sequence of the last record that each sink has."`
	Feeds     []feedOut         `json:"feeds" doc:"How each sink that is fed is doing."`
	SignedAt  wire.Time         `json:"signed_at" doc:"When the last checkpoint was signed."`
	Problem   string            `json:"problem" audit:"clear" doc:"Why no checkpoints are signed any more; empty where they are."`
}

// feedOut is how one sink is doing.
type feedOut struct {
	Name     string    `json:"name" audit:"clear" doc:"Name of the sink."`
	Last     uint64    `json:"last_sequence" doc:"Sequence of the last record that it has."`
	Behind   uint64    `json:"behind" doc:"Number of records that wait for it in the journal."`
	Failures uint64    `json:"failures" doc:"Times that it did not take its records, since the server was unsealed."`
	Late     bool      `json:"late" doc:"It fails, or has taken none of what waits for it for half a minute."`
	Problem  string    `json:"problem" audit:"clear" doc:"Why it takes no records; empty where it does."`
	Since    wire.Time `json:"failing_since" doc:"When it began to take no records."`
}

type searchIn struct {
	Actor       string        `json:"actor" audit:"clear" doc:"Accessor, display name or entity of who asked."`
	Path        string        `json:"path" audit:"clear" doc:"What the path of the record begins with."`
	Op          string        `json:"op" audit:"clear" doc:"Name of an operation."`
	Kind        string        `json:"kind" audit:"clear" doc:"request, intent, outcome or event."`
	Outcome     string        `json:"outcome" audit:"clear" doc:"ok, unknown, or the kind of a failure."`
	RequestID   string        `json:"request_id" audit:"clear" doc:"Id of a request."`
	Hash        string        `json:"hash" audit:"clear" doc:"A keyed hash that is in the request or the answer, as sys/audit-hash returns it."`
	From        string        `json:"from" audit:"clear" doc:"Earliest time, in RFC 3339."`
	To          string        `json:"to" audit:"clear" doc:"First time that is too late, in RFC 3339."`
	OldestFirst bool          `json:"oldest_first" doc:"Begin with the oldest record, where the newest comes first."`
	After       uint64        `json:"after" doc:"Sequence of a record: only those behind it, in the order of the search."`
	Limit       int           `json:"limit" doc:"Number of records; 100 where there is none, at most 1000."`
	Wait        wire.Duration `json:"wait" doc:"Where no record is found, wait for one up to this long, at most 30s; oldest first. Searches like this one are left out."`
}

type searchOut struct {
	Records []jsontext.Value `json:"records" audit:"count"`
	Last    uint64           `json:"last" doc:"Sequence of the last of them, to go on after."`
	Damage  []journalDamage  `json:"damage,omitempty" doc:"What is damaged of the journal where the search looked: the records there are not among those found."`
}

type verifyOut struct {
	Whole    bool           `json:"whole"`
	Records  uint64         `json:"records"`
	First    uint64         `json:"first_sequence"`
	Last     uint64         `json:"last_sequence"`
	Segments int            `json:"segments"`
	Bytes    int64          `json:"bytes"`
	Chain    string         `json:"chain" audit:"clear" doc:"Chain value after the last record."`
	Signed   signedRange    `json:"signed"`
	Damage   *journalDamage `json:"damage,omitzero"`
}

// signedRange is what checkpoints vouch for.
type signedRange struct {
	Checkpoints int       `json:"checkpoints" doc:"Number of checkpoints that were verified against the records."`
	Last        uint64    `json:"last_sequence" doc:"Sequence of the last record that a checkpoint has."`
	Time        wire.Time `json:"time" doc:"When the last checkpoint was signed."`
	Stale       int       `json:"stale_tiles" doc:"Files of the tree that are missing or damaged; they are made anew."`
}

type journalKeyOut struct {
	Key    string `json:"key" audit:"clear" doc:"Public key of the journal's checkpoints: name, hash and Ed25519 key."`
	Origin string `json:"origin" audit:"clear" doc:"Name of the journal in its checkpoints."`
}

type checkpointOut struct {
	Checkpoint string    `json:"checkpoint" audit:"clear" doc:"The signed text."`
	Size       uint64    `json:"size" doc:"Number of records that it vouches for, from the first."`
	Root       []byte    `json:"root" doc:"Root of their Merkle tree."`
	Time       wire.Time `json:"time" doc:"When it was signed."`
}

type proveIn struct {
	Seq uint64 `json:"seq" doc:"Sequence of the record."`
	ID  string `json:"id" audit:"clear" doc:"Id of the record, where seq is not given."`
}

type consistencyIn struct {
	From uint64 `json:"from" doc:"Number of records of the older checkpoint."`
	To   uint64 `json:"to" doc:"Number of records of the newer one; 0 is the last."`
}

type journalDamage struct {
	Segment string `json:"segment" audit:"clear"`
	Offset  int64  `json:"offset"`
	Seq     uint64 `json:"sequence"`
	What    string `json:"what" audit:"clear"`
}

const (
	searchName  = "system.audit-journal.search"
	searchLimit = 100
	searchMost  = 1000
	waitMost    = 30 * time.Second
)

// auditOps are the operations on the audit log.
func auditOps(p Parts) []op.Op {
	a := auditor{p}
	return []op.Op{
		op.Def[op.Nothing, SinkMap]{
			Name: "system.audit.list", Verb: op.Read, Path: "audit", Sudo: true, Shape: op.Injected, Does: "List the sinks of the audit log.",
		}.With(a.list),
		op.Def[sinkEnableIn, op.Empty]{
			Name: "system.audit.enable", Verb: op.Update, Path: "audit/{path...}", Sudo: true, Effects: op.Outside, Does: "Enable a sink of the audit log.",
		}.With(a.enable),
		op.Def[sinkPathIn, op.Empty]{
			Name: "system.audit.disable", Verb: op.Delete, Path: "audit/{path...}", Sudo: true, Effects: op.Outside, Does: "Disable a sink of the audit log.",
		}.With(a.disable),
		op.Def[auditHashIn, auditHashOut]{
			Name: "system.audit-hash", Verb: op.Update, Path: "audit-hash/{path...}", Shape: op.Injected, Does: "Hash a value as the audit log does, to look for it there.",
		}.With(a.hash),
		op.Def[op.Nothing, journalOut]{
			Name: "system.audit-journal", Verb: op.Read, Path: "audit-journal", Sudo: true, Does: "Say what the audit journal holds.",
		}.With(a.journal),
		op.Def[searchIn, searchOut]{
			Name: searchName, Verb: op.Read, Path: "audit-journal/search", Sudo: true, Limit: op.Limit{Long: true}, Does: "Search the audit journal.",
		}.With(a.search),
		op.Def[op.Nothing, verifyOut]{
			Name: "system.audit-journal.verify", Verb: op.Read, Path: "audit-journal/verify", Sudo: true, Limit: op.Limit{Long: true},
			Does: "Read the whole audit journal and say whether anything in it was changed.",
		}.With(a.verify),
		op.Def[op.Nothing, journalKeyOut]{
			Name: "system.audit-journal.key", Verb: op.Read, Path: "audit-journal/key", Does: "Read the public key that verifies the audit journal's checkpoints.",
		}.With(a.journalKey),
		op.Def[op.Nothing, checkpointOut]{
			Name: "system.audit-journal.checkpoint", Verb: op.Read, Path: "audit-journal/checkpoint", Does: "Read the last signed checkpoint of the audit journal.",
		}.With(a.checkpoint),
		op.Def[proveIn, audit.Proof]{
			Name: "system.audit-journal.prove", Verb: op.Read, Path: "audit-journal/prove", Sudo: true, Limit: op.Limit{Long: true},
			Does: "Prove to whoever has the public key that a record is in the audit journal, and show that record.",
		}.With(a.prove),
		op.Def[consistencyIn, audit.Consistency]{
			Name: "system.audit-journal.consistency", Verb: op.Read, Path: "audit-journal/consistency", Sudo: true, Limit: op.Limit{Long: true},
			Does: "Prove that the records of one checkpoint are the first of another's.",
		}.With(a.consistency),
	}
}

type auditor struct{ p Parts }

func sinkName(path string) (string, error) {
	n := strings.TrimSuffix(path, "/")
	if n == "" || len(n) > 100 || strings.ContainsAny(n, "/*+") {
		return "", fault.New(fault.Invalid, "the name of an audit device is one path segment of at most 100 bytes")
	}
	return n, nil
}

func (a auditor) enabled(ctx context.Context) (sinks []audit.SinkConfig, err error) {
	err = a.p.Core.View(ctx, func(r storage.Reader) (err error) {
		sinks, err = readSinks(r)
		return err
	})
	return sinks, err
}

// all returns every sink, those of the configuration first.
func (a auditor) all(ctx context.Context) ([]audit.SinkConfig, error) {
	enabled, err := a.enabled(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(a.p.Sinks.Declared())
	for _, c := range enabled {
		if !named(all, c.Name) {
			all = append(all, c)
		}
	}
	return all, nil
}

func named(sinks []audit.SinkConfig, name string) bool {
	return slices.ContainsFunc(sinks, func(c audit.SinkConfig) bool { return c.Name == name })
}

func (a auditor) list(ctx context.Context, _ *op.Call, _ op.Nothing) (SinkMap, error) {
	all, err := a.all(ctx)
	if err != nil {
		return nil, err
	}
	out := SinkMap{}
	for _, c := range all {
		options := c.Options
		if options == nil {
			options = map[string]string{}
		}
		out[c.Name+"/"] = SinkInfo{Description: c.Description, Local: c.Local, Options: options, Path: c.Name + "/", Type: c.Kind}
	}
	return out, nil
}

// enable keeps the sink and then starts it. Where it cannot be started, it is
// taken away again.
func (a auditor) enable(ctx context.Context, _ *op.Call, in sinkEnableIn) (op.Empty, error) {
	n, err := sinkName(in.Path)
	if err != nil {
		return op.Empty{}, err
	}
	c := audit.SinkConfig{Name: n, Kind: in.Type, Description: in.Description, Options: in.Options, Local: in.Local}
	if err := a.p.Sinks.Check(c); err != nil {
		return op.Empty{}, err
	}
	if err := checkSink(c); err != nil {
		return op.Empty{}, err
	}
	if n == "journal" || named(a.p.Sinks.Declared(), n) {
		return op.Empty{}, fault.New(fault.Invalid, "path already in use")
	}
	err = a.p.Core.Update(ctx, storage.Locks{Own: []string{sinkScope}}, func(tx storage.Tx) error {
		sinks, err := readSinks(tx)
		switch {
		case err != nil:
			return err
		case named(sinks, n):
			return fault.New(fault.Invalid, "path already in use")
		case len(sinks) >= maxSinks:
			return fault.New(fault.Invalid, "there can be at most %d audit devices", maxSinks)
		}
		return writeSinks(tx, append(sinks, c))
	})
	if err != nil {
		return op.Empty{}, err
	}
	if err := a.p.Sinks.Start(c); err != nil {
		return op.Empty{}, errors.Join(err, a.forget(context.WithoutCancel(ctx), n))
	}
	return op.Empty{}, nil
}

// checkSink bounds what is kept of a sink.
func checkSink(c audit.SinkConfig) error {
	if len(c.Description) > mount.MaxDescription || len(c.Options) > mount.MaxOptions {
		return fault.New(fault.Invalid, "the description of an audit device has at most %d bytes, and it has at most %d options", mount.MaxDescription, mount.MaxOptions)
	}
	return nil
}

func (a auditor) forget(ctx context.Context, name string) error {
	return a.p.Core.Update(ctx, storage.Locks{Own: []string{sinkScope}}, func(tx storage.Tx) error {
		sinks, err := readSinks(tx)
		if err != nil {
			return err
		}
		return writeSinks(tx, slices.DeleteFunc(sinks, func(c audit.SinkConfig) bool { return c.Name == name }))
	})
}

func (a auditor) disable(ctx context.Context, _ *op.Call, in sinkPathIn) (op.Empty, error) {
	n, err := sinkName(in.Path)
	if err != nil {
		return op.Empty{}, err
	}
	if named(a.p.Sinks.Declared(), n) {
		return op.Empty{}, fault.New(fault.Invalid, "the audit device is defined in the configuration, and is removed there")
	}
	if err := a.forget(ctx, n); err != nil {
		return op.Empty{}, err
	}
	return op.Empty{}, a.p.Sinks.Stop(n)
}

func (a auditor) hash(ctx context.Context, _ *op.Call, in auditHashIn) (auditHashOut, error) {
	n, err := sinkName(in.Path)
	if err != nil {
		return auditHashOut{}, err
	}
	if in.Input == "" {
		return auditHashOut{}, fault.New(fault.Invalid, `the "input" parameter is empty`)
	}
	all, err := a.all(ctx)
	if err != nil {
		return auditHashOut{}, err
	}
	if n != "journal" && !named(all, n) {
		return auditHashOut{}, fault.New(fault.Invalid, "unknown audit backend %q", n)
	}
	return auditHashOut{a.p.Hasher.Hash(in.Input)}, nil
}

func (a auditor) journal(ctx context.Context, _ *op.Call, _ op.Nothing) (journalOut, error) {
	s, err := a.p.Journal.Reader().Summary(ctx)
	if err != nil {
		return journalOut{}, err
	}
	feeds, err := a.p.Journal.Feeds()
	signed, broken := a.p.Journal.Certified()
	problem := ""
	if broken != nil {
		problem = broken.Error()
	}
	return journalOut{
		JournalID: fmt.Sprintf("%x", s.Journal), First: s.First, Last: s.Last, Segments: s.Segments, Bytes: s.Bytes, Sinks: feeds,
		Feeds: feedsOf(a.p.Journal.FeedStatus()), SignedAt: wire.Time(signed), Problem: problem,
	}, err
}

func feedsOf(all []audit.FeedStatus) []feedOut {
	out := make([]feedOut, 0, len(all))
	for _, f := range all {
		o := feedOut{Name: f.Name, Last: f.At, Behind: f.Behind, Failures: f.Failures, Late: f.Late, Since: wire.Time(f.Since)}
		if f.Problem != nil {
			o.Problem = f.Problem.Error()
		}
		out = append(out, o)
	}
	return out
}

func (a auditor) search(ctx context.Context, _ *op.Call, in searchIn) (searchOut, error) {
	f := audit.Filter{
		Actor: in.Actor, Path: in.Path, Op: in.Op, Kind: audit.Kind(in.Kind), Outcome: in.Outcome, RequestID: in.RequestID, Value: in.Hash,
		OldestFirst: in.OldestFirst, After: in.After, Limit: in.Limit,
	}
	switch {
	case f.Limit < 0:
		return searchOut{}, fault.New(fault.Invalid, "limit must not be negative")
	case f.Limit == 0:
		f.Limit = searchLimit
	}
	f.Limit = min(f.Limit, searchMost)
	var err error
	if f.From, err = timeOf("from", in.From); err != nil {
		return searchOut{}, err
	}
	if f.To, err = timeOf("to", in.To); err != nil {
		return searchOut{}, err
	}
	r := a.p.Journal.Reader()
	if in.Wait > 0 {
		return a.follow(ctx, r, f, min(time.Duration(in.Wait), waitMost))
	}
	out := searchOut{Records: []jsontext.Value{}}
	err = out.hurt(r.Search(ctx, f, out.add))
	return out, err
}

// hurt tells of damage that a search met. Any other error is returned.
func (o *searchOut) hurt(err error) error {
	damages, ok := errors.AsType[audit.Damages](err)
	if !ok {
		return err
	}
	for _, d := range damages {
		o.Damage = append(o.Damage, journalDamage{d.Segment, d.Offset, d.Seq, d.What})
	}
	return nil
}

func (o *searchOut) add(r *audit.Record) error {
	b, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	o.Records, o.Last = append(o.Records, b), r.Seq
	return nil
}

// follow waits for records that f asks for. It leaves out the records of
// searches like this one, each of which would end the next one's wait.
func (a auditor) follow(ctx context.Context, r *audit.Reader, f audit.Filter, wait time.Duration) (searchOut, error) {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	limit := f.Limit
	f.OldestFirst, f.Limit = true, 0
	full := errors.New("full")
	out := searchOut{Records: []jsontext.Value{}}
	for {
		seen, err := r.Last(ctx)
		if err != nil {
			return out, err
		}
		err = r.Search(ctx, f, func(rec *audit.Record) error {
			if rec.Op == searchName {
				return nil
			}
			if err := out.add(rec); err != nil {
				return err
			}
			if len(out.Records) == limit {
				return full
			}
			return nil
		})
		switch {
		case errors.Is(err, full):
			return out, nil
		case out.hurt(err) != nil:
			return out, err
		}
		f.After = max(f.After, seen, out.Last)
		out.Last = f.After
		if len(out.Records) > 0 || len(out.Damage) > 0 {
			return out, nil
		}
		if err := r.Beyond(short, f.After); err != nil {
			if ctx.Err() == nil && short.Err() != nil {
				return out, nil // nothing came
			}
			return out, err
		}
	}
}

func timeOf(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fault.New(fault.Invalid, "%s must be a time in RFC 3339, such as 2026-11-24T10:00:00Z", field)
	}
	return t.UTC(), nil
}

// verify holds the records against the node's own checkpoints too, where it signs some.
func (a auditor) verify(ctx context.Context, _ *op.Call, _ op.Nothing) (verifyOut, error) {
	key, err := a.p.Journal.VerifierKey()
	if err != nil {
		return verifyOut{}, err
	}
	rep, err := a.p.Journal.Reader().VerifySigned(ctx, audit.Trust{Key: key}, nil)
	out := verifyOut{
		Whole: true, Records: rep.Records, First: rep.First, Last: rep.Last, Segments: rep.Segments, Bytes: rep.Bytes, Chain: fmt.Sprintf("%x", rep.Chain),
		Signed: signedRange{rep.Signed.Checkpoints, rep.Signed.Records, wire.Time(rep.Signed.At), rep.Signed.Stale},
	}
	if d, ok := errors.AsType[*audit.Damage](err); ok {
		out.Whole, out.Chain = false, ""
		out.Damage = &journalDamage{d.Segment, d.Offset, d.Seq, d.What}
		return out, nil
	}
	return out, err
}

func (a auditor) journalKey(context.Context, *op.Call, op.Nothing) (journalKeyOut, error) {
	key, err := a.p.Journal.VerifierKey()
	if err != nil {
		return journalKeyOut{}, err
	}
	return journalKeyOut{key.String(), key.Origin()}, nil
}

func (a auditor) checkpoint(ctx context.Context, _ *op.Call, _ op.Nothing) (checkpointOut, error) {
	c, err := a.p.Journal.Checkpoint(ctx, 0)
	if err != nil {
		return checkpointOut{}, err
	}
	return checkpointOut{c.Note, c.Size, c.Root[:], wire.Time(c.Time)}, nil
}

func (a auditor) prove(ctx context.Context, _ *op.Call, in proveIn) (audit.Proof, error) {
	r := a.p.Journal.Reader()
	seq := in.Seq
	switch {
	case (in.Seq == 0) == (in.ID == ""):
		return audit.Proof{}, fault.New(fault.Invalid, "either seq or id must be given")
	case in.ID != "":
		var err error
		if seq, err = r.Find(ctx, in.ID); err != nil {
			return audit.Proof{}, err
		}
	}
	p, err := r.Prove(ctx, seq)
	if err != nil {
		return audit.Proof{}, err
	}
	return *p, nil
}

func (a auditor) consistency(ctx context.Context, _ *op.Call, in consistencyIn) (audit.Consistency, error) {
	if in.From == 0 {
		return audit.Consistency{}, fault.New(fault.Invalid, "from must be the number of records of a checkpoint")
	}
	c, err := a.p.Journal.Reader().Consistency(ctx, in.From, in.To)
	if err != nil {
		return audit.Consistency{}, err
	}
	return *c, nil
}
