package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

// sealStatus is what sys/seal-status answers.
type sealStatus struct {
	Type        string `json:"type"`
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
	T           int    `json:"t"`
	N           int    `json:"n"`
	Progress    int    `json:"progress"`
	Version     string `json:"version"`
	StorageType string `json:"storage_type"`
	ClusterName string `json:"cluster_name"`
	ClusterID   string `json:"cluster_id"`
	OpensItself bool   `json:"recovery_seal"` // when it starts, by a seal that needs no people

	Troubles []string `json:"rotunda_troubles"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print whether the server is ready",
		Long:  "Print whether the server is ready. Exit code 0: unsealed. 1: no answer. 2: sealed.",
		Args:  atMost(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	none := secret.Text{}
	resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none, NoWrap: true})
	if err != nil {
		if errors.Is(err, api.ErrShown) {
			return err
		}
		return failure{err: err, code: 1}
	}
	if err := expect(resp, "sealed", "whether it is sealed"); err != nil {
		return failure{err: err, code: 1}
	}
	return a.printStatus(ctx, cl, resp.Body, true)
}

// printStatus prints what sys/seal-status or sys/unseal answered; with exit, a
// sealed server is exit code 2.
func (a *app) printStatus(ctx context.Context, cl *api.Client, body []byte, exit bool) error {
	var s sealStatus
	if err := unpack(body, &s, "the status"); err != nil {
		return err
	}
	doc := object(show.Members(body))
	if !s.Sealed && s.Initialized {
		none := secret.Text{}
		if resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/leader", Token: &none, NoWrap: true, NoRetry: true}); err == nil {
			for _, m := range show.Members(resp.Body) {
				doc.put(m.Name, m.Value)
			}
		}
	}
	err := a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		t.Add("Seal Type", s.Type)
		t.Add("Initialized", strconv.FormatBool(s.Initialized))
		t.Add("Sealed", strconv.FormatBool(s.Sealed))
		t.Add("Total Shares", strconv.Itoa(s.N))
		t.Add("Threshold", strconv.Itoa(s.T))
		if s.Sealed {
			t.Add("Unseal Progress", fmt.Sprintf("%d/%d", s.Progress, s.T))
		}
		t.Add("Version", s.Version)
		t.Add("Storage Type", s.StorageType)
		if s.ClusterName != "" {
			t.Add("Cluster Name", s.ClusterName)
		}
		if s.ClusterID != "" {
			t.Add("Cluster ID", s.ClusterID)
		}
		for _, extra := range []struct{ label, key string }{{"HA Enabled", "ha_enabled"}, {"Active Node Address", "leader_address"}} {
			if v, ok := show.Field(doc.json(), extra.key); ok && show.Text(v) != "" {
				t.Add(extra.label, show.Text(v))
			}
		}
		if len(s.Troubles) > 0 {
			t.Add("Troubles", strings.Join(s.Troubles, ", "))
		}
		if err := a.table(w, &t); err != nil {
			return err
		}
		if len(s.Troubles) > 0 {
			a.note("  next: rotunda doctor")
		}
		switch {
		case !s.Initialized:
			a.note("  next: rotunda operator init")
		case s.Sealed:
			for _, n := range a.reopen(a.dataOf(), s) {
				a.note("  next: %s", n)
			}
		}
		return nil
	}})
	if err == nil && exit && s.Sealed {
		return silent(2)
	}
	return err
}

func (a *app) operatorCommand() *cobra.Command {
	status := a.statusCommand()
	seal := &cobra.Command{
		Use: "seal", Short: "Seal the server: nothing is answered until it is unsealed", Args: atMost(0),
		Long: `Seal the server: it forgets every key, and nothing is answered until it is unsealed.

Where people hold shares of its key, enough of them unseal it (rotunda operator
unseal). A server that opens itself by a key file or another seal does so when it
starts, and not while it runs: sealing is for emergencies, and who reaches the server
over the network must not undo it. Restart it on its machine; or unseal it with its
recovery shares, if it has any.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.send(cmd, api.Request{Method: "PUT", Path: "sys/seal", NoRetry: true}, "Success! The server is sealed."); err != nil {
				return err
			}
			if data := a.dataOf(); data != "" {
				for _, n := range a.reopen(data, sealStatus{OpensItself: true}) {
					a.note("  next: %s", n)
				}
			} else {
				a.note("  next: rotunda status   (says what opens it)")
			}
			return nil
		},
	}
	keyStatus := &cobra.Command{
		Use: "key-status", Short: "Print the age and use of the encryption key", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.keyStatus(cmd) },
	}
	all := []*cobra.Command{a.operatorInit(), a.operatorUnseal(), seal, a.operatorStepDown(), status, a.operatorMembers(), keyStatus}
	return group("operator", "Care for a server: init, unseal, seal, keys, recovery, backups", append(append(append(all, a.keyCommands()...), a.operatorRecover()), a.backupCommands()...)...)
}

func (a *app) keyStatus(cmd *cobra.Command) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/key-status"})
	if err != nil {
		return err
	}
	data := resp.Data
	if data == nil {
		data = jsontext.Value(resp.Body)
	}
	return a.print(view{doc: data, people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		for _, k := range []struct{ label, key string }{{"Key Term", "term"}, {"Install Time", "install_time"}, {"Encryption Count", "encryptions"}} {
			if v, ok := show.Field(data, k.key); ok {
				t.Add(k.label, show.Text(v))
			}
		}
		return a.table(w, &t)
	}})
}

// initAnswer is what sys/init answers.
type initAnswer struct {
	Keys               []string `json:"keys"`
	KeysBase64         []string `json:"keys_base64"`
	RecoveryKeys       []string `json:"recovery_keys"`
	RecoveryKeysBase64 []string `json:"recovery_keys_base64"`
	RootToken          string   `json:"root_token"`
}

func (a *app) operatorInit() *cobra.Command {
	var shares, threshold, recoveryShares, recoveryThreshold int
	var pgp, recoveryPGP []string
	var rootPGP string
	var status bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the store of a new server, and print its keys once",
		Long: `Make the store of a new server. The key shares and the root token are printed
once and kept nowhere: give each share to another person.`,
		Example: "  rotunda operator init -key-shares=5 -key-threshold=3 -format=json",
		Args:    atMost(0),
	}
	f := c.Flags()
	f.IntVarP(&shares, "key-shares", "n", 5, "into how many shares the unseal key is split")
	f.IntVarP(&threshold, "key-threshold", "t", 3, "how many shares unseal")
	f.IntVar(&recoveryShares, "recovery-shares", 5, "into how many shares the recovery key is split, where the server unseals itself")
	f.IntVar(&recoveryThreshold, "recovery-threshold", 3, "how many of those are needed")
	f.StringSliceVar(&pgp, "pgp-keys", nil, "`keys` to encrypt the shares to, in base64, one for each share")
	f.StringSliceVar(&recoveryPGP, "recovery-pgp-keys", nil, "`keys` to encrypt the recovery shares to, in base64")
	f.StringVar(&rootPGP, "root-token-pgp-key", "", "`key` to encrypt the root token to, in base64")
	f.BoolVar(&status, "status", false, "only say whether it is done already: exit code 0 yes, 2 no")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		none := secret.Text{}
		if status {
			resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/init", Token: &none})
			if err != nil {
				return failure{err: err, code: 1}
			}
			v, _ := show.Field(resp.Body, "initialized")
			done, text := v.Kind() == 't', "The server is not initialized."
			if done {
				text = "The server is initialized."
			}
			if err := a.print(view{doc: new(object).set("initialized", done).json(), people: func(io.Writer) error {
				a.note("%s", text)
				return nil
			}}); err != nil || done {
				return err
			}
			return silent(2)
		}
		resp, err := cl.Do(ctx, api.Request{Method: "GET", Path: "sys/seal-status", Token: &none})
		if err != nil {
			return err
		}
		auto, _ := show.Field(resp.Body, "recovery_seal")
		body := object{}
		if auto.Kind() == 't' {
			body.set("recovery_shares", recoveryShares).set("recovery_threshold", recoveryThreshold)
			if len(recoveryPGP) > 0 {
				body.set("recovery_pgp_keys", recoveryPGP)
			}
		} else {
			body.set("secret_shares", shares).set("secret_threshold", threshold)
			if len(pgp) > 0 {
				body.set("pgp_keys", pgp)
			}
		}
		if rootPGP != "" {
			body.set("root_token_pgp_key", rootPGP)
		}
		if resp, err = cl.Do(ctx, api.Request{Method: "PUT", Path: "sys/init", Body: body.json(), Token: &none, NoWrap: true, NoRetry: true}); err != nil {
			return err
		}
		return a.printInit(resp.Body, shares, threshold, recoveryShares, recoveryThreshold)
	}
	return c
}

func (a *app) printInit(raw []byte, shares, threshold, recoveryShares, recoveryThreshold int) error {
	var ans initAnswer
	if err := unpack(raw, &ans, "the answer"); err != nil {
		return err
	}
	if ans.RootToken == "" {
		return oddAnswer{"the keys", nil}
	}
	list := func(v []string) []string {
		if v == nil {
			return []string{}
		}
		return v
	}
	// A server that unseals itself has one share of its own; one that does not
	// has no recovery key.
	if len(ans.Keys) == 0 {
		shares, threshold = 1, 1
	}
	if len(ans.RecoveryKeys) == 0 {
		recoveryShares, recoveryThreshold = 0, 0
	}
	doc := object{}
	doc.set("unseal_keys_b64", list(ans.KeysBase64)).set("unseal_keys_hex", list(ans.Keys)).
		set("unseal_shares", shares).set("unseal_threshold", threshold).
		set("recovery_keys_b64", list(ans.RecoveryKeysBase64)).set("recovery_keys_hex", list(ans.RecoveryKeys)).
		set("recovery_keys_shares", recoveryShares).set("recovery_keys_threshold", recoveryThreshold).
		set("root_token", ans.RootToken)
	return a.print(view{doc: doc.json(), people: func(w io.Writer) error {
		var b strings.Builder
		for i, k := range ans.KeysBase64 {
			fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, k)
		}
		for i, k := range ans.RecoveryKeysBase64 {
			fmt.Fprintf(&b, "Recovery Key %d: %s\n", i+1, k)
		}
		fmt.Fprintf(&b, "\nInitial Root Token: %s\n", ans.RootToken)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if len(ans.KeysBase64) > 0 {
			a.note("\nThese %d key shares are kept nowhere. Give each to another person: any %d of them\nunseal the server, and without them it stays sealed for ever.", shares, threshold)
			a.note("  next: rotunda operator unseal   (%d times, each with another share)", threshold)
		}
		if len(ans.RecoveryKeysBase64) > 0 {
			a.note("\nThese %d recovery keys are kept nowhere. Give each to another person: any %d of them\nopen the store if what the server opens it with is lost.", recoveryShares, recoveryThreshold)
		}
		a.note("The root token does not expire. Revoke it when there are others: rotunda token revoke --self")
		a.note("  next: rotunda login             (with the root token; then make one that may less)")
		return nil
	}})
}

func (a *app) operatorUnseal() *cobra.Command {
	var reset, migrate bool
	c := &cobra.Command{
		Use:   "unseal [- | @FILE]",
		Short: "Give one key share; enough of them unseal the server",
		Long:  "Give one key share; enough of them unseal the server. It is asked for and not\nshown, or comes from standard input (-) or a file (@FILE).",
		Args:  atMost(1),
	}
	c.Flags().BoolVar(&reset, "reset", false, "forget the shares that were given so far")
	c.Flags().BoolVar(&migrate, "migrate", false, "move to the seal that the configuration names")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body := object{}
		if reset {
			body.set("reset", true)
		} else {
			if len(args) == 0 { // somebody is to be asked
				if s, ok := a.sealStatus(cmd.Context()); ok && s.Sealed && s.OpensItself {
					a.note("This server opens itself when it starts (seal %s). While it runs, only recovery shares open it.", show.Clean(s.Type))
				}
			}
			key, err := a.secretArgument(args, "key share")
			if err != nil {
				return err
			}
			body.set("key", key.Reveal())
			if migrate {
				body.set("migrate", true)
			}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		none := secret.Text{}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "PUT", Path: "sys/unseal", Body: body.json(), Token: &none, NoWrap: true})
		if err != nil {
			return err
		}
		return a.printStatus(cmd.Context(), cl, resp.Body, false)
	}
	return c
}

func (a *app) operatorRecover() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "recover [--data DIR]",
		Short: "Make a new owner token for a node that is stopped, with its key file",
		Long: `Make a new owner token for a node of this machine, with the key file that seals
it: for when the owner's token is lost or has expired. The node must be stopped.
It is recorded in the audit journal.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Server.Recover == nil {
				return errNoServer
			}
			dir, config, err := a.nodeDirs(data)
			if err != nil {
				return err
			}
			if err := a.confirm("Make a token that may do everything on the node in " + dir + "?"); err != nil {
				return err
			}
			n, err := a.Server.Recover(cmd.Context(), RecoverConfig{Data: dir, Config: config})
			if err != nil {
				return err
			}
			store := a.env.profiles()
			all, err := store.Load()
			if err != nil {
				return err
			}
			name := nodeName(all, dir, a.env.dataDir())
			if n.Address == "" {
				n.Address = first(all.Contexts[name].Address, defaultAddress)
			}
			if len(n.CACert) == 0 {
				n.CACert = []byte(all.Contexts[name].CACert)
			}
			if err := a.keepNode(store, name, dir, n); err != nil {
				return err
			}
			for _, d := range n.Done {
				a.note("  %s", show.Clean(d))
			}
			a.note("You are signed in as the owner (context %s).", name)
			a.note("  next: rotunda up --data %s", show.Shell(dir))
			return nil
		},
	}
	c.Flags().StringVar(&data, "data", "", "`directory` of the data (default: $XDG_DATA_HOME/rotunda)")
	return c
}
