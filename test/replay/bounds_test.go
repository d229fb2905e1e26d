package replay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/door"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// heap returns the bytes that live objects take.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// peak runs fn and returns how much the heap grew meanwhile, at most.
func peak(fn func()) uint64 {
	before := heap()
	var most atomic.Uint64
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		often := time.NewTicker(2 * time.Millisecond)
		defer often.Stop()
		live := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for ctx.Err() == nil {
			metrics.Read(live)
			most.Store(max(most.Load(), live[0].Value.Uint64()))
			<-often.C
		}
	})
	fn()
	stop()
	wg.Wait()
	if most.Load() < before {
		return 0
	}
	return most.Load() - before
}

// TestH047PolicyEvaluationKeepsNothing asks by many policies again and again.
func TestH047PolicyEvaluationKeepsNothing(t *testing.T) {
	r := plain(t)
	var tokens []string
	for i := range 100 {
		n := fmt.Sprintf("p%d", i)
		r.Policy(n, fmt.Sprintf(`
			path "secret/data/a%d" { capabilities = ["read"] }
			path "secret/data/+/b%d/*" { capabilities = ["read"] allowed_parameters = { "a" = ["b", "c*"] } }
			path "secret/{{identity.entity.id}}/%d" { capabilities = ["read"] }`, i, i, i))
		tokens = append(tokens, r.Token(n))
	}
	round := func() {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < 3*len(tokens); i += 8 {
					at := i % len(tokens)
					got, err := r.Try(tokens[at], http.MethodGet, fmt.Sprintf("secret/data/a%d", at+i%2), "")
					if err != nil || got.Status != http.StatusNotFound && got.Status != http.StatusForbidden {
						t.Errorf("GET = %+v, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	}
	round()
	r.Client.CloseIdleConnections()
	before, goroutines := heap(), runtime.NumGoroutine()
	for range 4 {
		round()
	}
	r.Client.CloseIdleConnections()
	after := heap()
	if after > before+before/10+(4<<20) {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if n := runtime.NumGoroutine(); n > goroutines+40 {
		t.Errorf("goroutines grew from %d to %d", goroutines, n)
	}
	alive(t, r)
}

// TestH083InflatingBodies sends bodies that are small and would be large in memory.
func TestH083InflatingBodies(t *testing.T) {
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"b"}}`)
	fill := func(unit string, head, tail string) string {
		return head + strings.Repeat(unit, (1<<20-len(head)-len(tail)-16)/len(unit)) + tail
	}
	keys := new(strings.Builder)
	keys.WriteString(`{"data":{`)
	for i := range 70_000 {
		fmt.Fprintf(keys, `"k%d":0,`, i)
	}
	keys.WriteString(`"z":0}}`)
	bodies := map[string]string{
		"empty keys": fill(`{"":0},`, `{"data":{"a":[`, `0]}}`), "empty arrays": fill(`[],`, `{"data":{"a":[`, `0]}}`), "numbers": fill(`0,`, `{"data":{"a":[`, `0]}}`),
		"depth": `{"data":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, "many keys": keys.String(),
		"a long key": `{"data":{"` + strings.Repeat("k", 900_000) + `":0}}`, "top level": fill(`"x":0,`, `{`, `"y":0}`), "strings": fill(`"",`, `{"data":{"a":[`, `0]}}`),
		"beyond the limit": `{"data":{"a":"` + strings.Repeat("x", 2<<20) + `"}}`,
	}
	var all []attack
	ask := []string{"Expect", "100-continue"} // who is refused sends nothing
	for what, body := range bodies {
		for _, token := range []string{"", nobody, "hvs.unknown"} {
			all = append(all, attack{what: what, token: token, path: "secret/data/x", body: body, headers: ask})
		}
		for _, path := range []string{"sys/unseal", "sys/wrapping/unwrap"} {
			all = append(all, attack{what: what, token: nobody, path: path, body: body, headers: ask})
		}
	}
	refused(t, r, all...)
	// Many at once, by who has no token and by who has one.
	for _, token := range []string{"", r.Root} {
		grew := peak(func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					got, err := patient(r, token, attack{method: http.MethodPost, path: "secret/data/x", body: bodies["empty keys"], headers: ask})
					if err != nil || got.Status < 400 || got.Status > 499 {
						t.Errorf("an inflating body = %+v, %v; want 4xx", got, err)
					}
				})
			}
			wg.Wait()
		})
		if limit := uint64(500 << 20); token != "" && grew > limit || token == "" && grew > 64<<20 {
			t.Errorf("100 of 1 MiB at once took %d MiB (token: %v)", grew>>20, token != "")
		}
	}
	alive(t, r)
}

// open makes a TLS connection for HTTP/1.1.
func open(t *testing.T, r *servertest.Rig) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", r.Address, r.TLS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say writes to a connection and returns the status of the answer.
func say(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatalf("after %.100q: %v", request, err)
	}
	_, status, _ := strings.Cut(string(b[:n]), " ")
	status, _, _ = strings.Cut(status, " ")
	return status
}

// TestH084LimitsComeBeforeBodies has no room, and a request whose body never comes.
func TestH084LimitsComeBeforeBodies(t *testing.T) {
	t.Parallel()
	r := servertest.Start(t, servertest.Config{Guard: &door.GuardConfig{InFlight: 1, Target: -1, RefusalRate: -1}})
	head := "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + r.Root + "\r\n"
	busy := open(t, r)
	if status := say(t, busy, head+"Content-Length: 20\r\nExpect: 100-continue\r\n\r\n"); status != "100" {
		t.Fatalf("the first = %s; want that its body is waited for, and so that it is in", status)
	}
	// Not a byte of these bodies is ever sent, so the answers were made without them.
	if status := say(t, open(t, r), head+"Content-Length: 1048576\r\nExpect: 100-continue\r\n\r\n"); status != "429" {
		t.Errorf("without room = %s; want 429", status)
	}
	for _, request := range []string{
		"POST /v1/sys/wrapping/unwrap HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
		"POST /v1/secret/data/y HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Vault-Token: " + r.Root + "\r\n\r\n",
	} {
		if status := say(t, open(t, r), request); status != "429" {
			t.Errorf("%.60q without room = %s; want 429", request, status)
		}
	}
	if status := say(t, busy, `{"data":{"a":"b"} }`+" "); status != "200" && status != "400" {
		t.Errorf("the one that was in = %s", status)
	}
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"b"}}`)
}

// TestH085LargeBodiesAreCutOff sends bodies without an end.
func TestH085LargeBodiesAreCutOff(t *testing.T) {
	r := plain(t)
	auth := "X-Vault-Token: " + r.Root + "\r\n"
	for what, request := range map[string]string{
		"ten gigabytes":               "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 10737418240\r\n\r\n{",
		"ten gigabytes, asked first":  "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\n" + auth + "Expect: 100-continue\r\nContent-Length: 10737418240\r\n\r\n",
		"of nobody":                   "POST /v1/sys/unseal HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n{",
		"of nobody, more than 64 KiB": "POST /v1/sys/wrapping/unwrap HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n{",
	} {
		if status := say(t, open(t, r), request); status != "413" {
			t.Errorf("%s = %s; want 413", what, status)
		}
	}
	if status := say(t, open(t, r), "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\n"+auth+"Content-Length: 10737418240\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"); status != "415" {
		t.Errorf("multipart = %s; want 415", status)
	}
	endless := open(t, r)
	if _, err := io.WriteString(endless, "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\n"+auth+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
	sent := 0
	for ; sent < 4<<20; sent += len(chunk) {
		if _, err := io.WriteString(endless, chunk); err != nil {
			break
		}
	}
	b, _ := io.ReadAll(endless)
	if !strings.HasPrefix(string(b), "HTTP/1.1 413") && sent >= 4<<20 {
		t.Errorf("an endless body was taken for %d bytes and answered %.100q; want 413", sent, b)
	}
	grew := peak(func() {
		var conns []net.Conn
		for range 300 {
			c := open(t, r)
			conns = append(conns, c)
			if _, err := io.WriteString(c, "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\n"+auth+"Content-Length: 1000000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
		}
		alive(t, r)
		r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"b"}}`)
		for _, c := range conns {
			_ = c.Close()
		}
	})
	if grew > 150<<20 {
		t.Errorf("300 slow bodies took %d MiB", grew>>20)
	}
	alive(t, r)
}

// TestH077BodiesAreNotInflated sends bodies that are packed.
func TestH077BodiesAreNotInflated(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "secret/data/x", `{"data":{"a":"b"}}`, "Content-Encoding", "identity")
	var all []attack
	for _, encoding := range []string{"gzip", "GZIP", "zstd", "br", "deflate", "compress", "x-gzip", "identity, gzip", "gzip;q=1", "aws-chunked"} {
		for _, path := range []string{"secret/data/x", "sys/unseal", "sys/storage/raft/snapshot", "sys/wrapping/unwrap"} {
			all = append(all, attack{what: encoding, path: path, body: "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", headers: []string{"Content-Encoding", encoding}})
		}
	}
	refused(t, r, all...)
}

// TestH088KeysBeyondTheBounds writes under names and with values that are too long.
func TestH088KeysBeyondTheBounds(t *testing.T) {
	t.Parallel()
	r := plain(t)
	r.Must(r.Root, http.MethodPost, "sys/mounts/one", `{"type":"kv"}`)
	seg := strings.Repeat("a", 255)
	r.Must(r.Root, http.MethodPost, "secret/data/"+seg, `{"data":{"a":"b"}}`)
	r.Must(r.Root, http.MethodPost, "secret/data/"+strings.Repeat("a/", 29)+"a", `{"data":{"a":"b"}}`)
	r.Must(r.Root, http.MethodPost, "secret/data/"+strings.Repeat(seg[:200]+"/", 14)+"a", `{"data":{"a":"b"}}`)
	r.Must(r.Root, http.MethodPost, "secret/data/large", `{"data":{"a":"`+strings.Repeat("x", 500<<10)+`"}}`)
	many := ""
	for i := range 65 {
		many += fmt.Sprintf(`"k%d":"v",`, i)
	}
	var all []attack
	for _, at := range []string{"secret/data/", "secret/metadata/", "one/", "cubbyhole/", "sys/mounts/", "sys/policies/acl/", "auth/token/roles/", "auth/token/create/", "sys/audit/"} {
		for what, p := range map[string]string{
			"a long segment": strings.Repeat("a", 256), "a segment of many bytes": strings.Repeat("%C3%A9", 128), "32 KiB": strings.Repeat("a", 32<<10+1), "10 000 segments": strings.Repeat("a/", 10_000) + "a",
			"33 segments": strings.Repeat("a/", 33) + "a", "4 KiB": strings.Repeat(seg[:200]+"/", 21) + "a",
		} {
			if len(p) > 28<<10 {
				continue // is more than the headers may have; see below
			}
			all = append(all, attack{what: what, path: at + p, body: `{"data":{"a":"` + canary + `"},"type":"kv","policy":"path \"a\" {}"}`})
		}
	}
	value := strings.Repeat("x", 512<<10+1)
	all = append(all,
		attack{what: "a large value", path: "secret/data/l", body: `{"data":{"a":"` + value + `"}}`},
		attack{what: "a large value", method: http.MethodPatch, path: "secret/data/large", body: `{"data":{"b":"` + value[:400<<10] + `"}}`},
		attack{what: "a large value", path: "one/l", body: `{"a":"` + value + `"}`},
		attack{what: "a large value", path: "cubbyhole/l", body: `{"a":"` + value + `"}`},
		attack{what: "a large policy", method: http.MethodPut, path: "sys/policies/acl/l", body: `{"policy":"# ` + value[:70<<10] + `"}`},
		attack{what: "much metadata", path: "secret/metadata/l", body: `{"custom_metadata":{` + many + `"z":"z"}}`},
		attack{what: "long metadata", path: "secret/metadata/l", body: `{"custom_metadata":{"a":"` + value[:600] + `"}}`},
		attack{what: "much metadata of a token", path: "auth/token/create", body: `{"meta":{` + many + `"z":"z"}}`},
		attack{what: "many policies", path: "auth/token/create", body: `{"policies":"` + strings.Repeat("default,", 101) + `a"}`},
		attack{what: "many versions", path: "secret/metadata/l", body: `{"max_versions":1001}`},
		attack{what: "versions below none", path: "secret/metadata/l", body: `{"max_versions":-1}`},
		attack{what: "a long description", path: "sys/mounts/l", body: `{"type":"kv","description":"` + value + `"}`},
		attack{what: "long options", path: "sys/mounts/l", body: `{"type":"kv","options":{"a":"` + value + `"}}`},
		attack{what: "a long display name", path: "auth/token/create", body: `{"display_name":"` + value[:1000] + `"}`},
		attack{what: "a long id", path: "auth/token/create", body: `{"id":"` + value[:5000] + `"}`},
		attack{what: "many random bytes", path: "sys/tools/random", body: `{"bytes":1000000000}`},
	)
	refused(t, r, all...)
	for _, p := range []string{strings.Repeat("a", 32<<10+1), strings.Repeat("a/", 20_000)} {
		got := raw(t, r, r.Address, "GET /v1/secret/data/"+p+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if s := statuses(got); len(s) != 1 || s[0][0] != '4' {
			t.Errorf("a target of %d bytes = %.100q; want 4xx", len(p), got)
		}
	}
	alive(t, r)
}

// TestH092OddNamesOfMounts makes and removes mounts, policies and roles of odd
// names, and of one name at once.
func TestH092OddNamesOfMounts(t *testing.T) {
	t.Parallel()
	r := plain(t)
	var all []attack
	for _, n := range []string{"", ".", "..", "sys", "sys/x", "auth", "auth/x", "cubbyhole", "identity", "audit", strings.Repeat("a", 4000), "%E2%80%AEabc", "%E2%80%8B", "a%00", "%20", "+", "*", "a*", "a/+/b", "secret", "secret/x", "%F0%9F%94%91%E2%80%AE"} {
		all = append(all, attack{what: "mount " + n, path: "sys/mounts/" + n, body: `{"type":"kv"}`}, attack{what: "to " + n, path: "sys/remount", body: `{"from":"moving","to":` + quote(strings.NewReplacer("%00", "\x00", "%20", " ", "%E2%80%AE", "\u202e", "%E2%80%8B", "\u200b").Replace(n)) + `}`})
	}
	r.Must(r.Root, http.MethodPost, "sys/mounts/moving", `{"type":"kv"}`)
	all = append(all, attack{what: "to itself", path: "sys/remount", body: `{"from":"moving","to":"moving"}`})
	for _, n := range []string{"", ".", "..", "%F0%9F%94%91", "%D7%90", strings.Repeat("a", 129), "a%20b"} {
		all = append(all,
			attack{what: "policy " + n, method: http.MethodPut, path: "sys/policies/acl/" + n, body: `{"policy":"path \"a\" {}"}`},
			attack{what: "role " + n, path: "auth/token/roles/" + n, body: `{}`},
		)
	}
	refused(t, r, all...)
	r.Must(r.Root, http.MethodPost, "sys/mounts/%F0%9F%94%91", `{"type":"kv"}`) // is a fine name

	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for range 6 {
				for _, step := range [][2]string{{http.MethodPost, `{"type":"kv"}`}, {http.MethodGet, ""}, {http.MethodDelete, ""}} {
					got, err := r.Try(r.Root, step[0], "sys/mounts/race", step[1])
					if err != nil || got.Status >= 500 {
						t.Errorf("racer %d: %s sys/mounts/race = %+v, %v", w, step[0], got, err)
					}
				}
			}
		})
	}
	wg.Wait()
	r.Do(r.Root, http.MethodDelete, "sys/mounts/race", "")
	r.Must(r.Root, http.MethodPost, "sys/mounts/race", `{"type":"kv"}`)
	r.Must(r.Root, http.MethodPost, "race/a", `{"a":"b"}`)
	list := r.Must(r.Root, http.MethodGet, "sys/mounts", "")
	mounts, _ := list.Value("data").(map[string]any)
	if _, ok := mounts["race/"]; !ok || len(mounts) != 6 {
		t.Errorf("the mounts are %s", list.Body)
	}
	alive(t, r)
}

// frame returns an HTTP/2 frame.
func frame(kind, flags byte, stream uint32, payload string) string {
	b := make([]byte, 9, 9+len(payload))
	b[0], b[1], b[2] = byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload))
	b[3], b[4] = kind, flags
	binary.BigEndian.PutUint32(b[5:], stream)
	return string(append(b, payload...))
}

// literal returns a header field for HPACK, neither indexed nor packed.
func literal(name, value string) string {
	return "\x00" + string([]byte{byte(len(name))}) + name + string([]byte{byte(len(value))}) + value
}

// two makes an HTTP/2 connection that has said hello.
func two(t *testing.T, r *servertest.Rig) *tls.Conn {
	t.Helper()
	config := r.TLS.Clone()
	config.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp", r.Address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if c.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatalf("the protocol is %q; want h2", c.ConnectionState().NegotiatedProtocol)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+frame(4, 0, 0, "")); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestH093HTTP2Floods resets streams, continues headers without end, and
// begins handshakes that it never ends; another client is served meanwhile.
func TestH093HTTP2Floods(t *testing.T) {
	t.Parallel()
	r := plain(t)
	request := "\x82\x87" + literal(":path", "/v1/sys/health") + literal(":authority", "x")
	for what, flood := range map[string]func(c *tls.Conn, i uint32) error{
		"resets": func(c *tls.Conn, i uint32) error {
			_, err := io.WriteString(c, frame(1, 4|1, 2*i+1, request)+frame(3, 0, 2*i+1, "\x00\x00\x00\x08"))
			return err
		},
		"continuations": func(c *tls.Conn, i uint32) error {
			kind := byte(9)
			if i == 0 {
				kind = 1
			}
			_, err := io.WriteString(c, frame(kind, 0, 1, request+literal("a", strings.Repeat("b", 100))+strings.Repeat(literal("c", "d"), 200)))
			return err
		},
		"settings": func(c *tls.Conn, _ uint32) error {
			_, err := io.WriteString(c, strings.Repeat(frame(4, 0, 0, ""), 50))
			return err
		},
		"pings": func(c *tls.Conn, _ uint32) error {
			_, err := io.WriteString(c, strings.Repeat(frame(6, 0, 0, "12345678"), 50))
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := two(t, r)
			var drained sync.WaitGroup
			drained.Go(func() { _, _ = io.Copy(io.Discard, c) })
			for i := range uint32(1500) {
				if flood(c, i) != nil {
					break // it was cut off
				}
			}
			alive(t, r)
			_ = c.Close()
			drained.Wait()
		})
	}
	t.Run("handshakes", func(t *testing.T) {
		t.Parallel()
		for range 200 {
			c, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			if _, err := io.WriteString(c, "\x16\x03\x01\x02\x00\x01"); err != nil {
				t.Fatal(err)
			}
		}
		alive(t, r)
		open(t, r)
	})
}

// TestH147LengthsThatLie sends requests whose length is told twice or wrongly.
func TestH147LengthsThatLie(t *testing.T) {
	t.Parallel()
	r := plain(t)
	auth := "Host: x\r\nX-Vault-Token: " + r.Root + "\r\n"
	good := "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n"
	if got := statuses(raw(t, r, r.Address, good+"\r\n"+good+"Connection: close\r\n\r\n")); len(got) != 2 || got[0] != "200" || got[1] != "200" {
		t.Errorf("two requests on one connection = %v; want 200 twice", got)
	}
	smuggled := "DELETE /v1/secret/metadata/kept HTTP/1.1\r\n" + auth + "Connection: close\r\n\r\n"
	r.Must(r.Root, http.MethodPost, "secret/data/kept", `{"data":{"a":"b"}}`)
	body := `{"data":{"a":"b"}}`
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	mark, before := r.Mark(), r.Last()
	for what, request := range map[string]string{
		"negative":         "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: -1\r\n\r\n" + body,
		"signed":           "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: +18\r\n\r\n" + body,
		"hexadecimal":      "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: 0x12\r\n\r\n" + body,
		"two":              "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: 18\r\nContent-Length: 5\r\n\r\n" + body,
		"a list":           "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: 18, 5\r\n\r\n" + body,
		"beyond":           "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length: 99999999999999999999\r\n\r\n" + body,
		"of spaces":        "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Content-Length : 18\r\n\r\n" + body,
		"an odd encoding":  "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: xchunked\r\n\r\n" + chunked,
		"two encodings":    "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked,
		"encoding twice":   "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
		"a bad chunk":      "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + body,
		"a negative chunk": "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + body,
		"a large chunk":    "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + body,
		"a bare line feed": "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n12\n" + body + "\n0\n\n",
		"of a trailer":     "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n" + "5\r\nnope!\r\n0\r\nContent-Length: 5\r\n\r\n",
	} {
		got := statuses(raw(t, r, r.Address, request+smuggled))
		if len(got) == 0 || got[0][0] != '4' && got[0] != "501" {
			t.Errorf("%s = %v; want 4xx", what, got)
		}
		if len(got) > 1 {
			t.Errorf("%s = %v: what stood behind it was answered", what, got)
		}
	}
	if changed := r.Changed(mark); len(changed) > 0 {
		t.Errorf("lengths that lie changed %v", changed)
	}
	for _, rec := range r.Records(before) {
		if rec.Verb == "delete" {
			t.Errorf("a request was smuggled: %s %s", rec.Verb, rec.Path)
		}
	}
	// A length beside chunks: whoever is right, what stands behind it is nobody's request.
	for what, request := range map[string]string{
		"length and chunks": "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + fmt.Sprintf("Content-Length: %d\r\n", len(chunked)+len(smuggled)) + "Transfer-Encoding: chunked\r\n\r\n" + chunked + smuggled,
		"chunks and length": "POST /v1/secret/data/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n" + fmt.Sprintf("Content-Length: %d\r\n", len(chunked)+len(smuggled)) + "\r\n" + chunked + smuggled,
	} {
		if got := statuses(raw(t, r, r.Address, request)); len(got) != 1 {
			t.Errorf("%s = %v; want one answer", what, got)
		}
	}
	// A body that is shorter than was said is not waited for into the next request's.
	short := open(t, r)
	if _, err := io.WriteString(short, "POST /v1/secret/data/x HTTP/1.1\r\n"+auth+"Content-Length: 500\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	_ = short.Close()
	r.Must(r.Root, http.MethodGet, "secret/data/kept", "")
	alive(t, r)
}
