package cql

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"voicefleet/textchat"
)

// percentile is the time in milliseconds that this share of them took at most.
func percentile(list []time.Duration, share float64) float64 {
	slices.Sort(list)
	return float64(list[min(len(list)-1, int(share*float64(len(list))))].Microseconds()) / 1000
}

// BenchmarkLoad inserts b.N messages at 2,000/s into 200 channels, with 200 pages
// of 50 a second read beside them; the second half is measured. Each has its own
// time: one that is late does not hold up the next, and its wait counts. The goals
// are 5 ms for inserts and 15 ms for pages, at the 99th percentile:
//
//	go test -run '^$' -bench Load -benchtime 60000x ./textchat/internal/cql
func BenchmarkLoad(b *testing.B) {
	const (
		rate     = 2000
		pages    = 200
		channels = 200
		underWay = 1024
	)
	if b.N < 2*rate { // the first guess of the benchmark's length
		return
	}
	s := openAt(b, patient(b, runKeyspace()))
	ids := make([]textchat.ID, channels)
	for i := range ids {
		ids[i] = newID()
	}
	text := string(make([]byte, 200))
	var mu sync.Mutex
	var inserts, reads []time.Duration
	run := func(n, rate int, spent *[]time.Duration, f func() error) {
		begun := time.Now()
		var wg sync.WaitGroup
		slots := make(chan struct{}, underWay)
		for i := range n {
			due := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(due))
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				err := f()
				took := time.Since(due)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					b.Error(err)
				} else if i >= n/2 { // the first half is for the server's compiler
					*spent = append(*spent, took)
				}
			})
		}
		wg.Wait()
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	wg.Go(func() {
		run(b.N, rate, &inserts, func() error {
			_, _, err := s.AddMessage(ctx, message(ids[rand.IntN(channels)], newID(), text), "")
			return err
		})
	})
	wg.Go(func() {
		run(b.N*pages/rate, pages, &reads, func() error {
			_, err := s.Page(ctx, ids[rand.IntN(channels)], textchat.PageQuery{Limit: 50})
			return err
		})
	})
	wg.Wait()
	if b.Failed() {
		return
	}
	for name, list := range map[string][]time.Duration{"insert": inserts, "page": reads} {
		for _, share := range []float64{.5, .99} {
			b.ReportMetric(percentile(list, share), fmt.Sprintf("ms/%s-p%g", name, 100*share))
		}
	}
}
