// Package hvac drives the real server with the Python client of the Vault API.
package hvac

import (
	"os/exec"
	"testing"

	"rotunda.dev/rotunda/test/compat/node"
)

// python returns an interpreter that has the client. That of the system comes
// with the client's package; another may have it, too.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import hvac").Run() == nil {
			return name
		}
	}
	t.Fatal("no python3 has the module hvac; make test-deps installs it")
	return ""
}

func TestFlows(t *testing.T) {
	node.Up(t).Run(t, python(t), "-W", "ignore::DeprecationWarning", "flows.py")
}
