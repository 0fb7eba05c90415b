package load

import "context"

// step is one load that was tried.
type step struct {
	Size int  `json:"size"`
	Met  bool `json:"met"`
}

// search finds the largest size from 1 to most that try finds good: it grows from
// start by half until one is not, then halves the distance between the best and
// the worst until it is within tolerance (a share of the best). try is asked each
// size once. A size that failed once is asked again before it counts as too
// large, as one bad window of a busy machine is not the server's limit.
func search(ctx context.Context, start, most int, tolerance float64, try func(ctx context.Context, size int) (bool, error)) (best int, steps []step, err error) {
	ask := func(size int) (bool, error) {
		for range 2 {
			met, err := try(ctx, size)
			if err != nil {
				return false, err
			}
			steps = append(steps, step{size, met})
			if met {
				return true, nil
			}
		}
		return false, nil
	}
	bad := most + 1
	for size := min(max(start, 1), most); ; {
		met, err := ask(size)
		if err != nil {
			return best, steps, err
		}
		if met {
			best = size
		} else {
			bad = size
		}
		switch {
		case bad-best <= max(1, int(tolerance*float64(best))):
			return best, steps, nil
		case bad > most:
			size = min(most, max(best+1, best*3/2))
		default:
			size = best + (bad-best)/2
		}
		if size >= bad || size <= best {
			return best, steps, nil
		}
	}
}
