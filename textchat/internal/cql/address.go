package cql

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Scheme begins the address of a CQL store.
const Scheme = "cql://"

// defaultTimeout is how long one operation may take: a store that is slow answers
// with an error within 1 s.
const defaultTimeout = 800 * time.Millisecond

// Config turns a Store. Hosts and Keyspace must be set.
type Config struct {
	// Hosts are HOST:PORT of some nodes; the others are found through them.
	Hosts []string
	// Keyspace holds the tables; it and Keyspace_lwt are made when missing.
	Keyspace string
	// Replicas is in how many nodes of the data centre each row lies, when the
	// keyspace is made (default 3, or 1 where fewer nodes are named and known).
	Replicas int
	// DC is the data centre that this process stands in (default: that of the node
	// that answers first), Rack its rack; with a rack its nodes are preferred.
	DC, Rack string

	User, Password string
	// TLS encrypts; the certificates and names of nodes are always checked. CA is a
	// file with authorities (default: the system's), Cert and Key those of this
	// client.
	TLS           bool
	CA, Cert, Key string

	// Timeout bounds an operation (default 800 ms). Longer ones answer late when the
	// cluster is down.
	Timeout time.Duration
	// Metrics takes the collectors; nil keeps them private. Log takes what an
	// operator must know; nil discards it.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// keyspaceName leaves room for the suffix: a keyspace has at most 48 characters.
var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,43}$`)

// ParseAddress reads cql://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]/KEYSPACE
// with the options tls, ca, cert, key, dc, rack, replicas and timeout after a "?".
func ParseAddress(address string) (Config, error) {
	var c Config
	rest, ok := strings.CutPrefix(address, Scheme)
	if !ok {
		return c, fmt.Errorf("want %sHOST,HOST/KEYSPACE", Scheme)
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, keyspace, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		// url reads what a password may be escaped as.
		u, err := url.Parse("cql://" + hosts[:at] + "@host")
		if err != nil {
			return c, errors.New("the user and password cannot be read; escape special characters as %XX")
		}
		c.User = u.User.Username()
		c.Password, _ = u.User.Password()
		hosts = hosts[at+1:]
	}
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = strings.Trim(host, "[]"), "9042"
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return c, fmt.Errorf("host %q: the port is no number from 1 to 65535", host)
		}
		if name == "" {
			return c, fmt.Errorf("a host is missing: want %sHOST,HOST/KEYSPACE", Scheme)
		}
		c.Hosts = append(c.Hosts, net.JoinHostPort(name, port))
	}
	if !keyspaceName.MatchString(keyspace) {
		return c, fmt.Errorf("keyspace %q: want 1 to 44 of a-z, 0-9 and _, a letter first, as in %shost1,host2/voicefleet", keyspace, Scheme)
	}
	c.Keyspace = keyspace
	options, err := url.ParseQuery(query)
	if err != nil {
		return c, fmt.Errorf("options %q cannot be read", query)
	}
	for name, values := range options {
		value := values[len(values)-1]
		switch name {
		case "tls":
			if value != "on" && value != "off" {
				return c, fmt.Errorf("tls=%s: want on or off", value)
			}
			c.TLS = value == "on"
		case "ca":
			c.CA = value
		case "cert":
			c.Cert = value
		case "key":
			c.Key = value
		case "dc":
			c.DC = value
		case "rack":
			c.Rack = value
		case "replicas":
			if c.Replicas, err = strconv.Atoi(value); err != nil || c.Replicas < 1 || c.Replicas > 9 {
				return c, fmt.Errorf("replicas=%s: want 1 to 9", value)
			}
		case "timeout":
			if c.Timeout, err = time.ParseDuration(value); err != nil || c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
				return c, fmt.Errorf("timeout=%s: want a duration from 100ms to 1m, as in timeout=2s", value)
			}
		default:
			return c, fmt.Errorf("unknown option %q; there are tls, ca, cert, key, dc, rack, replicas and timeout", name)
		}
	}
	c.TLS = c.TLS || c.CA != "" || c.Cert != ""
	if options.Get("tls") == "off" && c.TLS {
		return c, errors.New("tls=off, but a certificate is given")
	}
	if (c.Cert == "") != (c.Key == "") {
		return c, errors.New("cert and key go together")
	}
	if c.Rack != "" && c.DC == "" {
		return c, errors.New("rack wants dc beside it")
	}
	return c, nil
}
