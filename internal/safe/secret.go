package safe

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
)

// Kind says what a value is.
type Kind byte

// The kinds of values.
const (
	JSON   Kind = 1 // one JSON object
	Text   Kind = 2 // UTF-8 text
	Binary Kind = 3 // bytes
)

// State says whether the value of a version can be had.
type State uint8

// The states of a version.
const (
	Enabled   State = iota
	Disabled        // kept back until it is enabled
	Deleted         // can be recovered
	Destroyed       // gone for ever; that it was there is known
)

// Label points to a version and moves: "current".
type Label string

// The labels that have a meaning here.
const (
	Current  Label = "current"  // what is read where no version is named
	Pending  Label = "pending"  // made, not in use yet
	Previous Label = "previous" // what was current before
)

// Secret is what is kept at one path, values aside. Changes to it are kept by
// [Safe.Save].
type Secret struct {
	ID      [16]byte
	Created time.Time
	Updated time.Time // when the last version was made

	Last   uint64 // the highest number given to a version; 0 for none
	Oldest uint64 // the lowest number that has not been pruned, once as many were made as are kept; else 0

	Settings Settings
	Custom   map[string]string // custom metadata; nil for none
	Tags     map[string]string

	RecoverUntil time.Time // set while the secret as a whole is deleted and can be recovered
	Plan         []byte    // how the secret is rotated, for who rotates it

	Versions []Version // in the order in which they were made

	path    string
	fresh   bool // not saved yet
	gone    bool // only rows to be removed are left
	next    uint64
	labels  []mark   // in the order of their names
	garbage []uint64 // sequence numbers of rows to be removed
}

type mark struct {
	label Label
	seq   uint64
}

// Settings are what a secret has for itself; the zero value is that of the mount.
type Settings struct {
	MaxVersions int
	CASRequired bool
	DeleteAfter time.Duration // a new version's time until it is as if deleted
}

// Version is one value that a secret has or had.
type Version struct {
	ID                 [16]byte
	Number             uint64 // 0 until it becomes current
	Kind               Kind
	Disabled           bool
	Destroyed          bool
	Created            time.Time
	DeletedAt          time.Time // from then on deleted; may lie ahead; zero for never
	NotBefore, Expires time.Time // what the owner says of its use; zero for always

	seq     uint64
	wrapped []byte // the key of the value
}

// State returns the state of v at a moment.
func (v *Version) State(at time.Time) State {
	switch {
	case v.Destroyed:
		return Destroyed
	case !v.DeletedAt.IsZero() && !at.Before(v.DeletedAt):
		return Deleted
	case v.Disabled:
		return Disabled
	}
	return Enabled
}

// Path returns where x is.
func (x *Secret) Path() string { return x.path }

// Current returns the version in use; nil if there is none.
func (x *Secret) Current() *Version { return x.Labelled(Current) }

// Numbered returns the version with number n; nil if there is none.
func (x *Secret) Numbered(n uint64) *Version {
	if n == 0 {
		return nil
	}
	for i := len(x.Versions) - 1; i >= 0; i-- {
		if x.Versions[i].Number == n {
			return &x.Versions[i]
		}
	}
	return nil
}

// Labelled returns the version that a label points to; nil if there is none.
func (x *Secret) Labelled(l Label) *Version {
	for _, m := range x.labels {
		if m.label == l {
			return x.made(m.seq)
		}
	}
	return nil
}

// WithID returns the version with an id; nil if there is none.
func (x *Secret) WithID(id [16]byte) *Version {
	i := slices.IndexFunc(x.Versions, func(v Version) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &x.Versions[i]
}

func (x *Secret) made(seq uint64) *Version {
	i, ok := slices.BinarySearchFunc(x.Versions, seq, func(v Version, seq uint64) int {
		switch {
		case v.seq < seq:
			return -1
		case v.seq > seq:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &x.Versions[i]
}

// Labels returns the labels of v, in order.
func (x *Secret) Labels(v *Version) []Label {
	var ls []Label
	for _, m := range x.labels {
		if m.seq == v.seq {
			ls = append(ls, m.label)
		}
	}
	return ls
}

// SetLabel points l to v, and away from where it pointed.
func (x *Secret) SetLabel(l Label, v *Version) {
	i, ok := slices.BinarySearchFunc(x.labels, l, func(m mark, l Label) int {
		switch {
		case m.label < l:
			return -1
		case m.label > l:
			return 1
		}
		return 0
	})
	if ok {
		x.labels[i].seq = v.seq
		return
	}
	x.labels = slices.Insert(x.labels, i, mark{l, v.seq})
}

// DropLabel makes l point nowhere.
func (x *Secret) DropLabel(l Label) {
	x.labels = slices.DeleteFunc(x.labels, func(m mark) bool { return m.label == l })
}

// Promote makes v current and gives it the next number. What was current
// becomes previous; v is no longer pending.
func (x *Secret) Promote(v *Version) {
	x.Last++
	v.Number = x.Last
	if was := x.Current(); was != nil {
		x.SetLabel(Previous, was)
	}
	if p := x.Labelled(Pending); p != nil && p.seq == v.seq {
		x.DropLabel(Pending)
	}
	x.SetLabel(Current, v)
}

// Prune drops the versions that are beyond the newest keep numbers, as if they
// had never been. Versions without a number stay.
func (x *Secret) Prune(keep int) {
	if keep <= 0 || x.Last-x.Oldest < uint64(keep) {
		return
	}
	x.Oldest = x.Last - uint64(keep) + 1
	x.drop(func(v *Version) bool { return v.Number != 0 && v.Number < x.Oldest })
}

// Replace makes v, the newest version, the only one, with number 1: a secret
// that has no history.
func (x *Secret) Replace(v *Version) {
	seq := v.seq
	v.Number, x.Last, x.Oldest = 1, 1, 0
	x.drop(func(v *Version) bool { return v.seq != seq })
}

func (x *Secret) drop(which func(*Version) bool) {
	kept := x.Versions[:0]
	for i := range x.Versions {
		v := x.Versions[i]
		if !which(&v) {
			kept = append(kept, v)
			continue
		}
		x.labels = slices.DeleteFunc(x.labels, func(m mark) bool { return m.seq == v.seq })
		if !v.Destroyed {
			x.garbage = append(x.garbage, v.seq)
		}
	}
	clear(x.Versions[len(kept):])
	x.Versions = kept
}

// Destroy makes the value of v unreadable for ever. Destroying twice is not an error.
func (x *Secret) Destroy(v *Version) {
	if v.Destroyed {
		return
	}
	v.Destroyed, v.wrapped = true, nil
	x.garbage = append(x.garbage, v.seq)
}

// asObject returns a value of any kind as one JSON object.
func asObject(k Kind, plain []byte) (secret.JSON, error) {
	switch k {
	case JSON:
		return secret.NewJSON(plain), nil
	case Text:
		b, err := jsontext.AppendQuote([]byte(`{"value":`), plain)
		if err != nil {
			return secret.JSON{}, fmt.Errorf("quoting a text: %w", err)
		}
		return secret.NewJSON(append(b, '}')), nil
	case Binary:
		b := base64.StdEncoding.AppendEncode([]byte(`{"value":"`), plain)
		return secret.NewJSON(append(b, '"', '}')), nil
	}
	return secret.JSON{}, fmt.Errorf("reading a value of kind %d: %w", k, storage.ErrNewer)
}
