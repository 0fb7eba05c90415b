package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// oracle answers what the operator asks of the fleet.
type oracle struct {
	err   error
	asked sfu.CallID

	journal allocator.JournalRequest
	order   allocator.Order
}

func (o *oracle) Nodes(context.Context) ([]allocator.NodeView, error) {
	return []allocator.NodeView{{CallCount: 3}}, o.err
}

func (o *oracle) Calls(context.Context) ([]allocator.CallEntry, error) { return nil, o.err }

func (o *oracle) Journal(_ context.Context, req allocator.JournalRequest) (allocator.JournalReply, error) {
	o.journal = req
	return allocator.JournalReply{Entries: []allocator.NumberedEntry{{Seq: 1, JournalEntry: allocator.JournalEntry{Deed: allocator.DeedLost, Node: "fra1"}}}}, o.err
}

func (o *oracle) Upgrade(_ context.Context, order allocator.Order) (edgeagent.UpgradeReply, error) {
	o.order = order
	return edgeagent.UpgradeReply{From: "1", To: "2", Sessions: 3}, o.err
}

func (o *oracle) Labels(context.Context) ([]allocator.GuildLabel, error) {
	return []allocator.GuildLabel{{Guild: "7", Label: "canary"}}, o.err
}

func (o *oracle) Explain(_ context.Context, call sfu.CallID) (allocator.ExplainReply, error) {
	o.asked = call
	return allocator.ExplainReply{Now: allocator.Explanation{Reason: "closest"}}, o.err
}

// foreman notes what is ordered.
type foreman struct {
	err   error
	asked []string
}

func (d *foreman) note(verb string, o allocator.Order) (allocator.Progress, error) {
	d.asked = append(d.asked, fmt.Sprintf("%s %s by %q because %q, dry %v", verb, o.Node, o.By, o.Reason, o.DryRun))
	return allocator.Progress{Node: o.Node, State: edgeagent.Draining, Calls: 1, Sessions: 2}, d.err
}

func (d *foreman) Drain(_ context.Context, o allocator.Order) (allocator.Progress, error) {
	return d.note("drain", o)
}

func (d *foreman) Cordon(_ context.Context, o allocator.Order) (allocator.Progress, error) {
	return d.note("cordon", o)
}

func (d *foreman) Undrain(_ context.Context, o allocator.Order) (allocator.Progress, error) {
	return d.note("undrain", o)
}

func (d *foreman) Progress(_ context.Context, node edgeagent.NodeID) (allocator.Progress, error) {
	return allocator.Progress{Node: node, State: edgeagent.Draining, Moving: 3}, d.err
}

func (d *foreman) Label(_ context.Context, o allocator.LabelOrder) (allocator.GuildLabel, error) {
	d.asked = append(d.asked, fmt.Sprintf("guild %s tries %q, clear %v, by %q", o.Guild, o.Label, o.Clear, o.By))
	return allocator.GuildLabel{Guild: o.Guild}, d.err
}

func TestDrainRoutes(t *testing.T) {
	d := &foreman{}
	mux := http.NewServeMux()
	mountFleet(mux, &oracle{}, d, "secret")
	post := func(path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", fleetPath+path, strings.NewReader(body))
		r.RemoteAddr = "198.51.100.7:40000"
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	token := func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }
	if got := post("nodes/fra1/drain", "", nil).Code; got != http.StatusUnauthorized || len(d.asked) != 0 {
		t.Errorf("without the token: %d, asked %v", got, d.asked)
	}
	w := post("nodes/fra1/drain", `{"by":"ada@desk","reason":"new kernel","dry_run":true}`, token)
	if want := `{"node":"fra1","state":"draining","calls":1,"sessions":2}`; w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("drain: %d %s, want %s", w.Code, w.Body, want)
	}
	for _, verb := range []string{"cordon", "undrain"} {
		if w := post("nodes/fra1/"+verb, "", token); w.Code != 200 {
			t.Errorf("%s: %d %s", verb, w.Code, w.Body)
		}
	}
	if w := post("labels/7", `{"label":"canary","by":"ada@desk"}`, token); w.Code != 200 || !strings.Contains(w.Body.String(), `"guild":"7"`) {
		t.Errorf("label: %d %s", w.Code, w.Body)
	}
	if w := ask(mux, fleetPath+"nodes/fra1/progress", token); w.Code != 200 || !strings.Contains(w.Body.String(), `"moving":3`) {
		t.Errorf("progress: %d %s", w.Code, w.Body)
	}
	want := []string{
		`drain fra1 by "ada@desk from 198.51.100.7" because "new kernel", dry true`,
		`cordon fra1 by "operator from 198.51.100.7" because "", dry false`,
		`undrain fra1 by "operator from 198.51.100.7" because "", dry false`,
		`guild 7 tries "canary", clear false, by "ada@desk from 198.51.100.7"`,
	}
	if !slices.Equal(d.asked, want) {
		t.Errorf("nodes were asked\n%s\nwant\n%s", strings.Join(d.asked, "\n"), strings.Join(want, "\n"))
	}
	for name, c := range map[string]struct {
		body string
		err  error
		code int
		says string
	}{
		"no JSON":     {"please", nil, 400, "read order"},
		"a book":      {`{"reason":"` + strings.Repeat("x", maxDrainBody) + `"}`, nil, 400, "longer than 4096 bytes"},
		"refused":     {"", allocator.Refuse(allocator.CodeBadRequest, "at most 256"), 400, "at most 256"},
		"says no":     {"", allocator.Refuse(allocator.CodeRefused, "node fra1: an upgrade is under way"), 409, "under way"},
		"no such one": {"", allocator.Refuse(allocator.CodeUnavailable, "node fra1: nobody"), 503, "voicefleet ctl nodes"},
	} {
		d.err = c.err
		w := post("nodes/fra1/drain", c.body, token)
		var form struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &form); err != nil || !strings.Contains(form.Message, c.says) || w.Code != c.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestUpgradeRoute(t *testing.T) {
	o := &oracle{}
	mux := http.NewServeMux()
	mountFleet(mux, o, &foreman{}, "secret")
	post := func(body, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", fleetPath+"nodes/fra1/upgrade", strings.NewReader(body))
		r.RemoteAddr = "198.51.100.7:40000"
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	if got := post("", "guess").Code; got != http.StatusUnauthorized || o.order.Node != "" {
		t.Errorf("without the token: %d, asked %v", got, o.order)
	}
	w := post(`{"by":"ada@desk","reason":"1.4"}`, "secret")
	if want := `{"from":"1","to":"2","sessions":3,"engine":0}`; w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
	if want := (allocator.Order{Node: "fra1", By: "ada@desk from 198.51.100.7", Reason: "1.4"}); o.order != want {
		t.Errorf("ordered %+v", o.order)
	}
	o.err = allocator.Refuse(allocator.CodeBadRequest, "the program on disk is of no use")
	if w := post("", "secret"); w.Code != 400 || !strings.Contains(w.Body.String(), "of no use") {
		t.Errorf("refused: %d %s", w.Code, w.Body)
	}
	if w := post("please", "secret"); w.Code != 400 {
		t.Errorf("no JSON: %d %s", w.Code, w.Body)
	}
}

func TestWordsOfDrains(t *testing.T) {
	stay := allocator.Progress{Node: "fra1", State: edgeagent.Draining, Calls: 2, Sessions: 9}
	move := stay
	move.Emptying, move.Moving, move.Stuck = true, 1, "no other node has room for all 5"
	empty := allocator.Progress{Node: "fra1", State: edgeagent.Draining}
	plan := allocator.Progress{Node: "fra1", Calls: 2, Sessions: 9, Plan: []allocator.PlannedMove{{To: "fra2"}, {}}}
	for got, want := range map[string]string{
		wordsOrdered(stay):                          "fra1 takes no new calls. Those it has stay: 2, with 9 people. voicefleet ctl nodes shows when none is left.\nTake it back: voicefleet ctl undrain fra1",
		wordsOrdered(move):                          "fra1 takes no new calls. Those it has move elsewhere: 2, with 9 people. voicefleet ctl drain fra1 shows how it goes.\nTake it back: voicefleet ctl undrain fra1",
		wordsOrdered(empty):                         "fra1 takes no new calls. It has none left: it can be stopped now.\nTake it back: voicefleet ctl undrain fra1",
		wordsOrdered(allocator.Progress{Node: "b"}): "b takes calls.",
		wordsDraining(move):                         "fra1: 2 calls with 9 people left, 1 of them on their way; the others wait: no other node has room for all 5",
		wordsNotEmpty(move):                         "fra1 is not empty in time: 2 calls with 9 people are left: no other node has room for all 5. It takes no new calls; take it back with voicefleet ctl undrain fra1.",
		wordsPlan(plan):                             "fra1 has 2 calls with 9 people. Nothing was changed. 1 calls would stay: no other node has room.",
	} {
		if got != want {
			t.Errorf("says\n%s\nwant\n%s", got, want)
		}
	}
}

func TestFleetRoutes(t *testing.T) {
	o := &oracle{}
	mux := http.NewServeMux()
	mountFleet(mux, o, &foreman{}, "secret")
	token := func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }
	for _, path := range []string{"nodes", "calls", "labels", "explain/7"} {
		if got := ask(mux, fleetPath+path, nil).Code; got != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", path, got)
		}
		w := ask(mux, fleetPath+path, token)
		if w.Code != 200 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if o.asked.ID != 7 {
		t.Errorf("asked to explain %v", o.asked)
	}
	for name, c := range map[string]struct {
		path string
		err  error
		want int
	}{
		"no id":        {"explain/seven", nil, 400},
		"unknown call": {"explain/7", allocator.Refuse(allocator.CodeNoCall, "not live"), 404},
		"no bus":       {"nodes", allocator.Refuse(allocator.CodeUnavailable, "no answer"), 503},
		"other":        {"nodes", errors.New("no answer"), 503},
	} {
		o.err = c.err
		w := ask(mux, fleetPath+c.path, token)
		var form struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &form); err != nil || form.Message == "" || w.Code != c.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestVoiceIsAnUpgradeOfTheRoot(t *testing.T) {
	for _, c := range []struct {
		url, upgrade string
		want         bool
	}{
		{"http://a/?v=8", "websocket", true},
		{"http://a/?v=8", "WebSocket", true},
		{"http://a/", "", false},
		{"http://a/gateway", "websocket", false},
		{"http://a/", "h2c", false},
	} {
		r, err := http.NewRequest("GET", c.url, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Upgrade", c.upgrade)
		if isVoice(r) != c.want {
			t.Errorf("%s upgrading to %q: %v", c.url, c.upgrade, !c.want)
		}
	}
}
