package voiceclient_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
	"voicefleet/signaling/signalingserver"
	"voicefleet/signaling/signalingtest"
	"voicefleet/signaling/voiceclient"
)

// engineWorld is a node whose media is the real engine.
func engineWorld(t *testing.T) (*signalingtest.Node, *textGateway) {
	engine := sfutest.Start(t, 2, sfu.Start{})
	issuer := signalingtest.NewIssuer(1)
	node := signalingtest.NewNode("n1", issuer)
	node.Opening = func(g edgeagent.Grant) (sfu.SSRC, error) {
		opened, err := engine.Open(g.ID, g.Call, g.User)
		if err != nil {
			return 0, err
		}
		return opened.SSRC, nil
	}
	node.Answer = func(id sfu.SessionID, offer string) (edgeagent.NegotiateReply, error) {
		n, err := engine.Negotiate(id, offer)
		if err != nil {
			return edgeagent.NegotiateReply{}, err
		}
		return edgeagent.NegotiateReply{Answer: n.Answer, Slots: n.Slots}, nil
	}
	node.Ending = func(id sfu.SessionID) { _ = engine.Close(id) }
	host, _ := instance(t, signalingserver.Config{Nodes: node, Keys: issuer.Keys})
	return node, newTextGateway(t, issuer, "n1", port(host))
}

// Three clients hear each other through the real engine; each by its name, and
// with the default number of slots.
func TestThreeThroughTheEngine(t *testing.T) {
	_, gw := engineWorld(t)
	var ears []*ear
	var calls []*voiceclient.Call
	for user := 1; user <= 3; user++ {
		e := newEar()
		opts := e.options()
		opts.Slots = 0
		c, err := voiceclient.Join(context.Background(), voiceclient.Config{Server: gw.url, Token: fmt.Sprint(user), Guild: guild, Channel: channel, Options: opts})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ears, calls = append(ears, e), append(calls, c)
	}
	talk := func() {
		for i, c := range calls {
			speak(t, c, fmt.Sprintf("voice %d", i+1))()
		}
	}
	for i, e := range ears {
		e.until(t, "hears the two others", talk, func() bool {
			heard := 0
			for words := range e.heard {
				var user, voice int
				if _, err := fmt.Sscanf(words, "%d voice %d", &user, &voice); err != nil {
					// The engine ends a spurt with frames of its own.
					if !strings.HasSuffix(words, "\xf8\xff\xfe") {
						t.Fatalf("%d heard %q", i+1, words)
					}
					continue
				}
				if user != voice || user == i+1 {
					t.Fatalf("%d heard %q", i+1, words)
				}
				heard++
			}
			return heard == 2
		})
	}
	s := calls[0].Stats()
	t.Logf("%+v", s)
	if s.Connected <= 0 || s.Connected > patience {
		t.Errorf("joined in %v", s.Connected)
	}
}
