//go:build !windows

package bolt

import "strconv"

// defaultMaxSize is how far the file is mapped from the start, which costs
// addresses and nothing else. It is never mapped anew: that would have to
// wait until nobody reads, and someone always does.
const defaultMaxSize = 1 << (30 + 6*(strconv.IntSize/64))
