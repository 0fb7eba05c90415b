package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// bot is a listener in the channel that decodes what arrives, packet by packet:
// no jitter buffer stands between its ears and the network.
type bot struct {
	call *voiceclient.Call

	mu sync.Mutex
	// Guarded by mu.
	heard map[sfu.UserID][]frame
}

// frame is one decoded packet.
type frame struct {
	arrived time.Time
	power   [4]float64 // of Ada's and Brian's tones, dB of full scale
}

// newBot joins the Lobby as a guest. It is nil, and says so, where Opus cannot
// be decoded.
func newBot(t *testing.T, h *house, base, ca string) *bot {
	t.Helper()
	if newDecoder == nil {
		t.Log("no bot listens: built without the tag opus")
		return nil
	}
	b := &bot{heard: map[sfu.UserID][]frame{}}
	decoders := map[sfu.SSRC]decoder{}
	hear := func(p voiceclient.Packet) {
		b.mu.Lock()
		defer b.mu.Unlock()
		d := decoders[p.SSRC]
		if d == nil {
			var err error
			if d, err = newDecoder(); err != nil {
				return
			}
			decoders[p.SSRC] = d
		}
		if pcm, err := d(p.Opus); err == nil {
			b.heard[p.User] = append(b.heard[p.User], frame{arrived: p.Arrived, power: tonesIn(pcm)})
		}
	}
	b.call = joinLobby(t, h, base, ca, "Beepo", hear)
	return b
}

// joinLobby enters the Lobby as a guest by the Go client.
func joinLobby(t *testing.T, h *house, base, ca, nickname string, hear func(voiceclient.Packet)) *voiceclient.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	call, err := voiceclient.Join(ctx, guest(t, h, base, ca, nickname, hear))
	must(t, err)
	t.Cleanup(func() { _ = call.Close() })
	return call
}

// guest is somebody who may join the Lobby by the Go client.
func guest(t *testing.T, h *house, base, ca, nickname string, hear func(voiceclient.Packet)) voiceclient.Config {
	t.Helper()
	web := &http.Client{Timeout: 10 * time.Second}
	opts := voiceclient.Options{OnAudio: hear}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		must(t, err)
		opts.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		opts.TLS.RootCAs.AppendCertsFromPEM(pem)
		web.Transport = &http.Transport{TLSClientConfig: opts.TLS}
	}
	res, err := web.Post(base+"/api/v10/auth/guest", "application/json", bytes.NewBufferString(fmt.Sprintf(`{"invite":%q,"nickname":%q}`, h.invite, nickname)))
	must(t, err)
	defer func() { _ = res.Body.Close() }()
	var guest struct {
		Token string
		Guild snowflake.ID `json:"guild_id"`
	}
	must(t, json.NewDecoder(res.Body).Decode(&guest))
	return voiceclient.Config{
		Server: base, Token: guest.Token, Guild: guest.Guild, Channel: lobby(t, web, base, guest.Token, guest.Guild), Options: opts,
	}
}

// lobby finds the voice channel of that name.
func lobby(t *testing.T, web *http.Client, base, token string, guild snowflake.ID) snowflake.ID {
	t.Helper()
	req, err := http.NewRequest("GET", fmt.Sprintf("%s/api/v10/guilds/%v/channels", base, guild), nil)
	must(t, err)
	req.Header.Set("Authorization", token)
	res, err := web.Do(req)
	must(t, err)
	defer func() { _ = res.Body.Close() }()
	var channels []struct {
		ID   snowflake.ID
		Name string
	}
	must(t, json.NewDecoder(res.Body).Decode(&channels))
	for _, c := range channels {
		if c.Name == "Lobby" {
			return c.ID
		}
	}
	t.Fatalf("no Lobby among %+v", channels)
	return 0
}

// tonesIn measures the four tones in 20 ms of sound.
func tonesIn(pcm []int16) (db [4]float64) {
	for i, hz := range [4]float64{ada.tones[0], ada.tones[1], brian.tones[0], brian.tones[1]} {
		w := 2 * math.Cos(2*math.Pi*hz/sampleRate)
		var s1, s2 float64
		for k, v := range pcm {
			hann := 0.5 - 0.5*math.Cos(2*math.Pi*float64(k)/float64(len(pcm)))
			s1, s2 = float64(v)/32768*hann+w*s1-s2, s1
		}
		n := float64(len(pcm))
		db[i] = 10 * math.Log10((s1*s1+s2*s2-w*s1*s2)/(n*n/16)+1e-12)
	}
	return db
}

// hears checks that exactly two voices arrive, each as a user of its own with
// its pair at least 20 dB above the other's.
func (b *bot) hears(t *testing.T) {
	t.Helper()
	if b == nil {
		return
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		who := map[string]int{}
		b.mu.Lock()
		for _, frames := range b.heard {
			var sum [4]float64
			loud := 0
			for _, f := range frames {
				if max(f.power[0], f.power[2]) > floor+15 {
					loud++
					for i, p := range f.power {
						sum[i] += math.Pow(10, p/10)
					}
				}
			}
			if loud < 20 {
				continue
			}
			for i := range sum {
				sum[i] = 10 * math.Log10(sum[i]/float64(loud)+1e-12)
			}
			switch {
			case min(sum[0], sum[1]) > max(sum[2], sum[3])+20:
				who["Ada"]++
			case min(sum[2], sum[3]) > max(sum[0], sum[1])+20:
				who["Brian"]++
			default:
				who[fmt.Sprintf("somebody with %.0f dB", sum)]++
			}
		}
		b.mu.Unlock()
		if len(who) == 2 && who["Ada"] == 1 && who["Brian"] == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the bot hears %v, want Ada and Brian", who)
			return
		}
		time.Sleep(20 * time.Millisecond) // between looks; the deadline decides
	}
}

// lastOf is when the last packet came in which the speaker of tone i, and of no
// other, could be heard.
func (b *bot) lastOf(i int) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var last time.Time
	for _, frames := range b.heard {
		for _, f := range frames {
			// A click of another voice is loud everywhere for a moment.
			if f.power[i] > floor && f.power[i] > f.power[(i+2)%4]+10 && f.arrived.After(last) {
				last = f.arrived
			}
		}
	}
	return last
}

// decoder turns one packet into mono sound at 48 kHz, lent until the next.
type decoder func(packet []byte) ([]int16, error)

// newDecoder is set where Opus can be decoded.
var newDecoder func() (decoder, error)
