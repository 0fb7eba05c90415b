package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// crowd is a fleet of many regions in any state, of whose guilds one tries a label.
func crowd(draw *rand.Rand, nodes int) (*Fleet, []edgeagent.Heartbeat) {
	f := &Fleet{}
	f.Try(allocator.GuildLabel{Guild: "7", Label: "canary"})
	var all []edgeagent.Heartbeat
	for i := range nodes {
		hb := node(fmt.Sprintf("n%d", i), fmt.Sprintf("r%d", draw.IntN(8)), draw.IntN(1001))
		hb.Zone = fmt.Sprint(draw.IntN(3))
		hb.At = start
		hb.Started = start.Add(-time.Duration(draw.IntN(600)) * time.Second)
		if draw.IntN(8) == 0 {
			hb.State = edgeagent.Draining
		}
		if draw.IntN(8) == 0 {
			hb.Label, hb.Weight = "canary", draw.Float64()
		}
		f.Observe(start, hb)
		f.Reserve(hb.Node, draw.IntN(100))
		all = append(all, hb)
	}
	for range nodes / 10 {
		f.Lose(start, all[draw.IntN(len(all))].Node)
	}
	return f, all
}

func asking(draw *rand.Rand) *allocator.PlaceRequest {
	req := &allocator.PlaceRequest{Call: channel(1 + draw.IntN(1000)), RTT: map[string]float64{}}
	for r := range 8 {
		if draw.IntN(3) > 0 {
			req.RTT[fmt.Sprintf("r%d", r)] = 5 + 200*draw.Float64()
		}
	}
	for range draw.IntN(3) {
		req.RTT[fmt.Sprintf("n%d", draw.IntN(60))] = 1 + 300*draw.Float64()
	}
	if draw.IntN(2) == 0 {
		req.Region = "r3"
	}
	if draw.IntN(4) == 0 {
		req.Guild = "7"
	}
	if draw.IntN(4) == 0 {
		req.Avoid = []edgeagent.NodeID{"n1", "n2"}
	}
	return req
}

// TestChooseIsTheBestOfAll: that far regions are not looked at changes nothing:
// the choice is among the nearly cheapest of all nodes, with the cost that the
// explanation tells, and over many draws most of them are chosen and the fullest
// never is.
func TestChooseIsTheBestOfAll(t *testing.T) {
	for seed := range uint64(300) {
		draw := rand.New(rand.NewPCG(seed, 5))
		f, _ := crowd(draw, 60)
		req := asking(draw)
		more := 1 + draw.IntN(50)
		all := f.Explain(start, req, more, draw).Candidates
		if len(all) != len(f.index) {
			t.Fatalf("seed %d: %d candidates of %d nodes", seed, len(all), len(f.index))
		}
		want := map[edgeagent.NodeID]float64{}
		fullest, n := edgeagent.NodeID(""), 0.0
		for _, k := range all {
			if k.WhyNot == "" && k.Cost <= nearly(all[0].Cost) {
				want[k.Node] = k.Cost
				switch {
				case k.Fullness == n:
					fullest = "" // there are two
				case k.Fullness > n:
					fullest, n = k.Node, k.Fullness
				}
			}
		}
		got := map[edgeagent.NodeID]bool{}
		for range 400 {
			choice := f.Choose(start, req, more, draw)
			cost, ok := want[choice.Node]
			if !ok && choice.Node != "" || math.Abs(cost-choice.Cost) > 1e-9 {
				t.Fatalf("seed %d: chose %+v, the nearly cheapest are %v", seed, choice, want)
			}
			got[choice.Node] = true
		}
		if len(want) > 1 && got[fullest] {
			t.Fatalf("seed %d: the fullest of %v was chosen: %v", seed, want, got)
		}
		if len(want) > 3 && len(got) < len(want)/2 { // the fullest few hardly ever win a draw
			t.Fatalf("seed %d: only %v of %v were ever chosen", seed, got, want)
		}
	}
}

// TestOneFunctionDecides: what the server decides, what Choose decides for the
// simulator, and what the explanation tells are the same for the same lot.
func TestOneFunctionDecides(t *testing.T) {
	for seed := range uint64(200) {
		draw := rand.New(rand.NewPCG(seed, 6))
		f, all := crowd(draw, 40)
		var core Core
		for _, hb := range all {
			core.Observe(start, hb)
		}
		core.fleet = *f // with its reservations and losses
		req := asking(draw)
		req.Expected = 1 + draw.IntN(40)
		lot := func() *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
		choice := f.Choose(start, req, req.Expected, lot())
		told := f.Explain(start, req, req.Expected, lot())
		decided, err := core.Decide(start, *req, lot())
		if told.Chosen != choice.Node || told.Reason != choice.Reason || decided.Chosen != choice.Node || decided.Reason != choice.Reason {
			t.Fatalf("seed %d: chosen %+v, explained %s (%s), decided %s (%s), %v", seed, choice, told.Chosen, told.Reason, decided.Chosen, decided.Reason, err)
		}
		if choice.Node == "" {
			continue
		}
		i := slices.IndexFunc(told.Candidates, func(k allocator.Candidate) bool { return k.Node == choice.Node })
		if k := told.Candidates[i]; k.Cost != choice.Cost || k.RTT != choice.RTT || math.Abs(k.RTT+k.Penalty+k.Domain+k.Aside-k.Cost) > 1e-9 {
			t.Fatalf("seed %d: chosen %+v, explained as %+v", seed, choice, k)
		}
	}
}

// TestRamp: a node that has become ready takes a tenth of its calls, and all of
// them a minute later; and one that is alone takes them all at once.
func TestRamp(t *testing.T) {
	f := &Fleet{}
	old, fresh := node("old", "eu", 300), node("fresh", "eu", 0)
	f.Observe(start, old)
	fresh.State = edgeagent.Draining
	f.Observe(start, fresh)
	fresh.State = edgeagent.Ready
	f.Observe(start, fresh)
	share := func(at time.Duration) float64 {
		draw := rand.New(rand.NewPCG(1, 1))
		n := 0
		for i := range 4000 {
			req := allocator.PlaceRequest{Call: channel(i), Region: "eu"}
			if f.Choose(start.Add(at), &req, 1, draw).Node == "fresh" {
				n++
			}
		}
		return float64(n) / 4000
	}
	// The fresh node is the emptier one, so all calls of its share go there.
	for at, want := range map[time.Duration]float64{0: 0.1, 20 * time.Second: 0.4, 40 * time.Second: 0.7, time.Minute: 1} {
		if got := share(at); math.Abs(got-want) > 0.03 {
			t.Errorf("after %v it takes %.2f of the calls, want %.2f", at, got, want)
		}
	}
	f.Lose(start, "old")
	if got := share(0); got != 1 {
		t.Errorf("alone it takes %.2f of the calls", got)
	}
}

// TestRegionsThatChange: what is kept of regions and zones is bounded by the nodes there
// are, however often these change theirs.
func TestRegionsThatChange(t *testing.T) {
	f := &Fleet{}
	f.Observe(start, node("stays", "eu", 100))
	draw := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 {
		hb := node("wanders", fmt.Sprint("region ", i), 0)
		hb.Zone = fmt.Sprint("zone ", i)
		f.Observe(start, hb)
		for _, region := range []string{hb.Region, "eu"} {
			req := allocator.PlaceRequest{Call: channel(i), Region: region}
			want := edgeagent.NodeID("wanders")
			if region == "eu" {
				want = "stays"
			}
			if got := f.Choose(start, &req, 1, draw).Node; got != want {
				t.Fatalf("after %d regions a call of %q is on %s", i, region, got)
			}
		}
	}
	if len(f.pools) > 3 || len(f.byRegion) > 3 || len(f.zones) > 8 {
		t.Errorf("%d pools, %d regions and %d zones are kept", len(f.pools), len(f.byRegion), len(f.zones))
	}
}

// TestCanary: a labelled node takes its share of the calls, always the same ones.
func TestCanary(t *testing.T) {
	f := &Fleet{}
	canary := node("canary", "eu", 0)
	canary.Label, canary.Weight = "next", 0.05
	f.Observe(start, canary)
	f.Observe(start, node("other", "eu", 200))
	draw := rand.New(rand.NewPCG(1, 1))
	n := 0
	for i := range 4000 {
		req := allocator.PlaceRequest{Call: channel(i), Region: "eu"}
		first := f.Choose(start, &req, 1, draw).Node
		if again := f.Choose(start, &req, 1, draw).Node; again != first {
			t.Fatalf("call %d went to %s and then to %s", i, first, again)
		}
		if first == "canary" {
			n++
		}
	}
	if share := float64(n) / 4000; math.Abs(share-0.05) > 0.01 {
		t.Errorf("it took %.3f of the calls, want 0.05", share)
	}
}

// TestGuildTriesLabel: the calls of a guild that tries a label go to its nodes, whatever
// their weight, while those are eligible and have room, and else where those of other
// guilds go; and the explanation tells it.
func TestGuildTriesLabel(t *testing.T) {
	next, other, plain := node("next", "eu", 100), node("other", "eu", 0), node("plain", "eu", 200)
	next.Label, next.Weight = "next", 0.05
	other.Label, other.Weight = "other", 0.05
	full, draining := next, next
	full.Load = edgeagent.Load{Sessions: full.Capacity.Sessions}
	draining.State = edgeagent.Draining
	try := func(label string) *allocator.GuildLabel { return &allocator.GuildLabel{Guild: "7", Label: label} }
	for name, c := range map[string]struct {
		next  edgeagent.Heartbeat
		label *allocator.GuildLabel
		guild string
		want  map[edgeagent.NodeID]float64 // shares of the calls
		asked string                       // what the reason says
	}{
		"by weight":     {next, nil, "7", map[edgeagent.NodeID]float64{"next": 0.05, "other": 0.05, "plain": 0.9}, ""},
		"tries it":      {next, try("next"), "7", map[edgeagent.NodeID]float64{"next": 1}, "; its guild tries next"},
		"another guild": {next, try("next"), "8", map[edgeagent.NodeID]float64{"next": 0.05, "other": 0.05, "plain": 0.9}, ""},
		"it is full":    {full, try("next"), "7", map[edgeagent.NodeID]float64{"other": 0.05, "plain": 0.95}, "; its guild tries next"},
		"it is drained": {draining, try("next"), "7", map[edgeagent.NodeID]float64{"other": 0.05, "plain": 0.95}, "; its guild tries next"},
		"no such node":  {next, try("nobody"), "7", map[edgeagent.NodeID]float64{"next": 0.05, "other": 0.05, "plain": 0.9}, "; its guild tries nobody"},
		"not any more":  {next, try(""), "7", map[edgeagent.NodeID]float64{"next": 0.05, "other": 0.05, "plain": 0.9}, ""},
	} {
		f, draw := &Fleet{}, rand.New(rand.NewPCG(1, 1))
		for _, hb := range []edgeagent.Heartbeat{c.next, other, plain} {
			f.Observe(start, hb)
		}
		if c.label != nil {
			f.Try(*try("next")) // before
			f.Try(*c.label)
		}
		got := map[edgeagent.NodeID]float64{}
		for i := range 4000 {
			choice := f.Choose(start, &allocator.PlaceRequest{Guild: c.guild, Call: channel(i), Region: "eu"}, 1, draw)
			got[choice.Node] += 1.0 / 4000
			if _, says, _ := strings.Cut(choice.Reason, ";"); says != strings.TrimPrefix(c.asked, ";") {
				t.Fatalf("%s: because %q", name, choice.Reason)
			}
		}
		for _, id := range []edgeagent.NodeID{"next", "other", "plain"} {
			if math.Abs(got[id]-c.want[id]) > 0.015 || c.want[id] == 0 && got[id] > 0 {
				t.Errorf("%s: %s took %.3f of the calls, want %.3f", name, id, got[id], c.want[id])
			}
		}
		if name != "tries it" {
			continue
		}
		for _, k := range f.Explain(start, &allocator.PlaceRequest{Guild: "7", Call: channel(1), Region: "eu"}, 1, draw).Candidates {
			want := map[edgeagent.NodeID][2]float64{"next": {0, 0}, "plain": {0, asideMillis}, "other": {0.05, 2 * asideMillis}}[k.Node]
			if k.Share != want[0] || k.Aside != want[1] || math.Abs(k.RTT+k.Penalty+k.Aside-k.Cost) > 1e-9 {
				t.Errorf("explained: %+v", k)
			}
		}
		if l := f.Labels(); len(l) != 1 || l[0] != (allocator.GuildLabel{Guild: "7", Label: "next", Nodes: 1}) {
			t.Errorf("labels %+v", l)
		}
	}
}

// TestFailureDomain: after losses in one zone calls go to the others for a while,
// unless it is much closer.
func TestFailureDomain(t *testing.T) {
	f := &Fleet{}
	for i := range 12 {
		hb := node(fmt.Sprintf("n%d", i), "eu", 100)
		hb.Zone = string(rune('a' + i%3))
		f.Observe(start, hb)
	}
	in := func(zone string, now time.Time) int {
		draw := rand.New(rand.NewPCG(2, 2))
		n := 0
		for i := range 300 {
			req := allocator.PlaceRequest{Call: channel(i), Region: "eu"}
			hb, _ := f.Node(f.Choose(now, &req, 1, draw).Node)
			if hb.Zone == zone {
				n++
			}
		}
		return n
	}
	for _, id := range []edgeagent.NodeID{"n0", "n3", "n6"} {
		f.Lose(start, id)
	}
	if n := in("a", start); n != 0 {
		t.Errorf("%d of 300 calls went to the zone that falls", n)
	}
	if n := in("a", start.Add(shakenFor+time.Second)); n == 0 {
		t.Error("a minute later still none does")
	}
	for _, id := range []edgeagent.NodeID{"n1", "n4", "n7", "n10", "n2", "n5", "n8", "n11"} {
		f.Lose(start, id)
	}
	if n := in("a", start); n != 300 {
		t.Errorf("%d of 300 calls went to the only node left", n)
	}
}

// TestHeadroom: what the fullest resource of each ready node leaves, after
// reservations.
func TestHeadroom(t *testing.T) {
	var core Core
	busy, draining := node("a", "eu", 10), node("b", "eu", 0)
	busy.Load.PPS = 100_000 - 20*seatPPS
	draining.State = edgeagent.Draining
	core.Observe(start, busy)
	core.Observe(start, draining)
	core.Observe(start, node("c", "eu", 700))
	core.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "c", Created: start})
	core.Seat(start, channel(1), 40)
	if got := core.Headroom(start); got != 20+260 {
		t.Errorf("room for %d, want 20 and 260", got)
	}
}

// BenchmarkChoose is one decision among 1,000 nodes in 30 regions.
func BenchmarkChoose(b *testing.B) {
	draw := rand.New(rand.NewPCG(1, 1))
	f := &Fleet{}
	for i := range 1000 {
		f.Observe(start, node(fmt.Sprintf("n%d", i), fmt.Sprintf("r%d", i%30), draw.IntN(900)))
	}
	req := &allocator.PlaceRequest{RTT: map[string]float64{}}
	for r := range 30 {
		req.RTT[fmt.Sprintf("r%d", r)] = 5 + 200*draw.Float64()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		req.Call = channel(i)
		if f.Choose(start, req, 8, draw).Node == "" {
			b.Fatal("no node")
		}
	}
}

// TestNearer: a live call leaves its node for one that is much nearer, costs and all,
// and has room for all of it.
func TestNearer(t *testing.T) {
	asleep := node("near", "eu", 0)
	asleep.State = edgeagent.Draining
	far := map[string]float64{"eu": 10, "us": 100}
	for _, c := range []struct {
		name  string
		nodes []edgeagent.Heartbeat
		rtt   map[string]float64
		want  edgeagent.NodeID
	}{
		{"there is room", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 500)}, far, "near"},
		{"measured by name", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 500)}, map[string]float64{"home": 100, "near": 10}, "near"},
		{"it is near already", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 0)}, map[string]float64{"eu": 10, "us": 10 + NearerSaves - 1}, ""},
		{"what is near is full", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 1000)}, far, ""},
		{"not all of it fits", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 985)}, far, ""},
		{"both are as full", []edgeagent.Heartbeat{node("home", "us", 972), node("near", "eu", 962)}, far, "near"},
		{"what is near is so full that it costs as much", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 987)}, far, ""},
		{"what is hardly nearer is cheaper", []edgeagent.Heartbeat{node("home", "us", 985), node("near", "eu", 970), node("other", "eu", 0)},
			map[string]float64{"home": 100, "near": 85, "other": 95}, "near"},
		{"what is hardly nearer itself is of a near region", []edgeagent.Heartbeat{node("home", "us", 985), node("other", "eu", 0)},
			map[string]float64{"home": 100, "eu": 10, "other": 95}, ""},
		{"what is near is drained", []edgeagent.Heartbeat{node("home", "us", 0), asleep}, far, ""},
		{"its own is full, and nothing is nearer", []edgeagent.Heartbeat{node("home", "eu", 1000), node("far", "us", 0)}, far, ""},
		{"nothing is known of the way", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 0)}, map[string]float64{"eu": 10}, ""},
		{"nothing is known of what might be nearer", []edgeagent.Heartbeat{node("home", "us", 0), node("near", "eu", 0)}, map[string]float64{"us": 150}, ""},
		{"its own is gone", []edgeagent.Heartbeat{node("near", "eu", 0)}, far, ""},
	} {
		var f Fleet
		for _, hb := range c.nodes {
			f.Observe(start, hb)
		}
		got, ok := f.Nearer(start, &allocator.PlaceRequest{Call: channel(1), RTT: c.rtt}, "home", 10, rand.New(rand.NewPCG(1, 1)))
		if ok != (c.want != "") || ok && got.Node != c.want {
			t.Errorf("%s: %+v, %v, want %q", c.name, got, ok, c.want)
		}
		if got, ok = f.Nearer(start, &allocator.PlaceRequest{Call: channel(1), RTT: c.rtt, Avoid: []edgeagent.NodeID{"near"}}, "home", 10, rand.New(rand.NewPCG(1, 1))); ok {
			t.Errorf("%s: %+v, which was to be avoided", c.name, got)
		}
	}
	var f Fleet
	f.Observe(start, node("home", "us", 0))
	f.Observe(start, node("near", "eu", 0))
	for rtt, want := range map[string]float64{"eu": 90, "elsewhere": 0} {
		if got := f.Saves(start, &allocator.PlaceRequest{RTT: map[string]float64{"us": 100, rtt: 10}}, "home", "near"); got != want {
			t.Errorf("near saves %g ms, want %g", got, want)
		}
	}
}

// TestAnewIsTheDecision: where a live call would begin now is decided by where its members
// are, how many they are and its own lot, as if it were not there yet.
func TestAnewIsTheDecision(t *testing.T) {
	lot := func() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }
	near := map[string]float64{"eu": 100, "us": 10}
	tried := node("tried", "us", 0)
	tried.Label, tried.Weight = "canary", 0.5
	chosen := map[edgeagent.NodeID]int{}
	for id := range 40 {
		var c Core
		small := node("small", "us", 10)
		small.Capacity.Sessions = 60
		for _, hb := range []edgeagent.Heartbeat{node("far", "eu", 0), small, tried} {
			c.Observe(start, hb)
		}
		want, err := c.Decide(start, allocator.PlaceRequest{Call: channel(1 + id), RTT: near, Expected: 40}, lot())
		if err != nil {
			t.Fatal(err)
		}
		chosen[want.Chosen]++
		small.Load.Sessions, small.Calls = 50, []edgeagent.CallOnANode{on(1+id, 1, 40)}
		c.ObserveCall(allocator.CallEntry{Call: channel(1 + id), Node: "small", Epoch: 1, Created: start.Add(-time.Hour), Near: allocator.Near{RTT: near}, Expected: 30})
		c.Observe(start, small)
		got := c.Anew(start, channel(1+id), lot())
		if got.Call != want.Call || got.Chosen != want.Chosen || got.Reason != want.Reason || got.Sessions != 40 || !slices.Equal(got.Candidates, want.Candidates) {
			t.Errorf("it would begin as\n%+v\nand began as\n%+v", got, want)
		}
		if len(c.fleet.reserved) != 0 {
			t.Errorf("asking has reserved %v", c.fleet.reserved)
		}
	}
	if chosen["tried"] == 0 || chosen["small"] == 0 {
		t.Errorf("all calls go to %v", chosen)
	}
}

// TestToldOfItsHome: an explanation says of a live call's own node that it is left, not
// that it failed.
func TestToldOfItsHome(t *testing.T) {
	var c Core
	c.Observe(start, node("home", "us", 0))
	c.Observe(start, node("near", "eu", 0))
	c.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "home", Epoch: 1})
	c.Spot(start, allocator.PlaceRequest{Call: channel(1)}, 1, rand.New(rand.NewPCG(1, 1)))
	ex := c.Told(start, allocator.PlaceRequest{Call: channel(1)}, 1, Choice{Node: "near"}, "")
	for _, k := range ex.Candidates {
		if want := map[edgeagent.NodeID]string{"home": "call leaves it"}[k.Node]; k.WhyNot != want {
			t.Errorf("%s: %q, want %q", k.Node, k.WhyNot, want)
		}
	}
}
