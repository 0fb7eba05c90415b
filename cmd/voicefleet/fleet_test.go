package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"voicefleet/allocator"
	"voicefleet/sfu"
)

// oracle answers what the operator asks of the fleet.
type oracle struct {
	err   error
	asked sfu.CallID
}

func (o *oracle) Nodes(context.Context) ([]allocator.NodeView, error) {
	return []allocator.NodeView{{CallCount: 3}}, o.err
}

func (o *oracle) Calls(context.Context) ([]allocator.CallEntry, error) { return nil, o.err }

func (o *oracle) Explain(_ context.Context, call sfu.CallID) (allocator.ExplainReply, error) {
	o.asked = call
	return allocator.ExplainReply{Now: allocator.Explanation{Reason: "closest"}}, o.err
}

func TestFleetRoutes(t *testing.T) {
	o := &oracle{}
	mux := http.NewServeMux()
	mountFleet(mux, o, "secret")
	token := func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }
	for _, path := range []string{"nodes", "calls", "explain/7"} {
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
