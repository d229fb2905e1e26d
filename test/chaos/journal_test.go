package chaos

import (
	"fmt"
	"net/http"
)

// record is what is needed of a record of the journal.
type record struct {
	seq                                             int
	id, request, kind, op, path, outcome, eventName string
}

// records returns what the journal holds behind a sequence, oldest first.
func (n *node) records(after int) ([]record, error) {
	var all []record
	for {
		a, err := n.do(n.root, http.MethodGet, fmt.Sprintf("sys/audit-journal/search?oldest_first=true&limit=1000&after=%d", after), nil)
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusOK {
			return nil, unexpected("searching the journal", a)
		}
		found, _ := a.at("data.records").([]any)
		if len(found) == 0 {
			return all, nil
		}
		for _, f := range found {
			m, _ := f.(map[string]any)
			s := func(key string) string { v, _ := m[key].(string); return v }
			seq, _ := m["seq"].(float64)
			all = append(all, record{int(seq), s("id"), s("request_id"), s("kind"), s("op"), s("path"), s("outcome"), s("event")})
			after = int(seq)
		}
		if len(found) < 1000 {
			return all, nil
		}
	}
}

// ledger is what the journal must hold since it was looked at last.
type ledger struct {
	last     int             // sequence up to which the journal was checked
	acked    map[string]step // by request id
	kept     map[string]int  // transactions that are kept, by their operation and path
	open     map[string]int  // of them, those of which it cannot be told whether they are kept
	requests map[string]bool // ids of requests that were checked before
}

func newLedger() *ledger {
	return &ledger{acked: map[string]step{}, kept: map[string]int{}, open: map[string]int{}, requests: map[string]bool{}}
}

func group(op, path string) string { return op + " " + path }

func (l *ledger) ack(id string, s step) {
	l.acked[id] = s
	if s.atomic && s.want == 0 {
		l.kept[group(s.op, s.path)]++
	}
}

// check holds the records to what is known to have happened, and begins anew.
func (l *ledger) check(records []record) (wrong []string) {
	problem := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	ended, intents, ids, done := map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, r := range records {
		if l.last++; r.seq != l.last {
			problem("the journal has sequence %d in place of %d", r.seq, l.last)
			l.last = r.seq
		}
		if ids[r.id] {
			problem("record %s is in the journal twice", r.id)
		}
		ids[r.id] = true
		if r.request == "" {
			continue
		}
		if r.kind == "intent" {
			intents[r.request] = true
			continue
		}
		if r.kind == "outcome" {
			delete(intents, r.request)
		}
		ended[r.request]++
		if ended[r.request] > 1 || l.requests[r.request] {
			problem("the outcome of request %s (%s %s) is recorded twice", r.request, r.op, r.path)
		}
		if r.outcome == "ok" {
			done[group(r.op, r.path)]++
		}
		if s, ok := l.acked[r.request]; ok {
			if (r.outcome == "ok") != (s.want == 0 || s.want/100 == 2) && s.want != http.StatusNotFound || r.op != s.op || r.path != s.path {
				problem("request %s, %s %s, is recorded as %s %s with outcome %q", r.request, s.op, s.path, r.op, r.path, r.outcome)
			}
		}
	}
	for id, s := range l.acked {
		if ended[id] == 0 {
			problem("request %s was answered and is not in the journal: %s %s", id, s.op, s.path)
		}
	}
	for id := range intents {
		problem("request %s has an intent without an outcome", id)
	}
	seen := map[string]bool{}
	for g := range l.kept {
		seen[g] = true
	}
	for g := range l.open {
		seen[g] = true
	}
	for g := range seen {
		if low, high := l.kept[g], l.kept[g]+l.open[g]; done[g] < low || done[g] > high {
			problem("%s happened %d to %d times and is recorded %d times", g, low, high, done[g])
		}
	}
	for id := range ended {
		l.requests[id] = true
	}
	l.acked, l.kept, l.open = map[string]step{}, map[string]int{}, map[string]int{}
	return wrong
}
