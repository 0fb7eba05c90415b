package chart

import (
	"fmt"
	"math"
	"strings"
)

// palette is the number of line styles in Style.
const palette = 8

// Style is the style sheet of all charts of a page. It takes the colours --text,
// --muted, --rule and --page from the page.
const Style = `
:root{--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b8568c;--c4:#b97d00;--c5:#3a9bd9;--c6:#6a51a3;--c7:#555e68}
@media (prefers-color-scheme:dark){:root{--c0:#5ab4f0;--c1:#ff8f4a;--c2:#35c99c;--c3:#e79cc8;--c4:#f0bb4a;--c5:#a5d8ff;--c6:#b8a3f0;--c7:#aab2ba}}
@media print{:root{--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b8568c;--c4:#b97d00;--c5:#3a9bd9;--c6:#6a51a3;--c7:#555e68}}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}
.c4{--c:var(--c4);stroke-dasharray:6 3}.c5{--c:var(--c5);stroke-dasharray:2 3}.c6{--c:var(--c6);stroke-dasharray:8 3 2 3}.c7{--c:var(--c7);stroke-dasharray:4 4}
svg.chart,svg.small{display:block;font-size:12px;font-variant-numeric:tabular-nums;overflow:visible}
svg.chart{width:100%;height:auto}
svg.chart text{fill:var(--muted)}
svg.chart text.n{fill:var(--text)}
svg .e{text-anchor:end}svg .m{text-anchor:middle}
svg .g,svg .a{fill:none;stroke:var(--rule);stroke-width:1;shape-rendering:crispEdges}
svg .a{stroke:var(--muted)}
svg .s{fill:none;stroke:var(--c);stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}
svg .d{fill:var(--c);stroke:none}
svg .k path{fill:none;stroke:var(--muted);stroke-dasharray:3 3}
svg .k circle{fill:var(--text)}
svg.chart .k text{fill:var(--page);text-anchor:middle;font-size:11px;font-weight:600}
svg .h rect{fill:transparent}
svg .h rect:hover{fill:var(--muted);fill-opacity:.12}
svg .b{fill:var(--rule)}
svg .ok{fill:var(--c2)}svg .bad{fill:var(--c1)}svg .none{fill:var(--c7)}
svg .lim{stroke:var(--text);stroke-width:1.5}
svg .mid{stroke:var(--rule);stroke-width:1}
svg .iv{stroke-width:2;stroke:var(--muted)}
`

// Bullet is a value beside the bound it is to keep: a bar as long as the value, a
// stroke at the bound, which stands two thirds along. It is empty when the two
// cannot be set against each other.
func Bullet(value, bound float64, met bool) string {
	const w, h, at = 120, 14, 80
	if !(bound > 0) || !(value >= 0) || math.IsInf(value, 0) || math.IsInf(bound, 0) {
		return ""
	}
	bar := min(value/bound*at, w)
	class := "bad"
	if met {
		class = "ok"
	}
	return fmt.Sprintf(`<svg class="small" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true"><rect class="b" y="4" width="%d" height="6" rx="3"/><rect class="%s" y="4" width="%s" height="6" rx="3"/><path class="lim" d="M%d 1v12"/></svg>`,
		w, h, w, h, w, class, px(max(bar, 1)), at)
}

// Strip is the samples of a figure as dots between the least and the greatest of
// them.
func Strip(samples []float64) string {
	const w, h, pad = 160, 14, 5
	s := newSpan()
	for _, v := range samples {
		s.add(v, Axis{})
	}
	if s.lo > s.hi {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="small" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true"><path class="mid" d="M0 7h%d"/>`, w, h, w, h, w)
	for _, v := range samples[:min(len(samples), 100)] {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		x := float64(w) / 2
		if s.hi > s.lo {
			x = pad + (Linear.place(v)-s.lo)/(s.hi-s.lo)*(w-2*pad)
		}
		fmt.Fprintf(&b, `<circle class="d c0" cx="%s" cy="7" r="3.5" fill-opacity=".55"/>`, px(x))
	}
	b.WriteString(`</svg>`)
	return b.String()
}

// Interval is an estimate between its bounds on an axis that reaches as far to one
// side of neutral as to the other, reach; class is ok, bad or none.
func Interval(low, mid, high, neutral, reach float64, class string) string {
	const w, h = 150, 16
	if math.IsNaN(low+mid+high) || !(reach > 0) || math.IsInf(reach, 0) {
		return ""
	}
	x := func(v float64) float64 {
		return w/2 + min(max((v-neutral)/reach, -1), 1)*(w/2-5)
	}
	switch class {
	case "ok", "bad":
	default:
		class = "none"
	}
	return fmt.Sprintf(`<svg class="small" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true"><path class="mid" d="M0 8h%d"/><path class="lim" d="M%d 1v14"/><path class="iv" d="M%s 8H%s"/><circle class="%s" cx="%s" cy="8" r="4.5"/></svg>`,
		w, h, w, h, w, w/2, px(x(low)), px(x(high)), class, px(x(mid)))
}
