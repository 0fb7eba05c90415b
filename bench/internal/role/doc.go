// Package role is what a child process of the harness can be, from both sides:
// the verbs it answers and the handle its parent holds. Three roles: a generator
// of light clients, the raw loop, the pion forwarder.
package role
