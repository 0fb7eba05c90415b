package lightclient

import (
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// TestReport: what is said of a slot over a rollover, with losses, stragglers and
// repetitions, opened and read by pion.
func TestReport(t *testing.T) {
	control, err := newControl(testKey, testSalt)
	if err != nil {
		t.Fatal(err)
	}
	opens, err := srtp.CreateContext(testKey, testSalt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{ssrc: 7, ssrcs: []uint32{70, 71}, slots: make([]slot, 2)}
	var counts Counts
	index := uint32(0)
	read := func() []rtcp.ReceptionReport {
		t.Helper()
		b := c.appendReportLocked(make([]byte, 0, reportRoom))
		if len(b) == 0 {
			return nil
		}
		index++
		plain, err := opens.DecryptRTCP(nil, control.sealControl(b, index), nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := rtcp.Unmarshal(plain)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d packets: %v", len(list), err)
		}
		return list[0].(*rtcp.ReceiverReport).Reports
	}
	if got := read(); got != nil {
		t.Errorf("a report of nothing: %+v", got)
	}
	for i := range uint16(100) {
		if i%10 != 3 { // ten lost
			c.slots[1].track(65500+i, &counts)
		}
	}
	c.slots[1].track(57, &counts) // a straggler
	c.slots[1].track(63, &counts) // a repetition
	want := rtcp.ReceptionReport{SSRC: 71, FractionLost: 9 * 256 / 100, TotalLost: 9, LastSequenceNumber: 65599}
	if got := read(); len(got) != 1 || got[0] != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	for i := range uint16(10) {
		c.slots[1].track(65600-65536+i, &counts)
	}
	want.FractionLost, want.LastSequenceNumber = 0, 65609
	if got := read(); len(got) != 1 || got[0] != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
}
