package remote

import "time"

// lease is who has a generator, and until when. It is the same at any speed: time
// is an argument.
type lease struct {
	ttl   time.Duration // without a word
	token string        // empty: nobody
	by    string
	since time.Time
	until time.Time
	// closing is set from the end of a lease until all is closed.
	closing bool
}

// take gives a free generator to a coordinator.
func (l *lease) take(now time.Time, token, by string) error {
	switch {
	case token == "" || by == "":
		return refuse(codeBadRequest, "a lease needs a token and the name of its coordinator")
	case l.closing:
		return refuse(codeBusy, "it still closes the clients of coordinator %q: try again in a few seconds", l.by)
	case l.token != "":
		return refuse(codeBusy, "it works for coordinator %q since %s: wait for the end of that run, or end it, or start another generator",
			l.by, l.since.UTC().Format("15:04:05 UTC"))
	}
	*l = lease{ttl: l.ttl, token: token, by: by, since: now, until: now.Add(l.ttl)}
	return nil
}

// holds says whether token is the lease, and keeps it alive: every word of the
// coordinator counts.
func (l *lease) holds(now time.Time, token string) error {
	if token == "" || token != l.token || l.closing {
		return refuse(codeGone, "it is not leased to us: it was started anew, or heard nothing of us for %v", l.ttl)
	}
	l.until = now.Add(l.ttl)
	return nil
}

// over says whether the coordinator has been silent for too long.
func (l *lease) over(now time.Time) bool {
	return l.token != "" && !l.closing && !now.Before(l.until)
}

// end begins the closing, closed ends it.
func (l *lease) end()    { l.closing = true }
func (l *lease) closed() { *l = lease{ttl: l.ttl} }
