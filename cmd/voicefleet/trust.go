package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
)

// fleetTrust is whom an enrolled edge believes on links: the edges for which the
// fleet's authority vouches, until they are revoked.
type fleetTrust struct {
	own     *enrol.Identity
	revoked *enrol.Revocations
}

func newFleetTrust(own *enrol.Identity) *fleetTrust {
	return &fleetTrust{own, enrol.NewRevocations()}
}

// Own serves edgeagentserver.PeerTrust. It changes when it is renewed.
func (f *fleetTrust) Own() *tls.Certificate { return f.own.Certificate() }

// Node serves edgeagentserver.PeerTrust.
func (f *fleetTrust) Node(leaf *x509.Certificate) (edgeagent.NodeID, bool) {
	m, ok := enrol.MemberOf(leaf)
	return edgeagent.NodeID(m.Name), ok && m.Role == bus.RoleEdge
}

// Check serves edgeagentserver.PeerTrust.
func (f *fleetTrust) Check(_ edgeagent.RelayPeer, leaf *x509.Certificate) error {
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: f.own.Pool, KeyUsages: uses}); err != nil {
		return fmt.Errorf("the fleet does not vouch for it: %w", err)
	}
	return f.revoked.Refuse(leaf)
}

// followAgain is how long after a failure revocations are asked for again. What is
// known stands meanwhile.
const followAgain = time.Second

// follow learns who is revoked until ctx ends.
func (f *fleetTrust) follow(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
	for ctx.Err() == nil {
		if err := f.revoked.Run(ctx, conn); err != nil && ctx.Err() == nil {
			log.Warn("revocations are not followed", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(followAgain):
			}
		}
	}
	return nil
}
