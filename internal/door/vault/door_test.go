package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/door/doortest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/wire"
)

func TestEveryKindOfFaultHasAStatus(t *testing.T) {
	for _, k := range fault.Kinds() {
		if Dialect.Faults[k].Status == 0 {
			t.Errorf("kind %v has no status", k)
		}
		status := statusOf(fault.New(k, "x"))
		mistake := k != fault.Internal && k != fault.Sealed && k != fault.Uninitialized && k != fault.Unavailable
		if mistake && (status < 400 || status > 499) {
			t.Errorf("status of %v = %d; want 4xx: clients try again on 5xx", k, status)
		}
	}
}

func TestMessages(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fault.New(fault.NotFound, ""), ""},
		{fault.New(fault.Invalid, ""), ""},
		{fault.New(fault.Denied, ""), "permission denied"},
		{fault.New(fault.Sealed, "closed for the night"), "Vault is sealed"},
		{fault.New(fault.Uninitialized, ""), "Vault is sealed"},
		{fault.New(fault.Internal, "disk /dev/sda1 is on fire"), "internal error"},
		{errors.New("disk /dev/sda1 is on fire"), "internal error"},
		{fault.New(fault.NoRoute, "unsupported path"), "1 error occurred:\n\t* unsupported path\n\n"},
		{fault.New(fault.Unsupported, "unsupported operation"), "1 error occurred:\n\t* unsupported operation\n\n"},
		{fault.New(fault.NoRoute, "no handler for route %q. route entry not found.", "x"), `no handler for route "x". route entry not found.`},
	} {
		if got := message(tt.err); got != tt.want {
			t.Errorf("message(%v) = %q; want %q", tt.err, got, tt.want)
		}
	}
}

// counted counts what is read of a body.
type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// endless never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func do(h http.Handler, method, target, token string, body io.Reader, length int64) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost/", nil)
	r.RequestURI = target
	r.RemoteAddr = "192.0.2.1:1234"
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(body), length
	}
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestBodiesAreCutAtTheirLimit(t *testing.T) {
	for _, tt := range []struct {
		name, target, token string
		length              int64
		status              int
		read                int // at most
	}{
		{"too long by its own word", "/v1/secret/data/app", "hvs.good", 10 << 30, 413, 0},
		{"a little too long", "/v1/secret/data/app", "hvs.good", 1<<20 + 1, 413, 0},
		{"endless", "/v1/secret/data/app", "hvs.good", -1, 413, 1<<20 + 1},
		{"endless to a login", "/v1/secret/login/bob", "", -1, 413, 64<<10 + 1},
		{"long to a login", "/v1/secret/login/bob", "", 64<<10 + 1, 413, 0},
		{"without a token", "/v1/secret/data/app", "", -1, 403, 0},
		{"to what is not there", "/v1/nomount/x", "hvs.good", -1, 404, 0},
		{"of a read", "/v1/secret/data/app?list=true", "hvs.good", -1, 400, 0},
	} {
		body := &counted{r: endless{}}
		w := do(newDoor(newFake()), http.MethodPut, tt.target, tt.token, body, tt.length)
		if w.Code != tt.status || body.n > tt.read {
			t.Errorf("%s: PUT %s = %d after %d bytes; want %d after at most %d", tt.name, tt.target, w.Code, body.n, tt.status, tt.read)
		}
	}
}

func TestTooManyAreTurnedAwayBeforeTheirBodyIsRead(t *testing.T) {
	f := newFake()
	now := clocktest.New(time.Unix(1e9, 0))
	h := New(door.Env{Handler: f, Clock: now, Guard: door.NewGuard(door.GuardConfig{LoginBurst: 3})})
	for range 3 {
		if w := do(h, http.MethodPut, "/v1/secret/login/bob", "", strings.NewReader(`{"password":"wrong"}`), 20); w.Code != 400 {
			t.Fatalf("a login that fails = %d; want 400", w.Code)
		}
	}
	handled := len(f.Handled())
	body := &counted{r: endless{}}
	w := do(h, http.MethodPut, "/v1/secret/login/bob", "", body, 1<<16)
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || body.n != 0 {
		t.Errorf("a login too many = %d, Retry-After %q, %d bytes read; want 429 with Retry-After and none", w.Code, w.Header().Get("Retry-After"), body.n)
	}
	if len(f.Handled()) != handled || len(f.Refusals()) != 0 {
		t.Error("a login too many came to the handler")
	}
	if w := do(h, http.MethodGet, "/v1/secret/data/app", "hvs.good", nil, 0); w.Code != 200 {
		t.Errorf("a request with a token = %d; want 200", w.Code)
	}
	now.Advance(time.Hour)
	for range 100 {
		if w := do(h, http.MethodPut, "/v1/secret/login/bob", "", strings.NewReader(`{"password":"right"}`), 20); w.Code != 200 {
			t.Fatalf("a login that succeeds = %d; want 200 every time", w.Code)
		}
	}
}

func TestRefusalsAreRecorded(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		headers        http.Header
		body           string
		path           string // as recorded; "hash:" stands for any hash
		kind           fault.Kind
	}{
		{"GET", "/v1/secret/../x", nil, "", "hash:", fault.Invalid},
		{"GET", "/v1/" + strings.Repeat("a/", 3000), nil, "", "hash:", fault.Invalid},
		{"GET", "/v1/secret/data/app?list=x", nil, "", "secret/data/app", fault.Invalid},
		{"BREW", "/v1/secret/data/app", nil, "", "secret/data/app", fault.Unsupported},
		{"GET", "/v1/secret/data/app", http.Header{"X-Vault-Namespace": {"a"}}, "", "secret/data/app", fault.NotFound},
		{"GET", "/v1/secret/data/app", http.Header{"X-Vault-Token": {"a", "b"}}, "", "secret/data/app", fault.Invalid},
		{"GET", "/v1/secret/data/app", http.Header{"Authorization": {"Bearer a", "Bearer b"}}, "", "secret/data/app", fault.Invalid},
		{"GET", "/v1/secret/data/app", http.Header{"X-Vault-Token": {strings.Repeat("a", 9<<10)}}, "", "secret/data/app", fault.Invalid},
		{"GET", "/v1/secret/data/app", http.Header{"X-Vault-Wrap-Ttl": {"x"}}, "", "secret/data/app", fault.Invalid},
		{"PUT", "/v1/secret/data/app", http.Header{"X-Vault-Token": {"hvs.good"}, "Content-Encoding": {"zstd"}}, "x", "secret/data/app", fault.MediaType},
		{"PUT", "/v1/secret/data/app", http.Header{"X-Vault-Token": {"hvs.good"}}, strings.Repeat("x", 2<<20), "secret/data/app", fault.TooLarge},
	} {
		f := newFake()
		r := httptest.NewRequest(tt.method, "http://localhost/", strings.NewReader(tt.body))
		r.RequestURI = tt.target
		if tt.headers != nil {
			r.Header = tt.headers
		}
		w := httptest.NewRecorder()
		newDoor(f).ServeHTTP(w, r)
		refusals := f.Refusals()
		if len(refusals) != 1 || len(f.Handled()) != 0 {
			t.Errorf("%s %.40s: %d refusals and %d requests handled; want 1 and 0", tt.method, tt.target, len(refusals), len(f.Handled()))
			continue
		}
		got := refusals[0]
		path := string(got.Request.Path)
		if tt.path == "hash:" && len(path) == len("hash:")+16 {
			path = path[:5]
		}
		if path != tt.path || fault.KindOf(got.Cause) != tt.kind || w.Code != statusOf(got.Cause) || got.Request.ID != w.Header().Get("X-Request-Id") {
			t.Errorf("%s %.40s: refused %q as %v, answered %d; want %q as %v", tt.method, tt.target, path, got.Cause, w.Code, tt.path, tt.kind)
		}
	}
}

func TestARefusalThatCannotBeRecordedIsNotAnsweredAsOne(t *testing.T) {
	h := New(door.Env{Handler: mute{newFake()}, Clock: clocktest.New(time.Unix(1e9, 0))})
	if w := do(h, "GET", "/v1/secret//x", "hvs.good", nil, 0); w.Code != 503 {
		t.Errorf("GET of a bad path with no journal = %d; want 503", w.Code)
	}
}

type mute struct{ door.Handler }

func (mute) Refused(context.Context, *door.Request, error) error {
	return fault.New(fault.Unavailable, "")
}

func TestAPanicIsAnInternalError(t *testing.T) {
	var log bytes.Buffer
	h := New(door.Env{Handler: broken{newFake()}, Clock: clocktest.New(time.Unix(1e9, 0)), Log: slog.New(slog.NewTextHandler(&log, nil))})
	w := do(h, "GET", "/v1/secret/data/app", "hvs.good", nil, 0)
	if w.Code != 500 || w.Body.String() != `{"errors":["internal error"]}` || strings.Contains(log.String(), "canary") || !strings.Contains(log.String(), "panicked") {
		t.Errorf("GET = %d %s, logged %s; want 500 and a word in the log", w.Code, w.Body, &log)
	}
}

type broken struct{ door.Handler }

func (broken) Handle(context.Context, *door.Request) (*door.Response, error) { panic("canary") }

func TestSealed(t *testing.T) {
	f := newFake()
	f.Sealed = true
	h := newDoor(f)
	for target, want := range map[string]int{"/v1/secret/data/app": 503, "/v1/sys/health": 501, "/v1/sys/raw": 503, "/readyz": 503, "/livez": 200} {
		if w := do(h, "GET", target, "hvs.good", nil, 0); w.Code != want {
			t.Errorf("GET %s while sealed = %d %s; want %d", target, w.Code, w.Body, want)
		}
	}
	if w := do(h, "GET", "/v1/secret/data/app", "", nil, 0); w.Body.String() != `{"errors":["Vault is sealed"]}` {
		t.Errorf("GET while sealed = %s; want what clients look for", w.Body)
	}
}

func TestEveryAnswerHasTheHeadersThatProtectIt(t *testing.T) {
	h := newDoor(newFake())
	for _, target := range []string{"/v1/secret/data/app", "/v1/nomount", "/v1//", "/", "/livez", "/v1/sys/raw"} {
		w := do(h, "GET", target, "hvs.good", nil, 0)
		for header, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
			"Content-Length": strconv.Itoa(w.Body.Len()),
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("GET %s: %s = %q; want %q", target, header, got, want)
			}
		}
		if w.Header().Get("X-Request-Id") == "" || w.Header().Get("Content-Type") == "" {
			t.Errorf("GET %s: headers = %v; want an id and a type", target, w.Header())
		}
	}
}

func TestNothingOfTheTransportReachesAnOperation(t *testing.T) {
	f := newFake()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	r.RequestURI, r.RemoteAddr = "/v1/secret/data/app", "192.0.2.1:1234"
	r.Header = http.Header{"X-Vault-Token": {"hvs.good"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"}, "Cookie": {"a"}, "X-Seen": {"v"}}
	New(door.Env{Handler: f, Clock: clocktest.New(time.Unix(1e9, 0)), AuditHeaders: []string{"x-seen"}}).ServeHTTP(httptest.NewRecorder(), r)
	got := f.Handled()[0]
	if got.Remote.String() != "192.0.2.1:1234" || !cmp.Equal(got.Headers, []door.Header{{Name: "x-seen", Value: "v"}}) {
		t.Errorf("the handler was told of %v and %v; want the connection's address and one header", got.Remote, got.Headers)
	}
}

func TestWrappedAnswersKeepWhatTheyAre(t *testing.T) {
	f := newFake()
	h := newDoor(f)
	if w := do(h, "GET", "/v1/secret/data/app", "hvs.good", nil, 0); w.Code != 200 {
		t.Fatal(w.Code)
	}
	encode := f.Handled()[0].Encode
	got, err := encode(&door.Response{Mount: op.Mount{Kind: "kv"}, Value: listOut{Keys: []string{"a"}}, Reply: op.Reply{Warnings: []string{"w"}}})
	if err != nil || !strings.Contains(string(got.Reveal()), `"data":{"keys":["a"]},"wrap_info":null,"warnings":["w"]`) {
		t.Errorf("Encode = %s, %v; want the envelope", got.Reveal(), err)
	}
	if got, err := encode(&door.Response{Value: op.Raw{ContentType: "text/plain", Body: []byte("x")}}); err == nil {
		t.Errorf("Encode of text = %s; want an error", got.Reveal())
	}
}

func TestAnswersAreLoggedWithoutWhatTheySay(t *testing.T) {
	var log bytes.Buffer
	f := newFake()
	h := New(door.Env{Handler: f, Clock: clocktest.New(time.Unix(1e9, 0)), Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, body := range []string{`{"password":"canary"`, `{"int":"canary"}`, `{"password":"canary","password":"canary"}`, `{"key":"canary%"}`, `canary`, `{"ttl":"canary"}`, `{"map":["canary"]}`, `{"config":"canary"}`, `{"policy":"canary canary"}`} {
		w := do(h, "PUT", "/v1/secret/every/bob", "hvs.good", strings.NewReader(body), int64(len(body)))
		if w.Code != 400 || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("PUT %s = %d %s; want 400 without the value", body, w.Code, w.Body)
		}
	}
	if strings.Contains(log.String(), "canary") || !strings.Contains(log.String(), `"operation":"sample.every"`) {
		t.Errorf("log = %s; want operations and no values", &log)
	}
}

func TestHostileJSON(t *testing.T) {
	h := newDoor(newFake())
	for what, body := range map[string]string{
		"many objects":   `{"data":[` + strings.Repeat(`{"":0},`, 100_000) + `{}]}`,
		"many arrays":    `{"data":[` + strings.Repeat(`[],`, 300_000) + `[]]}`,
		"deep":           strings.Repeat(`{"a":`, 10_000) + `1` + strings.Repeat(`}`, 10_000),
		"deep arrays":    `{"data":` + strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000) + `}`,
		"many keys":      `{` + strings.TrimSuffix(manyKeys(60_000), ",") + `}`,
		"long key":       `{"` + strings.Repeat("k", 900_000) + `":1}`,
		"33 deep":        strings.Repeat(`{"a":`, 33) + `1` + strings.Repeat(`}`, 33),
		"nested dup":     `{"data":{"a":{"b":1,"b":2}}}`,
		"escaped dup":    `{"data":1,"d\u0061ta":2}`,
		"case variant":   `{"Data":{}}`,
		"kelvin sign":    "{\"to\u212aen\":1,\"opt\u0131ons\":1,\"option\u017f\":{}}",
		"bom":            "\ufeff{}",
		"invalid utf-8":  "{\"data\":\"\xff\"}",
		"lone surrogate": `{"data":"\ud800"}`,
		"nan":            `{"data":NaN}`,
		"comment":        `{"data":1}//`,
		"two values":     `{}{}`,
		"nul":            "{\"data\":\"\x00\"}",
		"single quotes":  `{'data':1}`,
		"trailing comma": `{"data":1,}`,
		"array":          `[]`,
		"string":         `"x"`,
		"number":         `1`,
		"true":           `true`,
		"xml":            `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]>`,
	} {
		w := do(h, "PUT", "/v1/secret/data/app", "hvs.good", strings.NewReader(body), int64(len(body)))
		if w.Code != 400 || w.Body.Len() > 200 {
			t.Errorf("%s: PUT = %d %.300s; want 400 and a few words", what, w.Code, w.Body)
		}
	}
	for what, body := range map[string]string{
		"nothing": "", "null": "null", "spaces": " \n", "an object": "{}", "32 deep": `{"data":` + strings.Repeat(`{"a":`, 30) + `{}` + strings.Repeat(`}`, 30) + `}`,
		"case variants inside of data": `{"data":{"A":1,"a":2,"Data":3}}`, "2^63": `{"data":{"n":9223372036854775808}}`, "long string": `{"data":{"s":"` + strings.Repeat("x", 64<<10) + `"}}`,
	} {
		if w := do(h, "PUT", "/v1/secret/data/app", "hvs.good", strings.NewReader(body), int64(len(body))); w.Code != 200 {
			t.Errorf("%s: PUT = %d %s; want 200", what, w.Code, w.Body)
		}
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	return b.String()
}

func TestWhatIsWrittenIsWhatPackageJSONWrites(t *testing.T) {
	type inner struct {
		A int `json:"a"`
	}
	type recursive struct {
		Next *recursive `json:"next,omitempty"`
		N    int        `json:"n"`
	}
	type whole struct {
		inner2
		Text     secret.Text       `json:"text"`
		JSON     secret.JSON       `json:"json"`
		Empty    secret.JSON       `json:"empty"`
		Duration wire.Duration     `json:"duration"`
		Time     wire.Time         `json:"time"`
		Zero     wire.Time         `json:"zero"`
		Strings  wire.Strings      `json:"strings"`
		None     wire.Strings      `json:"none"`
		Map      wire.Map          `json:"map"`
		NoMap    wire.Map          `json:"no_map"`
		Ints     []int             `json:"ints"`
		NoInts   []int             `json:"no_ints"`
		Bytes    []byte            `json:"bytes"`
		Plain    map[string]inner  `json:"plain"`
		Numbers  map[int]string    `json:"numbers"`
		Pointer  *inner            `json:"pointer"`
		NoPtr    *inner            `json:"no_ptr"`
		Any      any               `json:"any"`
		NoAny    any               `json:"no_any"`
		Float    float64           `json:"float"`
		Float32  float32           `json:"float32"`
		Uint     uint8             `json:"uint"`
		Name     name.Name         `json:"name"`
		OmitZ    int               `json:"omit_z,omitzero"`
		OmitE    []string          `json:"omit_e,omitempty"`
		OmitM    map[string]string `json:"omit_m,omitempty"`
		Kept     []string          `json:"kept,omitempty"`
		OmitT    time.Time         `json:"omit_t,omitzero"`
		At       time.Time         `json:"at"`
		Raw      jsontext.Value    `json:"raw"`
		Rec      recursive         `json:"rec"`
		Skipped  string            `json:"-"`
		NoTag    string
		hidden   string
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	v := whole{
		inner2: inner2{B: "embedded"}, Text: secret.New("s\"\\\u2028<é"), JSON: secret.NewJSON([]byte(`{"a":[1,"x"]}`)), Duration: wire.Duration(90 * time.Second),
		Time: wire.Time(at), Strings: wire.Strings{"a", "b"}, Map: wire.Map{"z": "1", "a": "2"}, Ints: []int{1, -2}, Bytes: []byte{1, 2},
		Plain: map[string]inner{"y": {1}, "x": {2}}, Numbers: map[int]string{2: "b", 1: "a"}, Pointer: &inner{3}, Any: inner{4}, Float: 1.5e300, Float32: 0.1,
		Uint: 255, Name: "root", Kept: []string{""}, At: at, Raw: jsontext.Value(`{"r":1}`), Rec: recursive{Next: &recursive{N: 1}}, NoTag: "t", hidden: "h",
	}
	_ = v.hidden
	want, err := json.Marshal(v, reveal)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&values{}).append(nil, v)
	if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
		t.Errorf("append differs from package json (-json +ours), %v:\n%s", err, diff)
	}
	if err := Check(append(sampleOps()[0].Ops, sampleOps()[1].Ops...)); err != nil {
		t.Error(err)
	}
}

type inner2 struct {
	B string `json:"b"`
}

func TestAppendStringIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil || back != s {
			t.Errorf("appendString(%q) reads as %q, %v", s, back, err)
		}
	})
	if got := string(appendString(nil, "a\xffb")); got != "\"a\ufffdb\"" {
		t.Errorf("appendString of what is not UTF-8 = %q; want U+FFFD in its place", got)
	}
}

func bounds() *door.Limits {
	l := door.Limits{}.WithDefaults()
	return &l
}

func FuzzGate(f *testing.F) {
	for _, seed := range []string{`{}`, `null`, `{"a":1}`, `{"a":{"a":[1,"x",null,true]},"b":"c"}`, ` {"a" : 1 , "b":[] } `, `{"a":1}x`, `[]`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	golden(f, func(_, _, body string) { f.Add([]byte(body)) })
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, err := gate(body, bounds())
		if err != nil {
			if fault.KindOf(err) != fault.Invalid || len(fault.Public(err)) > 100 {
				t.Fatalf("gate(%q) = %v; want a short Invalid", body, err)
			}
			return
		}
		// What passes is what another decoder finds.
		var want map[string]jsontext.Value
		if len(bytes.TrimSpace(body)) > 0 {
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatalf("gate took %q, which package json refuses: %v", body, err)
			}
		}
		if len(fields) != len(want) {
			t.Fatalf("gate(%q) found %d fields; want %d", body, len(fields), len(want))
		}
		for _, x := range fields {
			if string(bytes.TrimSpace(want[x.name])) != string(bytes.TrimSpace(x.value)) {
				t.Fatalf("gate(%q): %q = %q; want %q", body, x.name, x.value, want[x.name])
			}
		}
	})
}

func FuzzFill(f *testing.F) {
	for _, seed := range []string{
		`{"bool":"true","int":"4","small":"-3","uint":7,"float":"1.5","text":12.50,"ttl":"1h","strings":"a, b","map":"k=v","versions":["4",5]}`,
		`{"password":"p","key":"AAAA","whole":{"n":1e400},"pointer":"9","labels":{"x":1},"config":{"ttl":60,"deep":{"flag":"0"}},"policy":"a","at":"/a/b"}`,
		`{"counts":{"a":"1"},"strings":[1,"x"],"map":["a=b"],"unknown":[]}`,
	} {
		f.Add([]byte(seed), false)
	}
	f.Add([]byte("text=a&strings=x&strings=y&ttl=1h&%41=b"), true)
	golden(f, func(_, _, body string) { f.Add([]byte(body), false) })
	ps, vs := &plans{}, &values{}
	f.Fuzz(func(t *testing.T, body []byte, isForm bool) {
		s := &source{plans: ps, limits: bounds(), verb: op.Update, body: body, isForm: isForm}
		var in everyIn
		if err := s.Fill(&in); err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("Fill(%q) = %v; want Invalid", body, err)
			}
			return
		}
		if _, err := s.Params(); err != nil {
			t.Fatalf("Params of %q = %v after Fill", body, err)
		}
		b, err := vs.append(nil, everyOut{Text: in.Text, Strings: in.Strings, Map: in.Map, Versions: in.Versions, Password: in.Password, Whole: in.Whole})
		if err != nil || !jsontext.Value(b).IsValid() {
			t.Fatalf("what was filled from %q is written as %s, %v", body, b, err)
		}
	})
}

func FuzzRequestLine(f *testing.F) {
	for _, seed := range []string{"/v1/secret/data/app", "/v1/secret/data/%2e%2e/x?version=1", "/v1/a//b", "/v1/a%2fb", "*", "/", "/v1/secret/data?list=true&after=%41", "http://x/v1/y", "/v1/x?a=1&a=2;b"} {
		f.Add("GET", seed)
		f.Add("LIST", seed)
		f.Add("PUT", seed)
	}
	golden(f, func(method, target, _ string) { f.Add(method, target) })
	h := newDoor(newFake())
	f.Fuzz(func(t *testing.T, method, target string) {
		if method == "" || target == "" {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
		r.Method, r.RequestURI = method, target
		r.Header.Set("X-Vault-Token", "hvs.good")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 && !strings.Contains(target, "broken") && !strings.Contains(target, "health") || w.Code >= 300 && w.Code < 400 {
			t.Fatalf("%s %q = %d %s", method, target, w.Code, w.Body)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && w.Body.Len() > 0 && !jsontext.Value(w.Body.Bytes()).IsValid() {
			t.Fatalf("%s %q answered %q, which is not JSON", method, target, w.Body)
		}
	})
}

func FuzzWrapTTL(f *testing.F) {
	for _, seed := range []string{"60", "1m0s", "abc", "-5", "1d", "1e9", "9999999h", "", "0x10", "1.5", "NaN", "+5s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseWrapTTL([]string{s})
		if err == nil && (d < 0 || d > time.Duration(wire.MaxDuration)) {
			t.Errorf("parseWrapTTL(%q) = %v", s, d)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("parseWrapTTL(%q) = %v; want Invalid", s, err)
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{"a=b", "a=b&a=c&a=d", "a+b=%20", "%zz=1", "a;b", "=x", "&&", "a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fields, err := form([]byte(s), bounds())
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, x := range fields {
			if seen[x.name] || !x.value.IsValid() {
				t.Fatalf("form(%q): field %q = %s, seen before: %v", s, x.name, x.value, seen[x.name])
			}
			seen[x.name] = true
		}
	})
}

func BenchmarkRead(b *testing.B) {
	h := newDoor(newFake())
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	r.RequestURI, r.RemoteAddr = "/v1/secret/data/app", "192.0.2.1:1234"
	r.Header.Set("X-Vault-Token", "hvs.good")
	w := &nowhere{head: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func BenchmarkWrite(b *testing.B) {
	h := newDoor(newFake())
	body := []byte(`{"data":{"username":"alice","password":"correct horse battery staple","n":1},"options":{"cas":"0"}}`)
	r := httptest.NewRequest(http.MethodPut, "http://localhost/", nil)
	r.RequestURI, r.RemoteAddr, r.ContentLength = "/v1/secret/data/app", "192.0.2.1:1234", int64(len(body))
	r.Header.Set("X-Vault-Token", "hvs.good")
	w := &nowhere{head: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	}
}

func BenchmarkEncode(b *testing.B) {
	v := readOut{Data: secret.NewJSON([]byte(`{"username":"alice","password":"correct horse battery staple"}`)), Metadata: versionOut{CreatedTime: wire.Time(time.Now()), Version: 3}}
	vs := &values{}
	r := &door.Response{Mount: op.Mount{Kind: "kv"}, Value: v}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		a, err := vs.encode(buf[:0], "id", r, nil)
		if err != nil {
			b.Fatal(err)
		}
		buf = a.body
	}
}

type nowhere struct{ head http.Header }

func (n *nowhere) Header() http.Header         { return n.head }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}

func TestAbuse(t *testing.T) {
	f := newFake()
	doortest.Abuse{Handler: newDoor(f), Mounts: f.Mounts, Token: "hvs.good"}.Run(t)
}
