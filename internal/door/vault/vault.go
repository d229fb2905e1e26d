// Package vault speaks the Vault HTTP API, our native door.
//
// It names no engine and no operation: what can be called, how its fields are
// read and how it is answered come from the operations themselves. Routing is
// on the path as it was sent. A path that is not canonical is refused, and
// nothing is ever redirected, because a redirect repairs.
//
// A request is taken apart in this order, so that little is done for those who
// may do little: the request line and headers; what operation it means; whether
// there is room for it; its body as bytes, within that operation's bound. The
// body is looked into when the operation asks for its fields, which is after
// the caller is known.
package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/late"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
)

// The bounds that stand where the environment gives none.
const (
	defaultBody    = 1 << 20
	defaultOpen    = 64 << 10
	defaultTimeout = 30 * time.Second
	defaultLong    = 90 * time.Second
)

// New returns the handler of everything below /v1/, and of /livez and /readyz.
func New(env door.Env) http.Handler {
	if env.BodyLimit <= 0 {
		env.BodyLimit = defaultBody
	}
	if env.OpenLimit <= 0 {
		env.OpenLimit = defaultOpen
	}
	if env.Timeout <= 0 {
		env.Timeout = defaultTimeout
	}
	if env.LongTimeout <= 0 {
		env.LongTimeout = max(env.Timeout, defaultLong)
	}
	env.Limits = env.Limits.WithDefaults()
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	return &handler{env: env, plans: &plans{}, values: &values{}}
}

type handler struct {
	env     door.Env
	plans   *plans
	values  *values
	buffers sync.Pool // of *[]byte, for answers
}

// request is one request in the making.
type request struct {
	door.Request
	h      *handler
	http   *http.Request
	source source
	op     op.Op
	ticket door.Ticket
	holder uint64 // of the token, for the guard

	firstEncoded, lastEncoded int // slashes of Path that were percent-encoded; -1 for none

	answered bool // the head of an answer has been sent

	idHeader, lengthHeader [1]string
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := h.env.Clock.Now()
	head := w.Header()
	head["Cache-Control"] = noStore
	head["Content-Type"] = applicationJSON
	head["Strict-Transport-Security"] = strictTransport
	head["X-Content-Type-Options"] = noSniff
	q := &request{h: h, http: r}
	q.ID, q.Time = newID(), began
	q.idHeader[0] = q.ID
	head["X-Request-Id"] = q.idHeader[:]
	status := h.attempt(w, q) //nolint:contextcheck // the context is the request's
	ended := h.env.Clock.Now()
	q.ticket.Leave(ended, status == http.StatusBadRequest || status == http.StatusForbidden)
	opName := q.op.Name
	if opName == "" {
		opName = "none"
	}
	took := ended.Sub(began)
	if h.env.Observe != nil {
		h.env.Observe(opName, status, took)
	}
	h.env.Log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("request_id", q.ID),
		slog.String("operation", opName), slog.Int("status", status), slog.Duration("took", took))
}

// attempt answers q. A panic is an internal error like another, as long as
// nothing has been answered.
func (h *handler) attempt(w http.ResponseWriter, q *request) (status int) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if r == http.ErrAbortHandler { //nolint:errorlint,err113 // what stream panics with
			q.ticket.Leave(h.env.Clock.Now(), false)
			panic(r)
		}
		h.env.Log.LogAttrs(q.http.Context(), slog.LevelError, "request panicked", slog.String("request_id", q.ID),
			slog.String("operation", q.op.Name), slog.String("panic_type", fmt.Sprintf("%T", r)), slog.String("stack", string(debug.Stack())))
		if q.answered {
			panic(http.ErrAbortHandler) // what was promised cannot be kept
		}
		status = h.fail(w, q, fault.New(fault.Internal, "internal error"))
	}()
	return h.serve(w, q)
}

// The values of headers that every answer has. Nothing changes them.
var (
	noStore         = []string{"no-store"}
	applicationJSON = []string{"application/json"}
	strictTransport = []string{"max-age=31536000; includeSubDomains"}
	noSniff         = []string{"nosniff"}
)

// serve answers q and returns the status of the answer.
func (h *handler) serve(w http.ResponseWriter, q *request) int {
	err := q.parse()
	if err == nil && q.Path == "" {
		return h.outside(w, q)
	}
	ctx := q.http.Context()
	if err == nil {
		var at name.Path
		var routed error
		q.op, at, routed = h.env.Handler.Route(ctx, q.Verb, q.Path)
		switch encoded := q.firstEncoded >= 0; {
		case fault.Is(routed, fault.Unavailable), encoded && fault.Is(routed, fault.Sealed):
			err = routed
		case encoded:
			err = q.checkSlashes(at)
		}
	}
	if err == nil {
		if err = q.enter(); err == nil {
			err = q.read()
		}
	}
	if err != nil {
		// What is too much is counted and not recorded, or a flood would fill the journal.
		if !fault.Is(err, fault.Limited) {
			if over := h.env.Guard.Refuse(q.Time, q.Remote.Addr()); over != nil {
				err = over
			} else if kept := h.env.Handler.Refused(ctx, &q.Request, err); kept != nil {
				err = kept
			}
		}
		return h.fail(w, q, err)
	}
	limit := h.env.Timeout
	if q.op.Limit.Long {
		limit = h.env.LongTimeout
	}
	if !q.op.Stream {
		within := late.New(ctx, nil, clock.System{}.Now().Add(limit))
		defer within.End()
		ctx = within
	}
	if q.Help {
		return h.help(ctx, w, q)
	}
	response, err := h.env.Handler.Handle(ctx, &q.Request)
	if err != nil && (response == nil || !fault.Is(err, fault.Deleted)) {
		if fault.Is(err, fault.Internal) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fault.Wrap(fault.Unavailable, err, "the request took too long")
		}
		return h.fail(w, q, err)
	}
	return h.answer(w, q, response, err)
}

// answer writes r; of a Deleted it is the body of the error.
func (h *handler) answer(w http.ResponseWriter, q *request, r *door.Response, deleted error) int {
	if told := r.Reply.Told; told != nil {
		cause := errNotTold
		defer func() { told(cause) }()
		gone := q.http.Context().Err() // who has heard the answer may go away
		status := h.lay(w, q, r, deleted)
		if status < http.StatusMultipleChoices {
			cause = errors.Join(gone, http.NewResponseController(w).Flush())
		}
		return status
	}
	return h.lay(w, q, r, deleted)
}

var errNotTold = errors.New("the answer could not be made")

// lay makes and writes an answer.
func (h *handler) lay(w http.ResponseWriter, q *request, r *door.Response, deleted error) int {
	buf, ok := h.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer func() { h.recycle(buf) }()
	a, err := h.values.encode((*buf)[:0], q.ID, r, q.source.warnings(r.Reply.Warnings))
	if err != nil {
		h.env.Log.LogAttrs(q.http.Context(), slog.LevelError, "encoding an answer", slog.String("request_id", q.ID),
			slog.String("operation", r.Op.Name), slog.Any("cause", err))
		return h.fail(w, q, fault.Wrap(fault.Internal, err, "internal error"))
	}
	if _, raw := r.Value.(op.Raw); !raw && a.body != nil {
		*buf = a.body
	}
	if deleted != nil {
		a.status = statusOf(deleted)
		if r.Reply.Wrap != nil {
			a.status = http.StatusOK
		}
	}
	if a.contentType != "application/json" {
		w.Header()["Content-Type"] = []string{a.contentType}
	}
	if raw, ok := r.Value.(op.Raw); ok && raw.Stream != nil && deleted == nil {
		return h.stream(w, q, a.status, raw.Stream)
	}
	return h.write(w, q, a.status, a.body)
}

// largestKept bounds the buffers that are kept for the next answer.
const largestKept = 64 << 10

// recycle keeps a buffer for the next answer. It held secrets, so it is wiped.
func (h *handler) recycle(buf *[]byte) {
	clear(*buf)
	if cap(*buf) <= largestKept {
		h.buffers.Put(buf)
	}
}

// fail answers err.
func (h *handler) fail(w http.ResponseWriter, q *request, err error) int {
	status := statusOf(err)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		if after, ok := errors.AsType[door.RetryAfter](err); ok {
			seconds := (time.Duration(after) + time.Second - 1) / time.Second
			w.Header()["Retry-After"] = []string{strconv.FormatInt(int64(seconds), 10)}
		} else if status == http.StatusTooManyRequests {
			w.Header()["Retry-After"] = []string{"1"}
		}
	}
	if status == http.StatusRequestEntityTooLarge {
		w.Header()["Connection"] = []string{"close"} // the rest of the body is not worth reading
	}
	return h.write(w, q, status, appendErrors(nil, message(err)))
}

// write sends an answer; a nil body is none.
func (h *handler) write(w http.ResponseWriter, q *request, status int, body []byte) int {
	if body != nil {
		q.lengthHeader[0] = strconv.Itoa(len(body))
		w.Header()["Content-Length"] = q.lengthHeader[:]
	}
	q.answered = true
	w.WriteHeader(status)
	if body != nil && q.http.Method != http.MethodHead {
		_, _ = w.Write(body) // a caller that has gone away needs no answer
	}
	return status
}

// outside answers what is not below /v1/.
func (h *handler) outside(w http.ResponseWriter, q *request) int {
	path := pathOf(q.http)
	if path != "/livez" && path != "/readyz" {
		return h.write(w, q, http.StatusNotFound, appendErrors(nil, ""))
	}
	if m := q.http.Method; m != http.MethodGet && m != http.MethodHead {
		return h.write(w, q, http.StatusMethodNotAllowed, appendErrors(nil, ""))
	}
	if path == "/livez" {
		return h.write(w, q, http.StatusOK, []byte(`{"live":true}`))
	}
	// Only an unsealed server can say what is mounted.
	if _, err := h.env.Handler.Operations(q.http.Context()); err != nil {
		return h.write(w, q, http.StatusServiceUnavailable, []byte(`{"ready":false}`))
	}
	return h.write(w, q, http.StatusOK, []byte(`{"ready":true}`))
}

// encodeInner lays out an answer to be wrapped.
func (q *request) encodeInner(r *door.Response) (secret.JSON, error) {
	return q.h.values.inner(q.ID, r, q.source.warnings(r.Reply.Warnings))
}

// newID returns a random UUID of version 4.
func newID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[:8], u[:4])
	b[8] = '-'
	hex.Encode(b[9:13], u[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], u[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], u[8:10])
	b[23] = '-'
	hex.Encode(b[24:], u[10:])
	return string(b[:])
}
