package gatewaysession

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
)

var start = time.Unix(1_800_000_000, 0)

func TestIntakeCloses(t *testing.T) {
	long := `{"op":1,"d":"` + strings.Repeat("x", textchat.MaxFrame) + `"}`
	deep := `{"op":3,"d":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`
	for _, c := range []struct {
		in         string
		identified bool
		want       textchat.CloseCode
	}{
		{``, false, textchat.CloseDecode},
		{`x`, false, textchat.CloseDecode},
		{`[]`, false, textchat.CloseDecode},
		{`{}`, false, textchat.CloseDecode},
		{`{"op":"1"}`, false, textchat.CloseDecode},
		{`{"op":1,"op":2}`, false, textchat.CloseDecode},
		{"{\"op\":1,\"d\":\"\xff\"}", false, textchat.CloseDecode},
		{long, false, textchat.CloseDecode},
		{deep, true, textchat.CloseDecode},
		{`{"op":99}`, false, textchat.CloseUnknownOp},
		{`{"op":0}`, true, textchat.CloseUnknownOp},
		{`{"op":10}`, true, textchat.CloseUnknownOp},
		{`{"op":3,"d":{}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":4,"d":{}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":8,"d":{}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":4,"d":{"guild_id":"x"}}`, true, textchat.CloseDecode},
		{`{"op":4,"d":{"self_mute":1}}`, true, textchat.CloseDecode},
		{`{"op":2,"d":null}`, false, textchat.CloseDecode},
		{`{"op":2,"d":{"intents":1}}`, false, textchat.CloseAuthFailed},
		{`{"op":2,"d":{"token":"` + strings.Repeat("t", 300) + `","intents":1}}`, false, textchat.CloseAuthFailed},
		{`{"op":2,"d":{"token":"t"}}`, false, textchat.CloseInvalidIntents},
		{`{"op":2,"d":{"token":"t","intents":268435456}}`, false, textchat.CloseInvalidIntents},
		{`{"op":2,"d":{"token":"t","intents":-1}}`, false, textchat.CloseDecode},
		{`{"op":2,"d":{"token":"t","intents":1,"shard":[1,1]}}`, false, textchat.CloseInvalidShard},
		{`{"op":2,"d":{"token":"t","intents":1,"shard":[0,0]}}`, false, textchat.CloseInvalidShard},
		{`{"op":2,"d":{"token":"t","intents":1,"shard":[0]}}`, false, textchat.CloseInvalidShard},
		{`{"op":2,"d":{"token":"t","intents":1}}`, true, textchat.CloseAlreadyIdentified},
		{`{"op":6,"d":{"token":"t","session_id":"s","seq":1}}`, true, textchat.CloseAlreadyIdentified},
		{`{"op":6,"d":{"seq":-1}}`, false, textchat.CloseDecode},
		{`{"op":31,"d":{"guild_ids":[]}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":43,"d":{"guild_id":"1"}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":31,"d":[]}`, true, textchat.CloseDecode},
		{`{"op":3,"d":[]}`, true, textchat.CloseDecode},
		{`{"op":8,"d":{"guild_id":"1","limit":"x"}}`, true, textchat.CloseDecode},
		{`{"op":2,"d":{"token":"t","intents":1,"presence":[]}}`, false, textchat.CloseDecode},
		{`{"op":2,"d":{"token":"t","intents":"1"}}`, false, textchat.CloseDecode},
		{`{"op":14,"d":{"guild_id":"1"}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":37,"d":{}}`, false, textchat.CloseNotAuthenticated},
		{`{"op":14,"d":[]}`, true, textchat.CloseDecode},
		{`{"op":14,"d":{"guild_id":"1","channels":{"x":[[0,99]]}}}`, true, textchat.CloseDecode},
		{`{"op":14,"d":{"guild_id":"1","channels":{"2":[[-1,99]]}}}`, true, textchat.CloseDecode},
		{`{"op":14,"d":{"guild_id":"1","channels":{"2":[[99,0]]}}}`, true, textchat.CloseDecode},
		{`{"op":14,"d":{"guild_id":"1","channels":{"2":[],"02":[]}}}`, true, textchat.CloseDecode},
		{`{"op":37,"d":{"subscriptions":{"x":{}}}}`, true, textchat.CloseDecode},
		{`{"op":37,"d":{"subscriptions":{"1":{},"01":{}}}}`, true, textchat.CloseDecode},
		{`{"op":-1}`, true, textchat.CloseUnknownOp},
		{`{"op":1.5}`, true, textchat.CloseDecode},
	} {
		in := Intake{identified: c.identified}
		a := in.Handle(start, []byte(c.in))
		got := a.Close
		if a.Identify != nil {
			got = a.Identify.Wrong // what the token decides first
		}
		if got != c.want {
			t.Errorf("%.60s (identified %v): %d, want %d", c.in, c.identified, got, c.want)
		}
	}
}

func TestIntakeReadsWhatLibrariesSend(t *testing.T) {
	in := Intake{}
	a := in.Handle(start, []byte(`{"op":2,"d":{"token":"Bot abc","intents":53608189,"compress":true,"large_threshold":250,"shard":[1,3],"properties":{"$os":"linux"},"presence":{"since":0,"game":{"name":""},"status":"","afk":false}}}`))
	if id := a.Identify; id == nil || id.Token != "abc" || !id.Compress || id.Large != 250 || id.Shard != [2]uint64{1, 3} {
		t.Errorf("identify: %+v", a)
	}
	if a = in.Handle(start, []byte(`{"op":6,"d":{"token":"Bot abc","session_id":"s","seq":null}}`)); a.Resume == nil || a.Resume.Token != "abc" || a.Resume.Seq != 0 {
		t.Errorf("resume: %+v", a)
	}
	for d, want := range map[string]uint64{"null": 0, "0": 0, "251": 251, "-1": 0, `"x"`: 0, "1.5": 0, "18446744073709551616": 1<<64 - 1} {
		if a = in.Handle(start, []byte(`{"op":1,"d":`+d+`}`)); a.Beat == nil || a.Beat.Seq != want {
			t.Errorf("beat of %s: %+v", d, a.Beat)
		}
	}
	if a = in.Handle(start, []byte(`{"op":40,"d":{"seq":1,"qos":{}}}`)); a.Beat == nil {
		t.Errorf("beat of a user client: %+v", a)
	}
	in.Identified()
	for _, s := range []string{
		`{"op":4,"d":{"guild_id":41771983423143937,"channel_id":41771983423143938,"self_mute":true,"self_deaf":false}}`,
		`{"op":4,"d":{"guild_id":"41771983423143937","channel_id":"41771983423143938","self_mute":true}}`,
	} {
		if v := in.Handle(start, []byte(s)).Voice; v == nil || v.Guild != 41771983423143937 || v.Channel != 41771983423143938 || !v.SelfMute {
			t.Errorf("%s: %+v", s, v)
		}
	}
	if v := in.Handle(start, []byte(`{"op":4,"d":{"guild_id":"1","channel_id":null,"rtt":{"eu":12.5,"bad":-1}}}`)).Voice; v == nil || v.Channel != 0 || len(v.RTT) != 1 {
		t.Errorf("leave: %+v", v)
	}
	if m := in.Handle(start, []byte(`{"op":8,"d":{"guild_id":["7"],"query":"","limit":0,"nonce":"n"}}`)).Members; m == nil || m.Guild != 7 || m.Nonce != "n" {
		t.Errorf("members: %+v", m)
	}
	if m := in.Handle(start, []byte(`{"op":8,"d":{"guild_id":7,"user_ids":"9"}}`)).Members; m == nil || len(m.Users) != 1 || m.Users[0] != 9 {
		t.Errorf("members by id: %+v", m)
	}
	if m := in.Handle(start, []byte(`{"op":8,"d":{"guild_id":"7","query":"a","limit":5,"presences":true,"nonce":"`+strings.Repeat("n", 33)+`"}}`)).Members; m == nil || !m.Presences || m.Nonce != "" || m.Limit != 5 {
		t.Errorf("members with presences: %+v", m)
	}
	if e := in.Handle(start, []byte(`{"op":31,"d":{"guild_ids":["7",8]}}`)).Empty; e == nil || e.Op != OpSoundboardSounds || len(e.Guilds) != 2 {
		t.Errorf("sounds: %+v", e)
	}
	if e := in.Handle(start, []byte(`{"op":43,"d":{"guild_id":"7","fields":["status"]}}`)).Empty; e == nil || e.Op != OpChannelInfo || len(e.Guilds) != 1 {
		t.Errorf("channel info: %+v", e)
	}
}

// TestIntakeLooks holds that what a client looks at is read, and bounded.
func TestIntakeLooks(t *testing.T) {
	var in Intake
	in.Identified()
	many := strings.Repeat("[0,4000000000],", 20)
	for text, want := range map[string]string{
		`{"op":14,"d":{"guild_id":"1","typing":true,"threads":false}}`:                                 "1 open=true map[]",
		`{"op":14,"d":{"guild_id":1,"typing":false,"activities":false,"threads":false,"channels":{}}}`: "1 open=false map[]",
		`{"op":14,"d":{"guild_id":"1","members":["5"]}}`:                                               "1 open=<nil> map[]",
		`{"op":14,"d":{"guild_id":"1","channels":{"2":[[0,99],[100,199]]}}}`:                           "1 open=true map[2:[0 1]]",
		`{"op":14,"d":{"guild_id":"1","channels":{"2":[[50,149]]}}}`:                                   "1 open=true map[2:[0 1]]",
		`{"op":14,"d":{"guild_id":"1","channels":{"2":[` + many + `[0,1]]}}}`:                          "1 open=true map[2:[0 1 2 3 4 5 6 7 8 9]]",
		`{"op":14,"d":{"guild_id":"1","channels":{"2":[],"3":[],"4":[],"5":[],"6":[],"7":[[0,1]]}}}`:   "1 open=<nil> map[2:[] 3:[] 4:[] 5:[] 6:[]]",
		`{"op":37,"d":{"subscriptions":{"1":{"typing":true,"channels":{"2":[[0,99]]}},"8":{}}}}`:       "1 open=true map[2:[0]] 8 open=<nil> map[]",
	} {
		a := in.Handle(start, []byte(text))
		var got []string
		for _, l := range a.Looks {
			open := "<nil>"
			if l.Open != nil {
				open = fmt.Sprint(*l.Open)
			}
			got = append(got, fmt.Sprintf("%v open=%s %v", l.Guild, open, l.Pages))
		}
		if strings.Join(got, " ") != want || a.Close != 0 {
			t.Errorf("%s: %s, close %d; want %s", text, strings.Join(got, " "), a.Close, want)
		}
	}
}

// TestIntakeFarRange holds that a range of places no list has costs nothing to read.
func TestIntakeFarRange(t *testing.T) {
	read := make(chan Action, 1)
	for _, r := range []string{"[400000,9223372036854775807]", "[9223372036854775807,9223372036854775807]", "[399999,9223372036854775807]"} {
		go func() {
			in := Intake{identified: true}
			read <- in.Handle(start, []byte(`{"op":14,"d":{"guild_id":"1","channels":{"2":[`+r+`]}}}`))
		}()
		select {
		case a := <-read:
			if len(a.Looks) != 1 || len(a.Looks[0].Pages[2]) > 1 {
				t.Errorf("%s: %+v", r, a)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is not read after 20 s", r)
		}
	}
}

func TestIntakePresence(t *testing.T) {
	in := Intake{identified: true}
	long := strings.Repeat("é", 200)
	for _, c := range []struct{ in, want string }{
		{`{"status":"online","since":null,"activities":[],"afk":false}`, "{online []}"},
		{`{"status":"dnd","activities":[{"name":"chess","type":0}]}`, "{dnd [{chess 0   1800000000000}]}"},
		{`{"status":"idle","activities":[{"name":"a song","type":2,"state":"loud","url":"https://example.org","secrets":{}}]}`, "{idle [{a song 2 https://example.org loud 1800000000000}]}"},
		{`{"status":"offline"}`, "{invisible []}"},
		{`{"status":"invisible"}`, "{invisible []}"},
		{`{"status":"","game":{"name":""},"since":0}`, "{online []}"},
		{`{"status":"dancing","activities":null}`, "{online []}"},
		{`{"activities":[{"name":""},{"name":"x","type":99}]}`, "{online [{x 5   1800000000000}]}"},
		{`{"activities":[{"name":"` + long + `"}]}`, "{online [{" + strings.Repeat("é", maxActivityText) + " 0   1800000000000}]}"},
	} {
		a := in.Handle(start, []byte(`{"op":3,"d":`+c.in+`}`))
		if a.Presence == nil || fmt.Sprint(*a.Presence) != c.want {
			t.Errorf("%.60s: %v, want %s", c.in, a.Presence, c.want)
		}
	}
	if a := in.Handle(start, []byte(`{"op":3,"d":{"activities":{}}}`)); a.Close != textchat.CloseDecode {
		t.Errorf("activities that are no list: %+v", a)
	}
	in = Intake{}
	id := in.Handle(start, []byte(`{"op":2,"d":{"token":"t","intents":1,"presence":{"status":"idle"}}}`)).Identify
	if id == nil || id.Presence.Status != Idle {
		t.Errorf("in an Identify: %+v", id)
	}
	if id = in.Handle(start, []byte(`{"op":2,"d":{"token":"t","intents":1}}`)).Identify; id == nil || id.Presence.Status != Online {
		t.Errorf("none in an Identify: %+v", id)
	}
}

func TestIntakeFrameBudget(t *testing.T) {
	var in Intake
	for i := range textchat.FrameBudget {
		if a := in.Handle(start, []byte(`{"op":1,"d":null}`)); a.Close != 0 {
			t.Fatalf("frame %d: %d", i, a.Close)
		}
	}
	if a := in.Handle(start.Add(59*time.Second), []byte(`{"op":1}`)); a.Close != textchat.CloseRateLimited {
		t.Fatalf("one too many: %+v", a)
	}
	if a := in.Handle(start.Add(60*time.Second), []byte(`{"op":1}`)); a.Close != 0 {
		t.Fatalf("the next minute: %+v", a)
	}
}

func TestIntakePings(t *testing.T) {
	var in Intake
	for i := range textchat.PingBudget {
		if code := in.Ping(start.Add(time.Duration(i) * 900 * time.Millisecond)); code != 0 {
			t.Fatalf("ping %d: %d", i, code)
		}
	}
	if rest := in.Rest(start); rest != 0 {
		t.Errorf("nothing was too much, and yet it rests %v", rest)
	}
	if code, rest := in.Ping(start.Add(9*time.Second)), in.Rest(start.Add(9*time.Second)); code != textchat.CloseRateLimited || rest != time.Second {
		t.Errorf("one too many: %d, rests %v", code, rest)
	}
	if code := in.Ping(start.Add(10 * time.Second)); code != 0 {
		t.Errorf("the next ten seconds: %d", code)
	}
	// They are frames like any other.
	in = Intake{}
	for range textchat.FrameBudget {
		in.Count(start)
	}
	if code, rest := in.Ping(start.Add(20*time.Second)), in.Rest(start.Add(20*time.Second)); code != textchat.CloseRateLimited || rest != 40*time.Second {
		t.Errorf("a ping after 120 frames: %d, rests %v", code, rest)
	}
}

func TestPlainBeat(t *testing.T) {
	for in, want := range map[string]uint64{`{"op":1,"d":251}`: 251, `{"op": 1, "d": null}`: 0, `{"d":7,"op":1}`: 7, `{"d": 0, "op": 1}`: 0} {
		if seq, ok := PlainBeat([]byte(in)); !ok || seq != want {
			t.Errorf("%s: %d %v", in, seq, ok)
		}
	}
	for _, in := range []string{``, `{}`, `{"op":1}`, `{"op":1,"d":}`, `{"op":11,"d":1}`, `{"op":1,"d":-1}`, `{"op":1,"d":1.5}`, `{"op":1,"d":01}`, `{"op":1,"d":"1"}`,
		`{"op":1,"d":1}}`, `{"op":1,"d":1 2}`, `{"op":1,"d":1,"op":2}`, `{"op":1,"d":9999999999999999999}`, `{"op":1,"d":1}` + strings.Repeat(" ", 50)} {
		if _, ok := PlainBeat([]byte(in)); ok {
			t.Errorf("%s is taken", in)
		}
	}
}

func FuzzIntake(f *testing.F) {
	for _, s := range []string{`{"op":1,"d":1}`, `{"op":2,"d":{"token":"t","intents":1,"shard":[0,1]}}`, `{"op":4,"d":{"guild_id":1,"channel_id":null}}`,
		`{"op":8,"d":{"guild_id":["1"],"user_ids":[1,2]}}`, `{"op":6,"d":{"seq":18446744073709551615}}`, `{"op":3,"d":null}`,
		`{"op":3,"d":{"status":"dnd","activities":[{"name":"x","type":4}]}}`, `{"op":31,"d":{"guild_ids":[1]}}`, `{"op":40,"d":{}}`,
		`{"op":14,"d":{"guild_id":"1","channels":{"2":[[0,9223372036854775807]]}}}`, `{"op":37,"d":{"subscriptions":{"1":{"channels":{"2":[]}}}}}`} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, identified bool) {
		in := Intake{identified: identified}
		a := in.Handle(start, b)
		// The short way reads nothing that the long way reads otherwise.
		if seq, ok := PlainBeat(b); ok && (a.Beat == nil || a.Beat.Seq != seq) {
			t.Fatalf("%q: a heartbeat of %d, and %+v", b, seq, a)
		}
		n := 0
		for _, set := range []bool{a.Close != 0, a.Beat != nil, a.Identify != nil, a.Resume != nil, a.Voice != nil, a.Members != nil, a.Presence != nil, a.Empty != nil} {
			if set {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("%q asks for %d things", b, n)
		}
		if a.Members != nil && len(a.Members.Users) > maxIDs || a.Voice != nil && len(a.Voice.RTT) > maxRTT ||
			a.Presence != nil && len(a.Presence.Activities) > maxActivities || a.Empty != nil && len(a.Empty.Guilds) > maxIDs {
			t.Fatalf("%q is kept without bound", b)
		}
	})
}
