package broker

import (
	"context"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
)

// rootTTL is the life of a root token that is made later than a server's
// initialization.
const rootTTL = time.Hour

// IssueShortRoot makes a root token that ends after an hour, for whoever has
// brought enough shares of the root key. The rider in ctx is carried.
func (b *Broker) IssueShortRoot(ctx context.Context, now time.Time) (secret.Text, error) {
	grant, err := b.p.Tokens.Issue(ctx, now, token.Spec{
		DisplayName: "root", Path: "auth/token/root", Policies: []name.Name{name.Root}, TTL: rootTTL, MaxTTL: rootTTL, ExplicitMax: rootTTL,
	})
	return grant.ClientToken, err
}
