// Package memory keeps keys where neither a swap file, nor a core dump, nor
// another process finds them, as far as the operating system allows.
package memory

import (
	"errors"
	"runtime/debug"
	"sync"

	"rotunda.dev/rotunda/internal/secret"
)

// Kind says how memory is protected.
type Kind string

// The kinds, from the best to the least.
const (
	Secret Kind = "memfd_secret" // not even the kernel maps it; never swapped, dumped, or read through /proc
	Locked Kind = "mlock"        // never swapped, not in core dumps
	Plain  Kind = "plain"        // as any other memory
)

// regionSize is that of one page on most machines: room for 128 keys.
const regionSize = 4096

// Pages hold keys. The zero value is ready to use. It is safe for concurrent
// use, except that no key may be in use during Close.
type Pages struct {
	mu      sync.Mutex
	regions []region
	free    []byte // what is left of the last region
	held    []secret.Bytes
}

type region struct {
	mem  []byte
	kind Kind
}

// Hold copies key into the pages and returns it there. The copy is valid
// until it is wiped or the pages are closed.
func (p *Pages) Hold(key []byte) secret.Bytes {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(key) > len(p.free) {
		mem, kind := allocate((len(key) + regionSize - 1) / regionSize * regionSize)
		p.regions = append(p.regions, region{mem, kind})
		p.free = mem
	}
	at := p.free[:len(key):len(key)]
	p.free = p.free[len(key):]
	copy(at, key)
	b := secret.NewBytes(at)
	p.held = append(p.held, b)
	return b
}

// Kind returns the least protection that any key has; [Secret] if there is none.
func (p *Pages) Kind() Kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := Secret
	for _, r := range p.regions {
		if r.kind == Plain || r.kind == Locked && least == Secret {
			least = r.kind
		}
	}
	return least
}

// Close wipes every key and gives the pages back.
func (p *Pages) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.held {
		b.Wipe()
	}
	var errs []error
	for _, r := range p.regions {
		clear(r.mem)
		errs = append(errs, release(r))
	}
	p.regions, p.free, p.held = nil, nil, nil
	return errors.Join(errs...)
}

// Harden keeps this process from leaving its memory behind: no core dumps, no
// other process of the same user may read it, and a crash prints no stacks.
// What the operating system does not offer is no error.
func Harden() error {
	debug.SetTraceback("none")
	return harden()
}
