package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/term"

	"voicefleet/internal/addrs"
	"voicefleet/textchat/chatserver"
)

// house is what up and text share: a data folder, a port, a certificate.
type house struct {
	folder   *folder
	token    string
	port     int
	listener net.Listener
	watch    *addrs.Watcher
	vouch    *vouching
}

// maxName bounds the name of a guild, as clients know it.
const maxName = 100

func openHouse(dir string, port int, domain string, advertise []netip.Addr) (*house, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("--port %d: want 1 to 65535", port)
	}
	folder, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	h := &house{folder: folder, port: port}
	if err := h.open(domain, advertise); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *house) open(domain string, advertise []netip.Addr) (err error) {
	if h.token, err = h.folder.token(fileToken); err != nil {
		return err
	}
	if h.watch, err = addrs.Watch(advertise, nil); err != nil {
		return err
	}
	if h.vouch, err = vouch(h.folder.path, domain, h.watch.Addrs); err != nil {
		return err
	}
	if h.listener, err = listenTCP(h.port, "--port"); err != nil {
		return err
	}
	return h.folder.announce(fmt.Sprintf("http://127.0.0.1:%d", h.port))
}

func (h *house) close() {
	if h.listener != nil {
		h.listener.Close()
	}
	h.folder.Close()
}

// greet makes what a first start makes, and prints the banner.
func (h *house) greet(ctx context.Context, out io.Writer, chat *chatserver.Server, name, busURL string) error {
	first, err := chat.Bootstrap(ctx, name)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil
		}
		return fmt.Errorf("prepare the first guild: %w", err)
	}
	tty := false
	if f, ok := out.(*os.File); ok {
		tty = term.IsTerminal(int(f.Fd()))
	}
	bold := func(s string) string { return s }
	if tty {
		bold = func(s string) string { return "\x1b[1m" + s + "\x1b[0m" }
	}
	b := banner{
		Name: name, Port: h.port, Scheme: "https", Host: "localhost", Addrs: h.watch.Addrs(),
		Invite: first.Invite, Owner: first.OwnerCode, Data: h.folder.path,
		CA: h.vouch.acme == nil, Finger: h.vouch.ca.Fingerprint()[:16], Bus: busURL, Bold: bold,
	}
	switch {
	case h.vouch.name != "":
		b.Host = h.vouch.name
	case len(b.Addrs) > 0 && !b.Addrs[0].IsLoopback():
		b.Host = b.Addrs[0].String()
	}
	if b.Invite != "" {
		if b.QR, err = drawQR(b.There()+"/invite/"+b.Invite, tty); err != nil {
			return err
		}
	}
	if err := bannerText.Execute(out, b); err != nil {
		return fmt.Errorf("print the banner: %w", err)
	}
	return nil
}
