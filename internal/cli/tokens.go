package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Make tokens, look at them, renew and revoke them",
		a.tokenCreate(), a.tokenLookup(), a.tokenRenew(), a.tokenRevoke(), a.tokenCapabilities())
}

func (a *app) tokenCreate() *cobra.Command {
	var policies, meta []string
	var ttl, maxTTL, period, display, kind, role, id, alias string
	var uses int
	var orphan, noDefault, renewable bool
	c := &cobra.Command{
		Use: "create", Short: "Make a token, a child of yours", Args: atMost(0),
		Example: "  rotunda token create --policy app-read --ttl 1h\n  rotunda token create --policy ci --use-limit 1 --wrap-ttl 5m",
	}
	f := c.Flags()
	f.StringArrayVar(&policies, "policy", nil, "a policy that it has; may be given more than once")
	f.StringVar(&ttl, "ttl", "", "how `long` it lives before it must be renewed")
	f.StringVar(&maxTTL, "explicit-max-ttl", "", "how `long` it may live at most")
	f.StringVar(&period, "period", "", "renew it for so `long` each time, without end")
	f.StringVar(&display, "display-name", "", "name for lists and the audit journal")
	f.StringVar(&kind, "type", "", "service or batch")
	f.StringVar(&role, "role", "", "make it as this role says")
	f.StringVar(&id, "id", "", "use this as the token, from - or @FILE; needs root")
	f.StringVar(&alias, "entity-alias", "", "alias to make it with; needs a role that allows it")
	f.IntVar(&uses, "use-limit", 0, "how often it may be used; 0 is any number of times")
	f.BoolVar(&orphan, "orphan", false, "do not make it a child of yours")
	f.BoolVar(&noDefault, "no-default-policy", false, "without the default policy")
	f.BoolVar(&renewable, "renewable", true, "let it be renewed")
	f.StringArrayVar(&meta, "metadata", nil, "`KEY=VALUE` for the audit journal; may be given more than once")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		body := object{}
		if len(policies) > 0 {
			body.set("policies", policies)
		}
		for _, kv := range []struct{ key, value string }{{"ttl", ttl}, {"explicit_max_ttl", maxTTL}, {"period", period}, {"display_name", display}, {"type", kind}, {"entity_alias", alias}} {
			if kv.value != "" {
				body.set(kv.key, kv.value)
			}
		}
		if uses != 0 {
			body.set("num_uses", uses)
		}
		if noDefault {
			body.set("no_default_policy", true)
		}
		if kind != "batch" {
			body.set("renewable", renewable)
		}
		if len(meta) > 0 {
			m, err := pairs(meta)
			if err != nil {
				return err
			}
			body.set("meta", m)
		}
		if id != "" {
			t, err := a.secretArgument([]string{id}, "token")
			if err != nil {
				return err
			}
			body.set("id", t.Reveal())
		}
		path := "auth/token/create"
		switch {
		case role != "":
			path += "/" + role
			if orphan {
				body.set("no_parent", true)
			}
		case orphan:
			path = "auth/token/create-orphan"
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), api.Request{Method: "POST", Path: path, Body: body.json()})
		if err != nil {
			return err
		}
		if resp.Auth == nil && resp.WrapInfo == nil {
			return oddAnswer{"the token", nil}
		}
		return a.printResponse(resp)
	}
	return c
}

func (a *app) tokenLookup() *cobra.Command {
	var accessor bool
	c := &cobra.Command{Use: "lookup [TOKEN | -]", Short: "Print what a token is; without one, yours", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		req := api.Request{Method: "GET", Path: selfPath}
		switch {
		case accessor && len(args) == 0:
			return usageError{errors.New("the accessor is missing"), cmd.CommandPath()}
		case accessor:
			req = api.Request{Method: "POST", Path: "auth/token/lookup-accessor", Body: new(object).set("accessor", args[0]).json()}
		case len(args) == 1:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req = api.Request{Method: "POST", Path: "auth/token/lookup", Body: new(object).set("token", t.Reveal()).json()}
		}
		return a.send(cmd, req, "")
	}
	return c
}

func (a *app) tokenRenew() *cobra.Command {
	var accessor bool
	var increment string
	c := &cobra.Command{Use: "renew [TOKEN | -]", Short: "Make a token live longer; without one, yours", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags().StringVarP(&increment, "increment", "i", "", "ask for so `long` from this moment on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body := object{}
		req := api.Request{Method: "PUT", Path: "auth/token/renew-self"}
		switch {
		case accessor && len(args) == 0:
			return usageError{errors.New("the accessor is missing"), cmd.CommandPath()}
		case accessor:
			req = api.Request{Method: "POST", Path: "auth/token/renew-accessor"}
			body.set("accessor", args[0])
		case len(args) == 1:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req.Path = "auth/token/renew"
			body.set("token", t.Reveal())
		}
		if increment != "" {
			body.set("increment", increment)
		}
		req.Body = body.json()
		return a.send(cmd, req, "")
	}
	return c
}

func (a *app) tokenRevoke() *cobra.Command {
	var accessor, self bool
	var mode string
	c := &cobra.Command{Use: "revoke [TOKEN | - | --self]", Short: "End a token and its children", Args: atMost(1)}
	c.Flags().BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags().BoolVar(&self, "self", false, "end the token that you use")
	c.Flags().StringVar(&mode, "mode", "", "orphan: its children live on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var req api.Request
		switch {
		case mode != "" && mode != "orphan":
			return usageError{errors.New("--mode is orphan, or is left out"), cmd.CommandPath()}
		case self && (accessor || len(args) > 0), !self && len(args) == 0:
			return usageError{errors.New("give a token, an --accessor, or --self"), cmd.CommandPath()}
		case self && mode == "":
			req = api.Request{Method: "PUT", Path: "auth/token/revoke-self"}
		case self:
			return usageError{errors.New("--mode goes with a token"), cmd.CommandPath()}
		case accessor:
			if mode != "" {
				return usageError{errors.New("--mode goes with a token"), cmd.CommandPath()}
			}
			req = api.Request{Method: "POST", Path: "auth/token/revoke-accessor", Body: new(object).set("accessor", args[0]).json()}
		default:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			path := "auth/token/revoke"
			if mode == "orphan" {
				path = "auth/token/revoke-orphan"
			}
			req = api.Request{Method: "PUT", Path: path, Body: new(object).set("token", t.Reveal()).json()}
		}
		return a.send(cmd, req, "Success! Revoked the token (if it existed)")
	}
	return c
}

func (a *app) tokenCapabilities() *cobra.Command {
	var accessor bool
	c := &cobra.Command{Use: "capabilities [TOKEN | -] PATH", Short: "Print what a token may do at a path; without one, yours", Args: between(1, 2, "PATH")}
	c.Flags().BoolVar(&accessor, "accessor", false, "the first argument is an accessor")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path := args[len(args)-1]
		body := object{}
		body.set("path", path)
		req := api.Request{Method: "POST", Path: "sys/capabilities-self"}
		switch {
		case accessor && len(args) < 2:
			return usageError{errors.New("the accessor or the path is missing"), cmd.CommandPath()}
		case accessor:
			req.Path = "sys/capabilities-accessor"
			body.set("accessor", args[0])
		case len(args) == 2:
			t, err := a.secretArgument(args, "token")
			if err != nil {
				return err
			}
			req.Path = "sys/capabilities"
			body.set("token", t.Reveal())
		}
		req.Body = body.json()
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.warn(resp)
		data := resp.Data
		if data == nil {
			data = jsontext.Value(resp.Body)
		}
		caps, ok := show.Field(data, "capabilities")
		if !ok {
			caps, _ = show.Field(data, path)
		}
		return a.print(view{doc: caps, people: func(w io.Writer) error {
			_, err := fmt.Fprintln(w, show.Clean(strings.Join(texts(caps), ", ")))
			return err
		}})
	}
	return c
}
