package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/others"
)

// block is what is appended at a time.
const block = 4096

// disk is what the disk alone can do where the data are to lie: a block appended to a
// file and synced, one after the other. No store acknowledges a write that is durable
// sooner than that, and none has a p99 below its.
func (r *run) disk(ctx context.Context) (err error) {
	length := r.config.Length / 4
	r.config.Progress.Say("the disk alone for %v", length)
	dir, err := os.MkdirTemp(r.config.Dir, "voicebench-store-")
	if err != nil {
		return fmt.Errorf("make a folder for the data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f, err := os.Create(filepath.Join(dir, "blocks"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	defer others.Watch("the disk alone", r.note)()
	spent, bytes := newHistogram(), make([]byte, block)
	begun := time.Now()
	for from := begun; from.Sub(begun) < length && ctx.Err() == nil; {
		if _, err := f.Write(bytes); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		now := time.Now()
		_ = spent.RecordValue(now.Sub(from).Nanoseconds())
		from = now
	}
	row := append([]string{fmt.Sprintf("%.0f", float64(spent.TotalCount())/time.Since(begun).Seconds())}, quantiles(spent)...)
	r.report.Tables = append(r.report.Tables, bench.Table{
		Title: fmt.Sprintf("The disk alone: %d bytes appended and synced, one after the other, for %v; ms", block, length),
		Head:  []string{"syncs/s", "p50", "p99", "max"}, Rows: [][]string{row},
	})
	r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: "disk: sync p99", Unit: "ms", Better: bench.Less, Samples: []float64{ms(spent, 99)}})
	return ctx.Err()
}
