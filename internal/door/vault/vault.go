// Package vault speaks the Vault HTTP API, our native door.
package vault

import (
	"net/http"

	"rotunda.dev/rotunda/internal/door"
)

// New returns the handler of everything below /v1/, and of /livez and /readyz.
func New(_ door.Env) http.Handler { return http.NotFoundHandler() }
