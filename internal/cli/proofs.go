package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
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
)

// get returns the data of a path.
func (a *app) get(ctx context.Context, path string, query url.Values) (jsontext.Value, error) {
	cl, err := a.client()
	if err != nil {
		return nil, err
	}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: path, Query: query, NoWrap: true})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

func (a *app) auditKey() *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use: "key", Short: "Print the public key that verifies the audit journal", Args: atMost(0),
		Long: `Print the public key that verifies the audit journal: its checkpoints are signed
with the private one, which only an unsealed server has. Keep the public key where
the server cannot change it.`,
		Example: "  rotunda audit key > journal.pub",
	}
	f.place(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var key string
		if f.offline() {
			if a.Server.AuditKey == nil {
				return errNoServer
			}
			q, err := a.auditQuery(f)
			if err != nil {
				return err
			}
			if key, err = a.Server.AuditKey(cmd.Context(), q); err != nil {
				return err
			}
		} else {
			data, err := a.get(cmd.Context(), "sys/audit-journal/key", nil)
			if err != nil {
				return err
			}
			v, _ := show.Field(data, "key")
			key = show.Text(v)
		}
		return a.print(view{doc: document().set("key", key).json(), raw: &key, enter: true, people: func(w io.Writer) error {
			_, err := fmt.Fprintln(w, show.Clean(key))
			return err
		}})
	}
	return c
}

func (a *app) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print the last signed checkpoint of the audit journal", Args: atMost(0),
		Long: `Print the last signed checkpoint of the audit journal. Whoever keeps it can show
later that what was recorded until now is missing or was changed: rotunda audit
verify --checkpoint FILE.`,
		Example: "  rotunda audit checkpoint > today.checkpoint",
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := a.get(cmd.Context(), "sys/audit-journal/checkpoint", nil)
			if err != nil {
				return err
			}
			v, _ := show.Field(data, "checkpoint")
			text := show.Text(v)
			if _, err := audit.ReadCheckpoint([]byte(text)); err != nil { // and it holds nothing that drives a terminal
				return err
			}
			return a.print(view{doc: data, raw: &text, people: func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			}})
		},
	}
}

func (a *app) auditProve() *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use: "prove ID|SEQUENCE", Short: "Prove that a record is in the audit journal", Args: exactly(1, "ID or SEQUENCE"),
		Long: `Print a proof that a record is in the audit journal: JSON that anybody can check who
has the public key, with rotunda audit check-proof and no server. It shows this one
record, with the key that opens it, and tells nothing of the others.`,
		Example: "  rotunda audit prove 4711 > record.proof",
	}
	f.place(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if f.offline() {
			if a.Server.AuditProve == nil {
				return errNoServer
			}
			q, err := a.auditQuery(f)
			if err != nil {
				return err
			}
			proof, err := a.Server.AuditProve(cmd.Context(), q, args[0])
			if err != nil {
				return err
			}
			return a.file(proof)
		}
		query := url.Values{"id": {args[0]}}
		if _, err := strconv.ParseUint(args[0], 10, 64); err == nil && len(args[0]) < 32 {
			query = url.Values{"seq": {args[0]}}
		}
		proof, err := a.get(cmd.Context(), "sys/audit-journal/prove", query)
		if err != nil {
			return err
		}
		return a.file(proof)
	}
	return c
}

// file prints JSON that is to be kept in a file.
func (a *app) file(v jsontext.Value) error {
	v = append(jsontext.Value(nil), v...)
	if err := v.Compact(); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if _, err := fmt.Fprintf(a.Stdout, "%s\n", v); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

func (a *app) auditConsistency() *cobra.Command {
	return &cobra.Command{
		Use: "consistency OLDER [NEWER]", Short: "Prove that one checkpoint of the audit journal continues another", Args: between(1, 2, "OLDER"),
		Long: `Print a proof that the records of an older checkpoint are the first of those of a
newer one; without one, of the last. Each is a number of records or a file with a
checkpoint. Anybody can check the proof who has the public key and the checkpoints:
rotunda audit check-proof.`,
		Example: "  rotunda audit consistency yesterday.checkpoint > day.proof",
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			for i, name := range []string{"from", "to"}[:len(args)] {
				size, err := a.sizeOf(args[i])
				if err != nil {
					return err
				}
				query.Set(name, strconv.FormatUint(size, 10))
			}
			proof, err := a.get(cmd.Context(), "sys/audit-journal/consistency", query)
			if err != nil {
				return err
			}
			return a.file(proof)
		},
	}
}

// sizeOf returns the number of records that s is, or that the checkpoint in the file s has.
func (a *app) sizeOf(s string) (uint64, error) {
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		return n, nil
	}
	text, err := a.readFile(s)
	if err != nil {
		return 0, err
	}
	c, err := audit.ReadCheckpoint(text)
	return c.Size, err
}

// journalKey returns the key that an argument is, or that the file has which it names.
func (a *app) journalKey(arg string) (*audit.Key, error) {
	if key, err := audit.ParseKey(arg); err == nil {
		return key, nil
	}
	text, err := a.readFile(arg)
	if err != nil {
		return nil, err
	}
	return audit.ParseKey(string(text))
}

func (a *app) auditCheckProof() *cobra.Command {
	var key, checkpoint string
	c := &cobra.Command{
		Use: "check-proof FILE", Short: "Check a proof of the audit journal, without a server", Args: exactly(1, "FILE"),
		Long: `Check a proof that rotunda audit prove or rotunda audit consistency made, and print
what it proves. It asks no server: all that is believed is the public key. Exit
code 0: it holds. 2: it does not.`,
		Example: "  rotunda audit check-proof record.proof --key journal.pub",
	}
	c.Flags().StringVar(&key, "key", "", "the journal's public `KEY`, or a file that has it")
	c.Flags().StringVar(&checkpoint, "checkpoint", "", "`FILE` with the older checkpoint, of a proof of consistency")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if key == "" {
			return usageError{errors.New("--key is missing: the journal's public key, or a file that has it"), cmd.CommandPath()}
		}
		k, err := a.journalKey(key)
		if err != nil {
			return err
		}
		read := a.readAll
		if args[0] != "-" {
			read = func() ([]byte, error) { return a.readFile(args[0]) }
		}
		b, err := read()
		if err != nil {
			return err
		}
		proof, consistency, err := audit.ParseProof(b)
		if err != nil {
			return err
		}
		if proof != nil {
			shown, err := proof.Check(k)
			return a.printShown(shown, err)
		}
		var from []byte
		if checkpoint != "" {
			if from, err = a.readFile(checkpoint); err != nil {
				return err
			}
		} else if consistency.From == "" {
			return usageError{errors.New("the proof does not have the older checkpoint: give it with --checkpoint FILE"), cmd.CommandPath()}
		}
		older, newer, err := consistency.Check(k, from)
		return a.printConsistent(older, newer, err)
	}
	return c
}

// refuted prints that a proof does not hold. An error that says something else is returned.
func (a *app) refuted(err error) error {
	if !errors.Is(err, audit.ErrCorrupt) {
		return err
	}
	why := strings.TrimPrefix(err.Error(), audit.ErrCorrupt.Error()+": ")
	why = strings.TrimPrefix(why, "the proof does not hold: ")
	err = a.print(view{doc: document().set("holds", false).set("why", why).json(), people: func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "does NOT hold: %s\n", show.Clean(why))
		return err
	}})
	if err != nil {
		return err
	}
	return silent(2)
}

func (a *app) printShown(s audit.Shown, err error) error {
	if err != nil {
		return a.refuted(err)
	}
	c := s.Checkpoint
	doc := document().set("holds", true).set("sequence", s.Sequence).set("origin", c.Origin).
		set("signed_records", c.Size).set("signed_at", c.Time.Format(time.RFC3339Nano)).set("record", s.Record)
	return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "holds: record %d of %s, one of the %d that were signed at %s\n%s\n",
			s.Sequence, show.Clean(c.Origin), c.Size, c.Time.Format(time.RFC3339), show.Indent(s.Record))
		return err
	}})
}

func (a *app) printConsistent(older, newer audit.Checkpoint, err error) error {
	if err != nil {
		return a.refuted(err)
	}
	doc := document().set("holds", true).set("origin", newer.Origin).
		set("older_records", older.Size).set("older_signed_at", older.Time.Format(time.RFC3339Nano)).
		set("newer_records", newer.Size).set("newer_signed_at", newer.Time.Format(time.RFC3339Nano))
	return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "holds: the %d records of %s are the first of the %d of %s, of %s\n",
			older.Size, older.Time.Format(time.RFC3339), newer.Size, newer.Time.Format(time.RFC3339), show.Clean(newer.Origin))
		return err
	}})
}

// copyFlags say what a copy of a journal's directory is verified with.
type copyFlags struct {
	dir, key    string
	checkpoints []string
}

func (f *copyFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "audit-dir", "", "verify this copy of an audit `directory`, with the public key alone")
	c.Flags().StringVar(&f.key, "key", "", "the journal's public `KEY`, or a file that has it")
	c.Flags().StringArrayVar(&f.checkpoints, "checkpoint", nil, "`FILE` with a checkpoint that was kept; may be given again")
}

// verifyCopy verifies a copy of a journal's directory.
func (a *app) verifyCopy(ctx context.Context, f copyFlags) (report AuditReport, err error) {
	var t audit.Trust
	if t.Key, err = a.journalKey(f.key); err != nil {
		return report, err
	}
	for _, file := range f.checkpoints {
		text, err := a.readFile(file)
		if err != nil {
			return report, err
		}
		t.Checkpoints = append(t.Checkpoints, text)
	}
	r, err := audit.OpenReader(f.dir, secret.Bytes{})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	found, err := r.VerifySigned(ctx, t, nil)
	report = ReportOf(found)
	if errors.Is(err, audit.ErrCorrupt) {
		report.Problems, err = append(report.Problems, err.Error()), nil
	}
	return report, err
}

// ReportOf returns the report of a verification that found nothing wrong.
func ReportOf(r audit.Report) AuditReport {
	return AuditReport{
		Records: r.Records, Segments: r.Segments, Last: r.Last,
		Checkpoints: r.Signed.Checkpoints, Signed: r.Signed.Records, SignedAt: r.Signed.At, Stale: r.Signed.Stale,
	}
}

// hashed returns the keyed hash by which the journal knows a value.
func (a *app) hashed(ctx context.Context, c *api.Client, value secret.Text) (string, error) {
	body := object{}
	body.set("input", value.Reveal())
	resp, err := c.Do(ctx, api.Request{Method: "POST", Path: "sys/audit-hash/journal", Body: body.json(), NoWrap: true})
	if err != nil {
		return "", err
	}
	var data struct {
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(resp.Data, &data); err != nil || data.Hash == "" {
		return "", errors.New("reading the hash: the server answered with none")
	}
	return data.Hash, nil
}
