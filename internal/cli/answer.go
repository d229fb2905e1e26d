package cli

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/cli/api"
	"rotunda.dev/rotunda/internal/cli/show"
)

// An oddAnswer is a good answer that is not what a server of the Vault API
// gives: something else listens at the address, or stands before it.
type oddAnswer struct {
	what string // that was looked for in it
	err  error  // may be nil
}

func (o oddAnswer) Error() string {
	return "the answer is not that of a server of the Vault API: there is no telling " + o.what + " from it"
}

func (o oddAnswer) Unwrap() error { return o.err }

// unpack reads v, which a server answered, into a struct that into points to.
// What names it.
func unpack(v jsontext.Value, into any, what string) error {
	if err := json.Unmarshal(v, into); err != nil {
		return oddAnswer{what, err}
	}
	return nil
}

// expect returns an error where an answer lacks the field from which what is told.
func expect(r *api.Response, field, what string) error {
	if _, ok := show.Field(dataOf(r), field); !ok {
		return oddAnswer{what, nil}
	}
	return nil
}
