package linkwire

const (
	// A link is lossy that lost more than lossy of its datagrams in the last
	// qualitySeconds, and some in at least half of these: one burst makes none so. It
	// is well again when it lost less than clean.
	lossy          = 0.03
	clean          = 0.01
	qualitySeconds = 8
)

// Quality finds links that lose packets all the time. The zero value has seen nothing.
type Quality struct {
	seconds [qualitySeconds]struct{ came, lost int }
	seen    int
	lossy   bool
}

// Second takes in how many datagrams came in a second and how many are missing: less
// than none where some came late. It returns the share (0..1) that was lost in the last
// seconds, and whether the link is lossy.
func (q *Quality) Second(came, lost int) (share float64, isLossy bool) {
	now := &q.seconds[q.seen%qualitySeconds]
	now.came, now.lost = came, lost
	q.seen++
	all, gone, holed := 0, 0, 0
	for _, s := range q.seconds {
		all += s.came + s.lost
		gone += s.lost
		if s.lost > 0 {
			holed++
		}
	}
	share = float64(max(gone, 0)) / float64(max(all, 1))
	switch {
	case share < clean:
		q.lossy = false
	case share > lossy && holed >= qualitySeconds/2 && q.seen >= qualitySeconds:
		q.lossy = true
	}
	return share, q.lossy
}
