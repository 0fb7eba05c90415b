// Package peers keeps what a node measured of others, and says whom to ask next.
package peers
