package main

import (
	"io"
	"strings"
	"testing"
)

const table = "| id | known as | test |\n|---|---|---|\n| H001 | one | `TestH001A`, `TestH001B`: in part |\n| H002 | two | not yet: needs x |\n| X003 | three | `TestX003` |\n"

func TestReport(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		heard string
		want  [3]string
	}{
		"all pass":          {`{"Action":"pass","Test":"TestH001A"}{"Action":"pass","Test":"TestH001B"}{"Action":"pass","Test":"TestX003"}`, [3]string{"passed", "waits", "passed"}},
		"one of two fails":  {`{"Action":"pass","Test":"TestH001A"}{"Action":"fail","Test":"TestH001B"}{"Action":"pass","Test":"TestX003"}`, [3]string{"failed", "waits", "passed"}},
		"one did not run":   {`{"Action":"pass","Test":"TestH001A"}{"Action":"pass","Test":"TestH001B"}`, [3]string{"passed", "waits", "failed"}},
		"one was skipped":   {`{"Action":"pass","Test":"TestH001A"}{"Action":"pass","Test":"TestH001B"}{"Action":"skip","Test":"TestX003"}`, [3]string{"passed", "waits", "failed"}},
		"nothing was heard": {``, [3]string{"failed", "waits", "failed"}},
	} {
		rows, err := parse(strings.NewReader(table))
		if err != nil || len(rows) != 3 {
			t.Fatalf("parse = %v, %v; want 3 rows", rows, err)
		}
		found, err := outcomes(strings.NewReader(c.heard), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range judge(rows, found).Rows {
			if row.State != c.want[i] {
				t.Errorf("%s: %s = %q; want %q", name, row.ID, row.State, c.want[i])
			}
		}
	}
	if _, err := parse(strings.NewReader("| H001 | one | soon |\n")); err == nil {
		t.Error("a row without a test or a reason was taken")
	}
}
