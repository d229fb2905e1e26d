package shamir

import "slices"

// The field is GF(2^8) with the polynomial of AES. Neither a branch nor an
// index depends on a secret: there are no tables, as their cache lines would tell.

// mul returns a times b.
func mul(a, b byte) (p byte) {
	for range 8 {
		p ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return p
}

// inv returns 1/a, which is a^254; 0 for 0.
func inv(a byte) byte {
	r := byte(1)
	for range 7 { // 254 = 11111110 in binary
		a = mul(a, a)
		r = mul(r, a)
	}
	return r
}

// eval returns the polynomial's value at x, its coefficients from the lowest.
func eval(coefficients []byte, x byte) (y byte) {
	for _, c := range slices.Backward(coefficients) {
		y = mul(y, x) ^ c
	}
	return y
}

// weights returns by what the values at xs are multiplied to sum up to the
// value at 0 of the polynomial through them. The xs are distinct and not 0.
func weights(xs []byte) []byte {
	ws := make([]byte, len(xs))
	for i, xi := range xs {
		w := byte(1)
		for j, xj := range xs {
			if i != j {
				w = mul(w, mul(xj, inv(xj^xi)))
			}
		}
		ws[i] = w
	}
	return ws
}
