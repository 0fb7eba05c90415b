package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// UpdateAccount tells the servers the newest JWT of an account, as who has
// credentials of their system account may: all that are up keep it, those that are
// not learn it from them. It returns when one has taken it.
func UpdateAccount(ctx context.Context, cfg Config, accountJWT string) error {
	cfg.Name = "authority"
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	c, err := Connect(ctx, cfg)
	if err != nil {
		return fmt.Errorf("update account: %w", err)
	}
	defer c.Close()
	answer, err := c.nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(accountJWT))
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("update account: the servers take no account JWTs: they want resolver { type: full }")
	}
	if err != nil {
		return fmt.Errorf("update account: %w", err)
	}
	var rep struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &rep); err != nil {
		return fmt.Errorf("update account: %w", err)
	}
	if rep.Error != nil {
		return fmt.Errorf("update account: %s", rep.Error.Description)
	}
	return nil
}
