// Package others tells how much of the machine belonged to others while something was
// measured: other programs, and other machines on the same host.
package others
