package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/internal/bus"
)

// busEnv may hold the address of the bus, so that its token need not stand in
// the list of processes.
const busEnv = "VOICEFLEET_BUS"

// busAt is where a role finds the bus, and how long it waits for it.
type busAt struct {
	url  string
	wait time.Duration
}

func (b *busAt) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.url, "bus", os.Getenv(busEnv), "NATS servers, nats://[TOKEN@]HOST:PORT, separated by commas (or $"+busEnv+")")
	cmd.Flags().DurationVar(&b.wait, "bus-wait", 30*time.Second, "how long to wait for the bus at the start; later it is waited for as long as it takes")
}

// join connects a role to the bus.
func (b *busAt) join(ctx context.Context, name string, metrics prometheus.Registerer, log *slog.Logger) (*bus.Conn, error) {
	if b.url == "" {
		return nil, errors.New("needs --bus nats://HOST:PORT; try one with: voicefleet bus")
	}
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	return bus.Connect(ctx, bus.Config{URL: b.url, Name: name, Metrics: metrics, Log: log})
}

// splitListen reads HOST:PORT of a flag.
func splitListen(flag, s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%s %q: want ADDR:PORT", flag, s)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// startBus starts the embedded server; listen (of flag) may be empty: then only
// this process reaches it.
func startBus(storeDir, listen, flag, token string, log *slog.Logger) (*bus.Embedded, error) {
	cfg := bus.EmbeddedConfig{StoreDir: storeDir, Log: log}
	if listen != "" {
		host, port, err := splitListen(flag, listen)
		if err != nil {
			return nil, err
		}
		cfg.Host, cfg.Port, cfg.Token = host, port, token
	}
	e, err := bus.StartEmbedded(cfg)
	if err != nil && (errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, os.ErrPermission)) {
		return nil, portError("TCP", cfg.Port, flag, err)
	}
	return e, err
}

// busURL is what nodes elsewhere give as --bus.
func busURL(host string, port int, token string) string {
	u := url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(port))}
	if token != "" {
		u.User = url.User(token)
	}
	return u.String()
}

func busCommand() *cobra.Command {
	var c common
	var listen, token string
	cmd := &cobra.Command{
		Use:     "bus",
		Short:   "Run the built-in NATS server alone, to try a fleet",
		Long:    wordsBus,
		Example: wordsBusExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			e, err := startBus("", listen, "--listen", token, log)
			if err != nil {
				return err
			}
			defer e.Shutdown()
			host, port, _ := splitListen("--listen", listen)
			fmt.Fprintln(cmd.OutOrStdout(), wordsBusUp(busURL(host, port, token)))
			ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
			defer stop()
			<-ctx.Done()
			return nil
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:4222", "address and port to listen on")
	cmd.Flags().StringVar(&token, "token", "", "token that every program must give, as nats://TOKEN@HOST:PORT")
	return cmd
}
