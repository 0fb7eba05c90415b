package voiceclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling/signalingserver"
	"voicefleet/signaling/signalingtest"
	"voicefleet/signaling/voiceclient"
)

const (
	guild   = snowflake.ID(10)
	channel = snowflake.ID(20)
)

// peers is the media of a node: a PeerConnection per session that passes each
// voice to a slot of each other session, naming its source by CSRC.
type peers struct {
	node *signalingtest.Node

	mu   sync.Mutex
	all  map[sfu.SessionID]*peer
	ssrc map[sfu.SessionID]sfu.SSRC
	user map[sfu.SessionID]sfu.UserID
	next sfu.SSRC
}

type peer struct {
	pc     *webrtc.PeerConnection
	tracks []*webrtc.TrackLocalStaticRTP
	slots  map[sfu.SessionID]int // by speaker
	seqs   []uint16
}

func newPeers(node *signalingtest.Node, first sfu.SSRC) *peers {
	p := &peers{
		node: node, next: first,
		all: make(map[sfu.SessionID]*peer), ssrc: make(map[sfu.SessionID]sfu.SSRC), user: make(map[sfu.SessionID]sfu.UserID),
	}
	node.Opening = func(g edgeagent.Grant) (sfu.SSRC, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next++
		p.ssrc[g.ID], p.user[g.ID] = p.next, g.User
		return p.next, nil
	}
	node.Answer = p.answer
	node.Ending = func(id sfu.SessionID) {
		p.mu.Lock()
		one := p.all[id]
		delete(p.all, id)
		p.mu.Unlock()
		if one != nil {
			_ = one.pc.Close()
		}
	}
	return p
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		_ = one.pc.Close()
	}
}

// demo is one node behind one signaling server.
type demo struct {
	issuer *signalingtest.Issuer
	peers  *peers
	http   *httptest.Server
	stop   func()
}

func newDemo() *demo {
	d := &demo{issuer: signalingtest.NewIssuer(1)}
	node := signalingtest.NewNode("n1", d.issuer)
	d.peers = newPeers(node, 1000)
	s, err := signalingserver.New(signalingserver.Config{Nodes: node, Keys: d.issuer.Keys})
	if err != nil {
		panic(err)
	}
	d.http = httptest.NewTLSServer(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	d.stop = func() { cancel(); <-ended }
	return d
}

func (d *demo) grant(user int) voiceclient.Endpoint {
	u := sfu.UserID{ID: snowflake.ID(user)}
	token := d.issuer.Token(edgeagent.Grant{
		ID: sfu.SessionID(fmt.Sprint("demo", user)), Node: "n1", Guild: guild.String(), Call: sfu.CallID{ID: channel}, User: u, Session: "gw",
	})
	return voiceclient.Endpoint{URLs: []string{"wss" + strings.TrimPrefix(d.http.URL, "https")}, Guild: guild, User: u, Session: "gw", Token: token}
}

func (d *demo) close() {
	d.stop()
	d.http.Close()
	d.peers.close()
}

func (p *peers) answer(id sfu.SessionID, offer string) (edgeagent.NegotiateReply, error) {
	var s webrtc.SettingEngine
	s.SetLite(true)
	s.SetIncludeLoopbackCandidate(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	_ = s.SetAnsweringDTLSRole(webrtc.DTLSRoleServer)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{})).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return edgeagent.NegotiateReply{}, err
	}
	one := &peer{pc: pc, slots: make(map[sfu.SessionID]int)}
	for slot := range strings.Count(offer, "a=recvonly") {
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, fmt.Sprint("slot", slot), fmt.Sprint("slot", slot))
		if err != nil {
			return edgeagent.NegotiateReply{}, err
		}
		if _, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
			return edgeagent.NegotiateReply{}, err
		}
		one.tracks = append(one.tracks, track)
		one.seqs = append(one.seqs, 0)
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			p.mu.Lock()
			for to, listener := range p.all {
				if to == id {
					continue
				}
				slot, seated := listener.slots[id]
				if !seated {
					slot = len(listener.slots)
					if slot == len(listener.tracks) {
						continue
					}
					listener.slots[id] = slot
				}
				out := *packet
				out.Header.CSRC = []uint32{uint32(p.ssrc[id])}
				out.Header.Extension, out.Header.Extensions = false, nil
				out.Header.SequenceNumber = listener.seqs[slot]
				listener.seqs[slot]++
				_ = listener.tracks[slot].WriteRTP(&out)
			}
			p.mu.Unlock()
		}
	})
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return edgeagent.NegotiateReply{}, &edgeagent.Error{Code: edgeagent.CodeBadRequest, Message: err.Error()}
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return edgeagent.NegotiateReply{}, err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return edgeagent.NegotiateReply{}, err
	}
	<-gathered
	p.mu.Lock()
	p.all[id] = one
	p.mu.Unlock()
	return edgeagent.NegotiateReply{Answer: pc.LocalDescription().SDP}, nil
}

// instance is a signaling server behind a listener of its own.
func instance(t *testing.T, cfg signalingserver.Config) (hostport string, stop func()) {
	t.Helper()
	s, err := signalingserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewTLSServer(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			h.Listener.Close()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			h.Close()
		})
	}
	t.Cleanup(stop)
	return h.Listener.Addr().String(), stop
}

// textGateway is a minimal gateway: one guild, one channel, tokens that are
// user ids.
type textGateway struct {
	t      *testing.T
	issuer *signalingtest.Issuer
	url    string

	mu        sync.Mutex
	node      edgeagent.NodeID // where joins are placed
	endpoints []string
	sessions  map[string]*textSession
	grants    int
	resumes   int
	anews     int          // op 4 with anew
	held      []string     // voice sessions that op 4 named
	wanted    snowflake.ID // by the last op 4
	shifted   snowflake.ID // where everybody is who is in; zero: in channel
	refuse    []string     // codes that the next joins are refused with
	later     []float64    // for how many seconds the next identifies are put off
	full      bool         // joins wait in line, or are refused
	line      []*textSession
	move      string // what VOICE_SERVER_UPDATE says of a move
}

type textSession struct {
	id      string
	user    string
	ws      *gws.Conn
	seq     int64
	history [][]byte
	in      bool
}

func newTextGateway(t *testing.T, issuer *signalingtest.Issuer, node edgeagent.NodeID, endpoints ...string) *textGateway {
	g := &textGateway{t: t, issuer: issuer, node: node, endpoints: endpoints, sessions: make(map[string]*textSession)}
	up := gws.NewUpgrader(g, &gws.ServerOption{})
	var wg sync.WaitGroup
	h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/gateway" || r.URL.Query().Get("v") != "10" {
			http.NotFound(w, r)
			return
		}
		ws, err := up.Upgrade(w, r)
		if err != nil {
			return
		}
		wg.Add(1)
		go func() { defer wg.Done(); ws.ReadLoop() }()
	}))
	g.url = h.URL
	t.Cleanup(func() { g.cut(); h.Close(); wg.Wait() })
	return g
}

func (g *textGateway) OnOpen(ws *gws.Conn) {
	_ = ws.WriteString(`{"op":10,"d":{"heartbeat_interval":500},"s":null,"t":null}`)
}
func (g *textGateway) OnPing(*gws.Conn, []byte) {}
func (g *textGateway) OnPong(*gws.Conn, []byte) {}
func (g *textGateway) OnClose(ws *gws.Conn, err error) {
	if e, ok := err.(*gws.CloseError); ok && e.Code == 1000 {
		g.mu.Lock()
		defer g.mu.Unlock()
		for id, s := range g.sessions {
			if s.ws == ws {
				delete(g.sessions, id)
			}
		}
	}
}

func (g *textGateway) OnMessage(ws *gws.Conn, m *gws.Message) {
	defer m.Close()
	var f struct {
		Op int
		D  struct {
			Token   string
			Session string        `json:"session_id"`
			Seq     int64         `json:"seq"`
			Channel *snowflake.ID `json:"channel_id"`
			Anew    bool
			Holds   string
			Wait    bool
		}
	}
	if err := json.Unmarshal(m.Bytes(), &f); err != nil && f.Op != 1 {
		g.t.Errorf("gateway got %s: %v", m.Bytes(), err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var own *textSession
	for _, s := range g.sessions {
		if s.ws == ws {
			own = s
		}
	}
	switch f.Op {
	case 1:
		_ = ws.WriteString(`{"op":11,"d":null}`)
	case 2:
		if _, err := snowflake.Parse(f.D.Token); err != nil {
			_ = ws.WriteClose(4004, nil)
			return
		}
		if len(g.later) > 0 {
			_ = ws.WriteString(fmt.Sprintf(`{"op":9,"d":false,"s":null,"t":null,"retry_after":%g}`, g.later[0]))
			g.later = g.later[1:]
			return
		}
		g.grants++
		s := &textSession{id: fmt.Sprint("gw", g.grants), user: f.D.Token, ws: ws}
		g.sessions[s.id] = s
		s.dispatch("READY", fmt.Sprintf(`{"v":10,"session_id":%q,"user":{"id":%q},"guilds":[]}`, s.id, s.user))
	case 6:
		s := g.sessions[f.D.Session]
		if s == nil || f.D.Seq > s.seq {
			_ = ws.WriteString(`{"op":9,"d":false}`)
			return
		}
		s.ws = ws
		g.resumes++
		for _, frame := range s.history[f.D.Seq:] {
			_ = ws.WriteMessage(gws.OpcodeText, frame)
		}
		s.dispatch("RESUMED", `{}`)
	case 4:
		if own == nil { // its session has been resumed on another connection
			return
		}
		if f.D.Channel == nil {
			own.in = false
			own.dispatch("VOICE_STATE_UPDATE", fmt.Sprintf(`{"guild_id":"%d","channel_id":null,"user_id":%q,"session_id":%q}`, guild, own.user, own.id))
			return
		}
		g.wanted = *f.D.Channel
		if len(g.refuse) > 0 {
			own.dispatch("VOICE_ERROR", fmt.Sprintf(`{"guild_id":"%d","channel_id":"%d","code":%q,"message":"not now"}`, guild, channel, g.refuse[0]))
			g.refuse = g.refuse[1:]
			return
		}
		if g.full {
			if f.D.Wait && !slices.Contains(g.line, own) {
				g.line = append(g.line, own)
			}
			g.tellLineLocked(own)
			return
		}
		again := own.in || f.D.Holds != ""
		own.in = true
		if f.D.Holds != "" {
			g.held = append(g.held, f.D.Holds)
		}
		own.dispatch("VOICE_STATE_UPDATE", fmt.Sprintf(`{"guild_id":"%d","channel_id":"%d","user_id":%q,"session_id":%q}`, guild, max(channel, g.shifted), own.user, own.id))
		if f.D.Anew {
			g.anews++
		}
		if !again || f.D.Anew {
			g.placeLocked(own)
		}
	}
}

// tellLineLocked tells a user its place in line, or that there is one.
func (g *textGateway) tellLineLocked(s *textSession) {
	code, place := "queued", slices.Index(g.line, s)+1
	if place == 0 {
		code, place = "full", len(g.line)+1
	}
	s.dispatch("VOICE_ERROR", fmt.Sprintf(`{"guild_id":"%d","channel_id":"%d","code":%q,"message":"not now","full":{"place":%d,"wait":%d}}`, guild, channel, code, place, 5*place))
}

// shift says that everybody is in another channel, and names no voice server.
func (g *textGateway) shift(to snowflake.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shifted = to
	for _, s := range g.sessions {
		s.dispatch("VOICE_STATE_UPDATE", fmt.Sprintf(`{"guild_id":"%d","channel_id":"%d","user_id":%q,"session_id":%q}`, guild, to, s.user, s.id))
	}
}

// seat lets the first in line in, and tells the others.
func (g *textGateway) seat() {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.line[0]
	g.line = g.line[1:]
	s.in = true
	s.dispatch("VOICE_STATE_UPDATE", fmt.Sprintf(`{"guild_id":"%d","channel_id":"%d","user_id":%q,"session_id":%q}`, guild, channel, s.user, s.id))
	g.placeLocked(s)
	for _, other := range g.line {
		g.tellLineLocked(other)
	}
}

func (g *textGateway) placeLocked(s *textSession) {
	g.grants++
	id, _ := snowflake.Parse(s.user)
	token := g.issuer.Token(edgeagent.Grant{
		ID: sfu.SessionID(fmt.Sprint("voice", g.grants)), Node: g.node, Guild: guild.String(), Call: sfu.CallID{ID: channel},
		User: sfu.UserID{ID: id}, Session: s.id, Rights: sfu.Rights{Speak: true},
	})
	all, _ := json.Marshal(g.endpoints)
	s.dispatch("VOICE_SERVER_UPDATE", fmt.Sprintf(`{"token":%q,"guild_id":"%d","endpoint":%q,"endpoints":%s%s}`, token, guild, g.endpoints[0], all, g.move))
}

func (s *textSession) dispatch(event, d string) {
	s.seq++
	frame := fmt.Appendf(nil, `{"op":0,"s":%d,"t":%q,"d":%s}`, s.seq, event, d)
	s.history = append(s.history, frame)
	_ = s.ws.WriteMessage(gws.OpcodeText, frame)
}

// place sends everybody to a node anew.
func (g *textGateway) place(node edgeagent.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.node = node
	for _, s := range g.sessions {
		if s.in {
			g.placeLocked(s)
		}
	}
}

// follow sends everybody to a node, to which the call moves while the old one
// still serves.
func (g *textGateway) follow(node edgeagent.NodeID) {
	g.mu.Lock()
	g.move = fmt.Sprintf(`,"move":{"from":%q,"to":%q,"cause":"drain","planned":true}`, g.node, node)
	g.mu.Unlock()
	g.place(node)
}

func (g *textGateway) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.anews
}

// kick takes a user out of the channel.
func (g *textGateway) kick(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if s.user == user {
			s.in = false
			s.dispatch("VOICE_STATE_UPDATE", fmt.Sprintf(`{"guild_id":"%d","channel_id":null,"user_id":%q,"session_id":%q}`, guild, s.user, s.id))
		}
	}
}

// cut ends all connections, as a lost network would.
func (g *textGateway) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		_ = s.ws.NetConn().Close()
	}
}

// forget ends all connections and sessions, as a restart would.
func (g *textGateway) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		_ = s.ws.NetConn().Close()
	}
	clear(g.sessions)
}

func (g *textGateway) resumed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.resumes
}

// port is the endpoint form with an empty host.
func port(hostport string) string {
	u := url.URL{Host: hostport}
	return ":" + u.Port()
}

const patience = 30 * time.Second
