package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"rotunda.dev/rotunda/internal/secret"
)

// # Checkpoints
//
// A checkpoint says what the first n records are, signed. It is a signed note
// in the form of https://c2sp.org/tlog-checkpoint with one line more, the time
// of the signature:
//
//	rotunda.dev/audit/CLUSTER/JOURNAL     the origin; JOURNAL is 32 hex digits
//	4711                                  n
//	base64 of the tree's root
//	time 2026-11-24T10:00:00.123456789Z
//
//	— ORIGIN base64 of the key's hash and an Ed25519 signature
//
// The file "checkpoint" holds the last one; it is replaced at least every ten
// seconds, with the same n and another time where nothing was recorded. The
// first checkpoint of each n is also kept, in files beside the bundles of the
// tree: checkpoints-N holds those whose last record is in the bundle that
// begins with leaf N, in their order, each followed by an empty line. Zeros
// behind them are space allocated in advance.
const (
	checkpointName    = "checkpoint"
	checkpointsPrefix = "checkpoints-"
	originPrefix      = "rotunda.dev/audit/"

	maxNote    = 64 << 10
	maxHistory = 256 << 20
)

// Checkpoint is what a node signed about its journal.
type Checkpoint struct {
	Origin  string
	Journal [16]byte
	Size    uint64 // the records from the first to that with this sequence
	Root    [32]byte
	Time    time.Time
	Note    string // the signed text, as it is kept and given away
}

// Key verifies checkpoints of one journal. Its text form is that of
// [golang.org/x/mod/sumdb/note]: NAME+HASH+BASE64.
type Key struct {
	text string
	v    note.Verifier
	id   [16]byte
}

// ParseKey parses the text form of a key, around which there may be space.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("reading the public key of a journal: %w", err)
	}
	id, err := parseOrigin(v.Name())
	if err != nil {
		return nil, fmt.Errorf("reading the public key of a journal: %w", err)
	}
	return &Key{text, v, id}, nil
}

// String returns the text form.
func (k *Key) String() string { return k.text }

// Origin names the journal in its checkpoints.
func (k *Key) Origin() string { return k.v.Name() }

// Journal returns the id of the journal.
func (k *Key) Journal() [16]byte { return k.id }

func origin(cluster string, journal [16]byte) string {
	return originPrefix + cluster + "/" + hex.EncodeToString(journal[:])
}

// parseOrigin returns the id of the journal that s names.
func parseOrigin(s string) (id [16]byte, err error) {
	rest, ok := strings.CutPrefix(s, originPrefix)
	cluster, journal, two := strings.Cut(rest, "/")
	b, err := hex.DecodeString(journal)
	if !ok || !two || cluster == "" || err != nil || len(b) != len(id) || origin(cluster, [16]byte(b)) != s {
		return id, errors.New("it does not name a journal")
	}
	return [16]byte(b), nil
}

var errCheckpoint = errors.New("the checkpoint is malformed")

// body returns what is signed.
func (c *Checkpoint) body() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n" +
		"time " + c.Time.UTC().Format(time.RFC3339Nano) + "\n"
}

// parseBody is the inverse of body. Lines behind the time are left to those
// who write them.
func parseBody(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 5)
	if len(lines) < 5 {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0]}
	var err, errRoot, errTime error
	if c.Journal, err = parseOrigin(c.Origin); err != nil {
		return c, errCheckpoint
	}
	c.Size, err = strconv.ParseUint(lines[1], 10, 63)
	var root []byte
	root, errRoot = base64.StdEncoding.DecodeString(lines[2])
	when, ok := strings.CutPrefix(lines[3], "time ")
	c.Time, errTime = time.Parse(time.RFC3339Nano, when)
	if err != nil || errRoot != nil || errTime != nil || !ok || len(root) != len(c.Root) {
		return c, errCheckpoint
	}
	copy(c.Root[:], root)
	c.Time = c.Time.UTC()
	if !strings.HasPrefix(text, c.body()) {
		return c, errCheckpoint
	}
	return c, nil
}

// Open verifies a checkpoint. The error wraps [ErrCorrupt] where it is not one
// of this journal, signed with this key.
func (k *Key) Open(text []byte) (Checkpoint, error) {
	if len(text) > maxNote {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCorrupt, errCheckpoint)
	}
	n, err := note.Open(text, note.VerifierList(k.v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: opening a checkpoint: %w", ErrCorrupt, err)
	}
	c, err := parseBody(n.Text)
	if err == nil && c.Origin != k.Origin() {
		err = errors.New("the checkpoint is of another journal")
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c.Note = string(text)
	return c, nil
}

// ReadCheckpoint returns what a checkpoint says, without asking who signed it.
func ReadCheckpoint(text []byte) (Checkpoint, error) {
	c, err := readNote(text)
	if err != nil {
		return c, fmt.Errorf("reading a checkpoint: %w", err)
	}
	return c, nil
}

// readNote is ReadCheckpoint with a bare error.
func readNote(text []byte) (Checkpoint, error) {
	if len(text) > maxNote {
		return Checkpoint{}, errCheckpoint
	}
	_, err := note.Open(text, note.VerifierList())
	unverified, ok := errors.AsType[*note.UnverifiedNoteError](err)
	if !ok {
		return Checkpoint{}, errCheckpoint
	}
	c, err := parseBody(unverified.Note.Text)
	c.Note = string(text)
	return c, err
}

// signer signs checkpoints with a key that can be wiped.
type signer struct {
	key *Key

	mu   sync.Mutex // held to use seed
	seed secret.Bytes
}

var _ note.Signer = (*signer)(nil)

// PublicKey returns the key that verifies the checkpoints of a journal of a
// cluster which are signed with the Ed25519 key of seed.
func PublicKey(seed secret.Bytes, cluster string, journal [16]byte) (*Key, error) {
	var text string
	err := seed.Use(func(plain []byte) (err error) {
		if len(plain) != ed25519.SeedSize {
			return ErrWrongKey
		}
		private := ed25519.NewKeyFromSeed(plain)
		defer clear(private)
		public := bytes.Clone(private[ed25519.SeedSize:])
		text, err = note.NewEd25519VerifierKey(origin(cluster, journal), public)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making the public key of a journal: %w", err)
	}
	return ParseKey(text)
}

// Name implements [note.Signer].
func (s *signer) Name() string { return s.key.v.Name() }

// KeyHash implements [note.Signer].
func (s *signer) KeyHash() uint32 { return s.key.v.KeyHash() }

// Sign implements [note.Signer].
func (s *signer) Sign(msg []byte) (sig []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.seed.Use(func(plain []byte) error {
		if len(plain) != ed25519.SeedSize {
			return ErrLocked
		}
		private := ed25519.NewKeyFromSeed(plain)
		defer clear(private)
		sig = ed25519.Sign(private, msg)
		return nil
	})
	return sig, err
}

// wipe forgets the key. Who signs afterwards gets [ErrLocked].
func (s *signer) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed.Wipe()
}

// checkpoint signs the tree that c is, at a time.
func (s *signer) checkpoint(c *compact, now time.Time) (Checkpoint, error) {
	cp := Checkpoint{Origin: s.key.Origin(), Journal: s.key.id, Size: c.n, Root: c.root(), Time: now.UTC().Round(0)}
	b, err := note.Sign(&note.Note{Text: cp.body()}, s)
	if err != nil {
		return cp, fmt.Errorf("signing a checkpoint: %w", err)
	}
	cp.Note = string(b)
	return cp, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// historyName returns the name of the file of checkpoints beside a bundle.
func (f *forest) historyName(bundle uint64) string {
	return fmt.Sprintf("%s%020d", checkpointsPrefix, bundle<<f.height)
}

// historyOf returns the number of the bundle beside which a checkpoint of n records is kept.
func (f *forest) historyOf(n uint64) uint64 { return f.bundle(max(n, 1) - 1) }

func parseHistory(name string) (uint64, bool) { return parseNumbered(name, checkpointsPrefix, "") }

// nextNote returns the note that b begins with and what is behind it and the
// empty line that follows; nil where b does not begin with a whole one.
func nextNote(b []byte) (text, rest []byte) {
	signed := bytes.Index(b, []byte("\n\n— "))
	if signed < 0 {
		return nil, b
	}
	end := signed + 2
	for bytes.HasPrefix(b[end:], []byte("— ")) {
		n := bytes.IndexByte(b[end:], '\n')
		if n < 0 {
			return nil, b
		}
		end += n + 1
	}
	if end >= len(b) || b[end] != '\n' || bytes.IndexByte(b[:end], 0) >= 0 {
		return nil, b
	}
	return b[:end:end], b[end+1:]
}

// history is what a file of checkpoints holds.
type history struct {
	notes []heldNote
	end   int64 // behind the last note
	torn  bool  // something that is no note is behind
}

type heldNote struct {
	at   int64
	text []byte
}

func parseNotes(b []byte) history {
	b = bytes.TrimRight(b, "\x00")
	var h history
	for rest := b; ; {
		text, behind := nextNote(rest)
		if text == nil {
			h.torn = len(rest) > 0
			return h
		}
		h.notes = append(h.notes, heldNote{h.end, text})
		h.end += int64(len(rest) - len(behind))
		rest = behind
	}
}

// readHistory returns what is kept beside a bundle; nothing where there is no file.
func (f *forest) readHistory(bundle uint64) (history, error) {
	name := f.historyName(bundle)
	b, err := f.text(name, maxHistory)
	if errors.Is(err, fs.ErrNotExist) {
		return history{}, nil
	}
	if err != nil {
		return history{}, err
	}
	return parseNotes(b), nil
}

// histories returns the numbers of the bundles beside which there are checkpoints, in order.
func (f *forest) histories() ([]uint64, error) {
	names, err := f.disk.Names()
	if err != nil {
		return nil, fmt.Errorf("listing checkpoints: %w", err)
	}
	var out []uint64
	for _, name := range names {
		if first, ok := parseHistory(name); ok {
			out = append(out, f.bundle(first))
		}
	}
	return out, nil
}

// kept is a checkpoint of the journal's directory and where it stands.
type kept struct {
	Checkpoint
	file string
	at   int64
}

func (k *kept) damage(what string) error {
	return &Damage{Segment: k.file, Offset: k.at, Seq: k.Size, What: what}
}

// all returns every checkpoint of the directory, verified, in the order of
// their sizes. Damage to one is an error.
//
// The file "checkpoint" is replaced after its checkpoint is durable among the
// others. So they must reach as far as it does, and only behind that can there
// be something that is no checkpoint: one that was being written in a crash.
func (f *forest) all(key *Key) ([]kept, error) {
	bundles, err := f.histories()
	if err != nil {
		return nil, err
	}
	text, err := f.last()
	if err != nil {
		return nil, err
	}
	c, err := key.Open(text)
	if err != nil {
		return nil, &Damage{Segment: checkpointName, What: reason(err)}
	}
	last := kept{c, checkpointName, 0}
	var out []kept
	for i, bundle := range bundles {
		h, err := f.readHistory(bundle)
		if err != nil {
			return nil, err
		}
		name := f.historyName(bundle)
		for _, n := range h.notes {
			c, err := key.Open(n.text)
			k := kept{c, name, n.at}
			switch {
			case err != nil:
				return nil, k.damage(reason(err))
			case f.historyOf(c.Size) != bundle, len(out) > 0 && c.Size <= out[len(out)-1].Size:
				return nil, k.damage("the checkpoint is not where it belongs")
			}
			out = append(out, k)
		}
		if h.torn && (i < len(bundles)-1 || len(out) == 0 || out[len(out)-1].Size < last.Size) {
			return nil, &Damage{Segment: name, Offset: h.end, What: errCheckpoint.Error()}
		}
	}
	if len(out) == 0 || out[len(out)-1].Size < last.Size {
		return nil, last.damage("the last checkpoints are missing among the others")
	}
	return insertKept(out, last), nil
}

// insertKept inserts k into all, which are in the order of their sizes.
func insertKept(all []kept, k kept) []kept {
	i := len(all)
	for i > 0 && all[i-1].Size > k.Size {
		i--
	}
	return slices.Insert(all, i, k)
}

// last returns the content of the file of the last checkpoint.
func (f *forest) last() ([]byte, error) {
	b, err := f.text(checkpointName, maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Damage{Segment: checkpointName, What: "there is no checkpoint"}
	}
	return b, err
}

// text reads a file of checkpoints, which has at most so many bytes.
func (f *forest) text(name string, most int64) (_ []byte, err error) {
	v, err := f.disk.View(name)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	size, err := v.Size()
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if size > most {
		return nil, &Damage{Segment: name, Offset: most, What: "the file is too long"}
	}
	b, err := readAll(f.disk, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b, nil
}

// reason says why a checkpoint is not accepted, for a [Damage].
func reason(err error) string {
	switch _, bad := errors.AsType[*note.InvalidSignatureError](err); {
	case bad:
		return "the signature is wrong"
	}
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return "it is not signed with this key"
	}
	return errCheckpoint.Error()
}

// rootOf is the checkpoint's root.
func (c *Checkpoint) rootOf() tlog.Hash { return tlog.Hash(c.Root) }
