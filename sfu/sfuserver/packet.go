package sfuserver

import (
	"encoding/binary"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/rtpwire"
)

// The way of a datagram:
//
//  1. recvmmsg             socket.receive, one batch
//  2. class                demux: STUN, DTLS, RTP or RTCP by its first bytes
//  3. session              by the address it came from; if that is unknown, the
//     client may have moved: by SSRC
//  4. index, replay        before any cryptography
//  5. open                 in place
//  6. path                 the address it came from is the client's
//  7. payload              the negotiated type, without padding
//  8. forward              call.Voice: gate, stage, slots; or video.Video: key frame,
//     views; sealed per receiver
//  9. sendmmsg             socket.send, when the batch is full and at the end
//
// Nothing on it allocates, locks or logs, whether a packet is good or not.

// packets works on the datagrams from at to n and returns where to go on: at n,
// or behind one that panicked.
func (w *worker) packets(now time.Duration, at, n int) (next int) {
	next = at
	defer w.recovered(now)
	for next < n {
		i := next
		next++
		w.blame = nil
		w.datagram(now, i)
	}
	return next
}

// datagram works on the i-th of the batch.
func (w *worker) datagram(now time.Duration, i int) {
	d := w.sock.datagram(i)
	w.count.packetsIn++
	w.count.bytesIn += uint64(len(d))
	from, ok := w.sock.from(i)
	if !ok {
		w.drop(sfu.DropUnknownSource)
		return
	}
	class := demux.Classify(d)
	if w.fence != 0 && class != demux.STUN && class != demux.DTLS {
		w.drop(sfu.DropFenced)
		return
	}
	switch class {
	case demux.RTP:
		w.rtp(now, d, from, i)
	case demux.RTCP:
		w.rtcp(now, d, from, i)
	case demux.STUN:
		w.check(now, d, from, i)
	case demux.DTLS:
		w.dtls(now, d, from)
	default:
		if class == demux.Foreign && len(d) > 0 && d[0] == sfu.RelayLocalVersion {
			w.relayed(now, d, from)
			return
		}
		w.drop(class.Drop())
	}
}

func (w *worker) drop(why sfu.DropReason) { w.count.Drops[why]++ }

// shedOpens is how many of a camera's packets there are for one that is opened while
// video is shed: enough to follow its indices.
const shedOpens = 32

// rtp is the way of a sealed RTP packet, of a microphone or a camera.
func (w *worker) rtp(now time.Duration, d []byte, from demux.Remote, i int) {
	s := w.byRemote[from]
	if s == nil {
		s = w.bySSRC[binary.BigEndian.Uint32(d[8:])]
	}
	if s == nil {
		w.drop(sfu.DropUnknownSource)
		return
	}
	if s.opener == nil {
		w.drop(sfu.DropNoKeys)
		return
	}
	w.workOn(s.call)
	h, ok := rtpwire.Parse(d, s.media.LevelExt)
	if !ok {
		w.drop(sfu.DropMalformed)
		return
	}
	filmed := s.media.CameraSSRC != 0 && h.SSRC == uint32(s.media.CameraSSRC)
	src, payloadType, limit := &s.mic, s.media.OpusPT, sfu.VoicePerSecond
	switch {
	case filmed && w.shed.on && h.Sequence%shedOpens != 0:
		w.drop(sfu.DropShed)
		return
	case filmed:
		src, payloadType, limit = &s.camera, s.media.VP8PT, sfu.VideoPerSecond
	case s.media.MicSSRC != 0 && h.SSRC != uint32(s.media.MicSSRC):
		w.drop(sfu.DropSSRC)
		return
	}
	if s.count(now); src.packets >= limit {
		w.drop(sfu.DropRateLimited)
		return
	}
	index, ok := src.window.Estimate(h.Sequence)
	if !ok || !src.window.Fresh(index) {
		w.drop(sfu.DropReplay)
		return
	}
	payload, ok := s.opener.OpenRTP(d, h.Length, index)
	if !ok {
		w.drop(sfu.DropAuth)
		return
	}
	src.packets++
	highest, started := src.window.Highest()
	src.window.Accept(index)
	newer := !started || index > highest
	switch {
	case newer && filmed:
		s.record.Seen(index)
	case newer:
		s.record.Heard(index)
	}
	if s.media.MicSSRC == 0 && !filmed {
		w.latch(s, h.SSRC)
	}
	w.heard(now, s, from, newer, len(d), i)
	if h.PayloadType != payloadType {
		w.drop(sfu.DropPayloadType)
		return
	}
	if payload, ok = h.Payload(payload); !ok {
		w.drop(sfu.DropMalformed)
		return
	}
	if filmed {
		s.call.video.Video(now, &s.viewer, &h, index, payload, w.out)
	} else {
		s.call.core.Voice(now, &s.member, &h, index, payload, w.out)
	}
}

// rtcp is the way of a sealed RTCP packet. It ends in the call: nothing of it is
// sent to anyone else.
func (w *worker) rtcp(now time.Duration, d []byte, from demux.Remote, i int) {
	s := w.byRemote[from]
	if s == nil {
		w.drop(sfu.DropUnknownSource)
		return
	}
	if s.opener == nil {
		w.drop(sfu.DropNoKeys)
		return
	}
	w.workOn(s.call)
	if s.count(now); s.feedback >= sfu.FeedbackPerSecond {
		w.drop(sfu.DropRTCP)
		return
	}
	index, ok := s.opener.RTCPIndex(d)
	if !ok {
		w.drop(sfu.DropTooShort)
		return
	}
	ssrc := binary.BigEndian.Uint32(d[4:])
	var reports *reporter
	at := len(s.reporters) // where this source stands among them
	for i := range s.reporters {
		if s.reporters[i].ssrc == ssrc {
			reports, at = &s.reporters[i], i
		}
	}
	switch {
	case reports == nil && len(s.reporters) == maxReporters:
		w.drop(sfu.DropSSRC)
		return
	case reports != nil && !reports.window.Fresh(uint64(index)):
		w.drop(sfu.DropReplay)
		return
	}
	compound, index, ok := s.opener.OpenRTCP(d)
	if !ok {
		w.drop(sfu.DropAuth)
		return
	}
	newer := true
	if reports == nil {
		s.reporters = append(s.reporters, reporter{ssrc: ssrc})
		reports = &s.reporters[len(s.reporters)-1]
	} else {
		highest, _ := reports.window.Highest()
		newer = uint64(index) > highest
	}
	reports.window.Accept(uint64(index))
	if newer {
		s.record.Feedback(at, ssrc, index)
	}
	s.feedback++
	w.heard(now, s, from, newer, len(d), i)
	s.call.core.Feedback(now, &s.member, compound, w.out)
	if s.filmed() {
		s.call.video.Feedback(now, &s.viewer, compound, w.out)
	}
}
