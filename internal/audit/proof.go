package audit

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/mod/sumdb/tlog"

	"rotunda.dev/rotunda/internal/fault"
)

// # Proofs
//
// A proof is JSON that a stranger can check with the journal's public key and
// nothing else. That a record is in the journal:
//
//	{"rotunda_audit_proof":1,"sequence":4711,"record":STORED,"record_key":KEY,
//	 "path":[HASH, …],"checkpoint":NOTE}
//
// STORED, KEY and HASH are base64; the path is that of RFC 6962, section 2.1.1,
// for leaf sequence-1 in the tree of the checkpoint. That one tree begins with
// all of another, which is "from" where its checkpoint is kept:
//
//	{"rotunda_audit_consistency":1,"from_size":1000,"to_size":4711,"from":NOTE,"to":NOTE,"path":[HASH, …]}
const (
	proofFormat = 1
	maxPath     = 64
	maxProof    = 4 << 20
)

// Proof shows that a record is in a journal, and what it says, to whoever has
// the journal's public key. It tells nothing of any other record.
type Proof struct {
	Format     int      `json:"rotunda_audit_proof" doc:"1: the format."`
	Sequence   uint64   `json:"sequence" doc:"Sequence of the record."`
	Record     []byte   `json:"record" doc:"Stored bytes of the record."`
	Key        []byte   `json:"record_key" doc:"Key that opens this record, and no other."`
	Path       [][]byte `json:"path" audit:"count" doc:"Hashes from the record's leaf to the root of the tree, as RFC 6962 has them."`
	Checkpoint string   `json:"checkpoint" audit:"clear" doc:"Signed checkpoint of a tree that has the record."`
}

// Consistency shows that the records of one checkpoint are the first of those
// of another.
type Consistency struct {
	Format   int      `json:"rotunda_audit_consistency" doc:"1: the format."`
	FromSize uint64   `json:"from_size" doc:"Records of the older checkpoint."`
	ToSize   uint64   `json:"to_size" doc:"Records of the newer checkpoint."`
	From     string   `json:"from,omitzero" audit:"clear" doc:"The older checkpoint, where the node keeps one of so many records."`
	To       string   `json:"to" audit:"clear" doc:"The newer checkpoint."`
	Path     [][]byte `json:"path" audit:"count" doc:"Hashes of RFC 6962's consistency proof."`
}

// Shown is what a proof proves.
type Shown struct {
	Sequence   uint64
	Record     jsontext.Value // canonical JSON, as it is recorded
	Checkpoint Checkpoint     // that vouches for it
}

var errProof = fmt.Errorf("%w: the proof does not hold", ErrCorrupt)

// ParseProof reads the JSON of a [Proof] or of a [Consistency], the other of
// which is nil.
func ParseProof(b []byte) (*Proof, *Consistency, error) {
	if len(b) > maxProof {
		return nil, nil, errors.New("reading a proof: it is too long")
	}
	var kind struct {
		Proof       int `json:"rotunda_audit_proof"`
		Consistency int `json:"rotunda_audit_consistency"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return nil, nil, fmt.Errorf("reading a proof: %w", err)
	}
	switch {
	case kind.Proof > proofFormat, kind.Consistency > proofFormat:
		return nil, nil, ErrNewer
	case kind.Proof == proofFormat && kind.Consistency == 0:
		p := &Proof{}
		if err := json.Unmarshal(b, p, json.RejectUnknownMembers(true)); err != nil {
			return nil, nil, fmt.Errorf("reading a proof: %w", err)
		}
		return p, nil, nil
	case kind.Consistency == proofFormat && kind.Proof == 0:
		c := &Consistency{}
		if err := json.Unmarshal(b, c, json.RejectUnknownMembers(true)); err != nil {
			return nil, nil, fmt.Errorf("reading a proof: %w", err)
		}
		return nil, c, nil
	}
	return nil, nil, errors.New("reading a proof: it is none")
}

// Check returns what p proves to whoever trusts key. The error wraps
// [ErrCorrupt] where it proves nothing.
func (p *Proof) Check(key *Key) (Shown, error) {
	s := Shown{Sequence: p.Sequence}
	c, err := key.Open([]byte(p.Checkpoint))
	if err != nil {
		return s, err
	}
	path, err := hashesOf(p.Path)
	if err != nil {
		return s, err
	}
	switch {
	case p.Sequence == 0, p.Sequence > c.Size:
		return s, fmt.Errorf("%w: the checkpoint has no record %d", errProof, p.Sequence)
	case len(p.Record) < storedHead, binary.BigEndian.Uint64(p.Record[1:]) != p.Sequence:
		return s, fmt.Errorf("%w: the record has another sequence", errProof)
	}
	if err := tlog.CheckRecord(path, int64(c.Size), c.rootOf(), int64(p.Sequence-1), tlog.Hash(LeafHash(p.Record))); err != nil { //nolint:gosec // parsed as 63 bits
		return s, fmt.Errorf("%w: the record is not in the tree that was signed", errProof)
	}
	if len(p.Key) != 32 {
		return s, fmt.Errorf("%w: the key opens no record", errProof)
	}
	s.Record, err = OpenRecord(nil, p.Key, c.Journal, p.Record)
	s.Checkpoint = c
	return s, err
}

// Check says that the records of the checkpoint c.From, or of from where it is
// not nil, are the first of those of c.To, and returns both. The error wraps
// [ErrCorrupt] where that is not proved.
func (c *Consistency) Check(key *Key, from []byte) (older, newer Checkpoint, err error) {
	if from == nil {
		from = []byte(c.From)
	}
	if older, err = key.Open(from); err != nil {
		return older, newer, fmt.Errorf("the older checkpoint: %w", err)
	}
	if newer, err = key.Open([]byte(c.To)); err != nil {
		return older, newer, fmt.Errorf("the newer checkpoint: %w", err)
	}
	path, err := hashesOf(c.Path)
	if err != nil {
		return older, newer, err
	}
	if older.Size != c.FromSize || newer.Size != c.ToSize {
		return older, newer, fmt.Errorf("%w: it is of other checkpoints", errProof)
	}
	if err := tlog.CheckTree(path, int64(newer.Size), newer.rootOf(), int64(older.Size), older.rootOf()); err != nil { //nolint:gosec // parsed as 63 bits
		return older, newer, fmt.Errorf("%w: the newer checkpoint does not begin with the records of the older", errProof)
	}
	return older, newer, nil
}

func hashesOf(path [][]byte) ([]tlog.Hash, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("%w: its path is too long", errProof)
	}
	out := make([]tlog.Hash, len(path))
	for i, b := range path {
		if len(b) != hashLen {
			return nil, fmt.Errorf("%w: its path has what is no hash", errProof)
		}
		copy(out[i][:], b)
	}
	return out, nil
}

func bytesOf(path []tlog.Hash) [][]byte {
	out := make([][]byte, len(path))
	for i := range path {
		out[i] = path[i][:]
	}
	return out
}

// Find returns the sequence of the record with the given id. The error is a
// fault of kind NotFound where there is none, and Invalid where id is no id.
func (r *Reader) Find(ctx context.Context, id string) (uint64, error) {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != 16 {
		return 0, fault.New(fault.Invalid, "the id of an audit record is 32 hex digits")
	}
	made := time.Unix(0, int64(binary.BigEndian.Uint64(b))) //nolint:gosec // as it was made
	seq := uint64(0)
	found := errors.New("found")
	m := &matcher{needles: [][]byte{quote([]byte(`"id":`), id)}}
	err = r.forward(ctx, &pass{begin: made, m: m, fn: func(rec *Record) error {
		if rec.ID != id {
			return nil
		}
		seq = rec.Seq
		return found
	}})
	switch {
	case errors.Is(err, found):
		return seq, nil
	case err != nil:
		return 0, err
	}
	return 0, fault.New(fault.NotFound, "no audit record with this id")
}

// forest returns the tree of the journal.
func (r *Reader) forest(ctx context.Context) (*forest, error) {
	if r.live != nil {
		if n := r.live.notary.Load(); n != nil {
			return n.f, nil
		}
	}
	id, err := r.JournalID(ctx)
	if err != nil {
		return nil, err
	}
	return openForest(r.disk, id, bundleHeight)
}

// latest returns a checkpoint that has the record with sequence covering. Of a
// stopped node it is not verified.
func (r *Reader) latest(ctx context.Context, f *forest, covering uint64) (Checkpoint, error) {
	if r.live != nil {
		return r.live.Checkpoint(ctx, covering)
	}
	text, err := f.last()
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := readNote(text)
	switch {
	case err != nil:
		return c, &Damage{Segment: checkpointName, What: err.Error()}
	case c.Size < covering:
		return c, fault.New(fault.NotFound, "no audit record %d that a checkpoint has: the last has %d", covering, c.Size)
	}
	return c, nil
}

// Prove returns the proof that the record with sequence seq is in the journal.
// It needs the key. The error is a fault of kind NotFound where there is no
// such record, or no checkpoint that has it.
func (r *Reader) Prove(ctx context.Context, seq uint64) (*Proof, error) {
	if seq == 0 {
		return nil, fault.New(fault.NotFound, "no audit record 0")
	}
	f, err := r.forest(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.latest(ctx, f, seq)
	if err != nil {
		return nil, err
	}
	stored, err := r.Stored(ctx, seq)
	if err != nil {
		return nil, err
	}
	key, err := r.RecordKey(ctx, seq)
	if err != nil {
		return nil, err
	}
	var path tlog.RecordProof
	size, leaf := int64(c.Size), int64(seq-1) //nolint:gosec // far below
	err = r.prove(ctx, f, c.Size, []uint64{seq - 1, c.Size - 1}, func(t *nodes) (err error) {
		if path, err = tlog.ProveRecord(size, leaf, t); err != nil {
			return err
		}
		return tlog.CheckRecord(path, size, c.rootOf(), leaf, tlog.Hash(LeafHash(stored)))
	})
	if err != nil {
		return nil, err
	}
	return &Proof{proofFormat, seq, stored, key[:], bytesOf(path), c.Note}, nil
}

// Consistency returns the proof that the first records of the checkpoint of to
// records are the from records of an older one; 0 for to stands for the last.
// The error is a fault of kind NotFound where there is no checkpoint of to, and
// of kind Invalid where from is none or more than to.
func (r *Reader) Consistency(ctx context.Context, from, to uint64) (*Consistency, error) {
	f, err := r.forest(ctx)
	if err != nil {
		return nil, err
	}
	if from == 0 || to != 0 && from > to {
		return nil, fault.New(fault.Invalid, "the older checkpoint must have a record and no more than the newer")
	}
	newer, err := r.latest(ctx, f, max(from, to))
	if err != nil {
		return nil, err
	}
	if to != 0 && to != newer.Size {
		found, err := f.checkpointOf(to)
		switch {
		case err != nil:
			return nil, err
		case found == nil:
			return nil, fault.New(fault.NotFound, "no checkpoint of %d records; the last has %d", to, newer.Size)
		}
		newer = *found
	}
	out := &Consistency{Format: proofFormat, FromSize: from, ToSize: newer.Size, To: newer.Note}
	older, err := f.checkpointOf(from)
	switch {
	case err != nil:
		return nil, err
	case older != nil:
		out.From = older.Note
	case from == newer.Size:
		out.From = newer.Note
	}
	n, t := int64(from), int64(newer.Size) //nolint:gosec // far below
	err = r.prove(ctx, f, newer.Size, []uint64{from - 1, min(from, newer.Size-1), newer.Size - 1}, func(nodes *nodes) error {
		path, err := tlog.ProveTree(t, n, nodes)
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(n, nodes)
		if err != nil {
			return err
		}
		out.Path = bytesOf(path)
		if older != nil {
			root = older.rootOf()
		}
		return tlog.CheckTree(path, t, newer.rootOf(), n, root)
	})
	return out, err
}

// checkpointOf returns the checkpoint of n records; nil where none is kept.
func (f *forest) checkpointOf(n uint64) (*Checkpoint, error) {
	h, err := f.readHistory(f.historyOf(n))
	if err != nil {
		return nil, err
	}
	for _, held := range h.notes {
		if c, err := readNote(held.text); err == nil && c.Size == n {
			return &c, nil
		}
	}
	return nil, nil //nolint:nilnil // there may be none
}

// prove calls make with the tree of n leaves as its files have it, and where
// that does not lead to a proof, as the records have it.
func (r *Reader) prove(ctx context.Context, f *forest, n uint64, leaves []uint64, make func(*nodes) error) error {
	err := make(newNodes(f, n))
	if err == nil {
		return nil
	}
	t, errRead := r.recompute(ctx, f, n, leaves)
	if errRead != nil {
		return fmt.Errorf("computing the tree of the journal: %w", errRead)
	}
	switch err := make(t); {
	case errors.Is(err, errNoTree):
		return fault.New(fault.NotFound, "what is needed of the tree was removed with its records")
	case err != nil:
		return &Damage{Segment: checkpointName, Seq: n, What: "the records are not those that were signed"}
	}
	if r.live != nil {
		if n := r.live.notary.Load(); n != nil {
			n.stale.Store(true) // the tiles are made anew with the next checkpoint
		}
	}
	return nil
}

// recompute makes the nodes of the tree of n leaves from the records, all that
// are needed for proofs about the given leaves.
func (r *Reader) recompute(ctx context.Context, f *forest, n uint64, leaves []uint64) (*nodes, error) {
	e, err := r.extent(ctx)
	if err != nil {
		return nil, err
	}
	if len(e.segments) == 0 {
		return nil, errNoTree
	}
	removed := e.segments[0].first - 1
	t := newNodes(f, n)
	needed := map[uint64]bool{}
	for _, leaf := range leaves {
		needed[f.bundle(leaf)] = true
	}
	bundle := f.bundle(removed)
	if t.roots, err = f.roots(bundle); err != nil {
		return nil, err
	}
	have, err := f.leaves(bundle, removed&(1<<f.height-1))
	if err != nil {
		return nil, err
	}
	var tree compact
	for _, h := range have {
		tree.add(h)
	}
	at := removed
	for leaf, err := range r.Leaves(ctx, removed+1) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if at == n {
			break
		}
		at++
		h := tlog.Hash(leaf)
		tree.add(h)
		if needed[bundle] {
			have = append(have, h)
		}
		if tree.n == 1<<f.height {
			t.roots = append(t.roots, tree.root())
			if needed[bundle] {
				t.leaves[bundle] = have
			}
			tree, have, bundle = compact{}, nil, bundle+1
		}
	}
	if needed[bundle] {
		t.leaves[bundle] = have
	}
	if at != n {
		return nil, &Damage{Segment: records.name(e.segments[len(e.segments)-1].first), Seq: at + 1, What: "records are missing that were signed"}
	}
	return t, nil
}
