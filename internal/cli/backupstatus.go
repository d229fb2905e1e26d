package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// backupStatus is what sys/backup/status answers.
type backupStatus struct {
	Scheduled bool      `json:"scheduled"`
	Last      time.Time `json:"last"`
	Bytes     int64     `json:"bytes"`
	Due       time.Time `json:"due"`
	Overdue   bool      `json:"overdue"`
	Failures  uint64    `json:"failures"`
	Failure   string    `json:"failure"`
}

func (a *app) operatorBackupStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "backup-status",
		Short: "Print when the last scheduled backup was made, and when the next is due",
		Long: `Print when the last scheduled backup was made that was found whole, and when the
next is due. The stanza backup of the server's configuration says where and when.`,
		Example: "  rotunda operator backup-status -o json",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/backup/status"})
			if err != nil {
				return err
			}
			var s backupStatus
			if err := json.Unmarshal(resp.Data, &s); err != nil {
				return fmt.Errorf("reading how backups stand: %w", err)
			}
			return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
				t := show.Table{Header: []string{"Key", "Value"}}
				t.Add("Scheduled", strconv.FormatBool(s.Scheduled))
				t.Add("Last", a.howOld(s.Last))
				if s.Bytes > 0 {
					t.Add("Bytes", strconv.FormatInt(s.Bytes, 10))
				}
				t.Add("Due", a.howOld(s.Due))
				t.Add("Overdue", strconv.FormatBool(s.Overdue))
				t.Add("Failures", strconv.FormatUint(s.Failures, 10))
				if s.Failure != "" {
					t.Add("Failure", s.Failure)
				}
				return a.table(w, &t)
			}})
		},
	}
}

// howOld writes a time and how far it is from here; "never" for the zero Time.
func (a *app) howOld(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	away := a.Clock.Now().Sub(t).Round(time.Second)
	if away < 0 {
		return t.UTC().Format(time.RFC3339) + " (in " + (-away).String() + ")"
	}
	return t.UTC().Format(time.RFC3339) + " (" + away.String() + " ago)"
}

// examineBackups looks at the scheduled backups, where the token may ask for them.
func (a *app) examineBackups(ctx context.Context, cl *api.Client) []Finding {
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/backup/status", NoWrap: true, NoRetry: true})
	if err != nil {
		return nil // may not, or an older server
	}
	var s backupStatus
	if err := json.Unmarshal(resp.Data, &s); err != nil {
		return []Finding{{Check: "backups", State: Warning, Detail: "how they stand cannot be read", Fix: "rotunda operator backup-status"}}
	}
	switch {
	case s.Overdue:
		return []Finding{{Check: "backups", State: Bad, Detail: "the last good one is of " + a.howOld(s.Last), Fix: "look into the server's log, and at the room in the directory of backups"}}
	case s.Failure != "":
		return []Finding{{Check: "backups", State: Warning, Detail: "the last attempt failed; the last good one is of " + a.howOld(s.Last), Fix: "look into the server's log"}}
	case !s.Scheduled:
		return []Finding{{Check: "backups", State: Warning, Detail: "none are scheduled", Fix: "a backup stanza in the server's configuration, or rotunda operator backup FILE by a timer of yours"}}
	}
	return []Finding{{Check: "backups", State: Good, Detail: "the last is of " + a.howOld(s.Last)}}
}
