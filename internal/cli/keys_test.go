package cli

import (
	"strings"
	"testing"
)

func TestOperatorRotate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST sys/rotate/keyring", 204, "")
	f.answer("GET sys/key-status", 200, `{"request_id":"r","data":{"term":2,"install_time":"2026-01-02T03:04:05Z","encryptions":7}}`)
	f.answer("POST sys/mounts/secret/rotate", 204, "")
	f.answer("GET sys/mounts/secret/rotate", 200, `{"request_id":"r","data":{"generation":2,"install_time":"2026-01-02T03:04:05Z","encryptions":7,"rotating":true,"pass":1}}`)
	s := newShell(t, f)
	if out := s.good("operator rotate"); !strings.Contains(out, "Key Term") || !strings.Contains(out, "2") {
		t.Errorf("operator rotate prints %q", out)
	}
	if out := s.good("operator rotate --mount secret"); !strings.Contains(out, "Generation") || !strings.Contains(out, "true") || strings.Contains(out, "Failure") {
		t.Errorf("operator rotate --mount prints %q", out)
	}
	before := len(f.asked())
	s.good("operator rotate --mount secret --status")
	if asked := f.asked()[before:]; len(asked) != 1 || asked[0].line != "GET sys/mounts/secret/rotate" {
		t.Errorf("--status sends %v", asked)
	}
}

func TestOperatorRotateKeys(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	const under = `{"nonce":"N","started":true,"t":2,"n":3,"progress":0,"required":1,"verification_required":true}`
	f.answer("POST sys/rotate/root/init", 200, `{"request_id":"r","data":`+under+`}`)
	f.answer("GET sys/rotate/root/init", 200, `{"request_id":"r","data":`+under+`}`)
	f.answer("DELETE sys/rotate/root/init?nonce=N", 204, "")
	f.answer("POST sys/rotate/root/update", 200, `{"request_id":"r","data":{"nonce":"N","complete":true,"keys":["aa","bb"],"keys_base64":["AA","BB"],"verification_nonce":"V"}}`)
	f.answer("GET sys/rotate/root/verify", 200, `{"request_id":"r","data":{"nonce":"V","started":true,"t":2,"n":3,"progress":1}}`)
	f.answer("POST sys/rotate/root/verify", 200, `{"request_id":"r","data":{"nonce":"V","complete":true}}`)
	f.answer("GET sys/rotate/recovery/init", 200, `{"request_id":"r","data":`+under+`}`)
	s := newShell(t, f)
	s.good("operator rotate-keys --init --key-shares=3 --key-threshold=2")
	s.good("operator rekey -status")
	s.good("operator rekey -status -target=recovery")
	o := s.runWith("a share\n", "operator", "rotate-keys", "-")
	if o.code != 0 || !strings.Contains(o.out, "Key 2: BB") || strings.Contains(o.out+o.err, "a share") {
		t.Errorf("the last old share: %+v", o)
	}
	if o = s.runWith("a share\n", "operator", "rotate-keys", "--verify", "-"); o.code != 0 || !strings.Contains(o.err, "in use") {
		t.Errorf("the last new share: %+v", o)
	}
	s.good("operator rotate-keys --cancel --nonce=N")
	if o := s.run("operator rotate-keys --target=x --status"); o.code == 0 {
		t.Errorf("a target that there is not: %+v", o)
	}
	var bodies []string
	for _, r := range f.asked() {
		if r.body != "" {
			bodies = append(bodies, r.line+" "+r.body)
		}
	}
	want := []string{
		`POST sys/rotate/root/init {"secret_shares":3,"secret_threshold":2}`,
		`POST sys/rotate/root/update {"key":"a share","nonce":"N"}`,
		`POST sys/rotate/root/verify {"key":"a share","nonce":"V"}`,
	}
	if strings.Join(bodies, "\n") != strings.Join(want, "\n") {
		t.Errorf("it sends\n%s\nwant\n%s", strings.Join(bodies, "\n"), strings.Join(want, "\n"))
	}
}

func TestOperatorGenerateRoot(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST sys/generate-root/attempt", 200, `{"nonce":"N","started":true,"progress":0,"required":1,"otp":"abc","otp_length":3}`)
	f.answer("GET sys/generate-root/attempt", 200, `{"nonce":"N","started":true,"progress":0,"required":1,"otp":"","otp_length":3}`)
	f.answer("DELETE sys/generate-root/attempt", 204, "")
	f.answer("POST sys/generate-root/update", 200, `{"nonce":"N","complete":true,"encoded_token":"EhYQ"}`)
	s := newShell(t, f)
	if out := s.good("operator generate-root --init"); !strings.Contains(out, "abc") {
		t.Errorf("--init prints %q", out)
	}
	s.good("operator generate-root --status")
	if o := s.runWith("a share\n", "operator", "generate-root", "-"); o.code != 0 || !strings.Contains(o.out, "EhYQ") {
		t.Errorf("the last share: %+v", o)
	}
	s.good("operator generate-root --cancel")
	if out := s.good("operator generate-root --decode=EhYQ --otp=abc"); out != "sts\n" {
		t.Errorf("--decode prints %q", out)
	}
	if o := s.run("operator generate-root --decode=EhYQ --otp=ab"); o.code == 0 {
		t.Errorf("a pad that does not fit: %+v", o)
	}
	for _, r := range f.asked() {
		if r.token != "" {
			t.Errorf("%s is sent with a token", r.line)
		}
	}
}

func TestSealSlots(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET sys/seal/slots", 200, `{"request_id":"r","data":{"slots":[{"id":"01","kind":"keyfile","arguments":["k"]},{"id":"02","kind":"shamir","arguments":["5","3","x"],"shares":5,"threshold":3}]}}`)
	f.answer("POST sys/seal/slots", 200, `{"request_id":"r","data":{"slot":{"id":"03","kind":"shamir","arguments":[],"shares":2,"threshold":2},"keys":["aa","bb"],"keys_base64":["AA","BB"]}}`)
	f.answer("DELETE sys/seal/slots/02", 204, "")
	s := newShell(t, f)
	if out := s.good("operator seal-slots list"); !strings.Contains(out, "3 of 5 shares") || !strings.Contains(out, "keyfile") {
		t.Errorf("list prints %q", out)
	}
	if out := s.good("operator seal-slots add shamir --key-shares=2 --key-threshold=2"); !strings.Contains(out, "Key 1: AA") || !strings.Contains(out, "03") {
		t.Errorf("add prints %q", out)
	}
	s.good("operator seal-slots add age --recipient=age1x")
	if o := s.run("operator seal-slots remove 02"); o.code == 0 {
		t.Errorf("remove without a yes: %+v", o)
	}
	s.good("operator seal-slots remove 02 --yes")
	var bodies []string
	for _, r := range f.asked() {
		if r.body != "" {
			bodies = append(bodies, r.body)
		}
	}
	if got := strings.Join(bodies, " "); got != `{"kind":"shamir","shares":2,"threshold":2} {"kind":"age","recipients":["age1x"]}` {
		t.Errorf("it sends %s", got)
	}
}
