package role_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/pionforward"
	"voicefleet/bench/internal/role"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// verbs is a Caller without a process between: everything goes through JSON.
type verbs map[string]child.Verb

func (v verbs) Call(ctx context.Context, verb string, in, out any) error {
	if v[verb] == nil {
		return fmt.Errorf("no verb %q", verb)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := v[verb](ctx, body)
	if err != nil || out == nil {
		return err
	}
	if body, err = json.Marshal(answer); err != nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// TestGenerator brings a room in through a stock forwarder, lets two talk with real
// speech and pauses, and asks for all there is to be known.
func TestGenerator(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const ahead = time.Hour // of the generator's clock
	all, shut, err := role.OpenGenerator(ctx, lightclient.Config{Host: loopback, Ahead: ahead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shut(); err != nil {
			t.Error(err)
		}
	}()
	g := role.Generator{Caller: verbs(all)}
	f, err := pionforward.New(loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := g.Setup(ctx, lightclient.Setup{Offset: ahead, VoiceSize: 212}); err != nil {
		t.Fatal(err)
	}
	if err := g.Setup(ctx, lightclient.Setup{Sweep: time.Second}); err == nil || !strings.Contains(err.Error(), "sweep of 1s") {
		t.Errorf("a sweep of 1 s: %v", err)
	}
	const talkers, members = 2, 4
	if err := f.Talkers("room", talkers); err != nil {
		t.Fatal(err)
	}
	seats := make([]lightclient.Seat, members)
	for i := range seats {
		seats[i] = lightclient.Seat{Slots: talkers, Sampled: i > 0}
	}
	added, err := g.Add(ctx, seats...)
	if err != nil || len(added) != members {
		t.Fatalf("%d added, %v", len(added), err)
	}
	answers := make([]role.Answer, members)
	ids := make([]int, members)
	for i, a := range added {
		ids[i] = a.ID
		answers[i] = role.Answer{ID: a.ID, Timeout: 20 * time.Second}
		if answers[i].SDP, err = f.Join(ctx, "room", i, a.Offer); err != nil {
			t.Fatal(err)
		}
	}
	connected, err := g.Connect(ctx, append(answers, role.Answer{ID: 99})...)
	if err != nil || len(connected) != members+1 {
		t.Fatalf("%d connected, %v", len(connected), err)
	}
	for i, c := range connected[:members] {
		if c.Err != "" || c.ID != ids[i] || c.Stages.Handshake <= 0 || len(c.Slots) != talkers {
			t.Fatalf("connected %+v", c)
		}
	}
	if !strings.Contains(connected[members].Err, "no client 99") {
		t.Errorf("client 99: %+v", connected[members])
	}
	start := time.Now().Add(100 * time.Millisecond)
	window := meter.Config{From: start, To: start.Add(time.Second)}
	if err := errors.Join(g.Reset(ctx), g.Judge(ctx, nil, window)); err != nil {
		t.Fatal(err)
	}
	var talking []role.Talking
	var expected []role.Expectation
	for i := range talkers {
		talk := lightclient.Talk{ID: uint32(i), Start: start, Stop: window.To, From: window.From, To: window.To,
			Size: 200, Voice: i, Spurts: []lightclient.Spurt{{First: 5, Count: 20}, {First: 30, Count: 10}}}
		talking = append(talking, role.Talking{Client: ids[i], Talk: talk})
		for k := 1; k < members; k++ {
			if k != i {
				expected = append(expected, role.Expectation{Clients: ids[k : k+1], Talker: talk.ID, Plan: talk.Spans(0, window.To)})
			}
		}
	}
	if err := errors.Join(g.Talk(ctx, talking, nil), g.Expect(ctx, expected)); err != nil {
		t.Fatal(err)
	}
	if err := g.Setup(ctx, lightclient.Setup{}); err == nil || !strings.Contains(err.Error(), "somebody talks") {
		t.Errorf("set up while somebody talks: %v", err)
	}
	const want = 30 * (members - 1) * talkers // pairs
	deadline, look := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer look.Stop()
	for n := (lightclient.Counts{}); n.Voice < want; {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("counted %+v, want %d", n, want)
		}
		if n, err = g.Counts(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := g.Pace(ctx); err != nil || p.Voice != 60 || p.Failed != 0 {
		t.Errorf("pace %+v, %v", p, err)
	}
	heard, err := g.Heard(ctx, nil)
	if err != nil || heard.Received != want-30 || heard.Expected != want-30 || heard.Lost != 0 || heard.Spurts == 0 {
		t.Errorf("heard %d of %d, lost %d, %d spurts, %v", heard.Received, heard.Expected, heard.Lost, heard.Spurts, err)
	}
	if late := heard.Latency.Max(); late <= 0 || late > 10*time.Second || heard.Negative != 0 {
		t.Errorf("latency up to %v, %d negative: the clock was not put right", late, heard.Negative)
	}
	by, err := g.HeardBy(ctx, ids[1:3])
	if err != nil || len(by) != 2 || by[0].Client != ids[1] || by[0].Result.Received != 30 || by[1].Result.Received != 60 {
		t.Errorf("heard by %+v, %v", by, err)
	}
	each, err := g.CountsOf(ctx, ids)
	if err != nil || len(each) != members || each[0].Counts.Voice != 30 || each[3].Counts.Voice != 60 || each[0].Counts.Opened != 0 || each[3].First.Before(start) || each[3].First.After(time.Now()) {
		t.Errorf("counts of %+v, %v", each, err)
	}
	if err := g.Talk(ctx, talking[:1], ids[:1]); err != nil {
		t.Errorf("stop and start: %v", err)
	}
	if err := g.Close(ctx, ids...); err != nil {
		t.Errorf("close: %v", err)
	}
	if n, err := g.Counts(ctx); err != nil || n.Voice < want {
		t.Errorf("without those who left: %+v, %v", n, err)
	}
	if err := g.Close(ctx, ids[0]); err == nil {
		t.Error("a client is closed twice")
	}
	if err := g.Talk(ctx, talking, nil); err == nil || !strings.Contains(err.Error(), "no client") {
		t.Errorf("a closed client talks: %v", err)
	}
	if _, err := g.Add(ctx, lightclient.Seat{Slots: 1}, lightclient.Seat{}); err == nil {
		t.Error("a client without slots")
	}
}
