package vault

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
)

// reveal lets secrets through this encoder and no other.
var reveal = json.JoinOptions(
	json.WithMarshalers(json.JoinMarshalers(
		json.MarshalToFunc(func(enc *jsontext.Encoder, s secret.Text) error {
			return enc.WriteToken(jsontext.String(s.Reveal()))
		}),
		json.MarshalToFunc(func(enc *jsontext.Encoder, j secret.JSON) error {
			if j.Empty() {
				return enc.WriteToken(jsontext.Null)
			}
			return enc.WriteValue(j.Reveal())
		}),
	)),
	json.Deterministic(true),
	jsontext.PreserveRawStrings(true),
)

// answer is a response ready to be written.
type answer struct {
	status      int
	contentType string
	body        []byte // nil for none
}

var errNotWrappable = errors.New("an answer that is not JSON cannot be wrapped")

// encode lays out r as the answer to the request with the given id.
func (vs *values) encode(b []byte, id string, r *door.Response, warnings []string) (answer, error) {
	a := answer{status: 200, contentType: "application/json"}
	if r.Reply.Status != 0 {
		a.status = r.Reply.Status
	}
	switch value := r.Value.(type) {
	case op.Raw:
		a.contentType, a.body = value.ContentType, value.Body
		if a.body == nil {
			a.body = []byte{}
		}
		return a, nil
	case op.Empty:
		if len(warnings) == 0 && r.Reply.Auth == nil && r.Reply.Lease == nil && r.Reply.Wrap == nil {
			if r.Reply.Status == 0 {
				a.status = 204
			}
			return a, nil
		}
	}
	var err error
	if r.Op.Shape == op.Bare && r.Reply.Wrap == nil {
		a.body, err = vs.append(b, r.Value)
	} else {
		a.body, err = vs.appendEnvelope(b, id, r, warnings)
	}
	return a, err
}

// inner lays out r to be kept in a wrapping token.
func (vs *values) inner(id string, r *door.Response, warnings []string) (secret.JSON, error) {
	if raw, ok := r.Value.(op.Raw); ok {
		if v := jsontext.Value(raw.Body); strings.HasPrefix(raw.ContentType, "application/json") && v.IsValid() {
			return secret.NewJSON(raw.Body), nil
		}
		return secret.JSON{}, errNotWrappable
	}
	var body []byte
	var err error
	if r.Op.Shape == op.Bare {
		body, err = vs.append(nil, r.Value)
	} else {
		body, err = vs.appendEnvelope(nil, id, r, warnings)
	}
	return secret.NewJSON(body), err
}

// appendEnvelope appends the envelope of https://developer.hashicorp.com/vault/api-docs.
func (vs *values) appendEnvelope(b []byte, id string, r *door.Response, warnings []string) ([]byte, error) {
	if r.Reply.Wrap != nil {
		b = append(b, `{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":`...)
		b = appendWrap(b, r.Reply.Wrap)
		return append(b, `,"warnings":null,"auth":null}`...), nil
	}
	lease := op.Lease{}
	if r.Reply.Lease != nil {
		lease = *r.Reply.Lease
	}
	b = append(b, `{"request_id":"`...)
	b = append(b, id...)
	b = append(b, `","lease_id":`...)
	b = appendString(b, lease.ID)
	b = append(b, `,"renewable":`...)
	b = strconv.AppendBool(b, lease.Renewable)
	b = append(b, `,"lease_duration":`...)
	b = appendSeconds(b, lease.TTL)
	b = append(b, `,"data":`...)
	from := len(b)
	var err error
	if _, empty := r.Value.(op.Empty); empty || r.Value == nil {
		b = append(b, "null"...)
	} else if b, err = vs.append(b, r.Value); err != nil {
		return nil, err
	}
	to := len(b)
	b = append(b, `,"wrap_info":null,"warnings":`...)
	b = appendStrings(b, warnings)
	b = append(b, `,"auth":`...)
	b = appendGrant(b, r.Reply.Auth)
	if r.Mount.Kind != "" {
		b = append(b, `,"mount_type":`...)
		b = appendString(b, r.Mount.Kind)
	}
	if r.Op.Shape == op.Injected {
		if b, err = inject(b, b[from:to:to]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

var envelope = []string{"request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth", "mount_type"}

// inject appends the members of data beside those of the envelope.
func inject(b []byte, data jsontext.Value) ([]byte, error) {
	if data.Kind() != '{' {
		return b, nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if _, err := dec.ReadToken(); err != nil {
		return nil, fmt.Errorf("reading an answer again: %w", err)
	}
	for dec.PeekKind() != '}' {
		key, err := dec.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("reading an answer again: %w", err)
		}
		member := key.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("reading an answer again: %w", err)
		}
		if slices.Contains(envelope, member) {
			continue
		}
		b = append(b, ',')
		b = appendString(b, member)
		b = append(append(b, ':'), value...)
	}
	return b, nil
}

func appendGrant(b []byte, g *op.Grant) []byte {
	if g == nil {
		return append(b, "null"...)
	}
	b = append(b, `{"client_token":`...)
	b = appendString(b, g.ClientToken.Reveal())
	b = append(b, `,"accessor":`...)
	b = appendString(b, g.Accessor)
	b = append(b, `,"policies":`...)
	b = appendNames(b, g.Policies)
	if len(g.TokenPolicies) > 0 {
		b = append(b, `,"token_policies":`...)
		b = appendNames(b, g.TokenPolicies)
	}
	if len(g.IdentityPolicies) > 0 {
		b = append(b, `,"identity_policies":`...)
		b = appendNames(b, g.IdentityPolicies)
	}
	b = append(b, `,"metadata":`...)
	if g.Metadata == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '{')
		for i, k := range sortedKeys(g.Metadata) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			b = appendString(b, g.Metadata[k])
		}
		b = append(b, '}')
	}
	b = append(b, `,"lease_duration":`...)
	b = appendSeconds(b, g.TTL)
	b = append(b, `,"renewable":`...)
	b = strconv.AppendBool(b, g.Renewable)
	b = append(b, `,"entity_id":`...)
	b = appendString(b, g.EntityID)
	b = append(b, `,"token_type":`...)
	b = appendString(b, g.Kind)
	b = append(b, `,"orphan":`...)
	b = strconv.AppendBool(b, g.Orphan)
	b = append(b, `,"mfa_requirement":null,"num_uses":`...)
	b = strconv.AppendInt(b, int64(g.NumUses), 10)
	return append(b, '}')
}

func appendWrap(b []byte, w *op.Wrap) []byte {
	b = append(b, `{"token":`...)
	b = appendString(b, w.Token.Reveal())
	b = append(b, `,"accessor":`...)
	b = appendString(b, w.Accessor)
	b = append(b, `,"ttl":`...)
	b = appendSeconds(b, w.TTL)
	b = append(b, `,"creation_time":"`...)
	b = w.CreationTime.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","creation_path":`...)
	b = appendString(b, w.CreationPath)
	if w.WrappedAccessor != "" {
		b = append(b, `,"wrapped_accessor":`...)
		b = appendString(b, w.WrappedAccessor)
	}
	return append(b, '}')
}

// appendErrors appends the body of an answer that says what went wrong.
func appendErrors(b []byte, said string) []byte {
	b = append(b, `{"errors":[`...)
	if said != "" {
		b = appendString(b, said)
	}
	return append(b, ']', '}')
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, int64(d/time.Second), 10)
}

func appendNames(b []byte, names []name.Name) []byte {
	b = append(b, '[')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(n))
	}
	return append(b, ']')
}

func appendStrings(b []byte, list []string) []byte {
	if len(list) == 0 {
		return append(b, "null"...)
	}
	for i, s := range list {
		b = append(b, "[,"[min(i, 1)])
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendString appends s as a JSON string; what is not UTF-8 in it becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	b, _ = jsontext.AppendQuote(b, s) // what is not UTF-8 is replaced and said in the error
	return b
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
