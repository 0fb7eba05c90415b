// Package generator offers the light clients of this machine to a coordinator
// elsewhere.
//
// In comes the address of the bus and a name; out go the verbs of role.Generator,
// served under that name (see remote). Each lease has a process of its own.
package generator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/remote"
	"voicefleet/internal/bus"
)

// Config says where the bus is and what is offered.
type Config struct {
	// Bus is the NATS servers: nats://[TOKEN@]HOST:PORT, separated by commas.
	Bus string
	// Wait is how long the bus is waited for at the start (default 30 s).
	Wait time.Duration
	// Name that coordinators use; default OwnName.
	Name string
	// Host is the address of the clients; default: that of the interface towards
	// the bus. At 127.0.0.1 each client gets an address of its own.
	Host netip.Addr
	// Self is the program and its first arguments, which run forward.RunRole.
	Self []string
	// Ready is called when the generator is about to be announced.
	Ready func(name string, host netip.Addr)
	Log   *slog.Logger
}

func (c *Config) validate() error {
	if c.Bus == "" {
		return errors.New("needs --bus nats://HOST:4222; start one where the coordinator runs with: voicefleet bus --listen HOST:4222")
	}
	if len(c.Self) == 0 {
		return errors.New("no program to run the clients in")
	}
	if c.Wait == 0 {
		c.Wait = 30 * time.Second
	}
	if c.Name == "" {
		c.Name = OwnName()
	}
	if err := remote.CheckName(c.Name); err != nil {
		return err
	}
	if !c.Host.IsValid() {
		var err error
		if c.Host, err = towards(c.Bus); err != nil {
			return err
		}
	}
	return nil
}

// Run serves coordinators, one after the other, until ctx ends.
func Run(ctx context.Context, config Config) error {
	if err := config.validate(); err != nil {
		return err
	}
	connecting, cancel := context.WithTimeout(ctx, config.Wait)
	defer cancel()
	conn, err := bus.Connect(connecting, bus.Config{URL: config.Bus, Name: "voicebench generator " + config.Name, Log: config.Log})
	if err != nil {
		return fmt.Errorf("%w: see that a NATS server answers there, and that no firewall is between", err)
	}
	defer conn.Close()
	if config.Ready != nil {
		config.Ready(config.Name, config.Host)
	}
	return remote.Serve(ctx, conn, remote.Config{
		Name: config.Name, Host: config.Host.String(), Log: config.Log,
		Open: remote.Children(func() (*child.Process, error) {
			args := append([]string(nil), config.Self[1:]...)
			return child.Start("clients", config.Self[0], append(args, "generator", config.Host.String())...)
		}),
	})
}

var noName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// OwnName is the machine's name and our process, as a name for the bus.
func OwnName() string {
	machine, err := os.Hostname()
	if err != nil {
		machine = "generator"
	}
	return fmt.Sprintf("%.50s-%d", noName.ReplaceAllString(machine, "-"), os.Getpid())
}

// towards is our address on the way to the first server of the bus.
func towards(servers string) (netip.Addr, error) {
	first, _, _ := strings.Cut(servers, ",")
	u, err := url.Parse(first)
	if err != nil || u.Hostname() == "" {
		return netip.Addr{}, fmt.Errorf("--bus %q: want nats://HOST:4222", servers)
	}
	// A connected UDP socket sends nothing: it is asked for the way only.
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the way to %s: %w: name an address of this machine with --host", u.Hostname(), err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
