package flows

import (
	"os"
	"strings"
	"testing"
)

//go:generate sh -c "(echo '// Code generated from ../vaultapi/flows_test.go by go generate; DO NOT EDIT.'; echo; sed -e s#github.com/hashicorp/vault/api#github.com/openbao/openbao/api/v2# ../vaultapi/flows_test.go) > flows_test.go"

// The flows are the same for both clients.
func TestGenerated(t *testing.T) {
	from, err := os.ReadFile("../vaultapi/flows_test.go")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("flows_test.go")
	if err != nil {
		t.Fatal(err)
	}
	want := "// Code generated from ../vaultapi/flows_test.go by go generate; DO NOT EDIT.\n\n" +
		strings.Replace(string(from), "github.com/hashicorp/vault/api", "github.com/openbao/openbao/api/v2", 1)
	if string(got) != want {
		t.Error("openbao/flows_test.go is stale; run `go generate ./openbao` in test/compat")
	}
}
