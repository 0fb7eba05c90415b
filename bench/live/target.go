package live

import (
	"context"
	"time"

	"voicefleet/bench/internal/target"
)

// Target says which server, which channel, and who the bots are.
type Target = target.RemoteConfig

// Up is a server of our own for one run; UpConfig says how it is started.
type (
	Up       = target.Up
	UpConfig = target.UpConfig
)

// StartUp starts a server and returns when it takes calls.
func StartUp(ctx context.Context, c UpConfig) (*Up, error) { return target.StartUp(ctx, c) }

// tidyTimeout bounds what is removed after a run, also after one that was ended.
const tidyTimeout = 30 * time.Second

// tidy takes our bots off the server.
func tidy(ctx context.Context, r *target.Remote) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
	defer cancel()
	return r.Close(ctx)
}
