package server_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/engine/system"
	"rotunda.dev/rotunda/internal/server"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// until asks again and again, and moves the clock, until ok says that it is as it should be.
func until(t *testing.T, fake *clocktest.Fake, ask func() *servertest.Answer, ok func(*servertest.Answer) bool) *servertest.Answer {
	t.Helper()
	end := clock.System{}.Now().Add(20 * time.Second)
	for {
		a := ask()
		if ok(a) {
			return a
		}
		if (clock.System{}).Now().After(end) {
			t.Fatalf("it stays %d %s", a.Status, a.Body)
		}
		fake.Advance(time.Second)
	}
}

// TestKeysAreRotated rotates every key of a node that has one, and restarts it at some of the steps.
func TestKeysAreRotated(t *testing.T) {
	fake := clocktest.New(clock.System{}.Now())
	r := servertest.Start(t, servertest.Config{Clock: fake})
	write := func(round int) {
		t.Helper()
		for i := range 30 {
			r.Must(r.Root, http.MethodPut, fmt.Sprintf("secret/data/dir%d/name%d", i%4, i), fmt.Sprintf(`{"data":{"value":"%d of %d"}}`, i, round))
		}
		r.Must(r.Root, http.MethodPut, "cubbyhole/mine", fmt.Sprintf(`{"value":"%d"}`, round))
	}
	check := func(round int) {
		t.Helper()
		for i := range 30 {
			a := r.Must(r.Root, http.MethodGet, fmt.Sprintf("secret/data/dir%d/name%d", i%4, i), "")
			if got := a.Text("data.data.value"); got != fmt.Sprintf("%d of %d", i, round) {
				t.Fatalf("secret %d is %q after round %d", i, got, round)
			}
		}
		if got := r.Must(r.Root, http.MethodGet, "cubbyhole/mine", "").Text("data.value"); got != fmt.Sprint(round) {
			t.Errorf("the cubbyhole holds %q after round %d", got, round)
		}
	}
	before := r.Must(r.Root, http.MethodGet, "sys/key-status", "")
	if before.Number("term") != 1 || before.Number("data.encryptions") == 0 {
		t.Errorf("key-status of a new store = %s", before.Body)
	}
	for round := range 3 {
		write(round)
		r.Must(r.Root, http.MethodPut, "sys/rotate", "null")
		for _, at := range []string{"secret", "sys", "auth/token"} {
			r.Must(r.Root, http.MethodPost, "sys/mounts/"+at+"/rotate", "")
		}
		if round == 1 {
			r.Restart()
		}
		check(round)
		write(round)
		for _, at := range []string{"secret", "sys", "auth/token"} {
			until(t, fake, func() *servertest.Answer { return r.Must(r.Root, http.MethodGet, "sys/mounts/"+at+"/rotate", "") }, func(a *servertest.Answer) bool {
				return a.Value("data.rotating") == false && a.Number("data.generation") == float64(round+2)
			})
		}
		if round == 2 {
			r.Restart()
		}
		check(round)
		after := r.Must(r.Root, http.MethodGet, "sys/key-status", "")
		if after.Number("data.term") != float64(round+2) {
			t.Errorf("key-status after round %d = %s", round, after.Body)
		}
	}
	destroyed, dropped := 0, 0
	for _, x := range r.Records(0) {
		if strings.HasPrefix(x.Event, "older mount key destroyed: ") {
			destroyed++
		}
		if x.Event == "older keyring terms destroyed" {
			dropped++
		}
	}
	if destroyed != 9 || dropped == 0 {
		t.Errorf("%d mount keys and %d times terms were destroyed in the audit log; want 9 and some", destroyed, dropped)
	}
}

// TestRekeyAsOlderClients replaces the shares by the routes without a token.
func TestRekeyAsOlderClients(t *testing.T) {
	r := servertest.Start(t, servertest.Config{Shares: 3, Threshold: 2, Change: func(c *server.Config) {
		c.Ceremonies = system.Ceremonies{OpenRekey: true, GenerateRoot: true}
	}})
	s := r.Must("", http.MethodGet, "sys/rekey/init", "")
	if s.Value("started") != false || s.Number("required") != 2 {
		t.Errorf("rekey/init = %s", s.Body)
	}
	s = r.Must("", http.MethodPut, "sys/rekey/init", `{"secret_shares":5,"secret_threshold":3,"require_verification":false,"backup":false,"pgp_keys":null}`)
	nonce := s.Text("nonce")
	if s.Value("started") != true || s.Number("n") != 5 || s.Number("t") != 3 || s.Value("verification_required") != true || nonce == "" {
		t.Errorf("rekey/init = %s", s.Body)
	}
	bring := func(path, nonce, share string) *servertest.Answer {
		t.Helper()
		return r.Must("", http.MethodPut, path, fmt.Sprintf(`{"key":%q,"nonce":%q}`, share, nonce))
	}
	if s = bring("sys/rekey/update", nonce, r.Shares[0]); s.Number("progress") != 1 || s.Value("complete") == true {
		t.Errorf("the first share = %s", s.Body)
	}
	s = bring("sys/rekey/update", nonce, r.Shares[2])
	made, _ := s.Value("keys").([]any)
	proof := s.Text("verification_nonce")
	if s.Value("complete") != true || len(made) != 5 || proof == "" || s.Text("nonce") != nonce {
		t.Fatalf("the last share = %s", s.Body)
	}
	if s = r.Must("", http.MethodGet, "sys/rekey/verify", ""); s.Text("nonce") != proof || s.Number("t") != 3 || s.Number("n") != 5 {
		t.Errorf("rekey/verify = %s", s.Body)
	}
	for i := range 3 {
		s = bring("sys/rekey/verify", proof, fmt.Sprint(made[i]))
		if (s.Value("complete") == true) != (i == 2) {
			t.Errorf("proof %d = %s", i, s.Body)
		}
	}
	old := r.Shares
	r.Restart()
	if a := r.Do("", http.MethodPut, "sys/unseal", `{"key":"`+old[0]+`"}`); a.Status != http.StatusBadRequest {
		t.Errorf("an old share = %d %s; want it refused", a.Status, a.Body)
	}
	for _, share := range made[2:] {
		r.Must("", http.MethodPut, "sys/unseal", `{"key":"`+fmt.Sprint(share)+`"}`)
	}
	r.Must(r.Root, http.MethodGet, "sys/mounts", "")

	// And a root token of them.
	s = r.Must("", http.MethodPut, "sys/generate-root/attempt", "null")
	pad := s.Text("otp")
	if len(pad) != int(s.Number("otp_length")) || s.Value("started") != true {
		t.Errorf("generate-root/attempt = %s", s.Body)
	}
	if a := r.Must("", http.MethodGet, "sys/generate-root/attempt", ""); a.Text("otp") != "" {
		t.Errorf("the pad is told twice: %s", a.Body)
	}
	for _, share := range made[:3] {
		s = bring("sys/generate-root/update", s.Text("nonce"), fmt.Sprint(share))
	}
	hidden, err := base64.RawStdEncoding.DecodeString(s.Text("encoded_root_token"))
	if err != nil || s.Value("complete") != true || len(hidden) != len(pad) {
		t.Fatalf("generate-root/update = %s, %v", s.Body, err)
	}
	for i := range hidden {
		hidden[i] ^= pad[i]
	}
	self := r.Must(string(hidden), http.MethodGet, "auth/token/lookup-self", "")
	if ttl := self.Number("data.ttl"); ttl <= 0 || ttl > 3600 || !strings.Contains(string(self.Body), `"root"`) {
		t.Errorf("the root token is %s", self.Body)
	}
	for _, record := range r.Records(0) {
		text := string(record.In) + string(record.Out)
		for _, secret := range []string{fmt.Sprint(made[0]), pad, string(hidden), old[0]} {
			if strings.Contains(text, secret) {
				t.Errorf("the audit record of %s shows a share, the pad or the token", record.Op)
			}
		}
	}
}

// TestRotateRoot replaces shares with a token, as it is by default.
func TestRotateRoot(t *testing.T) {
	r := servertest.Start(t, servertest.Config{Shares: 1, Threshold: 1})
	for _, path := range []string{"sys/rekey/init", "sys/generate-root/attempt", "sys/generate-root-token/attempt", "sys/rekey-recovery-key/init"} {
		if a := r.Do(r.Root, http.MethodGet, path, ""); a.Status != http.StatusNotFound {
			t.Errorf("%s = %d %s; want it not there", path, a.Status, a.Body)
		}
	}
	plain := r.Token("default")
	for _, path := range []string{"sys/rotate/root/init", "sys/seal/slots", "sys/rotate/recovery/init"} {
		if a := r.Do(plain, http.MethodGet, path, ""); a.Status != http.StatusForbidden {
			t.Errorf("%s = %d %s; want it refused", path, a.Status, a.Body)
		}
	}
	s := r.Must(r.Root, http.MethodPost, "sys/rotate/root/init", `{"secret_shares":2,"secret_threshold":2}`)
	s = r.Must(r.Root, http.MethodPost, "sys/rotate/root/update", fmt.Sprintf(`{"key":%q,"nonce":%q}`, r.Shares[0], s.Text("data.nonce")))
	made, _ := s.Value("data.keys_base64").([]any)
	for _, share := range made {
		r.Must(r.Root, http.MethodPost, "sys/rotate/root/verify", fmt.Sprintf(`{"key":%q,"nonce":%q}`, share, s.Text("data.verification_nonce")))
	}
	slots := r.Must(r.Root, http.MethodGet, "sys/seal/slots", "")
	if slots.Number("data.slots.0.shares") != 2 || slots.Text("data.slots.0.kind") != "shamir" {
		t.Errorf("the slots are %s", slots.Body)
	}
	if st := r.Must("", http.MethodGet, "sys/seal-status", ""); st.Number("n") != 2 || st.Number("t") != 2 {
		t.Errorf("seal-status = %s", st.Body)
	}
}
