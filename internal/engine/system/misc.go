package system

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"

	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/op"
)

type haNode struct {
	Hostname   string `json:"hostname"`
	APIAddress string `json:"api_address"`
	ActiveNode bool   `json:"active_node"`
	Version    string `json:"version"`
}

type haOut struct {
	Nodes []haNode `json:"nodes"`
}

type randomIn struct {
	Bytes  int    `json:"bytes" doc:"Number of random bytes; 0 is 32."`
	Source string `json:"source" audit:"clear" doc:"platform, which is the operating system, or nothing; nothing else gives random bytes here."`
	Format string `json:"format" audit:"clear" doc:"hex or base64; base64 where there is none."`
}

type randomOut struct {
	RandomBytes string `json:"random_bytes"`
}

type randomOneIn struct {
	What   string `path:"what" doc:"Number of random bytes, or platform."`
	Bytes  int    `json:"bytes" doc:"Number of random bytes, where the path does not say it; 0 is 32."`
	Format string `json:"format" audit:"clear" doc:"hex or base64; base64 where there is none."`
}

type randomBothIn struct {
	Source string `path:"source" doc:"platform."`
	Bytes  int    `path:"bytes" doc:"Number of random bytes."`
	Format string `json:"format" audit:"clear" doc:"hex or base64; base64 where there is none."`
}

type hashAlgorithmIn struct {
	Algorithm string `path:"algorithm" doc:"As the field algorithm of tools/hash."`
	Input     string `json:"input" doc:"Base64 of what is to be hashed."`
	Format    string `json:"format" audit:"clear" doc:"hex or base64; hex where there is none."`
}

type corsOut struct {
	Enabled bool `json:"enabled"`
}

type hashIn struct {
	Input     string `json:"input" doc:"Base64 of what is to be hashed."`
	Algorithm string `json:"algorithm" audit:"clear" doc:"sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512; sha2-256 where there is none."`
	Format    string `json:"format" audit:"clear" doc:"hex or base64; hex where there is none."`
}

type hashOut struct {
	Sum string `json:"sum"`
}

// miscOps are what clients ask of a server besides its mounts and policies.
func miscOps(p *Parts) []op.Op {
	return []op.Op{
		op.Def[op.Nothing, haOut]{
			Name: "system.ha-status", Verb: op.Read, Path: "ha-status", Shape: op.Injected, Does: "List the nodes.",
		}.With(func(context.Context, *op.Call, op.Nothing) (haOut, error) {
			return haOut{[]haNode{{Hostname: p.Info.ClusterName, APIAddress: p.Info.APIAddr, ActiveNode: true, Version: p.Info.CompatVersion}}}, nil
		}),
		op.Def[op.Nothing, op.Raw]{
			Name: "system.openapi", Verb: op.Read, Path: "internal/specs/openapi", Auth: op.Open, Shape: op.Bare, Does: "Describe every operation in OpenAPI.",
		}.With(func(ctx context.Context, _ *op.Call, _ op.Nothing) (op.Raw, error) {
			b, err := p.Describe(ctx)
			return op.Raw{ContentType: "application/json", Body: b}, err
		}),
		op.Def[op.Nothing, op.Raw]{
			Name: "system.metrics", Verb: op.Read, Path: "metrics", Shape: op.Bare, Does: "Read the metrics in Prometheus' text format.",
		}.With(func(context.Context, *op.Call, op.Nothing) (op.Raw, error) {
			b, err := p.Measure()
			return op.Raw{ContentType: "text/plain; version=0.0.4; charset=utf-8", Body: b}, err
		}),
		op.Def[randomIn, randomOut]{
			Name: "system.tools.random", Verb: op.Update, Path: "tools/random", Does: "Return random bytes from the operating system.",
		}.With(random),
		op.Def[hashIn, hashOut]{
			Name: "system.tools.hash", Verb: op.Update, Path: "tools/hash", Does: "Hash what is given.",
		}.With(hashOf),
		op.Def[randomOneIn, randomOut]{
			Name: "system.tools.random.one", Verb: op.Update, Path: "tools/random/{what}", Hidden: true, Does: "Return random bytes from the operating system.",
		}.With(func(ctx context.Context, c *op.Call, in randomOneIn) (randomOut, error) {
			if n, err := strconv.Atoi(in.What); err == nil {
				return random(ctx, c, randomIn{Bytes: n, Format: in.Format})
			}
			return random(ctx, c, randomIn{Bytes: in.Bytes, Source: in.What, Format: in.Format})
		}),
		op.Def[randomBothIn, randomOut]{
			Name: "system.tools.random.both", Verb: op.Update, Path: "tools/random/{source}/{bytes}", Hidden: true, Does: "Return random bytes from the operating system.",
		}.With(func(ctx context.Context, c *op.Call, in randomBothIn) (randomOut, error) {
			return random(ctx, c, randomIn{Bytes: in.Bytes, Source: in.Source, Format: in.Format})
		}),
		op.Def[hashAlgorithmIn, hashOut]{
			Name: "system.tools.hash.algorithm", Verb: op.Update, Path: "tools/hash/{algorithm}", Hidden: true, Does: "Hash what is given.",
		}.With(func(ctx context.Context, c *op.Call, in hashAlgorithmIn) (hashOut, error) {
			return hashOf(ctx, c, hashIn{Input: in.Input, Algorithm: in.Algorithm, Format: in.Format})
		}),
		op.Def[op.Nothing, corsOut]{
			Name: "system.config.cors", Verb: op.Read, Path: "config/cors", Sudo: true, Shape: op.Injected, Does: "Say whether browsers may call from other origins: they may not.",
		}.With(func(context.Context, *op.Call, op.Nothing) (corsOut, error) { return corsOut{}, nil }),
	}
}

func random(_ context.Context, _ *op.Call, in randomIn) (randomOut, error) {
	if in.Source != "" && in.Source != "platform" {
		return randomOut{}, fault.New(fault.Invalid, "random bytes come from the platform, and from no other source")
	}
	n := in.Bytes
	if n == 0 {
		n = 32
	}
	if n < 0 || n > 128<<10 {
		return randomOut{}, fault.New(fault.Invalid, `"bytes" must be 1 to 131072`)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	s, err := formatted(b, in.Format, "base64")
	return randomOut{s}, err
}

func hashOf(_ context.Context, _ *op.Call, in hashIn) (hashOut, error) {
	input, err := base64.StdEncoding.DecodeString(in.Input)
	if err != nil {
		return hashOut{}, fault.New(fault.Invalid, "unable to decode input as base64")
	}
	algorithms := map[string]func() hash.Hash{
		"": sha256.New, "sha2-224": sha256.New224, "sha2-256": sha256.New, "sha2-384": sha512.New384, "sha2-512": sha512.New,
		"sha3-224": func() hash.Hash { return sha3.New224() }, "sha3-256": func() hash.Hash { return sha3.New256() },
		"sha3-384": func() hash.Hash { return sha3.New384() }, "sha3-512": func() hash.Hash { return sha3.New512() },
	}
	algorithm, ok := algorithms[in.Algorithm]
	if !ok {
		return hashOut{}, fault.New(fault.Invalid, "unsupported algorithm")
	}
	h := algorithm()
	h.Write(input)
	s, err := formatted(h.Sum(nil), in.Format, "hex")
	return hashOut{s}, err
}

func formatted(b []byte, format, usual string) (string, error) {
	if format == "" {
		format = usual
	}
	switch format {
	case "hex":
		return hex.EncodeToString(b), nil
	case "base64":
		return base64.StdEncoding.EncodeToString(b), nil
	}
	return "", fault.New(fault.Invalid, "unsupported encoding format; must be \"hex\" or \"base64\"")
}
