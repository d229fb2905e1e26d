package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/wire"
)

// maxWrapTTL bounds the text of a wrapping TTL, in bytes.
const maxWrapTTL = 64

// pathOf returns the path of r as it was sent.
func pathOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// parse takes the request line and the headers apart. Where the request is not
// for the API at all, Path stays empty.
func (q *request) parse() error {
	r := q.http
	q.Remote, _ = netip.ParseAddrPort(r.RemoteAddr) // of a unix socket there is none
	q.Source, q.Encode = &q.source, q.encodeInner
	path := pathOf(r)
	rest, ours := strings.CutPrefix(path, "/v1/")
	if ours && rest == "" || !ours && strings.HasPrefix(path, "/") {
		return nil
	}
	limits := &q.h.env.Limits
	if len(r.RequestURI) > limits.URLBytes {
		q.Path = hashed(path)
		return fault.New(fault.Invalid, "the URL is longer than %d bytes", limits.URLBytes)
	}
	if !ours { // absolute, an authority, or an asterisk
		q.Path = hashed(path)
		return fault.New(fault.Invalid, "malformed request target")
	}
	parsed, first, last, err := name.ParseEscaped(rest)
	if err != nil {
		q.Path = hashed(path)
		return fault.Wrap(fault.Invalid, err, "%s", fault.Public(err))
	}
	if err := checkSegments(string(parsed), limits); err != nil {
		q.Path = hashed(path)
		return err
	}
	q.Path, q.firstEncoded, q.lastEncoded = parsed, first, last
	if err := q.parseQuery(); err != nil {
		return err
	}
	if err := q.parseHeaders(); err != nil {
		return err
	}
	if q.Verb == op.NoVerb {
		return fault.New(fault.Unsupported, "")
	}
	if q.Verb.IsWrite() || q.Verb == op.Patch {
		if q.Path.IsDir() {
			return fault.New(fault.Invalid, "cannot write to a path ending in '/'")
		}
		return q.checkMedia()
	}
	return nil
}

// checkSlashes reports a path, which is routed at the mount, with an encoded
// slash anywhere but within what the operation takes as a path of its own: some
// clients encode those. Elsewhere it would move a boundary, past whoever looked
// at the path as it was sent.
func (q *request) checkSlashes(mount name.Path) error {
	below, from, to := len(mount), 0, 0
	if q.op.Name != "" && below <= len(q.Path) {
		from, to = q.op.Free(string(q.Path[below:]))
	}
	if q.firstEncoded < below+from || q.lastEncoded >= below+to {
		return fault.New(fault.Invalid, "a path must not hold an encoded slash here")
	}
	return nil
}

// checkSegments reports a path that has more or longer segments than are taken.
func checkSegments(path string, limits *door.Limits) error {
	n, long := 0, 0
	for rest := path; rest != ""; n++ {
		segment, after, _ := strings.Cut(rest, "/")
		long, rest = max(long, len(segment)), after
	}
	switch {
	case n > limits.Segments:
		return fault.New(fault.Invalid, "a path has at most %d segments", limits.Segments)
	case long > limits.SegmentBytes:
		return fault.New(fault.Invalid, "a path segment has at most %d bytes", limits.SegmentBytes)
	}
	return nil
}

// hashed stands for a path that is not canonical, in records.
func hashed(path string) name.Path {
	sum := sha256.Sum256([]byte(path))
	return name.Path("hash:" + hex.EncodeToString(sum[:8]))
}

// parseQuery takes the query apart and finds the verb, which depends on it.
func (q *request) parseQuery() error {
	r := q.http
	var isList bool
	if _, query, ok := strings.Cut(r.RequestURI, "?"); ok && query != "" {
		fields, err := pairs(query, &q.h.env.Limits, func(why string) error {
			return fault.New(fault.Invalid, "malformed query: %s", why)
		})
		if err != nil {
			return err
		}
		kept := fields[:0]
		for _, f := range fields {
			switch f.name {
			case "list", "help", "scan":
				s, err := text(f.value)
				if err != nil {
					return fault.New(fault.Invalid, "")
				}
				yes, err := strconv.ParseBool(s)
				if err != nil {
					return fault.New(fault.Invalid, "")
				}
				switch {
				case f.name == "list":
					isList = yes
				case f.name == "help":
					q.Help = yes
				case yes:
					return fault.New(fault.Unsupported, "unsupported operation")
				}
			default:
				kept = append(kept, f)
			}
		}
		q.source.query = kept
	}
	switch r.Method {
	case http.MethodGet:
		q.Verb = op.Read
		if isList {
			q.Verb = op.List
		}
	case "LIST":
		q.Verb = op.List
	case http.MethodPost, http.MethodPut:
		q.Verb = op.Update
	case http.MethodPatch:
		q.Verb = op.Patch
	case http.MethodDelete:
		q.Verb = op.Delete
	case http.MethodHead:
		if q.Path == "sys/health" {
			q.Verb = op.Read
		}
	case http.MethodOptions:
		return fault.New(fault.Invalid, "")
	}
	if isList && q.Verb != op.List && q.Verb != op.NoVerb {
		return fault.New(fault.Invalid, "a list is asked for by GET or LIST")
	}
	if q.Verb == op.List {
		q.Path = q.Path.Dir()
	}
	if q.Help && q.Verb == op.List {
		q.Verb = op.Read
	}
	q.source.plans, q.source.limits, q.source.verb = q.h.plans, &q.h.env.Limits, q.Verb
	return nil
}

// parseHeaders reads the headers that have a meaning here. All others have none.
func (q *request) parseHeaders() error {
	head := q.http.Header
	if err := q.parseToken(head); err != nil {
		return err
	}
	if ns := head["X-Vault-Namespace"]; len(ns) > 1 || len(ns) == 1 && ns[0] != "" {
		return fault.New(fault.NotFound, "namespace not found")
	}
	if v := head["X-Vault-Wrap-Ttl"]; len(v) > 0 {
		ttl, err := parseWrapTTL(v)
		if err != nil {
			return err
		}
		q.WrapTTL = ttl
	}
	if f := head["X-Vault-Wrap-Format"]; len(f) > 0 && strings.EqualFold(f[0], "jwt") {
		return fault.New(fault.Invalid, "the wrapping format jwt is not supported")
	}
	for _, h := range q.h.env.AuditHeaders {
		for _, v := range head[http.CanonicalHeaderKey(h)] {
			q.Headers = append(q.Headers, door.Header{Name: h, Value: v})
		}
	}
	return nil
}

// parseToken finds the caller's token. Two of them that differ are refused: a
// proxy that looked at the one must not be answered for the other.
func (q *request) parseToken(head http.Header) error {
	several := func() error { return fault.New(fault.Invalid, "a request carries at most one token") }
	own, auth := head["X-Vault-Token"], head["Authorization"]
	if len(own) > 1 || len(auth) > 1 {
		return several()
	}
	var found string
	if len(own) == 1 {
		found = own[0]
	}
	if len(auth) == 1 {
		scheme, bearer, _ := strings.Cut(auth[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			bearer = strings.TrimSpace(bearer)
			if found != "" && bearer != "" && bearer != found {
				return several()
			}
			if found == "" {
				found = bearer
			}
		}
	}
	if found == "" {
		return nil
	}
	most := q.h.env.Limits.TokenBytes
	if token.IsBatchText(found) {
		most = q.h.env.Limits.BatchTokenBytes
	}
	if len(found) > most {
		return fault.New(fault.Invalid, "a token has at most %d bytes", most)
	}
	for i := range len(found) {
		if found[i] <= ' ' || found[i] >= 0x7f {
			return fault.New(fault.Invalid, "malformed token")
		}
	}
	q.Token, q.holder = secret.New(found), q.h.env.Guard.Holder(found)
	return nil
}

// parseWrapTTL reads the values of X-Vault-Wrap-TTL: one, in seconds or as a duration.
func parseWrapTTL(values []string) (time.Duration, error) {
	if len(values) > 1 || len(values[0]) > maxWrapTTL {
		return 0, fault.New(fault.Invalid, "malformed X-Vault-Wrap-TTL header")
	}
	s := strings.TrimSpace(values[0])
	if d, err := wire.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, fault.New(fault.Invalid, "error parsing X-Vault-Wrap-TTL header: the duration is negative")
	}
	if _, err := time.ParseDuration(s); err != nil {
		return 0, fault.New(fault.Invalid, "error parsing X-Vault-Wrap-TTL header: time: invalid duration")
	}
	return 0, fault.New(fault.Invalid, "error parsing X-Vault-Wrap-TTL header: the duration is too long")
}

// checkMedia refuses bodies that are not what they seem, before they are read.
func (q *request) checkMedia() error {
	head := q.http.Header
	for _, e := range head["Content-Encoding"] {
		if !strings.EqualFold(e, "identity") && e != "" {
			return fault.New(fault.MediaType, "encoded request bodies are not supported")
		}
	}
	if len(head["Content-Type"]) > 1 {
		return fault.New(fault.MediaType, "a request has one content type")
	}
	kind, _, _ := strings.Cut(head.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case q.Verb == op.Patch && kind != "application/merge-patch+json":
		return fault.New(fault.MediaType, "PATCH requires Content-Type of application/merge-patch+json, provided something else")
	case strings.HasPrefix(kind, "multipart/"):
		return fault.New(fault.MediaType, "multipart request bodies are not supported")
	}
	q.source.isForm = kind == "application/x-www-form-urlencoded"
	return nil
}

// enter asks whether there is room for the request.
func (q *request) enter() error {
	class, account := door.Anyone, ""
	switch {
	case q.op.Sealed:
		class = door.Vital
	case q.op.Auth == op.Login && q.op.Name != "":
		class = door.Signin
		if strings.Contains(q.op.Path, "{") {
			account = string(q.Path)
		}
	case !q.Token.Empty():
		class = door.Holder
		if strings.Contains(q.op.Path, "revoke") || q.op.Path == "seal" {
			class = door.Vital
		}
	}
	if err := q.h.env.Guard.Pace(q.Time, class, q.holder); err != nil {
		return err
	}
	var err error
	q.ticket, err = q.h.env.Guard.Enter(q.Time, class, q.Remote.Addr(), account)
	return err
}

// read reads the body of a write as bytes, up to what the operation takes. The
// body of a request that will be refused whatever it holds is left alone.
func (q *request) read() error {
	r := q.http
	if fromQuery(q.Verb) || q.Help || q.op.Name == "" || r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	if q.op.Auth == op.Token && q.Token.Empty() {
		return nil
	}
	limit := q.h.env.BodyLimit
	if q.op.Auth != op.Token {
		limit = q.h.env.OpenLimit
	}
	if q.op.Limit.Body > 0 {
		limit = q.op.Limit.Body
	}
	if r.ContentLength > limit {
		return fault.New(fault.TooLarge, "request body too large")
	}
	var body []byte
	var err error
	if r.ContentLength > 0 {
		// What was promised may never come: memory follows what has arrived.
		body, err = readUpTo(r.Body, make([]byte, 0, min(r.ContentLength+1, 64<<10)), limit)
	} else {
		body, err = readUpTo(r.Body, make([]byte, 0, 4<<10), limit)
	}
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Wrap(fault.Invalid, err, "the request body came too slowly")
	case err != nil:
		return fault.Wrap(fault.Invalid, err, "reading the request body failed")
	case int64(len(body)) > limit:
		return fault.New(fault.TooLarge, "request body too large")
	}
	q.source.body = body
	if q.source.isForm && len(body) > 0 {
		first := strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n")
		q.source.isForm = first == "" || first[0] != '{' && first[0] != '['
	}
	return nil
}

// readUpTo appends what r gives to b, up to one byte more than limit.
func readUpTo(r io.Reader, b []byte, limit int64) ([]byte, error) {
	for int64(len(b)) <= limit {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(2*int64(cap(b)), limit+1)+16)
			copy(grown, b)
			clear(b)
			b = grown
		}
		n, err := r.Read(b[len(b):min(int64(cap(b)), limit+1)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}
