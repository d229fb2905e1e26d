package safe

import (
	"fmt"

	"rotunda.dev/rotunda/internal/barrier"
)

// Heads is the [barrier.Holder] of spaces in which secrets are kept: their data
// keys lie in their heads. Values are left alone.
type Heads struct{}

var _ barrier.Holder = Heads{}

// Holds implements [barrier.Holder].
func (Heads) Holds(table byte, row string) bool { return table == 's' && row == headRow }

// Rewrap implements [barrier.Holder].
func (Heads) Rewrap(row []byte, w barrier.Rewrapper) ([]byte, error) {
	x, err := decodeHead(row)
	if err != nil {
		return nil, err
	}
	changed, err := x.rewrap(w)
	if err != nil || !changed {
		return nil, err
	}
	return encodeHead(x), nil
}

// rewrap brings the data keys of x under the current key of its space. A
// secret that is saved leaves none under an older one.
func (x *Secret) rewrap(w barrier.Rewrapper) (changed bool, err error) {
	for i := range x.Versions {
		v := &x.Versions[i]
		if v.Destroyed {
			continue
		}
		again, err := w.RewrapValue(barrier.Value{Secret: x.ID, Version: v.ID, Kind: byte(v.Kind)}, v.wrapped)
		if err != nil {
			return false, fmt.Errorf("bringing a data key under the current key: %w", err)
		}
		if len(again) == 0 || len(v.wrapped) == 0 || &again[0] != &v.wrapped[0] {
			v.wrapped, changed = again, true
		}
	}
	return changed, nil
}
