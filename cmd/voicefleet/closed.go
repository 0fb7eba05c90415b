package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"voicefleet/edgeagent/edgeagentserver"
)

// turnFlags are those of the ways in for clients in closed networks.
type turnFlags struct {
	port      int
	cert, key string
	given     func() bool // whether the port was named
}

// defaultTURN is the port of TURN (RFC 8656 section 18).
const defaultTURN = 3478

func (t *turnFlags) flags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&t.port, "turn-port", defaultTURN, "UDP and TCP port for clients whose network lets no voice through (TURN, ICE-TCP); 0: none")
	t.given = func() bool { return cmd.Flags().Changed("turn-port") }
}

// certFlags are for a node without a certificate of its own.
func (t *turnFlags) certFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.cert, "turn-cert", "", "file with the certificate for TURN by TLS, which browsers must trust (PEM)")
	cmd.Flags().StringVar(&t.key, "turn-key", "", "file with its private key (PEM)")
}

func (t *turnFlags) check() error {
	switch {
	case t.port < 0 || t.port > 65535:
		return fmt.Errorf("--turn-port %d: want 0 to 65535", t.port)
	case (t.cert == "") != (t.key == ""):
		return fmt.Errorf("--turn-cert and --turn-key belong together")
	}
	return nil
}

// certificate of the flags, and the name it is for; nil without.
func (t *turnFlags) certificate() (*tls.Config, string, error) {
	if t.cert == "" {
		return nil, "", nil
	}
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, "", fmt.Errorf("--turn-cert, --turn-key: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, "", fmt.Errorf("--turn-cert: %w", err)
	}
	host := ""
	if len(leaf.DNSNames) > 0 {
		host = leaf.DNSNames[0]
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, host, nil
}

// listen opens the sockets; nil without. A port that was not asked for by name and
// is taken is done without.
func (t *turnFlags) listen(secure *tls.Config, host string, log *slog.Logger) (*edgeagentserver.Closed, error) {
	if t.port == 0 {
		return nil, nil
	}
	failed := func(proto string, err error) (*edgeagentserver.Closed, error) {
		err = portError(proto, t.port, "--turn-port", err)
		if t.given() {
			return nil, err
		}
		log.Warn("clients whose network lets no UDP through cannot join this node; name another port with --turn-port", "err", err)
		return nil, nil
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: t.port})
	if err != nil {
		return failed("UDP", err)
	}
	tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", t.port))
	if err != nil {
		udp.Close()
		return failed("TCP", err)
	}
	return &edgeagentserver.Closed{UDP: udp, TCP: tcp, TLS: secure, Host: host}, nil
}
