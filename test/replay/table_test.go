package replay

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cases are the rows that there are, in order.
var cases = strings.Fields(`
	H001 H002 H003 H005 H006 H008 H009 H010 H012 H013 H014 H016 H017 H018 H019 H020 H021 H023 H025 H029 H030 H031
	H032 H034 H035 H036 H037 H038 H039 H040 H041 H045 H046 H047 H048 H050 H052 H053 H055 H056 H057 H059 H060 H062
	H063 H064 H065 H066 H067 H068 H071 H072 H074 H075 H076 H077 H078 H079 H080 H081 H082 H083 H084 H085 H088 H089
	H092 H093 H095 H096 H097 H099 H100 H101 H102 H103 H104 H105 H107 H109 H110 H111 H112 H113 H114 H115 H116 H117
	H119 H120 H121 H122 H123 H124 H125 H126 H128 H129 H130 H131 H132 H133 H134 H135 H136 H139 H140 H141 H142 H144
	H145 H147 X003 X006 X007
`)

// TestTableHasEveryCase holds README.md to have each row exactly once, each
// with tests that are there or a word about what it waits for, each test of a
// row to be named by it, and the sum at the end to be right.
func TestTableHasEveryCase(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	named := map[string]string{} // by row and test
	tried := 0
	for _, m := range regexp.MustCompile(`(?m)^\| ([HX][0-9]{3}) \| .* \| (.*) \|$`).FindAllStringSubmatch(string(b), -1) {
		ids = append(ids, m[1])
		tests := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(m[2], -1)
		switch waits := strings.HasPrefix(m[2], "not yet: needs "); {
		case waits == strings.HasPrefix(m[2], "`Test"):
			t.Errorf("row %s says %q; want a test or what it waits for", m[1], m[2])
		case !waits:
			tried++
			for _, x := range tests {
				named[m[1]+" "+x[1]] = x[1]
			}
		}
	}
	if !slices.Equal(ids, cases) {
		t.Errorf("the rows are %v; want each of %v once, in order", ids, cases)
	}
	if sum := fmt.Sprintf("%d of %d rows have a test.", tried, len(cases)); !strings.Contains(string(b), sum) {
		t.Errorf("README.md does not say %q", sum)
	}
	there := declared(t)
	for at, name := range named {
		if !slices.Contains(there, name) {
			t.Errorf("row %s is not there", at)
		}
	}
	id := regexp.MustCompile(`[HX][0-9]{3}`)
	for _, name := range there {
		for _, row := range id.FindAllString(name, -1) {
			if named[row+" "+name] == "" {
				t.Errorf("row %s does not name %s", row, name)
			}
		}
	}
}

// declared returns the tests of this folder.
func declared(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`).FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
