package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
	"rotunda.dev/rotunda/internal/secret"
)

// keyCommands are those of operator that turn keys, and what people do with
// their shares.
func (a *app) keyCommands() []*cobra.Command {
	return []*cobra.Command{a.operatorRotate(), a.operatorRotateKeys(), a.operatorGenerateRoot(), a.sealSlots()}
}

// keyValues prints the members of an answer that are named, each behind its label.
func (a *app) keyValues(data jsontext.Value, labels ...string) error {
	return a.print(view{doc: data, people: func(w io.Writer) error {
		t := show.Table{Header: []string{"Key", "Value"}}
		for i := 0; i+1 < len(labels); i += 2 {
			if v, ok := show.Field(data, labels[i+1]); ok && v.Kind() != 'n' && show.Text(v) != "" {
				t.Add(labels[i], show.Text(v))
			}
		}
		return a.table(w, &t)
	}})
}

// dataOf returns what an answer holds, in whichever layout it came.
func dataOf(r *api.Response) jsontext.Value {
	if r.Data != nil {
		return r.Data
	}
	return jsontext.Value(r.Body)
}

func (a *app) operatorRotate() *cobra.Command {
	var mount string
	var status bool
	c := &cobra.Command{
		Use:   "rotate [--mount PATH]",
		Short: "Rotate the keyring, or the key of a mount",
		Long: `Begin a term of the keyring, or give a mount another key. What is stored comes
under the new key in the background; then the old one is destroyed.`,
		Example: "  rotunda operator rotate\n  rotunda operator rotate --mount secret\n  rotunda operator rotate --mount secret --status",
		Args:    atMost(0),
	}
	c.Flags().StringVar(&mount, "mount", "", "`path` of the mount whose key is rotated")
	c.Flags().BoolVar(&status, "status", false, "only say how the key stands")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if mount != "" {
			return a.rotateMount(cmd, "sys/mounts/"+trimPath(mount)+"/rotate", status)
		}
		if !status {
			cl, err := a.client()
			if err != nil {
				return err
			}
			if _, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: "sys/rotate/keyring", NoRetry: true}); err != nil {
				return err
			}
			a.note("Success! The keyring has a new term.")
		}
		return a.keyStatus(cmd)
	}
	return c
}

func (a *app) rotateMount(cmd *cobra.Command, path string, status bool) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if !status {
		if _, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: path, NoRetry: true}); err != nil {
			return err
		}
		a.note("Success! The mount has a new key.")
	}
	resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: path})
	if err != nil {
		return err
	}
	return a.keyValues(dataOf(resp),
		"Generation", "generation", "Install Time", "install_time", "Encryption Count", "encryptions", "Rotating", "rotating",
		"Begun", "begun", "Pass", "pass", "Rewrapped", "rewrapped", "Failure", "failure")
}

// rekeyAnswer is what sys/rotate/root answers, whatever it was asked.
type rekeyAnswer struct {
	Nonce             string   `json:"nonce"`
	Started           bool     `json:"started"`
	Complete          bool     `json:"complete"`
	Progress          int      `json:"progress"`
	Required          int      `json:"required"`
	T                 int      `json:"t"`
	Keys              []string `json:"keys"`
	KeysBase64        []string `json:"keys_base64"`
	VerificationNonce string   `json:"verification_nonce"`
}

func (a *app) operatorRotateKeys() *cobra.Command {
	var (
		begin, cancel, status, verify bool
		shares, threshold             int
		nonce, target                 string
		pgp                           []string
		backup                        bool
	)
	c := &cobra.Command{
		Use:     "rotate-keys [- | @FILE]",
		Aliases: []string{"rekey"},
		Short:   "Replace the key shares: enough of the old ones make new ones",
		Long: `Replace the key shares. It is begun with --init; then enough holders of the old
shares give theirs, and the last one is shown the new shares. They are to be
proved with --verify, each by its holder, before the old ones are worth nothing.`,
		Example: "  rotunda operator rotate-keys --init --key-shares=5 --key-threshold=3\n  rotunda operator rotate-keys\n  rotunda operator rotate-keys --verify",
		Args:    atMost(1),
	}
	f := c.Flags()
	f.BoolVar(&begin, "init", false, "begin")
	f.BoolVar(&cancel, "cancel", false, "end it; the shares stay as they are. With --verify: begin the proof anew")
	f.BoolVar(&status, "status", false, "only say how it stands")
	f.BoolVar(&verify, "verify", false, "give a new share, as proof that its holder has it")
	f.IntVarP(&shares, "key-shares", "n", 5, "into how many shares the key is split")
	f.IntVarP(&threshold, "key-threshold", "t", 3, "how many of them are needed")
	f.StringSliceVar(&pgp, "pgp-keys", nil, "`keys` to encrypt the shares to, in base64, for servers that do that")
	f.BoolVar(&backup, "backup", false, "have a copy of the encrypted shares kept, for servers that do that")
	f.StringVar(&nonce, "nonce", "", "`nonce` of what is under way; asked of the server where there is none")
	f.StringVar(&target, "target", "barrier", "barrier or recovery: whose shares. Here they are the same")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		at, ok := map[string]string{"barrier": "sys/rotate/root/", "recovery": "sys/rotate/recovery/"}[target]
		if !ok {
			return usageError{fmt.Errorf("--target is %q and must be barrier or recovery", target), ""}
		}
		what := "init"
		if verify {
			what = "verify"
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		ask := func(method, path string, query url.Values, body jsontext.Value) (*rekeyAnswer, jsontext.Value, error) {
			resp, err := cl.Do(cmd.Context(), api.Request{Method: method, Path: at + path, Query: query, Body: body, NoWrap: true, NoRetry: method != "GET"})
			if err != nil {
				return nil, nil, err
			}
			var ans rekeyAnswer
			data := dataOf(resp)
			if len(data) == 0 {
				return &ans, nil, nil
			}
			if err := unpack(data, &ans, "the answer"); err != nil {
				return nil, nil, err
			}
			return &ans, data, nil
		}
		switch {
		case cancel:
			query := url.Values{}
			if nonce != "" {
				query.Set("nonce", nonce)
			}
			if _, _, err := ask("DELETE", what, query, nil); err != nil {
				return err
			}
			a.note("Success! It is ended.")
			return nil
		case status:
			_, data, err := ask("GET", what, nil, nil)
			if err != nil {
				return err
			}
			return a.printRekey(data)
		case begin:
			body := new(object).set("secret_shares", shares).set("secret_threshold", threshold)
			if len(pgp) > 0 {
				body.set("pgp_keys", pgp)
			}
			if backup {
				body.set("backup", true)
			}
			_, data, err := ask("POST", "init", nil, body.json())
			if err != nil {
				return err
			}
			if err := a.printRekey(data); err != nil {
				return err
			}
			a.note("  next: rotunda operator rotate-keys   (each holder of an old share)")
			return nil
		}
		key, err := a.secretArgument(args, "key share")
		if err != nil {
			return err
		}
		if nonce == "" {
			now, _, err := ask("GET", what, nil, nil)
			if err != nil {
				return err
			}
			nonce = now.Nonce
		}
		path := "update"
		if verify {
			path = "verify"
		}
		ans, data, err := ask("POST", path, nil, new(object).set("key", key.Reveal()).set("nonce", nonce).json())
		switch {
		case err != nil:
			return err
		case len(ans.KeysBase64) > 0:
			return a.printRekeyed(ans, data)
		case verify && ans.Complete:
			a.note("Success! The new shares are in use, and the old ones open nothing.")
			return nil
		}
		return a.printRekey(data)
	}
	return c
}

func (a *app) printRekey(data jsontext.Value) error {
	return a.keyValues(data, "Nonce", "nonce", "Started", "started", "Progress", "progress", "Required", "required",
		"New Shares", "n", "New Threshold", "t", "Verification Nonce", "verification_nonce")
}

func (a *app) printRekeyed(ans *rekeyAnswer, data jsontext.Value) error {
	return a.print(view{doc: data, people: func(w io.Writer) error {
		var b strings.Builder
		for i, k := range ans.KeysBase64 {
			fmt.Fprintf(&b, "Key %d: %s\n", i+1, k)
		}
		fmt.Fprintf(&b, "\nVerification Nonce: %s\n", ans.VerificationNonce)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		a.note("\nThese shares are kept nowhere, and the old ones are still those that open the store.\nGive each to another person, who proves to have it.")
		a.note("  next: rotunda operator rotate-keys --verify   (each holder of a new share)")
		return nil
	}})
}

// generateAnswer is what sys/generate-root answers.
type generateAnswer struct {
	Nonce        string `json:"nonce"`
	Complete     bool   `json:"complete"`
	EncodedToken string `json:"encoded_token"`
	OTP          string `json:"otp"`
}

func (a *app) operatorGenerateRoot() *cobra.Command {
	var (
		begin, cancel, status bool
		otp, decode, nonce    string
		pgp                   string
		pad                   bool
	)
	c := &cobra.Command{
		Use:   "generate-root [- | @FILE]",
		Short: "Make a root token by key shares, where the server's configuration allows it",
		Long: `Make a root token that ends after an hour. It is begun with --init, which prints
a one-time pad for whoever begins it. Then enough holders of key shares give
theirs, and the last one is shown the token under the pad. --decode and --otp
make the token of both. The server allows it with enable_generate_root.`,
		Example: "  rotunda operator generate-root --init\n  rotunda operator generate-root\n  rotunda operator generate-root --decode=ENCODED --otp=PAD",
		Args:    atMost(1),
	}
	f := c.Flags()
	f.BoolVar(&begin, "init", false, "begin")
	f.BoolVar(&cancel, "cancel", false, "end it")
	f.BoolVar(&status, "status", false, "only say how it stands")
	f.StringVar(&otp, "otp", "", "the one-time `pad`, from - or @FILE; with --init one of your own")
	f.StringVar(&decode, "decode", "", "print the token that is `encoded` so, with --otp")
	f.BoolVar(&pad, "generate-otp", false, "only make up a one-time pad, for --init --otp")
	f.StringVar(&pgp, "pgp-key", "", "`key` to encrypt the token to, in base64, for servers that do that")
	f.StringVar(&nonce, "nonce", "", "`nonce` of what is under way; asked of the server where there is none")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if otp != "" {
			t, err := a.secretArgument([]string{otp}, "one-time pad")
			if err != nil {
				return err
			}
			otp = t.Reveal()
		}
		if decode != "" {
			return a.decodeRoot(decode, otp)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		none := secret.Text{}
		if pad {
			return a.onePad(cmd.Context(), cl)
		}
		ask := func(method, path string, body jsontext.Value) (*generateAnswer, jsontext.Value, error) {
			resp, err := cl.Do(cmd.Context(), api.Request{Method: method, Path: "sys/generate-root/" + path, Body: body, Token: &none, NoWrap: true, NoRetry: method != "GET"})
			if err != nil {
				return nil, nil, err
			}
			var ans generateAnswer
			if len(resp.Body) == 0 {
				return &ans, nil, nil
			}
			if err := unpack(resp.Body, &ans, "the answer"); err != nil {
				return nil, nil, err
			}
			return &ans, jsontext.Value(resp.Body), nil
		}
		var data jsontext.Value
		switch {
		case cancel:
			if _, _, err := ask("DELETE", "attempt", nil); err != nil {
				return err
			}
			a.note("Success! It is ended.")
			return nil
		case status:
			_, data, err = ask("GET", "attempt", nil)
		case begin:
			body := object{}
			if otp != "" {
				body.set("otp", otp)
			}
			if pgp != "" {
				body.set("pgp_key", pgp)
			}
			_, data, err = ask("POST", "attempt", body.json())
		default:
			var key secret.Text
			if key, err = a.secretArgument(args, "key share"); err != nil {
				return err
			}
			if nonce == "" {
				now, _, err := ask("GET", "attempt", nil)
				if err != nil {
					return err
				}
				nonce = now.Nonce
			}
			_, data, err = ask("POST", "update", new(object).set("key", key.Reveal()).set("nonce", nonce).json())
		}
		if err != nil {
			return err
		}
		return a.keyValues(data, "Nonce", "nonce", "Started", "started", "Progress", "progress", "Required", "required",
			"Complete", "complete", "OTP", "otp", "OTP Length", "otp_length", "Encoded Token", "encoded_token")
	}
	return c
}

// onePad prints a pad as long as the server wants one.
func (a *app) onePad(ctx context.Context, c *api.Client) error {
	none := secret.Text{}
	resp, err := c.Do(ctx, api.Request{Method: "GET", Path: "sys/generate-root/attempt", Token: &none, NoWrap: true})
	if err != nil {
		return err
	}
	length, _ := show.Field(resp.Body, "otp_length")
	n, err := strconv.Atoi(string(length))
	if err != nil {
		return errors.New("the server does not say how long a pad must be")
	}
	pad, err := generate(n, "alnum")
	if err != nil {
		return err
	}
	return a.print(view{doc: new(object).set("otp", pad).json(), raw: &pad, enter: true, people: func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, pad); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		return nil
	}})
}

// decodeRoot prints a token that is hidden under a pad.
func (a *app) decodeRoot(encoded, otp string) error {
	hidden, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil || len(hidden) != len(otp) {
		return usageError{errors.New("--decode and --otp do not belong together"), ""}
	}
	for i := range hidden {
		hidden[i] ^= otp[i]
	}
	token := string(hidden)
	return a.print(view{doc: new(object).set("token", token).json(), people: func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, token); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		return nil
	}})
}

// slot is a seal slot as sys/seal/slots answers it.
type slot struct {
	ID        string   `json:"id"`
	Kind      string   `json:"kind"`
	Arguments []string `json:"arguments"`
	Shares    int      `json:"shares"`
	Threshold int      `json:"threshold"`
}

func (s slot) text() string {
	if s.Shares > 0 {
		return strconv.Itoa(s.Threshold) + " of " + strconv.Itoa(s.Shares) + " shares"
	}
	return strings.Join(s.Arguments, " ")
}

func (a *app) sealSlots() *cobra.Command {
	const path = "sys/seal/slots"
	list := &cobra.Command{
		Use: "list", Short: "List the ways to open the store", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: path})
			if err != nil {
				return err
			}
			var ans struct {
				Slots []slot `json:"slots"`
			}
			if err := unpack(resp.Data, &ans, "the answer"); err != nil {
				return err
			}
			return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
				t := show.Table{Header: []string{"ID", "Kind", "Opened By"}}
				for _, s := range ans.Slots {
					t.Add(s.ID, s.Kind, s.text())
				}
				return a.table(w, &t)
			}})
		},
	}
	var shares, threshold int
	var recipients []string
	add := &cobra.Command{
		Use:   "add shamir|age",
		Short: "Add a way to open the store",
		Long: `Add a way to open the store: shares of its key, which are printed once, or age
recipients. Other seals come from the server's configuration: one that has no
slot yet gets it when the server is next unsealed.`,
		Example: "  rotunda operator seal-slots add shamir --key-shares=5 --key-threshold=3\n  rotunda operator seal-slots add age --recipient=age1...",
		Args:    exactly(1, "KIND"),
	}
	add.Flags().IntVar(&shares, "key-shares", 5, "of shamir: into how many shares the key is split")
	add.Flags().IntVar(&threshold, "key-threshold", 3, "of shamir: how many of them are needed")
	add.Flags().StringSliceVar(&recipients, "recipient", nil, "of age: `recipients`, any one of whom opens the store")
	add.RunE = func(cmd *cobra.Command, args []string) error {
		body := new(object).set("kind", args[0])
		switch args[0] {
		case "shamir":
			body.set("shares", shares).set("threshold", threshold)
		case "age":
			body.set("recipients", recipients)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: path, Body: body.json(), NoWrap: true, NoRetry: true})
		if err != nil {
			return err
		}
		var ans struct {
			Slot       slot     `json:"slot"`
			KeysBase64 []string `json:"keys_base64"`
		}
		if err := unpack(resp.Data, &ans, "the answer"); err != nil {
			return err
		}
		return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
			var b strings.Builder
			for i, k := range ans.KeysBase64 {
				fmt.Fprintf(&b, "Key %d: %s\n", i+1, k)
			}
			fmt.Fprintf(&b, "Slot: %s (%s, %s)\n", ans.Slot.ID, show.Clean(ans.Slot.Kind), show.Clean(ans.Slot.text()))
			if _, err := io.WriteString(w, b.String()); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			if len(ans.KeysBase64) > 0 {
				a.note("\nThese shares are kept nowhere. Give each to another person.")
			}
			return nil
		}})
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Remove a way to open the store; the last one cannot be", Args: exactly(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm("Remove the seal slot " + show.Clean(args[0]) + "? What opens it will open the store no more."); err != nil {
				return err
			}
			return a.send(cmd, api.Request{Method: "DELETE", Path: path + "/" + url.PathEscape(args[0]), NoRetry: true}, "Success! The slot is removed.")
		},
	}
	return group("seal-slots", "List, add and remove the ways to open the store", list, add, remove)
}
