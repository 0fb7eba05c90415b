// Package stunprobe asks a media port, by an authenticated STUN binding request
// (RFC 8489), whether it lives and how far it is. What user name fragment and
// password to ask with is the caller's business.
package stunprobe
