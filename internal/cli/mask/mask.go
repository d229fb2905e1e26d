// Package mask keeps known secrets out of a stream of output.
//
// A [Set] is made of the secrets, a [Writer] passes a stream on and puts a
// mask where one of them stands, however the stream is cut into writes. It
// holds back only bytes that may be the beginning of a secret, so at most one
// byte less than the longest.
package mask

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

// MinLen is the length in bytes below which a value is not masked: output
// would be unreadable, and little is hidden that can be guessed at once.
const MinLen = 4

// MinLine is the same for one line of a value that has several.
const MinLine = 8

// maxForms bounds how many bytes of encodings are looked for, so that a set
// stays small beside the program that it is for. Those of the largest values
// are given up first; the values and their lines are always looked for.
const maxForms = 4 << 20

// manyForms is how many times as long as a value its encodings are together, at most.
const manyForms = 64

// node is a state of the automaton of Aho and Corasick: the longest beginning
// of a pattern that the stream ends in. Children are a list, because most
// states have one; those of the root are a table.
type node struct {
	first, next int32 // child, and the next child of the same parent; 0 is none
	fail        int32
	depth       int32
	hold        int32 // how many of the last bytes may begin a pattern that is not complete
	out         int32 // length of the longest pattern that ends here; 0 is none
	least       int32 // length of the shortest pattern that goes through here
	b           byte
	early       bool // what is held back here may be shown when the stream pauses
}

// Set is a set of secrets to look for. It does not change and may be shared.
type Set struct {
	nodes   []node
	root    [256]int32
	mask    []byte
	longest int
}

// New returns a Set of the given values and the forms in which programs print
// them: without the white space around them, line by line, with the line ends
// of a terminal, in JSON, in URLs, in HTML, quoted for a shell, in hexadecimal
// digits, and in base64 at any offset. Values shorter than [MinLen] are left
// out.
func New(values []string) *Set {
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b string) int { return len(a) - len(b) })
	var patterns []string
	left := maxForms
	for _, v := range values {
		if len(v) < MinLen {
			continue
		}
		plain := spellings(v)
		patterns = append(patterns, plain...)
		for _, s := range plain {
			if len(s) > left/manyForms { // making them costs the room, too
				left = 0
				break
			}
			for _, f := range encodings(s) {
				left -= len(f)
				patterns = append(patterns, f)
			}
		}
	}
	return exactly(patterns)
}

// exactly returns a Set of the given patterns and nothing derived from them.
func exactly(patterns []string) *Set {
	patterns = slices.Clone(patterns)
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	s := &Set{nodes: make([]node, 1)}
	used := [256]bool{}
	for _, p := range patterns {
		if p == "" {
			continue
		}
		s.add(p)
		s.longest = max(s.longest, len(p))
		for i := range len(p) {
			used[p[i]] = true
		}
	}
	s.link()
	// No pattern holds a byte of the mask, so none can begin or end in one:
	// what is written holds no pattern even where a mask meets other output.
	const candidates = "*#_.-=+~x0"
	c := byte('*')
	for i := range len(candidates) {
		if !used[candidates[i]] {
			c = candidates[i]
			break
		}
	}
	s.mask = bytes.Repeat([]byte{c}, 8)
	return s
}

// Empty reports whether there is nothing to look for.
func (s *Set) Empty() bool { return s.longest == 0 }

// Longest returns the length of the longest form that is looked for.
func (s *Set) Longest() int { return s.longest }

func (s *Set) child(n int32, b byte) int32 {
	if n == 0 {
		return s.root[b]
	}
	for c := s.nodes[n].first; c != 0; c = s.nodes[c].next {
		if s.nodes[c].b == b {
			return c
		}
	}
	return 0
}

func (s *Set) add(p string) {
	at := int32(0)
	for i := range len(p) {
		c := s.child(at, p[i])
		if c == 0 {
			c = int32(len(s.nodes)) //nolint:gosec // bounded by the size of the secrets, far below 2 GiB
			n := node{b: p[i], depth: s.nodes[at].depth + 1, next: s.nodes[at].first}
			if at == 0 {
				n.next = 0
				s.root[p[i]] = c
			} else {
				s.nodes[at].first = c
			}
			s.nodes = append(s.nodes, n)
		}
		at = c
		if l := int32(len(p)); s.nodes[at].least == 0 || l < s.nodes[at].least { //nolint:gosec // as above
			s.nodes[at].least = l
		}
	}
	s.nodes[at].out = int32(len(p)) //nolint:gosec // as above
}

// link sets the fail links, breadth first, and what follows from them.
func (s *Set) link() {
	queue := make([]int32, 0, len(s.nodes))
	for _, c := range s.root {
		if c != 0 {
			queue = append(queue, c)
		}
	}
	s.nodes[0].early = true
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		n := &s.nodes[at]
		n.out = max(n.out, s.nodes[n.fail].out)
		n.early = 4*n.depth <= n.least && s.nodes[n.fail].early
		if n.hold = n.depth; n.first == 0 {
			n.hold, n.early = s.nodes[n.fail].hold, s.nodes[n.fail].early
		}
		for c := n.first; c != 0; c = s.nodes[c].next {
			s.nodes[c].fail = s.step(n.fail, s.nodes[c].b)
			queue = append(queue, c)
		}
	}
}

func (s *Set) step(at int32, b byte) int32 {
	for {
		if c := s.child(at, b); c != 0 || at == 0 {
			return c
		}
		at = s.nodes[at].fail
	}
}

// span is a masked part of what a Writer holds back.
type span struct {
	from, to int
	shown    bool // its mask has been written
}

// Writer passes on what is written to it with every secret masked. Its
// methods may be called at the same time.
type Writer struct {
	set *Set

	mu    sync.Mutex // guards all below
	w     io.Writer
	at    int32
	held  []byte
	spans []span // in order, apart
	out   []byte // scratch
	err   error
}

// Writer returns a Writer that writes to w.
func (s *Set) Writer(w io.Writer) *Writer { return &Writer{set: s, w: w} }

// Write takes all of p, or fails as the writer below did. It may hold back the
// end of p until more comes.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range p {
		w.held = append(w.held, b)
		w.at = w.set.step(w.at, b)
		if l := int(w.set.nodes[w.at].out); l > 0 {
			w.cover(max(0, len(w.held)-l), len(w.held))
		}
	}
	w.emit(len(w.held) - min(len(w.held), int(w.set.nodes[w.at].hold)))
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// Pause is called when nothing has come for a moment. It writes what is held
// back if that is at most a quarter of any secret that it may begin, so that a
// prompt is seen and a slow writer still gives no secret away. What follows is
// masked all the same when it completes the secret.
func (w *Writer) Pause() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set.nodes[w.at].early {
		w.emit(len(w.held))
	}
	return w.err
}

// Close writes what is held back. It does not close the writer below.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emit(len(w.held))
	w.at = 0
	return w.err
}

// cover masks held[from:to], joined with what it overlaps.
func (w *Writer) cover(from, to int) {
	shown := false
	for n := len(w.spans); n > 0 && w.spans[n-1].to > from; n-- {
		last := w.spans[n-1]
		from, shown = min(from, last.from), shown || last.shown
		w.spans = w.spans[:n-1]
	}
	w.spans = append(w.spans, span{from, to, shown})
}

// emit writes held[:n], masked. A span that goes on behind n keeps what is
// left of it.
func (w *Writer) emit(n int) {
	if n == 0 || w.err != nil {
		return
	}
	w.out = w.out[:0]
	done := 0
	keep := 0
	for i := range w.spans {
		sp := &w.spans[i]
		if sp.from >= n {
			break
		}
		w.out = append(w.out, w.held[done:max(done, sp.from)]...)
		if !sp.shown {
			w.out = append(w.out, w.set.mask...)
			sp.shown = true
		}
		done = sp.to
		if sp.to <= n {
			keep = i + 1
		}
	}
	if done < n {
		w.out = append(w.out, w.held[done:n]...)
	}
	w.spans = append(w.spans[:0], w.spans[keep:]...)
	for i := range w.spans {
		w.spans[i].from = max(0, w.spans[i].from-n)
		w.spans[i].to -= n
	}
	w.held = append(w.held[:0], w.held[n:]...)
	if len(w.out) > 0 {
		_, w.err = w.w.Write(w.out)
	}
	clear(w.out)
}
