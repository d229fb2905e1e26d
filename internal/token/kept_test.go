package token_test

import (
	"bytes"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

// Nothing from which a token could be had is kept, not even under the keys of
// the store: of its text there is an HMAC, and its accessor is no part of it.
func TestTextsAreNotKept(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	root := r.Root(t)
	texts := map[string]string{"root": root.ClientToken.Reveal()}
	accessors := []string{root.Accessor}
	child := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, Sudo: true})
	texts["child"], accessors = child.ClientToken.Reveal(), append(accessors, child.Accessor)
	again := r.MustMake(t, root.ClientToken, token.Request{Policies: []name.Name{"a"}, Sudo: true})
	texts["another"], accessors = again.ClientToken.Reveal(), append(accessors, again.Accessor)
	batch := r.MustMake(t, root.ClientToken, token.Request{Kind: "batch", Policies: []name.Name{"a"}, Sudo: true})
	texts["batch"] = batch.ClientToken.Reveal()

	space, err := r.Barrier.Space(t.Context(), barrier.Tokens)
	ok(t, err)
	for _, accessor := range accessors {
		e, err := r.Store.Lookup(t.Context(), r.Clock.Now(), token.ByAccessor(accessor))
		ok(t, err)
		var row []byte // as it is kept, without the encryption of the store
		ok(t, space.View(t.Context(), func(r storage.Reader) (err error) {
			row, err = r.Get(storage.Key{Scope: "t" + e.ID, Row: "h"})
			return err
		}))
		if !bytes.Contains(row, []byte(accessor)) {
			t.Errorf("the row of %s is not what was looked for", accessor)
		}
		for what, text := range texts {
			for _, part := range []string{text, text[4:], text[4:24], text[len(text)-20:], strings.ToLower(text[4:])} {
				if bytes.Contains(row, []byte(part)) {
					t.Errorf("the text of the %s token is kept", what)
				}
			}
			if strings.Contains(text, accessor) || strings.Contains(text, e.ID) || strings.Contains(e.ID+e.Accessor+e.DisplayName+e.Path, text[4:20]) {
				t.Errorf("the entry of %s has a part of the text of the %s token", accessor, what)
			}
		}
	}
}
