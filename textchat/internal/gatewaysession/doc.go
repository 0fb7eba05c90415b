// Package gatewaysession is what is pure in a gateway session: reading the
// frames of a client under the rules of the gateway (Intake), keeping the last
// events of a session for a Resume (Replay), holding back what is less
// important (Lane), and the wire form of frames (Framer).
package gatewaysession
