package wire_test

import (
	"slices"
	"testing"

	"rotunda.dev/rotunda/internal/wire"
)

func TestIntsAsSent(t *testing.T) {
	for text, want := range map[string]wire.Ints{
		`["4"]`: {4}, `[1,2]`: {1, 2}, `"1,2"`: {1, 2}, `" 1 , ,2 "`: {1, 2}, `3`: {3}, `["1,2",3]`: {1, 2, 3}, `null`: {}, `""`: {}, `[]`: {}, `-1`: {-1},
	} {
		var got wire.Ints
		if err := got.UnmarshalJSON([]byte(text)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`"x"`, `[1.5]`, `{}`, `[[1]]`, `true`, `1e3`, `18446744073709551616`, `[null]`} {
		var got wire.Ints
		if err := got.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s = %v; want an error", text, got)
		}
	}
	for want, l := range map[string]wire.Ints{`[]`: nil, `[1,-2]`: {1, -2}} {
		if got, err := l.MarshalJSON(); err != nil || string(got) != want {
			t.Errorf("%v is written %s, %v; want %s", []int(l), got, err, want)
		}
	}
}
