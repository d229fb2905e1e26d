package audit

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of what one record holds. What is longer is cut, and says so.
const (
	maxText  = 4 << 10  // bytes of a string
	maxItems = 256      // of a list
	maxValue = 64 << 10 // bytes of In and of Out
)

const cut = "…"

// appendRecord appends r to dst as canonical JSON (RFC 8785): members in the
// order of their names, no space, the shortest escapes. Empty members are left
// out. The sequence is part of it only where it is shown, because in a segment
// it stands in front of the record.
//
// r.In and r.Out are canonical already.
func appendRecord(dst []byte, r *Record, seq bool) []byte {
	dst = append(dst, '{')
	if a := &r.Actor; a.TokenHash != "" || a.Accessor != "" || a.DisplayName != "" || a.EntityID != "" || a.TokenKind != "" || len(a.Policies) > 0 {
		dst = append(dst, `"actor":{`...)
		dst = text(dst, `"accessor":`, a.Accessor)
		dst = text(dst, `"display_name":`, a.DisplayName)
		dst = text(dst, `"entity_id":`, a.EntityID)
		if len(a.Policies) > 0 {
			dst = append(dst, `"policies":[`...)
			for i, p := range a.Policies {
				if i == maxItems {
					p = cut
				}
				dst = append(quote(dst, p), ',')
				if i == maxItems {
					break
				}
			}
			dst = append(dst[:len(dst)-1], ']', ',')
		}
		dst = text(dst, `"token":`, a.TokenHash)
		dst = text(dst, `"token_kind":`, a.TokenKind)
		dst = append(dst[:len(dst)-1], '}', ',')
	}
	if r.Allowed {
		dst = append(dst, `"allowed":true,`...)
	}
	dst = text(dst, `"error":`, r.Error)
	dst = text(dst, `"event":`, r.Event)
	if len(r.Headers) > 0 {
		dst = append(dst, `"headers":[`...)
		for i, h := range r.Headers {
			if i == maxItems {
				break
			}
			dst = append(dst, `{"name":`...)
			dst = quote(dst, h.Name)
			dst = append(dst, `,"value":`...)
			dst = append(quote(dst, h.Value), '}', ',')
		}
		dst = append(dst[:len(dst)-1], ']', ',')
	}
	dst = text(dst, `"id":`, r.ID)
	dst = value(dst, `"in":`, r.In)
	dst = text(dst, `"kind":`, string(r.Kind))
	if r.MountPath != "" || r.MountKind != "" || r.MountAccessor != "" || r.MountID != "" {
		dst = append(dst, `"mount":{`...)
		dst = text(dst, `"accessor":`, r.MountAccessor)
		dst = text(dst, `"id":`, r.MountID)
		dst = text(dst, `"kind":`, r.MountKind)
		dst = text(dst, `"path":`, r.MountPath)
		dst = append(dst[:len(dst)-1], '}', ',')
	}
	dst = text(dst, `"node":`, r.Node)
	dst = text(dst, `"note":`, r.Note)
	dst = text(dst, `"op":`, r.Op)
	dst = value(dst, `"out":`, r.Out)
	dst = text(dst, `"outcome":`, r.Outcome)
	dst = text(dst, `"path":`, r.Path)
	dst = text(dst, `"remote":`, r.Remote)
	dst = text(dst, `"request_id":`, r.RequestID)
	dst = text(dst, `"rule":`, r.Rule)
	if seq {
		dst = append(strconv.AppendUint(append(dst, `"seq":`...), r.Seq, 10), ',')
	}
	dst = number(dst, `"status":`, r.Status)
	dst = append(dst, `"time":"`...)
	dst = append(r.Time.UTC().AppendFormat(dst, time.RFC3339Nano), '"', ',')
	dst = text(dst, `"verb":`, r.Verb)
	dst = number(dst, `"warnings":`, r.Warnings)
	if r.WrapTTL != 0 {
		dst = text(dst, `"wrap_ttl":`, r.WrapTTL.String())
	}
	if r.Wrapped {
		dst = append(dst, `"wrapped":true,`...)
	}
	dst[len(dst)-1] = '}' // there is always a time
	return dst
}

func text(dst []byte, member, s string) []byte {
	if s == "" {
		return dst
	}
	return append(quote(append(dst, member...), s), ',')
}

func number(dst []byte, member string, n int) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(append(dst, member...), int64(n), 10), ',')
}

func value(dst []byte, member string, v jsontext.Value) []byte {
	switch {
	case len(v) == 0:
		return dst
	case len(v) > maxValue:
		dst = append(append(dst, member...), `{"bytes":`...)
		return append(strconv.AppendInt(dst, int64(len(v)), 10), `,"truncated":true},`...)
	}
	return append(append(append(dst, member...), v...), ',')
}

// quote appends s as a JSON string. What is not UTF-8 in it becomes U+FFFD.
func quote(dst []byte, s string) []byte {
	if len(s) > maxText {
		n := maxText
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + cut
	}
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// MarshalJSON returns r as canonical JSON, with its sequence.
func (r *Record) MarshalJSON() ([]byte, error) { return appendRecord(nil, r, true), nil }

// recordJSON is a record as [json.Unmarshal] reads it.
type recordJSON struct {
	Actor struct {
		Accessor    string   `json:"accessor"`
		DisplayName string   `json:"display_name"`
		EntityID    string   `json:"entity_id"`
		Policies    []string `json:"policies"`
		Token       string   `json:"token"`
		TokenKind   string   `json:"token_kind"`
	} `json:"actor"`
	Allowed bool   `json:"allowed"`
	Error   string `json:"error"`
	Event   string `json:"event"`
	Headers []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"headers"`
	ID    string         `json:"id"`
	In    jsontext.Value `json:"in"`
	Kind  string         `json:"kind"`
	Mount struct {
		Accessor string `json:"accessor"`
		ID       string `json:"id"`
		Kind     string `json:"kind"`
		Path     string `json:"path"`
	} `json:"mount"`
	Node      string         `json:"node"`
	Note      string         `json:"note"`
	Op        string         `json:"op"`
	Out       jsontext.Value `json:"out"`
	Outcome   string         `json:"outcome"`
	Path      string         `json:"path"`
	Remote    string         `json:"remote"`
	RequestID string         `json:"request_id"`
	Rule      string         `json:"rule"`
	Seq       uint64         `json:"seq"`
	Status    int            `json:"status"`
	Time      time.Time      `json:"time"`
	Verb      string         `json:"verb"`
	Warnings  int            `json:"warnings"`
	WrapTTL   string         `json:"wrap_ttl"`
	Wrapped   bool           `json:"wrapped"`
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Record) UnmarshalJSON(b []byte) error {
	var w recordJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("decoding an audit record: %w", err)
	}
	*r = Record{
		Seq: w.Seq, ID: w.ID, Kind: Kind(w.Kind), Time: w.Time.UTC(), Node: w.Node, RequestID: w.RequestID, Op: w.Op, Verb: w.Verb, Path: w.Path,
		MountPath: w.Mount.Path, MountKind: w.Mount.Kind, MountAccessor: w.Mount.Accessor, MountID: w.Mount.ID,
		Actor: Actor{
			TokenHash: w.Actor.Token, Accessor: w.Actor.Accessor, DisplayName: w.Actor.DisplayName,
			EntityID: w.Actor.EntityID, TokenKind: w.Actor.TokenKind, Policies: w.Actor.Policies,
		},
		Remote: w.Remote, Allowed: w.Allowed, Rule: w.Rule, Outcome: w.Outcome, Status: w.Status, Error: w.Error, In: w.In, Out: w.Out,
		Wrapped: w.Wrapped, Warnings: w.Warnings, Event: w.Event, Note: w.Note,
	}
	for _, h := range w.Headers {
		r.Headers = append(r.Headers, Header(h))
	}
	if w.WrapTTL != "" {
		d, err := time.ParseDuration(w.WrapTTL)
		if err != nil {
			return fmt.Errorf("decoding an audit record: %w", err)
		}
		r.WrapTTL = d
	}
	return nil
}
