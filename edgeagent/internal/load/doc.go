// Package load makes the load of a node out of counters: packets and bits per
// second over the last three seconds, and how busy the machine is.
package load
