package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
)

// members is the enrolment of a program that holds the fleet's authority.
type members struct {
	enroller *enrol.Enroller
	journal  *bus.History[allocator.JournalEntry]
	base     func() string // https://HOST:PORT of this program, as new machines reach it
	pin      []byte        // of its own authority, or nil
	log      *slog.Logger
}

// openMembers starts enrolment. servers says how to reach the bus, urls how members
// elsewhere do; endpoint is the HOST:PORT at which they reach this program, or empty
// for its first address of the moment.
func openMembers(ctx context.Context, a *enrol.Authority, conn *bus.Conn, servers bus.Config, urls []string, v *vouching, endpoint string, port int, addrs func() []netip.Addr, log *slog.Logger) (*members, error) {
	farewell := func(ctx context.Context, name string) error {
		nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, conn, bus.NodesBucket)
		if err == nil {
			_, err = nodes.Put(ctx, name, edgeagent.Heartbeat{Node: edgeagent.NodeID(name), State: edgeagent.Gone, At: time.Now()})
		}
		return err
	}
	e, err := enrol.New(ctx, enrol.Config{Authority: a, Bus: conn, Servers: servers, URLs: urls, Farewell: farewell})
	if err != nil {
		return nil, err
	}
	m := &members{enroller: e, log: log, base: func() string {
		host := v.name
		if named, _, err := net.SplitHostPort(endpoint); err == nil && named != "" {
			return "https://" + endpoint
		}
		if host == "" {
			host = "localhost"
			if list := addrs(); len(list) > 0 {
				host = list[0].String()
			}
		}
		if port == 443 {
			return "https://" + host
		}
		return "https://" + net.JoinHostPort(host, strconv.Itoa(port))
	}}
	if v.acme == nil {
		if m.pin, err = hex.DecodeString(v.ca.Fingerprint()); err != nil {
			return nil, fmt.Errorf("start enrolment: %w", err)
		}
	}
	if m.journal, err = bus.OpenHistory[allocator.JournalEntry](ctx, conn, bus.JournalHistory); err != nil {
		return nil, err
	}
	return m, nil
}

// invitation is an order to add a member, and its answer.
type invitation struct {
	Role   string        `json:"role"`
	Name   string        `json:"name"`
	Region string        `json:"region,omitempty"`
	TTL    time.Duration `json:"ttl"`
	By     string        `json:"by"`
}

type invited struct {
	enrol.Member
	Join    string    `json:"join"` // the argument of --join
	Expires time.Time `json:"expires"`
}

// mount adds the operator's routes, and those for new machines.
func (m *members) mount(mux *http.ServeMux, token string) {
	if m == nil {
		return
	}
	mux.Handle(enrol.JoinPath, m.enroller.Handler())
	mux.Handle(enrol.RenewPath, m.enroller.Handler())
	route := func(method, pattern string, answer func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc(method+" "+fleetPath+pattern, func(w http.ResponseWriter, r *http.Request) {
			if !authorized(r, token) {
				refuse(w)
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), 2*askTime)
			defer cancel()
			v, err := answer(ctx, r)
			status := http.StatusOK
			if err != nil {
				status = enrol.Status(err)
				v = map[string]any{"code": 0, "message": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v) // the client may be gone: nothing to do about it
		})
	}
	route("GET", "members", func(ctx context.Context, _ *http.Request) (any, error) { return m.enroller.List(ctx) })
	route("POST", "members", m.add)
	route("POST", "members/{role}/{name}/revoke", m.revoke)
}

func (m *members) add(ctx context.Context, r *http.Request) (any, error) {
	var order invitation
	if err := readOrder(r, &order, &order.By); err != nil {
		return nil, &enrol.Error{Code: enrol.CodeBadRequest, Message: err.Error()}
	}
	who := enrol.Member{Role: order.Role, Name: order.Name}
	if order.TTL == 0 {
		order.TTL = enrol.DefaultTTL
	}
	expires := time.Now().Add(order.TTL)
	token, err := m.enroller.Add(ctx, who, order.Region, order.By, order.TTL)
	if err != nil {
		return nil, err
	}
	m.note(ctx, who, order.By, "invited until "+expires.Format(time.DateTime))
	return invited{Member: who, Join: enrol.JoinURL(m.base(), token, m.pin), Expires: expires}, nil
}

func (m *members) revoke(ctx context.Context, r *http.Request) (any, error) {
	var order invitation
	if err := readOrder(r, &order, &order.By); err != nil {
		return nil, &enrol.Error{Code: enrol.CodeBadRequest, Message: err.Error()}
	}
	who := enrol.Member{Role: r.PathValue("role"), Name: r.PathValue("name")}
	entry, err := m.enroller.Revoke(ctx, who, order.By)
	if err != nil {
		return nil, err
	}
	m.note(ctx, who, order.By, "revoked")
	return entry, nil
}

// note writes the journal. What cannot be written is logged: the deed is done.
func (m *members) note(ctx context.Context, who enrol.Member, by, what string) {
	e := allocator.JournalEntry{At: time.Now(), By: by, Deed: allocator.DeedEnrol, Why: who.String() + " " + what}
	if who.Role == bus.RoleEdge {
		e.Node = edgeagent.NodeID(who.Name)
	}
	if err := m.journal.Append(ctx, "", e); err != nil {
		m.log.Warn("enrolment is not in the journal", "member", who, "what", what, "err", err)
	}
}

// identityOf is the identity in a folder, or that which joinURL gets; nil with
// neither. A machine that is enrolled already needs its join address no more, so
// that the one command can stay in its unit.
func identityOf(ctx context.Context, dir, joinURL, role string) (*enrol.Identity, error) {
	i, err := enrol.Load(dir)
	if file, ok := strings.CutPrefix(joinURL, "@"); ok {
		body, readErr := os.ReadFile(file)
		if readErr != nil && err != nil { // who is enrolled needs it no more
			return nil, fmt.Errorf("--join: %w", readErr)
		}
		joinURL = strings.TrimSpace(string(body))
	}
	switch {
	case err == nil && i.Role != role:
		return nil, fmt.Errorf("%s holds the identity of %v: give this %s another --identity folder", dir, i.Member, role)
	case err == nil && joinURL != "":
		who, err := enrol.MemberIn(joinURL)
		if err == nil && who != i.Member {
			err = fmt.Errorf("%s holds the identity of %v already: give %v another --identity folder", dir, i.Member, who)
		}
		return i, err
	case err == nil:
		return i, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case joinURL == "":
		return nil, nil
	}
	who, err := enrol.MemberIn(joinURL)
	if err == nil && who.Role != role {
		err = fmt.Errorf("that is an invitation for %v: start voicefleet %s with it", who, who.Role)
	}
	if err != nil {
		return nil, err
	}
	return enrol.Join(ctx, joinURL, dir)
}

// fleetBus is the bus of `up --enrol`: the built-in server with the fleet's trust,
// and how the parts of this process reach it.
type fleetBus struct {
	authority *enrol.Authority
	server    *bus.Embedded
	urls      []string
	central   *bus.Credentials
}

// startFleetBus makes the authority in the data folder when it is not there, and
// starts the server with a certificate for the addresses of now.
func startFleetBus(folder, listen string, addrs []netip.Addr, log *slog.Logger) (*fleetBus, error) {
	host, port, err := splitListen("--bus-listen", listen)
	if err != nil {
		return nil, err
	}
	a, err := enrol.Open(filepath.Join(folder, folderFleet))
	if err != nil {
		return nil, err
	}
	hosts := []string{"127.0.0.1", "localhost"}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
		hosts = append(hosts, host)
	}
	for _, addr := range addrs {
		hosts = append(hosts, addr.String())
	}
	at := filepath.Join(folder, folderFleet, "bus")
	spec := enrol.ServerSpec{Name: "voicefleet", Listen: net.JoinHostPort(host, strconv.Itoa(port)), Hosts: hosts, Store: filepath.Join(folder, folderBus), At: at}
	text, err := a.ServerBundle(at, spec)
	if err != nil {
		return nil, err
	}
	b := &fleetBus{authority: a}
	if b.central, err = a.Credentials(enrol.Member{Role: bus.RoleCentral, Name: "up"}); err != nil {
		return nil, err
	}
	shown := host
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		shown = addrs[0].String()
	}
	b.urls = []string{"tls://" + net.JoinHostPort(shown, strconv.Itoa(port))}
	b.server, err = startBus(bus.EmbeddedConfig{ServerConfig: text, Log: log}, "", "--bus-listen")
	return b, err
}
