package chaos

import (
	"math/rand/v2"
	"net/http"
)

// turnKeys rotates a key of the node, and reports whether the node still
// answers. What else is written and read at the same time must not notice.
func (w *world) turnKeys(r *rand.Rand) bool {
	at := []string{"sys/rotate", "sys/mounts/secret/rotate", "sys/mounts/one/rotate", "sys/mounts/sys/rotate", "sys/mounts/auth/token/rotate"}
	path := at[r.IntN(len(at))]
	a, err := w.n.do(w.n.root, http.MethodPost, path, nil)
	if err != nil {
		return false
	}
	if a.status != http.StatusNoContent && a.status != http.StatusBadRequest { // which says that the key before is still there
		w.problem("%v", unexpected("POST "+path, a))
		return false
	}
	return true
}
