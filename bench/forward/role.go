package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/role"
)

// The roles of RunRole.
const (
	roleGenerator = "generator"
	roleRaw       = "raw"
	rolePion      = "pion"
)

// sweep is the longest tick of a kernel (CONFIG_HZ=100).
const sweep = 10 * time.Millisecond

// RunRole is a child process of the harness: its arguments are the name of the
// role and what startX below gives it.
func RunRole(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("no role named")
	}
	switch args[0] {
	case roleRaw:
		return role.ServeRaw(ctx, in, out)
	case rolePion, roleGenerator:
		if len(args) < 2 {
			return fmt.Errorf("role %s: no host", args[0])
		}
		host, err := netip.ParseAddr(args[1])
		if err != nil {
			return fmt.Errorf("role %s: %w", args[0], err)
		}
		if args[0] == rolePion {
			return role.ServePion(ctx, in, out, host)
		}
		return role.ServeGenerator(ctx, in, out, role.GeneratorConfig(host))
	default:
		return fmt.Errorf("no role %q", args[0])
	}
}

// program starts this program again in a role.
type program []string

func (p program) start(name string, args ...string) (*child.Process, error) {
	full := append(append([]string(nil), p[1:]...), args...)
	return child.Start(name, p[0], full...)
}

// generator is a child process of light clients.
type generator struct {
	role.Generator
	process *child.Process
}

// Stop ends it.
func (g generator) Stop() error { return g.process.Stop() }

func (p program) generator(ctx context.Context, host netip.Addr, voiceSize int) (generator, error) {
	c, err := p.start("generator", roleGenerator, host.String())
	if err != nil {
		return generator{}, err
	}
	g := generator{Generator: role.Generator{Caller: c, PID: c.PID()}, process: c}
	if err := g.Setup(ctx, lightclient.Setup{VoiceSize: voiceSize, Sweep: sweep}); err != nil {
		return generator{}, errors.Join(err, g.Stop())
	}
	return g, nil
}

func (p program) raw() (role.Raw, error) {
	c, err := p.start("raw loop", roleRaw)
	return role.Raw{Process: c}, err
}

func (p program) pion(host netip.Addr) (role.Pion, error) {
	c, err := p.start("pion forwarder", rolePion, host.String())
	return role.Pion{Process: c}, err
}
