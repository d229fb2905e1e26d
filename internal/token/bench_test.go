package token_test

import (
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

func BenchmarkFind(b *testing.B) {
	r := tokentest.New(b, token.Config{})
	root := r.Root(b).ClientToken
	for kind, ask := range map[string]token.Request{
		"service": {Policies: []name.Name{"a"}, Sudo: true},
		"batch":   {Policies: []name.Name{"a"}, Kind: "batch", Sudo: true},
		"custom":  {Policies: []name.Name{"a"}, Sudo: true},
	} {
		if kind == "custom" {
			ask.ID = secret.New("custom")
		}
		text := r.MustMake(b, root, ask).ClientToken
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Lookup(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	r := tokentest.New(b, token.Config{})
	root := r.Root(b).ClientToken
	b.ReportAllocs()
	for b.Loop() {
		r.MustMake(b, root, token.Request{Policies: []name.Name{"a"}, TTL: time.Hour, Sudo: true})
	}
}
