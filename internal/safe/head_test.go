package safe

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

func fullHead() *Secret {
	t0 := time.Date(2026, 11, 24, 9, 30, 0, 5, time.UTC)
	x := &Secret{
		ID: [16]byte{1}, Created: t0, Updated: t0.Add(1), Last: 300, Oldest: 2, next: 400,
		Settings: Settings{MaxVersions: 7, CASRequired: true, DeleteAfter: time.Hour},
		Custom:   map[string]string{"a": "1", "b": ""}, Tags: map[string]string{"t": "u"},
		RecoverUntil: t0.Add(2), Plan: []byte("plan"), garbage: []uint64{3, 1},
		Versions: []Version{
			{ID: [16]byte{2}, Number: 299, Kind: JSON, Created: t0, Destroyed: true, seq: 5},
			{ID: [16]byte{3}, Number: 300, Kind: Text, Created: t0, DeletedAt: t0.Add(3), NotBefore: t0, Expires: t0.Add(4), Disabled: true, seq: 9, wrapped: []byte("key")},
		},
	}
	x.SetLabel(Previous, &x.Versions[0])
	x.SetLabel(Current, &x.Versions[1])
	return x
}

func TestHeadAgain(t *testing.T) {
	b := encodeHead(fullHead())
	x, err := decodeHead(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	if got := encodeHead(x); !bytes.Equal(got, b) {
		t.Errorf("encoded again:\n%x\nwant\n%x", got, b)
	}
	if v := x.Current(); v == nil || v.Number != 300 || !v.Expires.Equal(fullHead().Versions[1].Expires) || string(v.wrapped) != "key" {
		t.Errorf("current = %+v", v)
	}
	if x.Custom["a"] != "1" || x.Settings != fullHead().Settings || len(x.garbage) != 2 {
		t.Errorf("decoded %+v", x)
	}
}

func TestHeadRefused(t *testing.T) {
	good := encodeHead(fullHead())
	for what, b := range map[string][]byte{
		"empty":         {},
		"no fields":     {headFormat},
		"cut short":     good[:len(good)-1],
		"twice":         append(bytes.Clone(good), good[1:]...),
		"long length":   append([]byte{headFormat, tagID, 0x90, 0x00}, good[3:]...),
		"zero instants": append(bytes.Clone(good[:19]), append([]byte{tagCreated, 8}, make([]byte, 8)...)...),
	} {
		if _, err := decodeHead(b); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v; want ErrCorrupt", what, err)
		}
	}
	for what, b := range map[string][]byte{
		"format": append([]byte{headFormat + 1}, good[1:]...),
		"field":  append(bytes.Clone(good), tagGarbage+1, 0),
	} {
		if _, err := decodeHead(b); !errors.Is(err, storage.ErrNewer) {
			t.Errorf("%s: %v; want ErrNewer", what, err)
		}
	}
}

// What decodes encodes to the same bytes.
func FuzzHead(f *testing.F) {
	f.Add(encodeHead(fullHead()))
	f.Add(encodeHead(&Secret{ID: [16]byte{1}, next: 1}))
	f.Add([]byte(strings.Repeat("\x01", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeHead(bytes.Clone(b))
		if err != nil {
			return
		}
		if got := encodeHead(x); !bytes.Equal(got, b) {
			t.Errorf("decoded %x, encoded %x", b, got)
		}
	})
}

func BenchmarkDecodeHead(b *testing.B) {
	x := fullHead()
	for len(x.Versions) < 10 {
		v := x.Versions[1]
		v.seq += uint64(len(x.Versions))
		v.wrapped = make([]byte, 77)
		x.Versions = append(x.Versions, v)
	}
	head := encodeHead(x)
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if _, err := decodeHead(head); err != nil {
			b.Fatal(err)
		}
	}
}
