package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"voicefleet/allocator"
	"voicefleet/textchat"
)

// writeGeoIP makes a City database of where networks are.
func writeGeoIP(t *testing.T, places map[string][2]float64) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true, RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, at := range places {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		entry := mmdbtype.Map{"location": mmdbtype.Map{"latitude": mmdbtype.Float64(at[0]), "longitude": mmdbtype.Float64(at[1])}}
		if err := tree.Insert(network, entry); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "city.mmdb")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return file
}

// bare is a client that measures nothing.
type bare struct {
	gws.BuiltinEventHandler
	t      *testing.T
	ws     *gws.Conn
	events chan string // their names, and "hello"
}

func (b *bare) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	var f struct {
		Op int    `json:"op"`
		T  string `json:"t"`
	}
	if err := json.Unmarshal(m.Bytes(), &f); err != nil {
		b.t.Errorf("the gateway says %q", m.Bytes())
	}
	if f.Op == 10 {
		f.T = "hello"
	}
	b.events <- f.T
}

// enterFrom has somebody behind a proxy join a voice channel.
func (r *running) enterFrom(address string, g guest, channel textchat.ID) {
	r.t.Helper()
	b := &bare{t: r.t, events: make(chan string, 1000)}
	ws, _, err := gws.NewClient(b, &gws.ClientOption{
		Addr: fmt.Sprintf("ws://127.0.0.1:%d/gateway?v=10&encoding=json", r.port), RequestHeader: http.Header{"X-Forwarded-For": {address}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	b.ws = ws
	ended := make(chan struct{})
	go func() { defer close(ended); ws.ReadLoop() }()
	r.t.Cleanup(func() { ws.NetConn().Close(); <-ended })
	b.until("hello")
	b.send(2, map[string]any{"token": g.Token, "intents": textchat.IntentGuilds | textchat.IntentVoiceStates, "properties": map[string]any{}})
	b.until("READY")
	b.send(4, map[string]any{"guild_id": g.GuildID, "channel_id": channel, "self_mute": false, "self_deaf": false})
	b.until("VOICE_SERVER_UPDATE")
}

func (b *bare) send(op int, d any) {
	b.t.Helper()
	body, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err == nil {
		err = b.ws.WriteMessage(gws.OpcodeText, body)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bare) until(event string) {
	b.t.Helper()
	for deadline := time.After(wait); ; {
		select {
		case got := <-b.events:
			if got == event {
				return
			}
		case <-deadline:
			b.t.Fatalf("no %s came", event)
		}
	}
}

// TestGeoIPPlacesCalls: who measures nothing is placed in the region that is near by
// what a database of --geoip says of the address that a trusted proxy names.
func TestGeoIPPlacesCalls(t *testing.T) {
	frankfurt, sydney := [2]float64{50.1, 8.7}, [2]float64{-33.9, 151.2}
	file := writeGeoIP(t, map[string][2]float64{"192.0.2.0/24": {48.9, 2.4}, "2001:db8::/32": {-37.8, 145}}) // Paris, Melbourne
	at := func(p [2]float64) string { return fmt.Sprintf("--location=%v,%v", p[0], p[1]) }
	r := launchUp(t, "--bus-listen", fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]), "--node", "fra1", "--region", "eu-central", at(frankfurt),
		"--geoip", file, "--trusted-proxy", "127.0.0.1")
	address := r.says(`voicefleet edge --bus (nats://\S+)`)
	edge := launch(t, "edge", "--bus", address, "--node", "syd1", "--region", "au", at(sydney), "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
		"--http", "", "--turn-port", "0", "--capacity-pps", "100000", "--drain-time", "0")
	edge.says(`edge syd1 is up`)
	r.nodeIs("fra1", "ready")
	r.nodeIs("syd1", "ready")
	ada, bob := r.join(http.DefaultClient, r.http, "Ada"), r.join(http.DefaultClient, r.http, "Bob")
	channels := r.voiceChannels(http.DefaultClient, r.http, ada)
	if len(channels) < 2 {
		t.Fatalf("voice channels %v", channels)
	}
	for i, c := range []struct {
		from string
		who  guest
		want string
	}{{"192.0.2.9", ada, "fra1"}, {"2001:db8:1::9", bob, "syd1"}} {
		r.enterFrom(c.from, c.who, channels[i])
		var x allocator.ExplainReply
		if err := json.Unmarshal([]byte(ctlSays(t, r.data, "explain", channels[i].String(), "--json")), &x); err != nil || x.Entry == nil {
			t.Fatalf("from %s: %+v, %v", c.from, x, err)
		}
		if string(x.Entry.Node) != c.want {
			t.Errorf("from %s the call is on %s, want %s: %+v", c.from, x.Entry.Node, c.want, x.Entry.Why)
		}
		for _, n := range x.Entry.Why.Candidates {
			if n.RTTFrom != "geoip" {
				t.Errorf("from %s the distance of %s is known by %s", c.from, n.Node, n.RTTFrom)
			}
		}
	}
}
