// Package gatewaysession is what is pure in a gateway session: reading the
// frames of a client under the rules of the gateway (Intake), and keeping the
// last events of a session for a Resume (Replay).
package gatewaysession
