package cli

import (
	"errors"
	"io"
	"net/url"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

func (a *app) operatorMembers() *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "List the nodes of the cluster", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/ha-status"})
			if err != nil {
				return err
			}
			nodes, ok := show.Field(dataOf(resp), "nodes")
			if !ok {
				nodes, _ = show.Field(dataOf(resp), "Nodes") // as OpenBao and Vault once spelled it
			}
			return a.print(view{doc: dataOf(resp), people: func(w io.Writer) error {
				t := show.Table{Header: []string{"Host Name", "API Address", "Active Node", "Version"}}
				for _, n := range show.Items(nodes) {
					t.Add(member(n, "hostname"), member(n, "api_address"), member(n, "active_node"), member(n, "version"))
				}
				return a.table(w, &t)
			}})
		},
	}
}

// member returns a member of an object as text, and nothing where it has none.
func member(v jsontext.Value, name string) string {
	m, ok := show.Field(v, name)
	if !ok {
		return ""
	}
	return show.Text(m)
}

func (a *app) operatorStepDown() *cobra.Command {
	return &cobra.Command{
		Use: "step-down", Short: "Have the active node of a cluster give way to another", Args: atMost(0),
		Long: "Have the active node of a cluster give way to another. A server that is one node\ngoes on as it is.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.send(cmd, api.Request{Method: "PUT", Path: "sys/step-down", NoRetry: true}, "Success! Stepped down (if it was active)")
		},
	}
}

var errNoHistory = errors.New("the server keeps no history of its versions")

// listQuery is the query that makes a GET a LIST.
func listQuery() url.Values { return url.Values{"list": {"true"}} }

func (a *app) versionHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version-history", Short: "List the versions that a server has had, where it keeps them", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.plainClient()
			if err != nil {
				return err
			}
			resp, err := cl.Do(cmd.Context(), api.Request{Method: "GET", Path: "sys/version-history", Query: listQuery()})
			if api.StatusOf(err) == 404 {
				return failure{err: errNoHistory, code: 2, next: []string{"rotunda status   (the version that runs)", "rotunda version   (that of this program)"}}
			}
			if err != nil {
				return asList(err)
			}
			info, _ := show.Field(resp.Data, "key_info")
			return a.print(view{doc: resp.Data, people: func(w io.Writer) error {
				t := show.Table{Header: []string{"Version", "Installation Time", "Build Date"}}
				for _, m := range show.Members(info) {
					t.Add(m.Name, member(m.Value, "timestamp_installed"), member(m.Value, "build_date"))
				}
				return a.table(w, &t)
			}})
		},
	}
}
