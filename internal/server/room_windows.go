package server

import (
	"math"

	"rotunda.dev/rotunda/internal/cli"
)

const privateModes = false

func room(string) cli.Finding {
	return cli.Finding{Check: "disk space", State: cli.Good, Detail: "not measured on this system"}
}

// space says that there is room: where there is none, whoever writes says so.
func space(string) (free, total int64, err error) { return math.MaxInt64, math.MaxInt64, nil }
