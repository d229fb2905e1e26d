package audit

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/fault"
)

// # Positions of sinks
//
//	sink-HEX.pos   HEX is the sink's name
//	   0   8  "RTNDSNK" and the format, 1
//	   8   8  sequence of the last record that the sink has
//	  16   4  CRC-32C of the 16 bytes before
const (
	sinkMagic  = "RTNDSNK\x01"
	sinkPrefix = "sink-"
	sinkSuffix = ".pos"

	flushEvery = time.Second
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

func sinkFile(name string) string { return sinkPrefix + hex.EncodeToString([]byte(name)) + sinkSuffix }

func sinkName(file string) (string, bool) {
	digits, ok := strings.CutPrefix(file, sinkPrefix)
	if !ok {
		return "", false
	}
	digits, ok = strings.CutSuffix(digits, sinkSuffix)
	b, err := hex.DecodeString(digits)
	return string(b), ok && err == nil
}

func sinkPosition(seq uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(sinkMagic), seq)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseSinkPosition(b []byte) (uint64, bool) {
	if len(b) != 20 || string(b[:8]) != sinkMagic || binary.BigEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// feed is one sink and the goroutine that feeds it.
type feed struct {
	j      *Journal
	name   string
	sink   Sink
	at     atomic.Uint64 // sequence of the last record that the sink has
	saved  uint64
	cancel context.CancelFunc
	step   chan struct{} // at has moved
	done   chan struct{}
	state  feedState
}

// Feed gives sink every record, from where a sink of that name stood; a new
// one begins with what comes. The journal must be unlocked; Lock and Close end
// the feed, close the sink, and keep where it stood. Until a sink has a record,
// retention does not remove it.
func (j *Journal) Feed(name string, sink Sink) error {
	if name == "" || len(name) > 100 {
		return errors.New("audit: a sink's name has 1 to 100 bytes")
	}
	if j.keys.Load() == nil {
		return unavailable(ErrLocked)
	}
	j.feedMu.Lock()
	defer j.feedMu.Unlock()
	if j.feeds[name] != nil {
		return fault.New(fault.Exists, "a sink named %q is fed already", name)
	}
	f := &feed{j: j, name: name, sink: sink, step: make(chan struct{}, 1), done: make(chan struct{})}
	b, err := readAll(j.disk, sinkFile(name))
	seq, ok := parseSinkPosition(b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		seq = j.main.status().head.seq
		if err := j.disk.Replace(sinkFile(name), sinkPosition(seq)); err != nil {
			return fmt.Errorf("keeping where a sink stands: %w", err)
		}
	case err != nil:
		return fmt.Errorf("reading where a sink stands: %w", err)
	case !ok:
		seq = j.main.status().segments[0].first - 1 // everything once more
	}
	f.at.Store(seq)
	f.saved = seq
	f.state.steps(j.c.Clock.Now())
	ctx, cancel := context.WithCancel(j.ctx)
	f.cancel = cancel
	j.feeds[name] = f
	go f.run(ctx)
	return nil
}

// Unfeed ends the feed of a sink, closes it and forgets where it stood. Where
// no sink is fed under that name, it forgets where one stood.
func (j *Journal) Unfeed(name string) error {
	j.feedMu.Lock()
	f := j.feeds[name]
	delete(j.feeds, name)
	j.feedMu.Unlock()
	var err error
	if f != nil {
		f.cancel()
		<-f.done
		err = f.sink.Close()
	}
	return errors.Join(err, j.main.discard(sinkFile(name)))
}

// Feeds returns the names of all sinks whose place is kept, whether they are
// fed or not, and the sequence of the last record that each has.
func (j *Journal) Feeds() (map[string]uint64, error) {
	names, err := j.disk.Names()
	if err != nil {
		return nil, fmt.Errorf("listing sinks: %w", err)
	}
	j.feedMu.Lock()
	fed := map[string]uint64{}
	for name, f := range j.feeds {
		fed[name] = f.at.Load()
	}
	j.feedMu.Unlock()
	for _, file := range names {
		name, ok := sinkName(file)
		if _, known := fed[name]; !ok || known {
			continue
		}
		b, err := readAll(j.disk, file)
		if err != nil {
			return nil, fmt.Errorf("reading where a sink stands: %w", err)
		}
		fed[name], _ = parseSinkPosition(b)
	}
	return fed, nil
}

// needed returns the sequence of the first record that a sink does not have.
func (j *Journal) needed() uint64 {
	needed := ^uint64(0)
	feeds, err := j.Feeds()
	if err != nil {
		return 0 // not known: keep all
	}
	for _, at := range feeds {
		needed = min(needed, at+1)
	}
	return needed
}

// closeFeeds ends all feeds, which may first bring their sinks up to date until ctx ends.
func (j *Journal) closeFeeds(ctx context.Context) {
	j.feedMu.Lock()
	feeds := make([]*feed, 0, len(j.feeds))
	for _, f := range j.feeds {
		feeds = append(feeds, f)
	}
	clear(j.feeds)
	j.feedMu.Unlock()
	head := j.main.status().head.seq
	for _, f := range feeds {
		for f.at.Load() < head && ctx.Err() == nil {
			select {
			case <-f.step:
			case <-ctx.Done():
			}
		}
		f.cancel()
		<-f.done
		j.complain("closing an audit sink", f.sink.Close())
	}
}

func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	rd := f.j.Reader()
	wait := retryFirst
	for {
		err := f.feed(ctx, rd, func() {
			wait = retryFirst
			f.works(ctx)
		})
		if ctx.Err() != nil {
			break
		}
		f.fails(ctx, err)
		f.at.Store(f.saved) // what was not flushed may be lost
		if f.j.c.Clock.Wait(ctx, f.j.c.Clock.Now().Add(wait)) != nil {
			break
		}
		wait = min(2*wait, retryMost)
	}
	f.j.complain("flushing the audit sink "+f.name, f.flush(context.WithoutCancel(ctx)))
}

// feed brings the sink up to date and keeps it there until something fails.
func (f *feed) feed(ctx context.Context, rd *Reader, works func()) error {
	flushAt := f.j.c.Clock.Now().Add(flushEvery)
	for {
		f.state.steps(f.j.c.Clock.Now())
		for r, err := range rd.Records(ctx, f.at.Load()+1) {
			if err == nil {
				err = f.sink.Write(ctx, r)
			}
			if err != nil {
				return err
			}
			f.at.Store(r.Seq)
			f.moved()
			if now := f.j.c.Clock.Now(); !now.Before(flushAt) {
				flushAt = now.Add(flushEvery)
				if err := f.flush(ctx); err != nil {
					return err
				}
				works()
			}
		}
		if f.at.Load() == f.saved {
			if err := f.j.main.beyond(ctx, f.saved); err != nil {
				return err
			}
			flushAt = f.j.c.Clock.Now().Add(flushEvery)
			continue
		}
		short, cancel := context.WithTimeout(ctx, flushEvery)
		err := f.j.main.beyond(short, f.at.Load())
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if err := f.flush(ctx); err != nil {
				return err
			}
			works()
		case err != nil:
			return err
		}
	}
}

// moved wakes who waits for the sink.
func (f *feed) moved() {
	f.state.steps(f.j.c.Clock.Now())
	select {
	case f.step <- struct{}{}:
	default:
	}
}

// flush makes what the sink has durable there, and then that it has it.
func (f *feed) flush(ctx context.Context) error {
	at := f.at.Load()
	if at == f.saved {
		return nil
	}
	if err := f.sink.Flush(ctx); err != nil {
		return err
	}
	if err := f.j.disk.Replace(sinkFile(f.name), sinkPosition(at)); err != nil {
		return fmt.Errorf("keeping where a sink stands: %w", err)
	}
	f.saved = at
	return nil
}
