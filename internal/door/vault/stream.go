package vault

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// streamWait is how long a caller may take to take one piece of a streamed answer.
const streamWait = time.Minute

// stream sends an answer as it is made. What goes wrong on the way cuts it off,
// so that nobody takes it for whole.
func (h *handler) stream(w http.ResponseWriter, q *request, status int, write func(context.Context, io.Writer) error) int {
	q.answered = true
	w.WriteHeader(status)
	if q.http.Method == http.MethodHead {
		return status
	}
	if err := write(q.http.Context(), pieces{w, http.NewResponseController(w)}); err != nil {
		h.env.Log.LogAttrs(q.http.Context(), slog.LevelError, "an answer was cut off", slog.String("request_id", q.ID),
			slog.String("operation", q.op.Name), slog.Any("cause", err))
		panic(http.ErrAbortHandler)
	}
	return status
}

// pieces gives each piece of an answer its own time.
type pieces struct {
	w       io.Writer
	control *http.ResponseController
}

// Write implements io.Writer.
func (p pieces) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(clock.System{}.Now().Add(streamWait)) // where it cannot be set there is no connection
	return p.w.Write(b)
}
