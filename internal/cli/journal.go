package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

func duration(s string) (time.Duration, error) {
	d, err := wire.ParseDuration(s)
	return time.Duration(d), err
}

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "Who did what: tail, search, verify, prove, and where it is sent",
		a.auditRead("tail"), a.auditRead("search"), a.auditVerify(), a.auditKey(), a.auditCheckpoint(), a.auditProve(), a.auditConsistency(),
		a.auditCheckProof(), a.auditAcceptLoss(), a.auditList(), a.auditEnable(), a.auditDisable())
}

// auditFlags are what audit tail and audit search take.
type auditFlags struct {
	data, config, dir, since, until   string
	actor, op, path, outcome, request string
	last                              int
	follow, value                     bool
}

func (f *auditFlags) define(c *cobra.Command, verb string) {
	fl := c.Flags()
	f.place(c)
	fl.StringVar(&f.dir, "audit-dir", "", "with --data or --config: read this `directory` in place of the node's own, such as one that was put aside")
	fl.StringVar(&f.since, "since", "", "only what is not older: a time, or how long ago (2h, 7d)")
	fl.StringVar(&f.until, "until", "", "only what is not younger")
	fl.StringVar(&f.actor, "actor", "", "only what was done by this display name, entity or accessor")
	fl.StringVar(&f.op, "op", "", "only this operation, such as kv.get")
	fl.StringVar(&f.path, "path", "", "only what was done at this path; * at its end is everything below")
	fl.StringVar(&f.outcome, "outcome", "", "only with this outcome: ok, denied, not-found, …")
	fl.StringVar(&f.request, "request", "", "only the request with this id")
	last := 0
	if verb == "tail" {
		last = 20
		fl.BoolVar(&f.follow, "follow", false, "go on as more comes")
	}
	if verb == "search" {
		fl.BoolVar(&f.value, "value", false, "only where a value was sent or answered, which you are asked for, or which is read from standard input")
	}
	fl.IntVar(&f.last, "last", last, "only the newest so many; 0 is all")
}

func (f *auditFlags) place(c *cobra.Command) {
	c.Flags().StringVar(&f.data, "data", "", "read the journal of the stopped node in this `directory`")
	c.Flags().StringVar(&f.config, "config", "", "`FILE` of the server's configuration, where the node is not one of rotunda up")
}

// offline reports whether the journal of a stopped node is meant.
func (f *auditFlags) offline() bool { return f.data != "" || f.config != "" }

func (a *app) auditQuery(f auditFlags) (AuditQuery, error) {
	q := AuditQuery{Actor: f.actor, Op: f.op, Path: f.path, Outcome: f.outcome, Request: f.request, Last: f.last, File: f.config, Dir: f.dir}
	var err error
	if q.Since, err = a.since(f.since); err != nil {
		return q, err
	}
	if q.Until, err = a.since(f.until); err != nil {
		return q, err
	}
	if f.offline() {
		q.Data, q.Config, err = a.nodeDirs(f.data)
	}
	return q, err
}

func (a *app) auditRead(verb string) *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use: verb, Args: atMost(0),
		Short: map[string]string{"tail": "Print the newest records of the audit journal", "search": "Find records of the audit journal"}[verb],
		Long: map[string]string{"tail": "Print the newest records of the audit journal", "search": "Find records of the audit journal"}[verb] + `.

With --data it is the journal of a node that is stopped, read with its key file.
Where the journal is damaged, all that is whole is printed, then what is not, and
the exit code is 2.
Values are never in it: where a record has text, it is an HMAC of it.`,
		Example: map[string]string{
			"tail":   "  rotunda audit tail --follow",
			"search": "  rotunda audit search --path 'secret/data/app/*' --since 7d --outcome denied",
		}[verb],
	}
	f.define(c, verb)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := a.auditQuery(f)
		if err != nil {
			return err
		}
		out, err := a.newRecords()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if f.value {
			if q.Value, err = a.searched(cmd); err != nil {
				return err
			}
		}
		if f.offline() {
			if a.Server.AuditSearch == nil {
				return errNoServer
			}
			if f.follow {
				return usageError{errors.New("--follow needs a running server"), cmd.CommandPath()}
			}
			if err := a.Server.AuditSearch(ctx, q, out.add); out.hurt(err) != nil {
				return err
			}
			return out.end()
		}
		if f.dir != "" {
			return usageError{errors.New("--audit-dir needs --data or --config: the node whose key opens the records"), cmd.CommandPath()}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		if f.value {
			if q.Hash, err = a.hashed(ctx, cl, q.Value); err != nil {
				return err
			}
		}
		if err := a.searchOnline(ctx, cl, q, out); err != nil {
			return err
		}
		if f.follow {
			return a.follow(ctx, cl, q, out)
		}
		return out.end()
	}
	return c
}

// hashOp is the operation that hashes a value as the journal does.
const hashOp = "system.audit-hash"

// searched returns the value that a search is for.
func (a *app) searched(cmd *cobra.Command) (secret.Text, error) {
	if a.canAsk() {
		t, err := a.ask("the value to look for")
		if err == nil {
			err = checkSecret(t, "value to look for")
		}
		return t, err
	}
	s, err := a.valueFrom(cmd, "", []string{"-"}, false)
	if err == nil && s == "" {
		err = usageError{errors.New("--value needs a value on standard input"), cmd.CommandPath()}
	}
	if err == nil {
		err = checkSecret(secret.New(s), "value to look for")
	}
	return secret.New(s), err
}

// searchOnline asks the server for records, page by page. With q.Last it is the
// newest so many; they are emitted oldest first all the same.
func (a *app) searchOnline(ctx context.Context, c *api.Client, q AuditQuery, out *records) error {
	if q.Last > 0 {
		var found []jsontext.Value
		err := a.pages(ctx, c, q, false, out, func(r jsontext.Value) error {
			found = append(found, r)
			return nil
		})
		for _, r := range slices.Backward(found) {
			if err == nil {
				err = out.add(r)
			}
		}
		return err
	}
	return a.pages(ctx, c, q, true, out, out.add)
}

// pages asks for records in one order until there are no more, or q.Last of
// them.
func (a *app) pages(ctx context.Context, c *api.Client, q AuditQuery, oldestFirst bool, out *records, emit func(jsontext.Value) error) error {
	const page = 500
	after, left := q.After, q.Last
	for {
		limit := page
		if q.Last > 0 {
			limit = min(page, left)
		}
		v := searchFor(q, oldestFirst, after, limit)
		records, last, damage, err := a.page(ctx, c, v)
		if err != nil {
			return err
		}
		out.damaged(damage)
		n := 0
		for _, r := range records {
			if !q.matches(r) {
				continue
			}
			n++
			if err := emit(r); err != nil {
				return err
			}
		}
		left -= n
		if last != 0 {
			after = last
		}
		if len(records) < limit || q.Last > 0 && left <= 0 {
			return nil
		}
	}
}

// searchFor returns the question for a page.
func searchFor(q AuditQuery, oldestFirst bool, after uint64, limit int) url.Values {
	v := url.Values{"limit": {strconv.Itoa(limit)}}
	for k, s := range map[string]string{"actor": q.Actor, "op": q.Op, "path": strings.TrimSuffix(q.Path, "*"), "outcome": q.Outcome, "request_id": q.Request, "hash": q.Hash} {
		if s != "" {
			v.Set(k, s)
		}
	}
	if !q.Since.IsZero() {
		v.Set("from", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		v.Set("to", q.Until.UTC().Format(time.RFC3339Nano))
	}
	if oldestFirst {
		v.Set("oldest_first", "true")
	}
	if after > 0 {
		v.Set("after", strconv.FormatUint(after, 10))
	}
	return v
}

// matches reports whether r is at the path that q asks for. The server takes
// every path for the beginning of one.
func (q AuditQuery) matches(r jsontext.Value) bool {
	if op, _ := show.Field(r, "op"); q.Hash != "" && q.Op == "" && show.Text(op) == hashOp {
		return false // the question for the hash itself
	}
	if q.Path == "" || strings.HasSuffix(q.Path, "*") {
		return true
	}
	path, _ := show.Field(r, "path")
	return show.Text(path) == q.Path
}

// damageLine is what is damaged of a journal, as the server says it.
type damageLine struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Seq     uint64 `json:"sequence"`
	What    string `json:"what"`
}

// String says it for people.
func (d damageLine) String() string {
	return fmt.Sprintf("segment %s, byte %d, record %d: %s", d.Segment, d.Offset, d.Seq, d.What)
}

func (a *app) page(ctx context.Context, c *api.Client, v url.Values) ([]jsontext.Value, uint64, []damageLine, error) {
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: "sys/audit-journal/search", Query: v, NoWrap: true})
	if err != nil {
		return nil, 0, nil, err
	}
	var data struct {
		Records []jsontext.Value `json:"records"`
		Last    uint64           `json:"last"`
		Damage  []damageLine     `json:"damage"`
	}
	if err := json.Unmarshal(resp.Data, &data); err != nil {
		return nil, 0, nil, fmt.Errorf("reading records: %w", err)
	}
	return data.Records, data.Last, data.Damage, nil
}

// follow prints what comes from here on, until it is told to stop. It leaves
// out its own questions: each would be answered by the next.
func (a *app) follow(ctx context.Context, c *api.Client, q AuditQuery, out *records) error {
	last, err := a.newest(ctx, c)
	if err != nil {
		return err
	}
	last = max(last, out.last)
	for {
		if err := out.flush(); err != nil {
			return err
		}
		v := searchFor(q, true, last, 500)
		v.Set("wait", "20s")
		found, seen, damage, err := a.page(ctx, c, v)
		switch {
		case errors.Is(err, context.Canceled):
			return silent(0) // told to stop
		case err != nil:
			return err
		}
		out.damaged(damage)
		for _, r := range found {
			if q.matches(r) {
				if err := out.add(r); err != nil {
					return err
				}
			}
		}
		if len(out.damage) > 0 {
			return out.end()
		}
		last = max(last, seen)
	}
}

// newest returns the sequence of the newest record.
func (a *app) newest(ctx context.Context, c *api.Client) (uint64, error) {
	_, last, _, err := a.page(ctx, c, url.Values{"limit": {"1"}})
	return last, err
}

// records prints records as they come: as JSON one on each line, or as a table.
type records struct {
	a      *app
	format string
	table  show.Table
	shown  bool
	count  int
	last   uint64 // sequence of the last
	damage []damageLine
}

// damaged notes what is damaged where records were looked for.
func (r *records) damaged(lines []damageLine) {
	for _, d := range lines {
		if !slices.Contains(r.damage, d) { // it was met again on another page
			r.damage = append(r.damage, d)
		}
	}
}

// hurt notes damage of a stopped node's journal. Any other error is returned.
func (r *records) hurt(err error) error {
	damages, ok := errors.AsType[audit.Damages](err)
	if !ok {
		return err
	}
	for _, d := range damages {
		r.damaged([]damageLine{{d.Segment, d.Offset, d.Seq, d.What}})
	}
	return nil
}

func (a *app) newRecords() (*records, error) {
	format, err := a.format()
	if err != nil {
		return nil, err
	}
	return &records{a: a, format: format}, nil
}

// recordLine is what a table shows of a record.
type recordLine struct {
	Time    string `json:"time"`
	Op      string `json:"op"`
	Event   string `json:"event"`
	Path    string `json:"path"`
	Outcome string `json:"outcome"`
	Rule    string `json:"rule"`
	Remote  string `json:"remote"`
	Kind    string `json:"kind"`
	Actor   struct {
		DisplayName string `json:"display_name"`
		Accessor    string `json:"accessor"`
	} `json:"actor"`
}

func (r *records) add(rec jsontext.Value) error {
	r.count++
	if seq, ok := show.Field(rec, "seq"); ok {
		r.last, _ = strconv.ParseUint(string(seq), 10, 64) // 0 where it is no number
	}
	if r.a.field != "" {
		v, ok := show.Field(rec, r.a.field)
		if !ok {
			return nil
		}
		_, err := fmt.Fprintln(r.a.Stdout, show.Clean(show.Text(v)))
		return err
	}
	switch r.format {
	case "json", "raw":
		line := append(jsontext.Value(nil), rec...)
		if err := line.Compact(); err != nil {
			return fmt.Errorf("reading a record: %w", err)
		}
		_, err := fmt.Fprintf(r.a.Stdout, "%s\n", show.Escaped(line))
		return err
	case "yaml":
		_, err := io.WriteString(r.a.Stdout, "---\n"+show.YAML(rec))
		return err
	case "env":
		return usageError{errors.New("records cannot be printed as environment variables"), ""}
	}
	var l recordLine
	if err := json.Unmarshal(rec, &l); err != nil {
		return fmt.Errorf("reading a record: %w", err)
	}
	r.table.Add(r.a.when(l.Time), first(l.Actor.DisplayName, l.Actor.Accessor, "-"), first(l.Op, l.Event, l.Kind), l.Path, l.Outcome, l.Remote)
	return nil
}

// flush prints the rows that have come since the last flush.
func (r *records) flush() error {
	if r.format != "table" || len(r.table.Rows) == 0 {
		return nil
	}
	r.table.Header = []string{"Time", "Actor", "Operation", "Path", "Outcome", "From"}
	if r.shown {
		for _, row := range r.table.Rows {
			for i := range row {
				row[i] = show.Clean(row[i])
			}
			if _, err := fmt.Fprintln(r.a.Stdout, strings.Join(row, "    ")); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
		}
	} else if err := r.a.table(r.a.Stdout, &r.table); err != nil {
		return err
	}
	r.table.Rows, r.shown = nil, true
	return nil
}

func (r *records) end() error {
	if r.count == 0 {
		r.a.note("there is no such record")
	}
	if err := r.flush(); err != nil || len(r.damage) == 0 {
		return err
	}
	r.a.note("NOT whole: records are missing here, because the journal is damaged:")
	for _, d := range r.damage {
		r.a.note("  %s", show.Clean(d.String()))
	}
	r.a.noteRemedies()
	return silent(2)
}

func (a *app) auditVerify() *cobra.Command {
	var f auditFlags
	var cf copyFlags
	c := &cobra.Command{
		Use: "verify", Short: "Check that the audit journal is whole", Args: atMost(0),
		Long: `Check that the audit journal is whole: that no record is missing, changed or out
of order, and that the records are those of every checkpoint that was signed. Exit
code 0: it is. 2: it is not.

With --audit-dir it is a copy of the directory, of any node, and nothing is believed
but the public key and the checkpoints that are given. Copy the files called
checkpoint* before the others, or from a node that is stopped. A journal that was
put back as a whole to what it was before is found with a checkpoint that was kept
elsewhere, and with nothing else.`,
		Example: "  rotunda audit verify\n  rotunda audit verify --audit-dir ./audit --key journal.pub --checkpoint yesterday.checkpoint",
	}
	f.place(c)
	cf.define(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var report AuditReport
		var err error
		switch {
		case cf.dir != "" && f.offline():
			return usageError{errors.New("--audit-dir is a copy, without --data or --config"), cmd.CommandPath()}
		case cf.dir != "" && cf.key == "":
			return usageError{errors.New("--audit-dir needs --key: the journal's public key, or a file that has it"), cmd.CommandPath()}
		case cf.dir == "" && (cf.key != "" || len(cf.checkpoints) > 0):
			return usageError{errors.New("--key and --checkpoint are for a copy: --audit-dir is missing"), cmd.CommandPath()}
		case cf.dir != "":
			if report, err = a.verifyCopy(cmd.Context(), cf); err != nil {
				return err
			}
			return a.printReport(report)
		}
		if f.offline() {
			if a.Server.AuditVerify == nil {
				return errNoServer
			}
			q, err := a.auditQuery(f)
			if err != nil {
				return err
			}
			if report, err = a.Server.AuditVerify(cmd.Context(), q); err != nil {
				return err
			}
		} else {
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/audit-journal/verify", NoWrap: true})
			if err != nil {
				return err
			}
			var data struct {
				Records  uint64 `json:"records"`
				Segments int    `json:"segments"`
				Last     uint64 `json:"last_sequence"`
				Signed   struct {
					Checkpoints int    `json:"checkpoints"`
					Last        uint64 `json:"last_sequence"`
					Time        string `json:"time"`
					Stale       int    `json:"stale_tiles"`
				} `json:"signed"`
				Damage *damageLine `json:"damage"`
			}
			if err := json.Unmarshal(resp.Data, &data); err != nil {
				return fmt.Errorf("reading the report: %w", err)
			}
			report = AuditReport{
				Records: data.Records, Segments: data.Segments, Last: data.Last,
				Checkpoints: data.Signed.Checkpoints, Signed: data.Signed.Last, Stale: data.Signed.Stale,
			}
			report.SignedAt, _ = time.Parse(time.RFC3339Nano, data.Signed.Time) // none of a server that signs nothing
			if d := data.Damage; d != nil {
				report.Problems = []string{d.String()}
			}
		}
		return a.printReport(report)
	}
	return c
}

func (a *app) printReport(r AuditReport) error {
	problems := r.Problems
	if problems == nil {
		problems = []string{}
	}
	doc := document().set("whole", len(problems) == 0).set("records", r.Records).set("segments", r.Segments).set("problems", problems)
	if r.Checkpoints > 0 {
		doc.set("checkpoints", r.Checkpoints).set("signed_last", r.Signed).set("signed_at", r.SignedAt.UTC().Format(time.RFC3339Nano)).set("last", r.Last).set("stale_tiles", r.Stale)
	}
	err := a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		if len(problems) == 0 {
			_, err := fmt.Fprintf(w, "whole: %d records in %d segments\n", r.Records, r.Segments)
			if r.Checkpoints > 0 {
				_, e := fmt.Fprintf(w, "signed: up to record %d, by %d checkpoints, the last at %s\n", r.Signed, r.Checkpoints, r.SignedAt.UTC().Format(time.RFC3339))
				err = errors.Join(err, e)
			}
			if r.Checkpoints > 0 && r.Last > r.Signed {
				_, e := fmt.Fprintf(w, "not signed yet: records %d to %d\n", r.Signed+1, r.Last)
				err = errors.Join(err, e)
			}
			return err
		}
		_, err := fmt.Fprintf(w, "NOT whole: %d records in %d segments\n", r.Records, r.Segments)
		for _, p := range problems {
			_, e := fmt.Fprintf(w, "  %s\n", show.Clean(p))
			err = errors.Join(err, e)
		}
		return err
	}})
	if err == nil && len(problems) > 0 {
		a.noteRemedies()
		return silent(2)
	}
	return err
}

// auditRemedies are what to do about a journal that is damaged.
var auditRemedies = []string{
	"rotunda audit verify --data DIR   (says where; --config FILE for a server by configuration)",
	"put back a copy of the audit directory that is whole, while the node is stopped",
	"rotunda audit accept-loss --data DIR   (goes on without what is lost, which is recorded)",
}

func (a *app) noteRemedies() {
	for _, next := range auditRemedies {
		a.note("  next: %s", next)
	}
}

func (a *app) auditAcceptLoss() *cobra.Command {
	var data, config string
	c := &cobra.Command{
		Use: "accept-loss", Short: "Let a stopped node go on without what is lost of its audit journal", Args: atMost(0),
		Long: `Let a node go on whose audit journal is damaged, or ends before what is known of
it in the store and among the node's keys. Such a node does not start, and nothing
but this lets it: put back the journal from a copy if there is one.

The journal is put aside as it is, in a directory beside it whose name ends in
.damaged, and stays readable (rotunda audit search --audit-dir). Another one begins
with the next start, and its first record says what was lost. The node must be
stopped; who may write to the directory of its keys may do this.`,
		Example: "  rotunda audit accept-loss --data /srv/rotunda",
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of the node's data (default: $XDG_DATA_HOME/rotunda)")
	c.Flags().StringVar(&config, "config", "", "`FILE` of the server's configuration, where the node is not one of rotunda up")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.Server.AuditAcceptLoss == nil {
			return errNoServer
		}
		n, err := a.stoppedNode(data, config)
		if err != nil {
			return err
		}
		if err := a.confirm("Go on without the audit records that are lost, and put the rest of the journal aside?"); err != nil {
			return err
		}
		l, err := a.Server.AuditAcceptLoss(cmd.Context(), n)
		if errors.Is(err, audit.ErrWhole) {
			return errors.New("the journal is whole: there is no loss to accept")
		}
		if err != nil {
			return err
		}
		doc := document().set("at", l.At.Format(time.RFC3339Nano)).set("found", l.Found).set("kept", l.Kept)
		return a.print(view{doc: doc.json(), people: func(io.Writer) error {
			a.note("Accepted the loss: %s.", show.Clean(l.Found))
			a.note("What is left is in %s; the next start records the loss.", show.Clean(l.Kept))
			return nil
		}})
	}
	return c
}

func (a *app) auditList() *cobra.Command {
	var detailed bool
	c := &cobra.Command{Use: "list", Short: "List where records are sent", Args: atMost(0)}
	c.Flags().BoolVar(&detailed, "detailed", false, "print more of each")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/audit"})
		if err != nil {
			return err
		}
		members := show.Sorted(resp.Data)
		if len(members) == 0 {
			a.note("records are sent nowhere else; the journal has them: rotunda audit tail")
		}
		return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
			if len(members) == 0 {
				return nil
			}
			t := show.Table{Header: []string{"Path", "Type", "Description"}}
			if detailed {
				t.Header = append(t.Header, "Options")
			}
			for _, m := range members {
				kind, _ := show.Field(m.Value, "type")
				description, _ := show.Field(m.Value, "description")
				row := []string{m.Name, show.Text(kind), first(show.Text(description), "n/a")}
				if detailed {
					options, _ := show.Field(m.Value, "options")
					row = append(row, show.Text(options))
				}
				t.Add(row...)
			}
			return a.table(w, &t)
		}})
	}
	return c
}

func (a *app) auditEnable() *cobra.Command {
	var path, description string
	var local bool
	c := &cobra.Command{
		Use: "enable TYPE [KEY=VALUE...]", Short: "Send records somewhere else, too", Args: atLeast(1, "TYPE"),
		Example: "  rotunda audit enable file file_path=/var/log/rotunda/audit.json",
	}
	c.Flags().StringVar(&path, "path", "", "its name; without, the type is")
	c.Flags().StringVar(&description, "description", "", "what it is for")
	c.Flags().BoolVar(&local, "local", false, "do not replicate it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := a.parseData(commandFor(cmd, args[0]), args[1:])
		if err != nil {
			return err
		}
		if options == nil {
			options = object{}
		}
		name := strings.Trim(first(path, args[0]), "/")
		body := object{}
		body.set("type", args[0]).set("description", description).set("options", options).set("local", local)
		return a.send(cmd, api.Request{Method: "PUT", Path: "sys/audit/" + name, Body: body.json()}, fmt.Sprintf("Success! Enabled the %s audit device at: %s/", args[0], name))
	}
	return c
}

func (a *app) auditDisable() *cobra.Command {
	return &cobra.Command{
		Use: "disable PATH", Short: "Stop sending records there", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(args[0], "/")
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/audit/" + path}, "Success! Disabled audit device (if it was enabled) at: "+path+"/")
		},
	}
}

// since reads a time as people give it: RFC 3339, or how long ago.
func (a *app) since(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	d, err := duration(s)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%q is no time: use 2026-01-31T10:00:00Z, 2026-01-31, or how long ago, such as 2h or 7d", show.Clean(s)), ""}
	}
	return a.Clock.Now().Add(-d), nil
}
