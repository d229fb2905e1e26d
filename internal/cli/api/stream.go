package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"rotunda.dev/rotunda/internal/secret"
)

// streamHead is how long a server may take before a streamed answer begins.
const streamHead = time.Minute

// Stream sends r once and writes the answer's body to w as it comes, however
// long that takes. It returns how many bytes there were. An answer that was cut
// off is an [*Unreachable]; one that refuses is an [*Error], and w gets nothing.
func (c *Client) Stream(ctx context.Context, r Request, w io.Writer) (int64, error) {
	u := c.url(r)
	token := c.token(r)
	if c.c.Show != nil {
		c.c.Show(r, c.curl(r, u.String(), !token.Empty()))
		return 0, ErrShown
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(streamHead, cancel)
	defer late.Stop()
	req, err := c.request(ctx, r, u, token)
	if err != nil {
		return 0, err
	}
	patient := *c.http
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		return 0, &Unreachable{c.c.Address, err}
	}
	defer resp.Body.Close()
	if !late.Stop() {
		return 0, &Unreachable{c.c.Address, context.DeadlineExceeded}
	}
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
		if err != nil {
			return 0, &Unreachable{c.c.Address, err}
		}
		if _, err := read(r, resp, raw); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("the answer has status %d and not %d", resp.StatusCode, http.StatusOK)
	}
	out := &onlyWriter{w: w}
	n, err := io.Copy(out, resp.Body)
	if err != nil && !errors.Is(err, errWriting) {
		err = &Unreachable{c.c.Address, fmt.Errorf("the answer was cut off: %w", err)}
	}
	return n, err
}

var errWriting = errors.New("writing what was answered")

// onlyWriter tells errors of its writer from those of who is read.
type onlyWriter struct{ w io.Writer }

// Write implements io.Writer.
func (o *onlyWriter) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errWriting, err)
	}
	return n, err
}

func (c *Client) token(r Request) secret.Text {
	if r.Token != nil {
		return *r.Token
	}
	return c.c.Token
}
