package enrol

import (
	"context"
	"errors"
	"testing"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// codes are all that a request may be refused with.
var codes = map[Code]bool{
	CodeBadRequest: true, CodeNameTaken: true, CodeUnknownToken: true, CodeTokenUsed: true, CodeTokenExpired: true, CodeRevoked: true, CodeUnknown: true, CodeUnavailable: true,
}

// FuzzBusMsg: whatever stands in the bucket of members, at whatever key, is left out, or
// whoever asks about it is refused with a code, for little memory; a member of whom it
// says nothing is listed, renewed and believed as before, who was revoked stays so, and
// to revoke another shuts out nobody else.
func FuzzBusMsg(f *testing.F) {
	fl := newFleet(f, 1)
	well, gone := Member{bus.RoleEdge, "fra1-5f1c9b72e0"}, Member{bus.RoleEdge, "fra2-81d2c6a934"} // nobody guesses them
	id, other := fl.enrol(f, well.Name), fl.enrol(f, gone.Name)
	known := NewRevocations()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- known.Run(ctx, fl.conn) }()
	f.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	// The JWT tells whole seconds: who is revoked in the second of its certificate is.
	if _, err := fl.e.Revoke(f.Context(), gone, "ada"); err != nil {
		f.Fatal(err)
	}
	if !within5s(func() bool { return known.Refuse(other.Certificate().Leaf) != nil }) {
		f.Fatal("a revocation is not known")
	}
	creds, err := fl.a.Credentials(Member{bus.RoleCentral, "c2"})
	if err != nil {
		f.Fatal(err)
	}
	nc := stream(f, fl.urls, creds).Conn()
	strange, stranger := Member{bus.RoleEdge, "x"}, Member{bus.RoleText, "y"}
	subjects := []string{strange.key(), stranger.key(), "edge.x.y", "edge", "king.x", "edge.X"}
	for i := range subjects {
		subjects[i] = "$KV." + bus.EnrolledBucket + "." + subjects[i]
		for _, body := range []string{
			`{"role":"edge","name":"x","state":"revoked","user_key":"*","revoked_at":"2999-01-01T00:00:00Z"}`, `{"role":"text","name":"y","state":"revoked","user_key":"*"}`,
			`{"role":"text","name":"y","state":"revoked","user_key":"UAAA"}`, `{"role":"edge","name":"x","state":"enrolled","serial":"","previous":"","until":"0001-01-01T00:00:00Z"}`,
			`{"role":"edge","name":"x","state":"invited","token_hash":"","expires":"2999-01-01T00:00:00Z"}`, `{"role":"edge","name":"x","state":"king","region":"\u0000"}`,
			`{"role":"edge","name":"` + well.Name + `","state":"revoked","revoked_at":"2999-01-01T00:00:00Z"}`, `{"role":"edge","name":"` + gone.Name + `","state":"enrolled"}`,
			`{"role":"king","name":"x"}`, `{"role":"edge","name":""}`, `[[[[[[[[`, `null`, ``,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		subject := subjects[int(which)%len(subjects)]
		fits := func(what string, err error) {
			t.Helper()
			if err != nil && (!codes[CodeOf(err)] || err.Error() == "") {
				t.Errorf("%s %q: to %s is refused with %v", subject, body, what, err)
			}
		}
		took := bustest.Allocated(func() {
			if err := nc.Publish(subject, body); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			all, err := fl.e.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			states := map[Member]State{}
			for _, e := range all {
				if err := e.validate(); err != nil || states[e.Member] != "" {
					t.Errorf("%s %q: it lists %+v, %v", subject, body, e, err)
				}
				states[e.Member] = e.State
			}
			if states[well] != Enrolled || states[gone] != Revoked {
				t.Errorf("%s %q: members are %v", subject, body, states)
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subject, took, len(body))
		}
		for _, m := range []Member{strange, stranger} {
			_, err := fl.e.Add(t.Context(), m, "eu", "ada", 0)
			fits("add", err)
			_, err = fl.e.Join(t.Context(), JoinRequest{Token: Token{m, "AAAAAAAAAAAAAAAAAAAAAAAAAAA"}.String()})
			if fits("join", err); err == nil {
				t.Errorf("%s %q: a token that was never given out is taken", subject, body)
			}
			_, err = fl.e.Revoke(t.Context(), m, "ada")
			fits("revoke", err)
			if err := fl.e.entries.Delete(t.Context(), m.key(), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := id.renew(t.Context()); err != nil {
			t.Errorf("%s %q: a member is not renewed: %v", subject, body, err)
		}
		if err := known.Refuse(id.Certificate().Leaf); err != nil {
			t.Errorf("%s %q: a member is refused: %v", subject, body, err)
		}
		if known.Refuse(other.Certificate().Leaf) == nil {
			t.Errorf("%s %q: who was revoked is believed", subject, body)
		}
		if err := errors.Join(nc.FlushTimeout(5*time.Second), fl.conn.Flush(t.Context())); err != nil {
			t.Errorf("%s %q: others are shut out: %v", subject, body, err)
		}
	})
}
