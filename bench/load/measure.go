package load

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/fault"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/target"
)

// reading is everything that is counted, at a moment.
type reading struct {
	at      time.Time
	server  procstat.CPU     // of the server's processes
	ours    procstat.CPU     // of generators on this machine and of this process
	machine procstat.Machine // of all of this machine
	rss     int64            // bytes, of the server
	shown   target.Metrics   // what the server shows of itself
	counts  lightclient.Counts
	pace    lightclient.Pace
	bots    traffic // of faithful bots
	users   int     // in their rooms
}

// traffic is packets, and the bytes of UDP payload of those received.
type traffic struct{ sent, received, bytes uint64 }

// datagramRest is what a faithful bot's count of bytes leaves out: the tag of
// AEAD_AES_128_GCM (RFC 7714).
const datagramRest = 16

// sent is packets that talkers sent, bytes is the UDP payload that listeners got.
func (r reading) sent() uint64  { return r.pace.Sent + r.bots.sent }
func (r reading) bytes() uint64 { return r.counts.Bytes + r.bots.bytes }

// received is packets that listeners got.
func (r reading) received() uint64 {
	return r.counts.Voice + r.counts.Other + r.counts.Unknown + r.bots.received
}

// read takes a reading. A server that is not ours has no CPU time and memory.
func (r *run) read(ctx context.Context) (reading, error) {
	now := reading{at: time.Now()}
	var err error
	if r.light != nil {
		if now.counts, now.pace, err = r.light.counts(ctx); err != nil {
			return now, err
		}
	}
	for _, m := range r.members {
		m.mu.Lock()
		in := !m.joined.IsZero() && m.left.IsZero()
		m.mu.Unlock()
		if !in {
			continue
		}
		now.users++
		if m.bot != nil {
			s := m.bot.call.Stats().Voice
			now.bots.sent += s.Sent
			now.bots.received += s.Received
			now.bots.bytes += s.ReceivedBytes + datagramRest*s.Received
		}
	}
	ours := []int{os.Getpid()}
	if r.light != nil {
		ours = append(ours, r.light.pids()...)
	}
	if now.ours, err = procstat.ReadCPU(ours...); err != nil {
		return now, err
	}
	if now.machine, err = procstat.ReadMachine(); err != nil {
		return now, err
	}
	if r.server == nil {
		return now, nil
	}
	if err := r.readServer(ctx, &now); err != nil && len(r.plan.Faults) == 0 {
		return now, err // a step may have ended it, or be about to
	}
	return now, nil
}

// readServer reads what the server's processes cost, and what it shows.
func (r *run) readServer(ctx context.Context, now *reading) error {
	pids, err := r.server.PIDs()
	if err != nil {
		return err
	}
	if now.server, err = r.server.CPU(); err != nil {
		return err
	}
	if now.rss, err = procstat.ReadRSS(pids...); err != nil {
		return err
	}
	now.shown, err = r.server.Metrics(ctx)
	return err
}

// window lets everybody talk for the scenario's duration and measures it.
func (r *run) window(ctx context.Context) (*outcome, error) {
	s := r.plan.Scenario
	if r.light != nil {
		if err := r.light.reset(ctx); err != nil {
			return nil, err
		}
	}
	for _, m := range r.members {
		if m.bot != nil {
			m.bot.reset()
		}
	}
	begin := time.Now().Add(lead + s.Warmup)
	w := &outcome{begin: begin, end: begin.Add(s.Duration)}
	r.say("warm-up of %v, then %v are measured", s.Warmup, s.Duration)
	if err := r.speakAll(ctx, w); err != nil {
		return nil, err
	}
	if err := r.judgeAll(ctx, w); err != nil {
		return nil, err
	}
	if err := until(ctx, begin); err != nil {
		return nil, err
	}
	var err error
	if w.before, err = r.read(ctx); err != nil {
		return nil, err
	}
	w.readings = append(w.readings, w.before)
	if err := r.live(ctx, w); err != nil {
		// What there is until now is a result, of a shorter window.
		w.end = time.Now().Add(-drain)
		if w.end.Before(w.begin) {
			return nil, err
		}
		w.after = w.readings[len(w.readings)-1]
		w.last = w.after
		r.lookForEnded()
		rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		return w, firstError(err, r.collect(rest, w))
	}
	if w.after, err = r.read(ctx); err != nil {
		return nil, err
	}
	w.readings = append(w.readings, w.after)
	r.lookForEnded()
	// Everything is measured from here on, so that an end is no loss.
	waited := until(ctx, w.end.Add(tail+drain))
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	if w.last, err = r.read(rest); err != nil {
		w.last = w.after
		return w, err
	}
	return w, firstError(waited, r.collect(rest, w))
}

// lookForEnded notes calls that ended although nobody left and no step was to end
// them.
func (r *run) lookForEnded() {
	if len(r.plan.Faults) > 0 {
		return
	}
	var first error
	ended := 0
	for _, m := range r.members {
		if !m.in() || m.ended == nil {
			continue
		}
		if err := m.ended(); err != nil {
			ended++
			first = firstError(first, err)
		}
	}
	if ended > 0 {
		r.note("%d calls ended by themselves, as: %v", ended, first)
		r.report.Goals = append(r.report.Goals, bench.Goal{Name: "calls that ended by themselves", Value: float64(ended), Unit: "calls"})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// live goes through the window: steps, churn, readings.
func (r *run) live(ctx context.Context, w *outcome) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	if r.faults != nil {
		running.Go(func() {
			for _, e := range r.faults.Run(ctx, w.begin, func(e fault.Entry) { r.say("%v", e) }) {
				w.journal = append(w.journal, bench.Event{At: e.At.Seconds(), Text: e.What + ": " + e.Outcome})
			}
		})
	}
	running.Go(func() {
		if err := r.comeAndGo(ctx, w); err != nil {
			cancel(err)
		}
	})
	next := w.begin.Add(readEvery)
	for next.Before(w.end) {
		if until(ctx, next) != nil {
			return context.Cause(ctx)
		}
		if r.server != nil && len(r.plan.Faults) == 0 {
			select {
			case <-r.server.Done():
				return fmt.Errorf("server ended: %w", r.server.Err())
			default:
			}
		}
		now, err := r.read(ctx)
		if err != nil {
			return err
		}
		w.readings = append(w.readings, now)
		r.show(w)
		next = next.Add(readEvery)
	}
	if until(ctx, w.end) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// show tells how it goes.
func (r *run) show(w *outcome) {
	now, last := w.readings[len(w.readings)-1], w.readings[len(w.readings)-2]
	took := now.at.Sub(last.at).Seconds()
	line := fmt.Sprintf("%3.0f s left  %d users  %.0f packets/s heard", time.Until(w.end).Seconds(), now.users, float64(now.received()-last.received())/took)
	if r.server != nil {
		line += fmt.Sprintf("  server %.2f cores", (now.server.Total()-last.server.Total()).Seconds()/took)
	}
	line += fmt.Sprintf("  generator %.0f %% busy, %d late", 100*now.pace.Busy, now.pace.Late)
	r.config.Progress.Status(line)
}

// speakAll gives all talkers their parts in the window.
func (r *run) speakAll(ctx context.Context, w *outcome) error {
	var light []*member
	for _, m := range r.members {
		if !m.Talks || m.Within || m.joined.IsZero() {
			continue
		}
		m.talk = r.part(m, w.begin, w.end)
		if m.bot == nil {
			light = append(light, m)
			continue
		}
		if err := r.speak(ctx, m, m.talk); err != nil {
			return err
		}
	}
	if len(light) == 0 {
		return nil
	}
	return r.light.talkAll(ctx, light)
}

// judging is how a member that is there from then on is judged.
func (r *run) judging(m *member, w *outcome) meter.Config {
	from, to := m.present(w.begin, w.end)
	return meter.Config{From: from, To: to, Origin: w.begin, Slice: slice(w.end.Sub(w.begin))}
}

// slice is the width of the time series: at most 240 of them.
func slice(window time.Duration) time.Duration {
	return max(time.Second, (window / 240).Round(time.Second))
}

// judgeAll begins to judge everybody who is in.
func (r *run) judgeAll(ctx context.Context, w *outcome) error {
	var light []*member
	for _, m := range r.members {
		switch {
		case m.joined.IsZero() || !m.Sampled:
		case m.bot != nil:
			m.bot.judge(r.judging(m, w))
		default:
			light = append(light, m)
		}
	}
	if len(light) == 0 {
		return nil
	}
	return r.light.judgeAll(ctx, light, w, r.judging)
}

// comeAndGo has members leave and others come as planned.
func (r *run) comeAndGo(ctx context.Context, w *outcome) error {
	var going sync.WaitGroup
	defer going.Wait()
	for _, m := range r.members {
		if m.Leave > 0 && !m.Within {
			going.Go(func() { r.leaveAt(ctx, m, w) })
		}
	}
	var within []*member
	for _, m := range r.members {
		if m.Within {
			within = append(within, m)
		}
	}
	if len(within) == 0 {
		return nil
	}
	return r.joinAll(ctx, within, w.begin, openAtMost, true, func(m *member) {
		if m.Talks {
			m.talk = r.part(m, w.begin, w.end)
			if err := r.speak(ctx, m, m.talk); err != nil {
				return // counted: nobody hears it
			}
		}
		if m.Sampled && m.bot != nil {
			m.bot.judge(r.judging(m, w))
		} else if m.Sampled {
			_ = r.light.judgeAll(ctx, []*member{m}, w, r.judging)
		}
		if m.Leave > 0 {
			going.Go(func() { r.leaveAt(ctx, m, w) })
		}
	})
}

// leaveAt has a member leave then. What a light client heard is asked for first.
func (r *run) leaveAt(ctx context.Context, m *member, w *outcome) {
	if until(ctx, w.begin.Add(m.Leave+lastPackets)) != nil || m.leave == nil {
		return
	}
	r.farewell(ctx, m, w)
	m.mu.Lock()
	m.left = time.Now()
	m.mu.Unlock()
	_ = m.leave(ctx) // one that fails leaves a session that times out
}
