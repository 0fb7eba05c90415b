// Package enrol lets machines into a fleet and keeps them out again. An Authority,
// one folder of an operator's, vouches for every member: by an X.509 certificate for
// links between members, and by a NATS user JWT for the bus, with permissions to
// publish only as itself. The bus servers check both by themselves: no part of the
// fleet has to run for a member to come back.
//
//	ctl node add ──► Enroller.Add ──► one-time token, its hash in bus.EnrolledBucket
//	edge --join  ──► Join (keys are made here, never sent) ──► Enroller.Join ──► Identity
//	ctl node revoke ──► Enroller.Revoke ──► account JWT to the servers: connection closed
//
// A token is single use by compare-and-swap, expires, and pins the certificate of
// whoever it is shown to. What is revoked is refused by the bus servers at once, and
// by members who follow Revocations.
package enrol
