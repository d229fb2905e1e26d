package audit_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rotunda.dev/rotunda/internal/audit"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

func newHasher() *audit.Hasher {
	return audit.NewHasher(func(parts ...[]byte) (sum [32]byte) {
		h := hmac.New(sha256.New, []byte("a key of 14 bytes at least"))
		for _, p := range parts {
			h.Write(p)
		}
		h.Sum(sum[:0])
		return sum
	})
}

type embedded struct {
	Inner string `json:"inner" audit:"clear"`
	Other string `json:"other"`
}

type class string

type stringer struct{ s string }

func (s stringer) String() string { return s.s }

type marshals struct{ s string }

func (m marshals) MarshalText() ([]byte, error) { return []byte(m.s), nil }

func TestRedact(t *testing.T) {
	h := newHasher()
	x := func(s string) string { return `"` + h.Hash(s) + `"` }
	at := time.Date(2026, 11, 24, 8, 0, 0, 5, time.FixedZone("x", 3600))
	for _, tc := range []struct {
		name string
		v    any
		want string
	}{
		{"fields by their names, in order", struct {
			Z    string `path:"zeta"`
			B    string `json:"beta"`
			Bare string
			Own  string `json:"-" query:"omega"`
		}{"1", "2", "3", "4"}, `{"bare":` + x("3") + `,"beta":` + x("2") + `,"omega":` + x("4") + `,"zeta":` + x("1") + `}`},
		{"clear", struct {
			A string   `json:"a" audit:"clear"`
			L []string `json:"l" audit:"clear"`
			P *string  `json:"p" audit:"clear"`
		}{`a"b`, []string{"x", "y"}, new("z")}, `{"a":"a\"b","l":["x","y"],"p":"z"}`},
		{"clear does not clear secrets", struct {
			T secret.Text  `json:"t" audit:"clear"`
			J secret.JSON  `json:"j" audit:"clear"`
			B secret.Bytes `json:"b" audit:"clear"`
			S []byte       `json:"s" audit:"clear"`
		}{secret.New("t"), secret.NewJSON([]byte(`"j"`)), secret.NewBytes([]byte("b")), []byte("s")}, `{"b":` + x("b") + `,"j":` + x("j") + `,"s":` + x("s") + `,"t":` + x("t") + `}`},
		{"count", struct {
			R []jsontext.Value `json:"r" audit:"count"`
		}{[]jsontext.Value{[]byte("1"), []byte("2")}}, `{"r":2}`},
		{"numbers and booleans", struct {
			I int64   `json:"i"`
			U uint64  `json:"u"`
			F float64 `json:"f"`
			N float64 `json:"n"`
			B bool    `json:"b"`
		}{-5, math.MaxUint64, 1e21, math.Inf(1), true}, `{"b":true,"f":1e+21,"i":-5,"n":"+Inf","u":"18446744073709551615"}`},
		{"names and times", struct {
			N name.Name     `json:"n"`
			P name.Path     `json:"p"`
			T time.Time     `json:"t"`
			W wire.Time     `json:"w"`
			D time.Duration `json:"d"`
			L wire.Duration `json:"l"`
		}{"dev", "secret/x", at, wire.Time{}, time.Minute, wire.Duration(time.Hour)}, `{"d":"1m0s","l":3600,"n":"dev","p":"secret/x","t":"2026-11-24T07:00:00.000000005Z","w":""}`},
		{"a named string is no name", struct {
			C class `json:"c"`
		}{"x"}, `{"c":` + x("x") + `}`},
		{
			"secret JSON",
			struct {
				J secret.JSON `body:"whole"`
			}{secret.NewJSON([]byte(` {"b":[1.50,true,null,"s"],"a":{"€":"x","é":18446744073709551615}} `))},
			`{"whole":` + object(x("b")+`:[`+x("1.50")+`,`+x("true")+`,null,`+x("s")+`]`, x("a")+`:`+object(x("é")+`:`+x("18446744073709551615"), x("€")+`:`+x("x"))) + `}`,
		},
		{"what is not JSON", struct {
			J secret.JSON    `json:"j"`
			R jsontext.Value `json:"r"`
		}{secret.NewJSON([]byte(`{"a":`)), jsontext.Value(`{"a":1,"a":2}`)}, `{"j":` + x(`{"a":`) + `,"r":` + x(`{"a":1,"a":2}`) + `}`},
		{
			"maps and lists",
			struct {
				M wire.Map          `json:"m"`
				S wire.Strings      `json:"s"`
				A map[string]any    `json:"a"`
				I map[int]string    `json:"i"`
				N map[string]string `json:"n"`
			}{wire.Map{"k": "v"}, wire.Strings{"a"}, map[string]any{"x": 1, "b": []byte("y"), "c": nil}, map[int]string{1: "x"}, nil},
			`{"a":{"b":` + x("y") + `,"c":null,"x":1},"i":{"1":` + x("x") + `},"m":{` + x("k") + `:` + x("v") + `},"n":null,"s":[` + x("a") + `]}`,
		},
		{"embedded", struct {
			embedded
			*stringer
			Own string `json:"own" audit:"clear"`
		}{embedded{"i", "o"}, nil, "x"}, `{"inner":"i","other":` + x("o") + `,"own":"x"}`},
		{"omitted", struct {
			A string   `json:"a,omitzero"`
			B []string `json:"b,omitempty"`
			C int      `json:"c"`
		}{}, `{"c":0}`},
		{
			"unknown types",
			struct {
				S stringer   `json:"s"`
				M marshals   `json:"m"`
				E error      `json:"e"`
				C complex128 `json:"c"`
				A [3]byte    `json:"a"`
			}{stringer{"s"}, marshals{"m"}, errors.New("e"), 1i, [3]byte{'x', 'y', 'z'}},
			`{"a":` + x("xyz") + `,"c":` + x("(0+1i)") + `,"e":` + x("e") + `,"m":` + x("m") + `,"s":` + x("s") + `}`,
		},
		{"wrap", op.Wrap{Token: secret.New("tok"), TTL: time.Minute}, ""},
		{"empty", op.Empty{}, `{}`},
		{"nothing", nil, ``},
	} {
		got := string(h.Redact(tc.v))
		if tc.want == "" && tc.v != nil {
			if strings.Contains(got, `"tok"`) || !strings.Contains(got, h.Hash("tok")) {
				t.Errorf("%s: Redact = %s", tc.name, got)
			}
			continue
		}
		if got != tc.want {
			t.Errorf("%s: Redact =\n%s, want\n%s", tc.name, got, tc.want)
		}
		wantCanonical(t, []byte(got))
	}
}

// object returns the object of members that begin with a hash.
func object(members ...string) string {
	slices.Sort(members)
	return "{" + strings.Join(members, ",") + "}"
}

func wantCanonical(t *testing.T, b []byte) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	v := jsontext.Value(bytes.Clone(b))
	if err := v.Canonicalize(); err != nil || !bytes.Equal(v, b) {
		t.Errorf("%s\nis not canonical: %s, %v", b, v, err)
	}
}

type loop struct {
	Next *loop          `json:"next"`
	Any  any            `json:"any"`
	M    map[string]any `json:"m"`
	L    []any          `json:"l"`
}

func TestRedactIsBounded(t *testing.T) {
	h := newHasher()
	m := map[string]any{}
	m["m"] = m
	list := make([]any, 1)
	list[0] = list
	deep := strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000)
	for what, v := range map[string]any{
		"a map that holds itself": m, "a list that holds itself": list,
		"deep JSON": secret.NewJSON([]byte(deep)), "long": struct{ L []string }{make([]string, 100000)},
		"long text": struct {
			S string `audit:"clear"`
		}{strings.Repeat("x", 1<<20)},
	} {
		got := h.Redact(v)
		if len(got) > 64<<10 {
			t.Errorf("%s: %d bytes", what, len(got))
		}
		wantCanonical(t, got)
	}
	one := &loop{}
	one.Next = one
	wantCanonical(t, h.Redact(one))
	if got := string(h.Redact(struct{ L []int }{make([]int, 50000)})); !strings.HasPrefix(got, `{"bytes":100007,"hash":"hmac-sha256:`) || !strings.HasSuffix(got, `,"truncated":true}`) {
		t.Errorf("a long value is %s", got)
	}
}

func TestRedactLongList(t *testing.T) {
	h := newHasher()
	long := make([]string, audit.MaxHashes+1)
	for i := range long {
		long[i] = strconv.Itoa(i)
	}
	whole, err := json.Marshal(long)
	if err != nil {
		t.Fatal(err)
	}
	got := string(h.Redact(struct{ Keys []string }{long}))
	if want := fmt.Sprintf(`{"keys":{"hash":"%s","items":%d}}`, h.Hash(string(whole)), len(long)); got != want {
		t.Errorf("Redact of a long list = %s; want %s", got, want)
	}
	wantCanonical(t, []byte(got))
	if got := string(h.Redact(struct{ Keys []string }{long[:audit.MaxHashes]})); !strings.Contains(got, h.Hash("63")) {
		t.Errorf("Redact of a list that is not long = %s; want a hash of each", got)
	}
	names := make([]name.Name, audit.MaxHashes+1)
	for i := range names {
		names[i] = "n"
	}
	if got := string(h.Redact(struct{ Names []name.Name }{names})); !strings.HasPrefix(got, `{"names":["n","n",`) {
		t.Errorf("Redact of many names = %s; want them shown", got)
	}
}

// FuzzRedactHidesValues puts a value into a field of every kind there is, and
// looks for it in what is shown.
func FuzzRedactHidesValues(f *testing.F) {
	f.Add("canary-7f3a", []byte(`{"k":["canary-7f3a"]}`))
	f.Add("x\xff\"y\\", []byte(`"`))
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		canary := "canary<" + s + ">canary"
		h := newHasher()
		p := &canary
		fn := func() string { return canary }
		var iface any = canary
		v := struct {
			String    string
			Named     class
			Pointer   *string
			Pointers  **string
			Bytes     []byte
			Array     [4]byte
			Strings   []string
			Arrays    [1]string
			Map       map[string]string
			Deep      map[string][]map[string]any
			Interface any
			Err       error
			Stringer  fmt.Stringer
			Text      secret.Text
			JSON      secret.JSON
			Secret    secret.Bytes
			Raw       jsontext.Value
			RawOther  jsontext.Value
			Wire      wire.Strings
			WireMap   wire.Map
			Func      func() string
			Chan      chan string
			Marshals  marshals
			Embedded  embedded
			PEmbedded *embedded
			Raws      op.Raw
			Call      op.Grant
			Keys      map[class]int
			WireKeys  wire.Map
			JSONKeys  secret.JSON
			Ints      map[int]string
			Struct    struct{ S string }
		}{
			canary, class(canary), p, &p, []byte(canary), [4]byte([]byte(canary)[:4]),
			[]string{canary},
			[1]string{canary},
			map[string]string{"k": canary},
			map[string][]map[string]any{"k": {{"k": canary, "l": []byte(canary), "m": errors.New(canary)}}},
			iface, fmt.Errorf("%s", canary),
			stringer{canary},
			secret.New(canary), secret.NewJSON(fmt.Appendf(nil, "{\"k\":%q}", "x")), secret.NewBytes([]byte(canary)),
			raw, jsontext.Value(canary),
			wire.Strings{canary},
			wire.Map{"k": canary},
			fn, nil,
			marshals{canary},
			embedded{Other: canary},
			&embedded{Other: canary},
			op.Raw{ContentType: canary, Body: []byte(canary)},
			op.Grant{ClientToken: secret.New(canary), Metadata: map[string]string{"k": canary}},
			nil,
			wire.Map{canary: "k"},
			secret.NewJSON(underKey(canary)),
			map[int]string{1: canary},
			struct{ S string }{canary},
		}
		got := h.Redact(v)
		if bytes.Contains(got, []byte("canary<")) {
			t.Errorf("Redact shows the value: %s", got)
		}
		if !bytes.Contains(got, []byte(h.Hash(canary))) && !bytes.Contains(got, []byte(`"truncated":true`)) {
			t.Errorf("Redact does not have the value's hash: %s", got)
		}
		wantCanonical(t, got)
		leaves := h.Redact(secret.NewJSON(raw))
		wantCanonical(t, leaves)
	})
}

// underKey returns an object whose only key is s.
func underKey(s string) []byte {
	b, _ := jsontext.AppendQuote([]byte("{"), s)
	return append(b, `:{"k":1}}`...)
}

// FuzzSecretJSON holds that no key and no scalar of a JSON value is shown.
func FuzzSecretJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e10,"x",{"b":null,"c":false}],"é":{}}`))
	f.Add([]byte(`"\ud83d\ude00"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := newHasher()
		got := h.Redact(secret.NewJSON(raw))
		wantCanonical(t, got)
		d := jsontext.NewDecoder(bytes.NewReader(got))
		for {
			tok, err := d.ReadToken()
			if err != nil {
				return
			}
			ours := bytes.Contains(got, []byte(`"truncated":true`)) && tok.Kind() == '"' && slices.Contains([]string{"bytes", "hash", "truncated"}, tok.String())
			if kind, n := d.StackIndex(d.StackDepth()); kind != '{' || n%2 == 0 {
				ours = false // a value
			}
			switch tok.Kind() {
			case '0', 't', 'f':
				if !bytes.Contains(got, []byte(`"truncated":true`)) {
					t.Fatalf("Redact(%s) shows %s", raw, tok.String())
				}
			case '"':
				if !ours && !strings.HasPrefix(tok.String(), audit.HashPrefix) {
					t.Fatalf("Redact(%s) shows %q", raw, tok.String())
				}
			}
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	h := audit.NewHasher(func(parts ...[]byte) [32]byte { return sha256.Sum256(parts[0]) })
	v := struct {
		Path    string      `path:"path"`
		Version int         `query:"version"`
		Data    secret.JSON `json:"data"`
	}{"app/db", 3, secret.NewJSON([]byte(`{"username":"alice","password":"hunter2"}`))}
	b.ReportAllocs()
	for b.Loop() {
		h.Redact(v)
	}
}
