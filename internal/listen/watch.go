package listen

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

// watched is a connection on which net/http speaks HTTP/1. It notices what
// net/http refuses by itself: such an answer is written while no handler has
// been called for what was read.
type watched struct {
	net.Conn
	counted *conn
	server  *Server

	handled atomic.Bool // a handler was called for what was read since the last answer
	begun   atomic.Bool // something was read that a handler has not been called for
	refused atomic.Bool
	late    atomic.Bool // reading ended because time did
	line    atomic.Bool // the end of a line was read since the last answer
}

// watchedTLS is a watched connection of TLS: net/http asks it for its state.
type watchedTLS struct {
	*watched
	tls *tls.Conn
}

// ConnectionState tells net/http what was negotiated.
func (s *watchedTLS) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// CloseWrite tells the client that nothing more comes, so that it reads what
// came before.
func (s *watchedTLS) CloseWrite() error { return s.tls.CloseWrite() }

// watch returns what net/http is given for a connection that is welcome.
func (s *Server) watch(ready net.Conn, c *conn) net.Conn {
	t, ok := ready.(*tls.Conn)
	if ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		return ready // net/http wants it as it is
	}
	w := &watched{Conn: ready, counted: c, server: s}
	if ok {
		return &watchedTLS{w, t}
	}
	return w
}

func watchedOf(c net.Conn) (*watched, bool) {
	switch c := c.(type) {
	case *watched:
		return c, true
	case *watchedTLS:
		return c.watched, true
	}
	return nil, false
}

// countedOf returns the counted connection below one that net/http has.
func countedOf(c net.Conn) (*conn, bool) {
	if w, ok := watchedOf(c); ok {
		return w.counted, true
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	counted, ok := c.(*conn)
	return counted, ok
}

// changed is [http.Server.ConnState]. StateActive comes when a request's head
// was read, whether it is one or not, before anything is answered; StateIdle
// comes when all of an answer was written.
func (s *Server) changed(c net.Conn, state http.ConnState) {
	w, ok := watchedOf(c)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		w.handled.Store(false)
		w.begun.Store(true)
	case http.StateIdle: // what comes next may have been read already, and makes nothing active
		w.handled.Store(false)
		w.begun.Store(false)
		w.late.Store(false) // net/http ends its own reading like that
		w.line.Store(false)
	case http.StateClosed:
		if w.begun.Load() && !w.handled.Load() && !w.refused.Load() && w.late.Load() {
			s.refusals.note(RefusedSlow, w.counted.from)
		}
	case http.StateNew, http.StateHijacked:
	}
}

// Read implements net.Conn.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if !w.line.Load() && bytes.IndexByte(b[:n], '\n') >= 0 {
		w.line.Store(true)
	}
	w.late.Store(errors.Is(err, os.ErrDeadlineExceeded))
	return n, err
}

// Write implements net.Conn.
func (w *watched) Write(b []byte) (int, error) {
	if status, ok := bytes.CutPrefix(b, []byte("HTTP/1.1 ")); ok && !w.handled.Load() && !w.refused.Load() {
		switch {
		case w.late.Load():
			w.refuse(RefusedSlow)
		case bytes.HasPrefix(status, []byte("431")) && !w.line.Load():
			w.refuse(RefusedLine)
		case bytes.HasPrefix(status, []byte("431")):
			w.refuse(RefusedLarge)
		case bytes.HasPrefix(status, []byte("4")), bytes.HasPrefix(status, []byte("5")):
			w.refuse(RefusedMalformed)
		}
	}
	return w.Conn.Write(b)
}

func (w *watched) refuse(kind Refusal) {
	w.refused.Store(true)
	w.server.refusals.note(kind, w.counted.from)
}
