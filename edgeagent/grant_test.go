package edgeagent

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func testKey(seed byte) ed25519.PrivateKey {
	b := make([]byte, ed25519.SeedSize)
	b[0] = seed
	return ed25519.NewKeyFromSeed(b)
}

// known gives the public keys of some private ones.
func known(keys ...ed25519.PrivateKey) func(string) ed25519.PublicKey {
	return func(kid string) ed25519.PublicKey {
		for _, k := range keys {
			if pub := k.Public().(ed25519.PublicKey); KeyID(pub) == kid {
				return pub
			}
		}
		return nil
	}
}

func testGrant() Grant {
	return Grant{
		ID: "abc-DEF_123", Node: "edge-1", Guild: "12", Call: sfu.CallID{ID: 34}, Epoch: 56, User: sfu.UserID{ID: snowflake.ID(1 << 63)},
		Session: "gw", Rights: sfu.Rights{Speak: true, Priority: true}, Echo: true, Expires: now.Add(GrantLife),
	}
}

func sign(t testing.TB, key ed25519.PrivateKey, g Grant) string {
	t.Helper()
	token, err := SignGrant(key, g)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestGrantRoundTrip(t *testing.T) {
	token := sign(t, testKey(1), testGrant())
	got, err := ReadGrant(token, known(testKey(2), testKey(1)))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Expires.Equal(testGrant().Expires) {
		t.Errorf("expires %v", got.Expires)
	}
	got.Expires = testGrant().Expires
	if got != testGrant() {
		t.Errorf("read %+v", got)
	}
	if len(token) > 600 {
		t.Errorf("a token is %d bytes", len(token))
	}
}

func TestReadGrantRefuses(t *testing.T) {
	key := testKey(1)
	good := sign(t, key, testGrant())
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	resign := func(head string) string { return head + "." + b64(ed25519.Sign(key, []byte(head))) }
	with := func(i int, part string) string {
		p := append([]string(nil), parts...)
		p[i] = part
		return strings.Join(p, ".")
	}
	noID, noNode, badNode := testGrant(), testGrant(), testGrant()
	noID.ID, noNode.Node, badNode.Node = "", "", "edge.>"
	flipped := []byte(good)
	flipped[len(flipped)-10] ^= 1
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"empty":                       {"", ErrGrantForm},
		"dots":                        {"...", ErrGrantForm},
		"a megabyte of dots":          {strings.Repeat(".", 1<<20), ErrGrantForm},
		"longer than 2,048 bytes":     {good + strings.Repeat("A", maxToken), ErrGrantForm},
		"three parts":                 {strings.Join(parts[:3], "."), ErrGrantForm},
		"five parts":                  {good + ".x", ErrGrantForm},
		"another version":             {with(0, "vf2"), ErrGrantForm},
		"a JWT":                       {"eyJhbGciOiJub25lIn0.eyJpZCI6ImEifQ.", ErrGrantForm},
		"no signature":                {with(3, ""), ErrGrantForm},
		"a short signature":           {with(3, b64(make([]byte, 63))), ErrGrantForm},
		"zeros as signature":          {with(3, b64(make([]byte, 64))), ErrGrantSignature},
		"one bit of the signature":    {string(flipped), ErrGrantSignature},
		"padded base64":               {good + "=", ErrGrantForm},
		"a newline in the base64":     {with(3, parts[3][:10]+"\n"+parts[3][10:]), ErrGrantForm},
		"another key id":              {with(1, KeyID(testKey(2).Public().(ed25519.PublicKey))), ErrGrantKey},
		"a path as key id":            {with(1, "../../key"), ErrGrantForm}, // its dots are parts
		"claims of another":           {with(2, strings.Split(sign(t, testKey(2), noID), ".")[2]), ErrGrantSignature},
		"signed by an unknown key":    {sign(t, testKey(3), testGrant()), ErrGrantKey},
		"signed, but no JSON":         {resign("vf1." + parts[1] + "." + b64([]byte("nonsense"))), ErrGrantForm},
		"signed, but another type":    {resign("vf1." + parts[1] + "." + b64([]byte(`["id"]`))), ErrGrantForm},
		"signed, but empty":           {resign("vf1." + parts[1] + "."), ErrGrantForm},
		"signed, but a float as call": {resign("vf1." + parts[1] + "." + b64([]byte(`{"id":"a","node":"b","call":1.5}`))), ErrGrantForm},
		"no id":                       {sign(t, key, noID), ErrGrantForm},
		"no node":                     {sign(t, key, noNode), ErrGrantForm},
		"a node that is a pattern":    {sign(t, key, badNode), ErrGrantForm},
	} {
		g, err := ReadGrant(c.token, known(key))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, error %v, want %v", name, g, err, c.want)
		}
		if CodeOf(err) != CodeGrant {
			t.Errorf("%s: code %s", name, CodeOf(err))
		}
	}
}

func TestFresh(t *testing.T) {
	for _, c := range []struct {
		expires time.Duration
		fresh   bool
	}{
		{GrantLife, true},
		{GrantLife + ClockLeeway, true},
		{GrantLife + ClockLeeway + time.Second, false}, // signed for longer than anybody may
		{0, true},
		{-ClockLeeway, true},
		{-ClockLeeway - time.Second, false},
		{-time.Hour, false},
	} {
		if err := (Grant{Expires: now.Add(c.expires)}).Fresh(now); (err == nil) != c.fresh {
			t.Errorf("expires in %v: %v", c.expires, err)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want ErrorCode
	}{
		{&Error{Code: CodeDraining}, CodeDraining},
		{fmt.Errorf("open: %w", ErrGrantUsed), CodeGrant},
		{fmt.Errorf("open: %w", sfu.Refuse(sfu.CodeFull, "full")), CodeFull},
		{sfu.Refuse(sfu.CodeNoSession, "ended"), CodeNoSession},
		{sfu.Refuse(sfu.CodeBadOffer, "no audio"), CodeBadRequest},
		{sfu.Refuse(sfu.CodeExists, "twice"), CodeBadRequest},
		{sfu.Refuse(sfu.CodeInternal, "panic"), CodeUnavailable},
		{errors.New("cable is cut"), CodeUnavailable},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
}

func TestNodeIDValid(t *testing.T) {
	for id, want := range map[NodeID]bool{
		"edge-1": true, "a": true, "": false, "Edge": false, "a.b": false, "a*": false, ">": false, "a b": false,
		NodeID(strings.Repeat("a", 64)): true, NodeID(strings.Repeat("a", 65)): false,
	} {
		if id.Valid() != want {
			t.Errorf("%q valid: %v", id, !want)
		}
	}
}

// FuzzReadGrant: whatever comes, no panic, and nothing is read that the key's
// owner has not signed.
func FuzzReadGrant(f *testing.F) {
	good := sign(f, testKey(1), testGrant())
	for _, seed := range []string{good, "", "....", "vf1.a.b.c", good + ".", strings.Replace(good, "vf1", "vf2", 1), sign(f, testKey(2), testGrant())} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		g, err := ReadGrant(token, known(testKey(1)))
		if err == nil && g.ID != testGrant().ID {
			t.Errorf("%q is read as %+v", token, g)
		}
	})
}

func BenchmarkReadGrant(b *testing.B) {
	token, keys := sign(b, testKey(1), testGrant()), known(testKey(1))
	for b.Loop() {
		if _, err := ReadGrant(token, keys); err != nil {
			b.Fatal(err)
		}
	}
}
