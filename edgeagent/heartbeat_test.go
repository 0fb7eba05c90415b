package edgeagent

import (
	"math"
	"reflect"
	"testing"
)

func TestClamp(t *testing.T) {
	honest := Heartbeat{Node: "a", Weight: 0.5, Capacity: Capacity{PPS: 1e5, BPS: 1e9, Sessions: 4000},
		Load: Load{PPS: 1e4, BPS: 1e8, Sessions: 10, CPU: 0.5, Loss: 0.02}, Calls: []CallOnANode{{Sessions: 3}}}
	same := honest
	if same.Clamp() || !reflect.DeepEqual(same, honest) {
		t.Errorf("an honest one became %+v", same)
	}
	for name, lie := range map[string]func(*Heartbeat){
		"endless packets":  func(hb *Heartbeat) { hb.Capacity.PPS = math.Inf(1) },
		"no number":        func(hb *Heartbeat) { hb.Capacity.BPS = math.NaN() },
		"many sessions":    func(hb *Heartbeat) { hb.Capacity.Sessions = math.MaxInt },
		"less than empty":  func(hb *Heartbeat) { hb.Load.PPS = -1e9 },
		"negative people":  func(hb *Heartbeat) { hb.Load.Sessions = -5 },
		"a busy machine":   func(hb *Heartbeat) { hb.Load.CPU = 7 },
		"impossible loss":  func(hb *Heartbeat) { hb.Load.Loss = -0.1 },
		"all of the share": func(hb *Heartbeat) { hb.Weight = 99 },
		"a negative call":  func(hb *Heartbeat) { hb.Calls = []CallOnANode{{Sessions: -1}} },
	} {
		hb := honest
		lie(&hb)
		if !hb.Clamp() {
			t.Errorf("%s is believed", name)
		}
		if hb.Clamp() {
			t.Errorf("%s: still beyond the range: %+v", name, hb)
		}
	}
}
