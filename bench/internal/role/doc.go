// Package role is what a process of the harness can be, from both sides: the verbs
// it answers and the handle its user holds. Three roles: a generator of light
// clients, the raw loop, the pion forwarder. A generator may be a child process or
// live behind the bus; its verbs take thousands of clients at once.
package role
