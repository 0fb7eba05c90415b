// Package ears measures what a page lets a person hear. Its script stands
// beside the page at the browser's own interfaces, so that a test needs to know
// nothing of how the page is built.
package ears

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Page is a browser tab that runs expressions: Eval decodes the value as JSON.
type Page interface {
	Eval(js string, into any) error
}

// Hearing is how strong each tone was in one moment, in dB of full scale.
type Hearing struct {
	At    time.Time
	Power []float64
}

// Listen begins to measure, every 10 ms over a window of 21 ms, how strong each
// frequency (Hz) is in the sum of all remote audio the page receives.
func Listen(p Page, freqs ...float64) error {
	b, err := json.Marshal(freqs)
	if err != nil {
		return err
	}
	return p.Eval(fmt.Sprintf("window.__ears.listen(%s)", b), nil)
}

// Take gives the measurements since Listen or the last Take.
func Take(p Page) ([]Hearing, error) {
	var rows [][]float64
	if err := p.Eval("window.__ears.take()", &rows); err != nil {
		return nil, err
	}
	out := make([]Hearing, 0, len(rows))
	for _, r := range rows {
		h := Hearing{At: time.UnixMicro(int64(r[0] * 1000))}
		for _, v := range r[1:] {
			h.Power = append(h.Power, 10*math.Log10(v+1e-12))
		}
		out = append(out, h)
	}
	return out, nil
}

// Joins gives, for each time the page asked for a voice channel (gateway op 4),
// how long it took until remote audio was louder than -50 dBFS.
func Joins(p Page) ([]time.Duration, error) {
	var ms []float64
	if err := p.Eval("window.__ears.joins", &ms); err != nil {
		return nil, err
	}
	out := make([]time.Duration, 0, len(ms))
	for _, v := range ms {
		out = append(out, time.Duration(v*float64(time.Millisecond)))
	}
	return out, nil
}

// Sockets counts the open WebSockets of the page whose address contains part.
func Sockets(p Page, part string) (int, error) {
	b, err := json.Marshal(part)
	if err != nil {
		return 0, err
	}
	n := 0
	err = p.Eval(fmt.Sprintf("window.__ears.open(%s).length", b), &n)
	return n, err
}

// Alive says whether something came to such a WebSocket within the last d.
func Alive(p Page, part string, d time.Duration) (bool, error) {
	b, err := json.Marshal(part)
	if err != nil {
		return false, err
	}
	alive := false
	err = p.Eval(fmt.Sprintf("window.__ears.open(%s).some((s) => performance.now() - s.__heard < %d)", b, d.Milliseconds()), &alive)
	return alive, err
}

// Cut closes every open WebSocket of the page whose address contains part, and
// says how many there were.
func Cut(p Page, part string) (int, error) {
	b, err := json.Marshal(part)
	if err != nil {
		return 0, err
	}
	n := 0
	err = p.Eval(fmt.Sprintf("window.__ears.cut(%s)", b), &n)
	return n, err
}

// Mean is the mean power (dB of the mean energy) of tone i over the hearings in
// which any tone was louder than floor; ok is false when there were none.
func Mean(hs []Hearing, i int, floor float64) (db float64, ok bool) {
	sum, n := 0.0, 0
	for _, h := range hs {
		loud := false
		for _, p := range h.Power {
			loud = loud || p > floor
		}
		if loud {
			sum += math.Pow(10, h.Power[i]/10)
			n++
		}
	}
	if n == 0 {
		return 0, false
	}
	return 10 * math.Log10(sum/float64(n)), true
}

// Script is to run before any script of a page.
const Script = `(() => {
  if (window.__ears) return;
  const wrap = (hear) => {
    const Peer = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Peer {
      constructor(...args) {
        super(...args);
        this.addEventListener('track', (e) => { if (e.track.kind === 'audio') hear(e.track); });
      }
    };
  };
  // What a frame of the page receives is heard with the rest.
  if (window.parent !== window && window.parent.__ears) {
    window.__ears = window.parent.__ears;
    wrap(window.__ears.hear);
    return;
  }
  const ears = { joins: [], rows: [], freqs: [], sent: 0, conns: [] };
  window.__ears = ears;
  let ctx, sum, node;
  const ensure = () => {
    if (ctx) return;
    ctx = new AudioContext({ latencyHint: 'interactive' });
    sum = ctx.createGain();
    node = ctx.createAnalyser();
    node.fftSize = 1024;
    sum.connect(node);
    const buf = new Float32Array(node.fftSize);
    const short = 480;
    setInterval(() => {
      if (ctx.state !== 'running') ctx.resume();
      node.getFloatTimeDomainData(buf);
      if (ears.sent) {
        let p = 0;
        for (let i = buf.length - short; i < buf.length; i++) p += buf[i] * buf[i];
        if (p / short > 1e-5) { ears.joins.push(performance.now() - ears.sent); ears.sent = 0; }
      }
      if (!ears.freqs.length) return;
      const row = [performance.timeOrigin + performance.now()];
      for (const f of ears.freqs) {
        const w = 2 * Math.cos(2 * Math.PI * f / ctx.sampleRate);
        let s1 = 0, s2 = 0;
        for (let i = 0; i < buf.length; i++) {
          const hann = 0.5 - 0.5 * Math.cos(2 * Math.PI * i / buf.length);
          const s0 = buf[i] * hann + w * s1 - s2; s2 = s1; s1 = s0;
        }
        row.push((s1 * s1 + s2 * s2 - w * s1 * s2) / (buf.length * buf.length / 16));
      }
      ears.rows.push(row);
      if (ears.rows.length > 6000) ears.rows.splice(0, 3000);
    }, 10);
  };
  ears.listen = (freqs) => { ears.freqs = freqs; ears.rows = []; };
  ears.take = () => ears.rows.splice(0);
  ears.open = (part) => ears.conns.filter((s) => s.readyState === 1 && s.url.includes(part));
  ears.cut = (part) => ears.open(part).map((s) => s.close(4999)).length;
  ears.hear = (track) => {
    ensure();
    ctx.createMediaStreamSource(new MediaStream([track])).connect(sum);
  };
  wrap(ears.hear);
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      ears.conns.push(this);
      this.addEventListener('message', () => { this.__heard = performance.now(); });
    }
    send(data) {
      if (typeof data === 'string' && data.length < 400) {
        try {
          const m = JSON.parse(data);
          if (m.op === 4 && m.d && m.d.channel_id && !ears.sent) { ensure(); ears.sent = performance.now(); }
        } catch { /* not ours to judge */ }
      }
      return super.send(data);
    }
  };
})();`
