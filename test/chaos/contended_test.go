package chaos

import (
	"fmt"
	"net/http"
	"sync"
)

// contended is a secret that several writers write to at once, each write
// naming the version that it follows.
type contended struct {
	mu       sync.Mutex
	serial   int
	last     int             // version when it was looked at last
	won      map[int]string  // values by the version that they were acknowledged as, since then
	asked    map[string]bool // values that were sent and not answered, ever
	refused  map[string]bool // values whose write lost, ever
	unsure   int             // of asked, since then
	versions map[int]string  // acknowledged, all of them
	clashes  []string        // two winners of one version
}

const (
	contendedPath = "contended"
	contendedKeep = 40
)

func newContended() *contended {
	return &contended{won: map[int]string{}, asked: map[string]bool{}, refused: map[string]bool{}, versions: map[int]string{}}
}

func (c *contended) prepare(n *node) {
	n.must(http.MethodPost, "secret/metadata/"+contendedPath, map[string]any{"max_versions": contendedKeep})
}

// write writes once, and reports whether the node still answers.
func (c *contended) write(n *node, l *sharedLedger) (bool, error) {
	read, err := n.do(n.root, http.MethodGet, "secret/metadata/"+contendedPath, nil)
	if err != nil {
		return false, nil // it was killed
	}
	if read.status != http.StatusOK {
		return false, unexpected("reading the contended secret", read)
	}
	at := read.number("data.current_version")
	c.mu.Lock()
	c.serial++
	value := fmt.Sprintf("race#%d;", c.serial)
	c.asked[value] = true
	c.unsure++
	c.mu.Unlock()
	body := padded(value, 20)
	body["options"] = map[string]any{"cas": at}
	s := step{op: "kv.write", path: "secret/data/" + contendedPath, atomic: true}
	a, err := n.do(n.root, http.MethodPost, "secret/data/"+contendedPath, body)
	if err != nil {
		return false, nil // it was killed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, value)
	c.unsure--
	switch a.status {
	case http.StatusOK:
		if other, taken := c.versions[at+1]; taken {
			c.clashes = append(c.clashes, fmt.Sprintf("version %d was won by %s and by %s", at+1, other, value))
		}
		if got := a.number("data.version"); got != at+1 {
			c.clashes = append(c.clashes, fmt.Sprintf("a write that follows version %d is version %d", at, got))
		}
		c.won[at+1], c.versions[at+1] = value, value
		l.ack(a.id, s)
	case http.StatusBadRequest:
		c.refused[value] = true
		s.want = http.StatusBadRequest
		l.ack(a.id, s)
	default:
		return false, unexpected("writing the contended secret", a)
	}
	return true, nil
}

// check holds what the node has to what was acknowledged. Nobody writes meanwhile.
func (c *contended) check(n *node, l *ledger) (wrong []string, err error) {
	problem := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	wrong = append(wrong, c.clashes...)
	meta, err := n.do(n.root, http.MethodGet, "secret/metadata/"+contendedPath, nil)
	if err != nil {
		return nil, err
	}
	current, oldest := meta.number("data.current_version"), meta.number("data.oldest_version")
	there := meta.object("data.versions")
	if kept := min(current, contendedKeep); len(there) != kept {
		problem("the contended secret has %d versions at version %d, not %d", len(there), current, kept)
	}
	made := current - c.last
	if made < len(c.won) || made > len(c.won)+c.unsure {
		problem("the contended secret went from version %d to %d: %d writes were acknowledged and %d not answered", c.last, current, len(c.won), c.unsure)
	}
	for v := range c.won {
		if v > current {
			problem("version %d of the contended secret was acknowledged and is lost: it is at %d", v, current)
		}
	}
	for v := max(oldest, 1, current-contendedKeep+1); v <= current; v++ {
		a, err := n.do(n.root, http.MethodGet, fmt.Sprintf("secret/data/%s?version=%d", contendedPath, v), nil)
		if err != nil {
			return nil, err
		}
		got := unpadded(a.object("data.data"))
		want, acked := c.versions[v]
		switch {
		case a.status != http.StatusOK:
			problem("version %d of the contended secret is missing: %d %s", v, a.status, a.body)
		case acked && got != want:
			problem("version %d of the contended secret is %s; %s was acknowledged", v, got, want)
		case !acked && c.refused[got]:
			problem("version %d of the contended secret is %s, which was refused", v, got)
		case !acked && !c.asked[got]:
			problem("version %d of the contended secret is %s, which nobody wrote or which is another version too", v, got)
		case !acked:
			c.versions[v] = got // from now on it is known
			delete(c.asked, got)
		}
	}
	l.kept[group("kv.write", "secret/data/"+contendedPath)] = made
	c.last, c.won, c.unsure = current, map[int]string{}, 0
	return wrong, nil
}
