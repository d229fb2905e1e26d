package vault

import (
	"net/http"
	"strings"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
)

// Dialect is the Vault API.
var Dialect = door.Dialect{Name: "vault", Faults: faults, New: New}

// faults maps each kind of fault to the status that Vault's clients expect.
// They try again on 5xx, 412 and 429, so no mistake of a caller is one of these.
var faults = map[fault.Kind]door.FaultStatus{
	fault.Internal:        {Status: http.StatusInternalServerError},
	fault.Invalid:         {Status: http.StatusBadRequest},
	fault.Unauthenticated: {Status: http.StatusForbidden},
	fault.Denied:          {Status: http.StatusForbidden},
	fault.NotFound:        {Status: http.StatusNotFound},
	fault.NoRoute:         {Status: http.StatusNotFound},
	fault.Unsupported:     {Status: http.StatusMethodNotAllowed},
	fault.Exists:          {Status: http.StatusBadRequest},
	fault.Conflict:        {Status: http.StatusBadRequest},
	fault.Deleted:         {Status: http.StatusNotFound},
	fault.TooLarge:        {Status: http.StatusRequestEntityTooLarge},
	fault.MediaType:       {Status: http.StatusUnsupportedMediaType},
	fault.Sealed:          {Status: http.StatusServiceUnavailable},
	fault.Uninitialized:   {Status: http.StatusServiceUnavailable},
	fault.Limited:         {Status: http.StatusTooManyRequests},
	fault.Unavailable:     {Status: http.StatusServiceUnavailable},
}

// usual is what is said where a fault says nothing. What has none says nothing.
var usual = map[fault.Kind]string{
	fault.Unauthenticated: "permission denied",
	fault.Denied:          "permission denied",
	fault.TooLarge:        "request body too large",
	fault.MediaType:       "unsupported content type",
	fault.Sealed:          "Vault is sealed",
	fault.Uninitialized:   "Vault is sealed",
	fault.Limited:         "too many requests",
	fault.Unavailable:     "temporarily unavailable",
}

// statusOf returns the status of an answer to err.
func statusOf(err error) int { return faults[fault.KindOf(err)].Status }

// maxSaid bounds what a caller is told, in bytes: some of it may be its own words.
const maxSaid = 512

// message returns what the caller is told of err; empty for nothing.
func message(err error) string {
	kind, said := fault.KindOf(err), fault.Public(err)
	if len(said) > maxSaid {
		said = strings.ToValidUTF8(said[:maxSaid], "") + "…"
	}
	switch {
	case said == "":
		return usual[kind]
	case kind == fault.Sealed:
		return usual[kind] // clients look for this text
	case kind == fault.NoRoute && said == "unsupported path", kind == fault.Unsupported && said == "unsupported operation":
		return "1 error occurred:\n\t* " + said + "\n\n"
	}
	return said
}
