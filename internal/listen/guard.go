package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

type (
	connKey    struct{}
	watchedKey struct{}
)

// connContext lets a request find its connection.
func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	if w, ok := watchedOf(c); ok {
		ctx = context.WithValue(ctx, watchedKey{}, w)
	}
	if counted, ok := countedOf(c); ok {
		return context.WithValue(ctx, connKey{}, counted)
	}
	return ctx
}

// guard holds every request to the limits on headers, bodies and patience.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := now()
		if w, ok := r.Context().Value(watchedKey{}).(*watched); ok {
			w.handled.Store(true)
		}
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(began.Add(s.limits.LongestRequest + s.limits.Write)) // where it cannot be set there is no client
		if countHeaders(r.Header) > s.limits.HeaderCount {
			s.note(r, RefusedMany)
			refuse(w, http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// net/http takes a Content-Length beside chunks away without a word. Some
			// proxy may have gone by it, so what follows is nobody's request.
			w.Header().Set("Connection", "close")
		}
		if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
			body := &patient{ReadCloser: r.Body, control: control, began: began, limits: &s.limits, waits: r.Header.Get("Expect") != ""}
			r.Body = body
			defer body.settle()
		}
		next.ServeHTTP(w, r)
		if r.ProtoMajor == 2 && errors.Is(r.Context().Err(), context.Canceled) {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok && c.reset(began, s.limits) {
				if !c.cut.Swap(true) {
					s.refusals.note(RefusedResets, c.from)
				}
				_ = c.Close() // it asks for much and takes nothing
			}
		}
	})
}

func (s *Server) note(r *http.Request, kind Refusal) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		s.refusals.note(kind, c.from)
	}
}

func countHeaders(h http.Header) int {
	n := 0
	for _, v := range h {
		n += len(v)
	}
	return n
}

func refuse(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"errors":[]}`) // nobody may be left to read it
}

// patient is a body that must come in time: all of it within BodyRead, and
// after BodyGrace no slower than BodyRate.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
	began   time.Time
	limits  *Limits
	read    int64
	waits   bool // the client sends nothing before it is told to go on
	set     bool // a deadline
	ended   bool
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.waits = false
	due := p.limits.BodyGrace + time.Duration(float64(p.read)/float64(p.limits.BodyRate)*float64(time.Second))
	if err := p.control.SetReadDeadline(p.began.Add(min(due, p.limits.BodyRead))); err == nil {
		p.set = true
	}
	n, err := p.ReadCloser.Read(b)
	p.read += int64(n)
	if err == io.EOF && p.set {
		p.set, p.ended = false, true
		_ = p.control.SetReadDeadline(time.Time{}) // it was for the body only; where it fails the connection is gone
	}
	return n, err
}

// settle bounds how long net/http waits for what the handler left unread, so
// that the connection can be used again. It sets the deadline for what comes
// after that itself.
func (p *patient) settle() {
	if !p.ended {
		patience := min(p.limits.BodyGrace, time.Second)
		if p.waits {
			patience = 0 // it was not told, so nothing comes
		}
		_ = p.control.SetReadDeadline(now().Add(patience)) // as above
	}
}
