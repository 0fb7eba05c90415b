package main

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// TestOverload: four who were seated as people who take turns all talk at once, on a
// node that may send two thirds of that. While there is no other node whoever comes is told
// that it is full, and who is there hears on; when there is one the node is taken out
// and its call moves there.
func TestOverload(t *testing.T) {
	const people, mostMissed = 4, 300 * time.Millisecond
	r := launchRoles(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URL: r.args[2], Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	fleet := allocatorserver.NewClient(conn)
	// A seat is 75 packets/s as long as nothing is known: four of them are 300, and one
	// that was shown just now counts twice.
	small := launch(t, "edge", "--bus", r.args[2], "--node", "small", "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
		"--http", "", "--turn-port", "0", "--capacity-pps", "400", "--advertise", "127.0.0.1")
	small.says(`edge small is up`)
	r.text.nodeIs("small", "ready")
	ctlSays(t, r.text.data, "cordon", "edge1", "--reason", "test")

	ada := r.text.join(http.DefaultClient, r.text.http, "P0")
	channel := r.text.voiceChannel(http.DefaultClient, r.text.http, ada)
	all := []*listener{enter(t, r.text.https(""), r.trust, ada, channel)}
	for i := 1; i < people; i++ {
		guest := r.text.join(http.DefaultClient, r.text.http, fmt.Sprint("P", i))
		all = append(all, enter(t, r.text.https(""), r.trust, guest, channel))
	}
	for _, l := range all {
		talk(t, l) // each of four hears three: 600 packets/s
	}
	more := func(what string) {
		t.Helper()
		for _, l := range all {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, what, func(now int) bool { return now >= already+200 })
		}
	}
	standing := func(what string, is func(n allocator.NodeView) bool) {
		t.Helper()
		for deadline := time.Now().Add(wait); ; {
			nodes, err := fleet.Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				if n.Node == "small" && is(n) {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, nodes)
			}
			more(what)
		}
	}
	standing("it sends more than it may", func(n allocator.NodeView) bool { return n.Load.PPS > 1.1*n.Capacity.PPS })
	calls, err := fleet.Calls(t.Context())
	if err != nil || len(calls) != 1 || calls[0].Node != "small" {
		t.Fatalf("calls %+v, %v", calls, err)
	}
	_, err = fleet.Place(t.Context(), allocator.PlaceRequest{Guild: ada.GuildID.String(), Call: calls[0].Call, User: sfu.UserID{ID: snowflake.ID(99)}, Session: "late", Rights: sfu.Rights{Speak: true}})
	if refused := (*allocator.Error)(nil); !errors.As(err, &refused) || refused.Code != allocator.CodeFull {
		t.Errorf("who comes late is told %v", err)
	}
	more("with a node that is full")

	moved := make(chan allocator.Moved, 16)
	cancel, err := fleet.SubscribeMoved(func(m allocator.Moved) {
		select {
		case moved <- m:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	ctlSays(t, r.text.data, "undrain", "edge1")
	select {
	case m := <-moved:
		if m.From != "small" || m.To != "edge1" || m.Cause != allocator.CauseOverload || !m.Planned {
			t.Errorf("told %+v", m)
		}
	case <-time.After(wait):
		t.Fatal("its call does not move")
	}
	// It is out: nobody is placed there before it is cool again.
	ex, err := fleet.Explain(t.Context(), calls[0].Call)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, k := range ex.Now.Candidates {
		if k.Node == edgeagent.NodeID("small") {
			out = k.WhyNot
		}
	}
	if out != string(allocator.CauseOverload) {
		t.Errorf("explained: it may not be chosen because of %q", out)
	}
	more("where they were moved to")
	for i, l := range all {
		gap := l.gap()
		t.Logf("P%d: at most %v of a voice never came", i, gap)
		if gap > mostMissed {
			t.Errorf("P%d: %v of a voice never came, want at most %v", i, gap, mostMissed)
		}
	}
}
