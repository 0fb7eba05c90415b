// Package localca lets a host without a public name speak TLS: it makes a
// certificate authority of its own, once, and with it a certificate that names
// every address of the host, again whenever they change.
//
// Whoever trusts the authority lets it vouch for addresses and for names of this
// host and its local network only: its name constraints (RFC 5280 section
// 4.2.1.10) keep it from ever naming a site on the Internet, should its key be
// stolen.
package localca
