package fault

import (
	"fmt"
	"strings"
	"time"

	"voicefleet/bench/internal/impair"
	"voicefleet/bench/scenario"
)

// RuleOf is what a step of the network asks of the proxy.
func RuleOf(s scenario.Step) (impair.Rule, error) {
	r := impair.Rule{
		Loss: s.LossPercent / 100, Exact: s.Exact, Burst: s.Burst,
		Delay: s.Delay, Jitter: s.Jitter,
		Duplicate: s.DuplicatePercent / 100, Reorder: s.ReorderPercent / 100,
		Cut: s.Do == scenario.DoCut, ClipOnset: s.ClipOnset,
	}
	if err := r.Direction.UnmarshalText([]byte(s.Direction)); err != nil {
		return r, err
	}
	return r, r.Validate()
}

// over lays a rule over another: what it asks for, it gets; the rest stays.
func over(below, r impair.Rule) impair.Rule {
	if r.Loss > 0 {
		below.Loss, below.Burst = r.Loss, r.Burst
	}
	below.Exact = below.Exact || r.Exact
	if r.Delay > 0 {
		below.Delay = r.Delay
	}
	if r.Jitter > 0 {
		below.Jitter = r.Jitter
	}
	if r.Duplicate > 0 {
		below.Duplicate = r.Duplicate
	}
	if r.Reorder > 0 {
		below.Reorder, below.Behind = r.Reorder, r.Behind
	}
	if r.ClipOnset > 0 {
		below.ClipOnset = r.ClipOnset
	}
	below.Cut = below.Cut || r.Cut
	return below
}

// words tells a step as a person would.
func words(s scenario.Step) string {
	if !s.Do.Network() {
		return fmt.Sprintf("%s %s", s.Do, s.On)
	}
	var more []string
	percent := func(name string, v float64) {
		if v > 0 {
			more = append(more, fmt.Sprintf("%s%g %%", name, v))
		}
	}
	span := func(name string, v time.Duration) {
		if v > 0 {
			more = append(more, name+v.String())
		}
	}
	percent("", s.LossPercent)
	if s.Exact {
		more = append(more, "exactly")
	}
	if s.Burst > 0 {
		more = append(more, fmt.Sprintf("in bursts of %g", s.Burst))
	}
	span("delay ", s.Delay)
	span("jitter ", s.Jitter)
	percent("duplicate ", s.DuplicatePercent)
	percent("reorder ", s.ReorderPercent)
	span("clip ", s.ClipOnset)
	if s.Direction != "" && s.Direction != scenario.DirectionBoth {
		more = append(more, string(s.Direction))
	}
	if len(more) == 0 {
		return fmt.Sprintf("%s %s", s.Do, s.On)
	}
	return fmt.Sprintf("%s %s (%s)", s.Do, s.On, strings.Join(more, ", "))
}
