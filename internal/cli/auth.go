package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func (a *app) authCommand() *cobra.Command {
	disable := &cobra.Command{
		Use: "disable PATH", Short: "Take an auth method away, with the tokens that it made", Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := authPath(args[0])
			if a.canAsk() {
				if err := a.confirm("End every token that " + show.Clean(path) + "/ has made?"); err != nil {
					return err
				}
			}
			return a.send(cmd, api.Request{Method: "DELETE", Path: "sys/auth/" + path}, "Success! Disabled the auth method (if it existed) at: "+path+"/")
		},
	}
	move := &cobra.Command{
		Use: "move FROM TO", Short: "Give an auth method another path", Args: exactly(2, "FROM or TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.move(cmd, "auth/"+authPath(args[0]), "auth/"+authPath(args[1]))
		},
	}
	return group("auth", "How people and programs log in: list, enable, tune, move, disable",
		a.mountList("sys/auth"), a.authEnable(), a.authTune(), move, disable)
}

// authPath returns the path of an auth method without the auth/ that all have.
func authPath(arg string) string {
	return strings.TrimPrefix(strings.Trim(arg, "/"), "auth/")
}

func (a *app) authEnable() *cobra.Command {
	var m mountFlags
	var path, tokenType string
	var local, sealWrap bool
	c := &cobra.Command{
		Use: "enable TYPE", Short: "Have people and programs log in by another method", Args: exactly(1, "TYPE"),
		Long: "Have people and programs log in by another method, which the server must know.",
	}
	m.define(c)
	f := c.Flags()
	f.StringVar(&path, "path", "", "where; without, the type is the path")
	f.StringVar(&tokenType, "token-type", "", "which `tokens` it makes: default-service, default-batch, service or batch")
	f.BoolVar(&local, "local", false, "do not replicate it")
	f.BoolVar(&sealWrap, "seal-wrap", false, "wrap its values with the seal, too")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		at := authPath(first(path, args[0]))
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		body := object{}
		body.set("type", args[0]).set("description", m.description).set("local", local).set("seal_wrap", sealWrap)
		body.set("config", m.authConfig(cmd, tokenType))
		if len(options) > 0 {
			body.set("options", options)
		}
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/auth/" + at, Body: body.json()}, fmt.Sprintf("Success! Enabled %s auth method at: %s/", args[0], at))
	}
	return c
}

// authConfig is config with what only auth methods have.
func (m *mountFlags) authConfig(cmd *cobra.Command, tokenType string) object {
	o := m.config(cmd)
	if tokenType != "" {
		o.set("token_type", tokenType)
	}
	return o
}

func (a *app) authTune() *cobra.Command {
	var m mountFlags
	var tokenType string
	c := &cobra.Command{Use: "tune PATH", Short: "Change the settings of an auth method", Args: exactly(1, "PATH")}
	m.define(c)
	c.Flags().StringVar(&tokenType, "token-type", "", "which `tokens` it makes: default-service, default-batch, service or batch")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body := m.authConfig(cmd, tokenType)
		if cmd.Flags().Changed("description") {
			body.set("description", m.description)
		}
		options, err := pairs(m.options)
		if err != nil {
			return err
		}
		if len(options) > 0 {
			body.set("options", options)
		}
		path := authPath(args[0])
		return a.send(cmd, api.Request{Method: "POST", Path: "sys/auth/" + path + "/tune", Body: body.json()}, "Success! Tuned the auth method at: "+path+"/")
	}
	return c
}
