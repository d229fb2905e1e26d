package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/backup"
	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/durable"
	"rotunda.dev/rotunda/internal/secret"
)

// Backups is what the command line asks of the server about backups. A nil
// function makes its command say that this build has no server.
type Backups struct {
	// Write writes a backup of a stopped node.
	Write func(ctx context.Context, n StoppedNode, w io.Writer) error

	// Check verifies a backup and opens every row of it.
	Check func(ctx context.Context, c RestoreConfig) (BackupReport, error)

	// Restore makes the store of a node that there is not yet out of a backup.
	Restore func(ctx context.Context, c RestoreConfig) (BackupReport, error)

	// Read returns the answer of the API to a GET of path by root, as if the
	// backup had been restored.
	Read func(ctx context.Context, c RestoreConfig, path string) (answer []byte, err error)

	// Tree returns the secrets of a part of a mount that are in a backup.
	Tree func(ctx context.Context, c RestoreConfig, t Tree) ([]TreeSecret, error)
}

// Tree is a part of a mount with secrets.
type Tree struct {
	Mount string // with a slash at its end
	V2    bool   // it keeps versions
	Path  string // of a secret, or of what is above some; empty for all
}

// TreeSecret is a secret in a backup: a JSON object.
type TreeSecret struct {
	Path string
	Data secret.JSON
}

// StoppedNode says where a node is.
type StoppedNode struct {
	Data   string // absolute path of the data directory
	Config string // absolute path of the configuration directory
	File   string // path of the server's configuration, where Data is not from `up`
}

// RestoreConfig is what a backup is read with.
type RestoreConfig struct {
	StoppedNode
	Backup  string // path of the file
	KeyFile string // that sealed the store; empty where the configuration or shares unseal

	// Share asks for a share of the root key, of which have are there and need are needed.
	Share func(have, need int) (secret.Text, error)
}

// BackupReport is what a backup was found to hold.
type BackupReport struct {
	Made      time.Time
	ClusterID string
	Name      string // of the cluster
	Rows      uint64
	Opened    uint64 // rows that were opened with their keys
	Lost      uint64 // rows whose keys are destroyed
	Bytes     uint64
	Data      string // where it was restored to
	KeyFile   string // the key file that was made, or copied, for the restored node
}

// backupCommands are those of operator that make backups and use them.
func (a *app) backupCommands() []*cobra.Command {
	return []*cobra.Command{a.operatorBackup(), a.operatorBackupStatus(), a.operatorRestoreCheck(), a.operatorRestore(), a.operatorBackupRead(), a.operatorResume(), a.operatorAcceptRollback()}
}

func (a *app) operatorBackup() *cobra.Command {
	var data, config string
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of all that the server keeps",
		Long: `Write a backup of all that the server keeps, as it is at one moment: encrypted
as it is kept, in a file of mode 0600 that must not exist yet. Whoever restores it
needs what unseals the server; keep that elsewhere. With --data or --config it is
the backup of a node of this machine that is stopped.`,
		Example: "  rotunda operator backup rotunda-2026-01-02.backup",
		Args:    exactly(1, "FILE"),
	}
	c.Flags().StringVar(&data, "data", "", "back up the stopped node in this `directory`")
	c.Flags().StringVar(&config, "config", "", "`FILE` of the server's configuration, where the node is not one of rotunda up")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if data == "" && config == "" {
			cl, err := a.client()
			if err != nil {
				return err
			}
			return a.writeBackup(args[0], func(w io.Writer) error {
				_, err := cl.Stream(ctx, api.Request{Method: "GET", Path: "sys/backup", NoWrap: true}, w)
				return err
			})
		}
		if a.Server.Backups.Write == nil {
			return errNoServer
		}
		n, err := a.stoppedNode(data, config)
		if err != nil {
			return err
		}
		return a.writeBackup(args[0], func(w io.Writer) error { return a.Server.Backups.Write(ctx, n, w) })
	}
	return c
}

func (a *app) stoppedNode(data, config string) (n StoppedNode, err error) {
	n.File = config
	n.Data, n.Config, err = a.nodeDirs(data)
	return n, err
}

// writeBackup has a backup written to a file, which gets its name when it is
// complete, durable and found to be as it was made.
func (a *app) writeBackup(file string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists; choose another name", file)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // for its owner only
	if err != nil {
		return fmt.Errorf("making the backup's file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what is left of it is of no use
		}
	}()
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the backup again: %w", err)
	}
	h, size, err := backup.Scrub(f)
	if err != nil {
		return fmt.Errorf("reading the backup again: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := os.Link(f.Name(), file); err != nil { // and not renamed: it replaces nothing
		return fmt.Errorf("naming the backup: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("naming the backup: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("naming the backup: %w", err)
	}
	doc := document().set("file", file).set("bytes", size).set("made", h.Made).set("cluster_name", h.Name)
	return a.print(view{doc: doc.json(), people: func(io.Writer) error {
		a.note("Wrote %s: %d bytes, the store of %s as of %s.", show.Clean(file), size, show.Clean(h.Name), h.Made.UTC().Format(time.RFC3339))
		a.note("  next: rotunda operator restore-check %s", show.Shell(file))
		return nil
	}})
}

// restoreFlags say what opens a backup.
type restoreFlags struct{ keyFile, config string }

func (f *restoreFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.keyFile, "key-file", "", "key `FILE` that seals the store")
	c.Flags().StringVar(&f.config, "config", "", "`FILE` of the server's configuration, whose seals open the backup")
}

func (a *app) restoreConfig(f restoreFlags, file, data string) (c RestoreConfig, err error) {
	c = RestoreConfig{Backup: file, KeyFile: f.keyFile}
	if c.StoppedNode, err = a.stoppedNode(data, f.config); err != nil {
		return c, err
	}
	c.Share = a.share
	return c, nil
}

// share asks for a share of the root key, or reads it from standard input.
func (a *app) share(have, need int) (secret.Text, error) {
	what := "key share " + strconv.Itoa(have+1) + " of " + strconv.Itoa(need)
	if a.canAsk() {
		return a.ask(what)
	}
	return a.secretArgument([]string{"-"}, what)
}

func (a *app) operatorRestoreCheck() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "restore-check FILE",
		Short: "Verify a backup: that it is whole, and that every row of it opens",
		Long: `Verify a backup: that it is whole, and that every row of it opens. What unseals
the store is needed: its key file, the seals of a configuration, or key shares,
which are asked for or read from standard input, one a line.`,
		Example: "  rotunda operator restore-check --key-file seal.key rotunda.backup",
		Args:    exactly(1, "FILE"),
	}
	f.define(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.Server.Backups.Check == nil {
			return errNoServer
		}
		in, err := a.restoreConfig(f, args[0], "")
		if err != nil {
			return err
		}
		r, err := a.Server.Backups.Check(cmd.Context(), in)
		if err != nil {
			return err
		}
		return a.printBackup(r, "whole: every row opens", "")
	}
	return c
}

func (a *app) printBackup(r BackupReport, did string, next ...string) error {
	doc := document().set("made", r.Made).set("cluster_id", r.ClusterID).set("cluster_name", r.Name).
		set("rows", r.Rows).set("opened", r.Opened).set("lost", r.Lost).set("bytes", r.Bytes)
	if r.Data != "" {
		doc.set("data", r.Data).set("key_file", r.KeyFile)
	}
	return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		t.Add("Made", r.Made.UTC().Format(time.RFC3339))
		t.Add("Cluster Name", r.Name)
		t.Add("Cluster ID", r.ClusterID)
		t.Add("Rows", strconv.FormatUint(r.Rows, 10))
		t.Add("Rows Opened", strconv.FormatUint(r.Opened, 10))
		if r.Lost > 0 {
			t.Add("Rows Without a Key", strconv.FormatUint(r.Lost, 10))
		}
		t.Add("Bytes", strconv.FormatUint(r.Bytes, 10))
		if err := a.table(w, &t); err != nil {
			return err
		}
		a.note("%s", show.Clean(did))
		for _, n := range next {
			if n != "" {
				a.note("  next: %s", show.Clean(n))
			}
		}
		return nil
	}})
}

func (a *app) operatorRestore() *cobra.Command {
	var f restoreFlags
	var data string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the store of a new node out of a backup",
		Long: `Make the store of a node that there is not yet out of a backup, when all of it
has been verified. What unseals the store is needed: its key file, the seals of a
configuration, or key shares. Without --config it becomes a node of rotunda up,
which gets a copy of the key file, or one of its own where shares were given.

The restored store is quarantined: it answers requests, and ends, turns and
removes nothing by itself until rotunda operator resume.`,
		Example: "  rotunda operator restore --key-file seal.key --data /srv/rotunda rotunda.backup",
		Args:    exactly(1, "FILE"),
	}
	f.define(c)
	c.Flags().StringVar(&data, "data", "", "`directory` of the data, which must be empty or not there (default: $XDG_DATA_HOME/rotunda)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.Server.Backups.Restore == nil {
			return errNoServer
		}
		if data != "" && f.config != "" {
			return usageError{errors.New("--data and --config both say where to restore to: give one"), cmd.CommandPath()}
		}
		in, err := a.restoreConfig(f, args[0], data)
		if err != nil {
			return err
		}
		r, err := a.Server.Backups.Restore(cmd.Context(), in)
		if err != nil {
			return err
		}
		start := "rotunda up --data " + show.Shell(r.Data)
		if f.config != "" {
			start = "rotunda server --config " + show.Shell(f.config)
		}
		return a.printBackup(r, "Restored to "+r.Data+". It is quarantined: it does nothing by itself.", start, "rotunda operator resume")
	}
	return c
}

func (a *app) operatorResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End the quarantine of a server whose store was restored or renamed",
		Long: `End the quarantine of a server whose store was restored from a backup, or is
opened under another cluster's name: it ends tokens whose time has come, turns
keys, removes mounts and writes to audit sinks again. Resume one copy only.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.send(cmd, api.Request{Method: "POST", Path: "sys/quarantine/resume", NoRetry: true}, "Success! The server goes on as usual.")
		},
	}
}

func (a *app) operatorBackupRead() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "backup-read FILE PATH",
		Short: "Print what a path of the API answers from a backup",
		Long: `Print what a path of the API answers from a backup, which is restored for that to
a temporary directory beside the backup and removed again. Of a secret of KV version 2
that is MOUNT/data/PATH. What unseals the store is needed.

To put a secret back, give its data to rotunda kv put.`,
		Example: "  rotunda operator backup-read --key-file seal.key rotunda.backup secret/data/app",
		Args:    exactly(2, "FILE PATH"),
	}
	f.define(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.Server.Backups.Read == nil {
			return errNoServer
		}
		in, err := a.restoreConfig(f, args[0], "")
		if err != nil {
			return err
		}
		b, err := a.Server.Backups.Read(cmd.Context(), in, args[1])
		if err != nil {
			return err
		}
		data, ok := show.Field(b, "data")
		if !ok {
			data = b
		}
		return a.print(view{doc: data, people: func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s\n", data)
			return err
		}})
	}
	return c
}
