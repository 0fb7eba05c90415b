package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
)

// fleetCommand makes what a fleet begins with, by hand and without a network.
func fleetCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fleet", Short: "Make a fleet's authority, and what its first machines need", Long: wordsFleet, Example: wordsFleetExamples}
	cmd.AddCommand(fleetInitCommand(), fleetBusCommand(), fleetCredentialsCommand())
	return cmd
}

func fleetInitCommand() *cobra.Command {
	var servers []string
	cmd := &cobra.Command{
		Use: "init FOLDER", Short: "Make the fleet's authority",
		Example: "  voicefleet fleet init ./fleet --bus 10.0.0.1:4222,10.0.0.2:4222,10.0.0.3:4222",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			urls, err := busURLs(servers)
			if err != nil {
				return err
			}
			known := enrol.Exists(a[0])
			authority, err := enrol.Open(a[0])
			if err != nil {
				return err
			}
			if err := authority.SetBus(urls); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsAuthority(a[0], known))
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&servers, "bus", nil, "HOST:PORT of each NATS server, as members reach it, separated by commas")
	return cmd
}

// busURLs are the URLs of NATS servers that speak TLS.
func busURLs(servers []string) (urls []string, err error) {
	if len(servers) == 0 {
		return nil, errors.New("--bus: want HOST:PORT of each NATS server, separated by commas")
	}
	for _, s := range servers {
		host, _, err := net.SplitHostPort(s)
		if err == nil && host == "" {
			err = errors.New("no host")
		}
		if err == nil {
			_, _, err = splitListen("--bus", s)
		}
		if err != nil {
			return nil, fmt.Errorf("--bus %q: want HOST:PORT: %w", s, err)
		}
		urls = append(urls, (&url.URL{Scheme: "tls", Host: s}).String())
	}
	return urls, nil
}

// openAuthority opens one that was made before.
func openAuthority(dir string) (*enrol.Authority, []string, error) {
	if !enrol.Exists(dir) {
		return nil, nil, fmt.Errorf("%s holds no authority; make it with: voicefleet fleet init %s", dir, dir)
	}
	a, err := enrol.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	urls, err := a.Bus()
	return a, urls, err
}

func fleetBusCommand() *cobra.Command {
	spec := enrol.ServerSpec{}
	var out string
	cmd := &cobra.Command{
		Use: "bus FOLDER NAME", Short: "Make the configuration and certificate of one NATS server",
		Long: wordsFleetBus,
		Example: "  voicefleet fleet bus ./fleet bus1 --listen 10.0.0.1:4222 --cluster-listen 10.0.0.1:6222 \\\n" +
			"    --routes 10.0.0.1:6222,10.0.0.2:6222,10.0.0.3:6222 --out ./bus1",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, a []string) error {
			authority, urls, err := openAuthority(a[0])
			if err != nil {
				return err
			}
			spec.Name = a[1]
			host, _, err := splitListen("--listen", spec.Listen)
			if err != nil {
				return err
			}
			if len(spec.Hosts) == 0 && host != "0.0.0.0" && host != "::" {
				spec.Hosts = []string{host}
			}
			if len(spec.Hosts) == 0 {
				for _, u := range urls {
					if parsed, err := url.Parse(u); err == nil {
						spec.Hosts = append(spec.Hosts, parsed.Hostname())
					}
				}
			}
			for _, r := range append(slices.Clone(spec.Routes), spec.ClusterListen) {
				if r == "" {
					continue
				}
				h, _, err := splitListen("--cluster-listen and --routes", r)
				if err != nil {
					return err
				}
				if r == spec.ClusterListen && h != "0.0.0.0" && h != "::" && !slices.Contains(spec.Hosts, h) {
					spec.Hosts = append(spec.Hosts, h)
				}
			}
			if out == "" {
				out = "./" + spec.Name
			}
			if _, err := authority.ServerBundle(out, spec); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsBundle(out, spec))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Listen, "listen", "0.0.0.0:4222", "address and port for members")
	f.StringVar(&spec.ClusterListen, "cluster-listen", "", "address and port for the other servers; empty: it stays alone")
	f.StringSliceVar(&spec.Routes, "routes", nil, "HOST:PORT of all servers' --cluster-listen, separated by commas")
	f.StringSliceVar(&spec.Hosts, "hosts", nil, "names and addresses by which it is dialled (default: those of --listen and --cluster-listen)")
	f.StringVar(&spec.Store, "store", "/var/lib/voicefleet-bus", "folder of what must last, on the server's machine")
	f.StringVar(&spec.At, "at", "/etc/voicefleet/bus", "where the folder --out will lie on the server's machine")
	f.StringVar(&out, "out", "", "folder to write (default ./NAME)")
	return cmd
}

func fleetCredentialsCommand() *cobra.Command {
	var out, region string
	roles := []string{bus.RoleCentral, bus.RoleText, bus.RoleEdge}
	cmd := &cobra.Command{
		Use: "credentials FOLDER ROLE NAME", Short: "Make an identity by hand, for a machine that cannot join by itself yet",
		Example: "  voicefleet fleet credentials ./fleet text text1 --out ./text1",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, a []string) error {
			authority, urls, err := openAuthority(a[0])
			if err != nil {
				return err
			}
			if !slices.Contains(roles, a[1]) {
				return fmt.Errorf("role %q: want one of %s", a[1], strings.Join(roles, ", "))
			}
			if out == "" {
				out = "./" + a[2]
			}
			m := enrol.Member{Role: a[1], Name: a[2]}
			if err := authority.Bundle(out, m, region, urls); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsCredentials(out, m))
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder to write (default ./NAME)")
	cmd.Flags().StringVar(&region, "region", "", "region of an edge")
	return cmd
}
