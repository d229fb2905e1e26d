// Package nodevault drives the real server with a JavaScript client of the
// Vault API.
package nodevault

import (
	"os"
	"testing"

	"rotunda.dev/rotunda/test/compat/node"
)

func TestFlows(t *testing.T) {
	if _, err := os.Stat("node_modules/node-vault"); err != nil {
		t.Fatalf("the client is not there, make test-deps installs it: %v", err)
	}
	node.Up(t).Run(t, "node", "--test", "flows.mjs")
}
