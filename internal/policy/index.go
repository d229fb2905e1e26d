package policy

import (
	"slices"
	"sort"
	"strings"
)

// prefixes finds the longest of many texts that another begins with, by one
// binary search: among sorted texts, every one that s begins with is the
// greatest one that is not beyond s, or an ancestor of that.
type prefixes struct {
	texts  []string
	grants []*grant
	parent []int // the longest other text that this one begins with; -1 for none
}

func (p *prefixes) add(text string, g *grant) {
	p.texts = append(p.texts, text)
	p.grants = append(p.grants, g)
}

// build makes p ready to be asked.
func (p *prefixes) build() {
	order := make([]int, len(p.texts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(p.texts[a], p.texts[b]) })
	texts, grants := make([]string, len(order)), make([]*grant, len(order))
	p.parent = make([]int, len(order))
	for i, from := range order {
		texts[i], grants[i] = p.texts[from], p.grants[from]
		up := i - 1
		for up >= 0 && !strings.HasPrefix(texts[i], texts[up]) {
			up = p.parent[up]
		}
		p.parent[i] = up
	}
	p.texts, p.grants = texts, grants
}

// longest returns the grant of the longest text that s begins with. seen, if
// it is not nil, hears of all that s begins with.
func (p *prefixes) longest(s string, seen func(*grant)) *grant {
	i := sort.SearchStrings(p.texts, s)
	if i == len(p.texts) || p.texts[i] != s {
		i--
	}
	for i >= 0 && !strings.HasPrefix(s, p.texts[i]) {
		i = p.parent[i]
	}
	if i < 0 {
		return nil
	}
	if seen != nil {
		for up := i; up >= 0; up = p.parent[up] {
			seen(p.grants[up])
		}
	}
	return p.grants[i]
}

// anyUnder reports whether a text that begins with prefix has a grant that gives something.
func (p *prefixes) anyUnder(prefix string) bool {
	for i := sort.SearchStrings(p.texts, prefix); i < len(p.texts) && strings.HasPrefix(p.texts[i], prefix); i++ {
		if p.grants[i].gives() {
			return true
		}
	}
	return false
}

// segment is a place in the tree of the patterns with a '+', by their
// segments. A search comes to a place once at most, so it costs no more than
// there are patterns.
type segment struct {
	literal map[string]*segment
	plus    *segment
	end     *grant   // a pattern that ends here
	globs   prefixes // patterns whose last segment, before its '*', begins the segment here
}

// put adds g, whose pattern before a final '*' is text.
func (s *segment) put(text string, g *grant) {
	head, rest, more := strings.Cut(text, "/")
	if !more && g.glob {
		s.globs.add(head, g)
		return
	}
	var next *segment
	if head == "+" {
		if s.plus == nil {
			s.plus = &segment{}
		}
		next = s.plus
	} else {
		if s.literal == nil {
			s.literal = map[string]*segment{}
		}
		if next = s.literal[head]; next == nil {
			next = &segment{}
			s.literal[head] = next
		}
	}
	if !more {
		next.end = g
		return
	}
	next.put(rest, g)
}

func (s *segment) build() {
	s.globs.build()
	if s.plus != nil {
		s.plus.build()
	}
	for _, next := range s.literal {
		next.build()
	}
}

// best returns the best of best and the patterns at or below s that match path.
func (s *segment) best(path string, best *grant, seen func(*grant)) *grant {
	head, rest, more := strings.Cut(path, "/")
	if len(s.globs.texts) > 0 {
		if g := s.globs.longest(head, seen); g != nil && g.beats(best) {
			best = g
		}
	}
	if s.literal != nil {
		if next := s.literal[head]; next != nil {
			best = next.after(rest, more, best, seen)
		}
	}
	if s.plus != nil {
		best = s.plus.after(rest, more, best, seen)
	}
	return best
}

func (s *segment) after(rest string, more bool, best *grant, seen func(*grant)) *grant {
	if more {
		return s.best(rest, best, seen)
	}
	if s.end == nil {
		return best
	}
	if seen != nil {
		seen(s.end)
	}
	if s.end.beats(best) {
		return s.end
	}
	return best
}

// anyUnder reports whether a pattern at or below s that gives something
// matches a path that begins with prefix.
func (s *segment) anyUnder(prefix string) bool {
	if prefix == "" {
		return s.any()
	}
	head, rest, more := strings.Cut(prefix, "/")
	if g := s.globs.longest(head, nil); g != nil && g.gives() {
		return true
	}
	if !more { // prefix ends within a segment
		for text, next := range s.literal {
			if strings.HasPrefix(text, head) && next.any() {
				return true
			}
		}
		return s.globs.anyUnder(head) || s.plus != nil && s.plus.any()
	}
	return s.literal[head] != nil && s.literal[head].anyUnder(rest) || s.plus != nil && s.plus.anyUnder(rest)
}

func (s *segment) any() bool {
	if s.end != nil && s.end.gives() || slices.ContainsFunc(s.globs.grants, (*grant).gives) || s.plus != nil && s.plus.any() {
		return true
	}
	for _, next := range s.literal {
		if next.any() {
			return true
		}
	}
	return false
}

// each calls fn for every pattern at or below s.
func (s *segment) each(fn func(*grant)) {
	if s.end != nil {
		fn(s.end)
	}
	for _, g := range s.globs.grants {
		fn(g)
	}
	if s.plus != nil {
		s.plus.each(fn)
	}
	for _, next := range s.literal {
		next.each(fn)
	}
}
