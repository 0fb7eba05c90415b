package pionforward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// Forwarder is one room. Talkers join first: a member hears the talkers that are
// there when it joins, and those that joined before hear it not.
type Forwarder struct {
	// Immutable.
	api    *webrtc.API
	socket *net.UDPConn

	mu sync.Mutex
	// Guarded by mu.
	rooms   map[string]map[int]*webrtc.TrackLocalStaticRTP // by talker
	members map[string][]*webrtc.PeerConnection            // by room
	closed  bool

	running sync.WaitGroup
}

// New listens on host, any port.
func New(host netip.Addr) (*Forwarder, error) {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, errors.Join(fmt.Errorf("register codecs: %w", err), socket.Close())
	}
	var chain interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(&media, &chain); err != nil {
		return nil, errors.Join(fmt.Errorf("register interceptors: %w", err), socket.Close())
	}
	var setting webrtc.SettingEngine
	setting.SetICEUDPMux(webrtc.NewICEUDPMux(nil, socket))
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	// Our clients are DTLS clients only.
	if err := setting.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, errors.Join(fmt.Errorf("choose role: %w", err), socket.Close())
	}
	return &Forwarder{
		api:    webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&chain), webrtc.WithSettingEngine(setting)),
		socket: socket,
		rooms:  make(map[string]map[int]*webrtc.TrackLocalStaticRTP), members: make(map[string][]*webrtc.PeerConnection),
	}, nil
}

// Talkers announces the talkers of a room, before anybody joins it.
func (f *Forwarder) Talkers(room string, talkers int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	tracks := make(map[int]*webrtc.TrackLocalStaticRTP, talkers)
	for i := range talkers {
		t, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, fmt.Sprintf("talker-%d", i), room)
		if err != nil {
			return fmt.Errorf("make track: %w", err)
		}
		tracks[i] = t
	}
	f.rooms[room] = tracks
	return nil
}

// Join answers the offer of a member. As talker (a number the room knows) its
// microphone feeds that track; any other number only listens.
func (f *Forwarder) Join(ctx context.Context, room string, talker int, offer string) (string, error) {
	pc, err := f.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", fmt.Errorf("open connection: %w", err)
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return "", errors.Join(net.ErrClosed, pc.Close())
	}
	f.members[room] = append(f.members[room], pc)
	tracks := f.rooms[room]
	f.mu.Unlock()
	if own := tracks[talker]; own != nil {
		pc.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { f.forward(remote, own) })
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("take offer: %w", err)
	}
	for i := range len(tracks) {
		if i == talker {
			continue
		}
		sender, err := pc.AddTrack(tracks[i])
		if err != nil {
			return "", fmt.Errorf("add track %d: %w", i, err)
		}
		f.running.Go(func() {
			// The interceptors see RTCP only when somebody reads it.
			for {
				if _, _, err := sender.ReadRTCP(); err != nil {
					return
				}
			}
		})
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("make answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("set answer: %w", err)
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return "", fmt.Errorf("gather candidates: %w", ctx.Err())
	}
	return pc.LocalDescription().SDP, nil
}

// forward copies a microphone to its track until either ends.
func (f *Forwarder) forward(remote *webrtc.TrackRemote, own *webrtc.TrackLocalStaticRTP) {
	for {
		packet, _, err := remote.ReadRTP()
		if err != nil {
			return
		}
		if err := own.WriteRTP(packet); err != nil && errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Leave ends all connections of a room and forgets it.
func (f *Forwarder) Leave(room string) error {
	f.mu.Lock()
	members := f.members[room]
	delete(f.members, room)
	delete(f.rooms, room)
	f.mu.Unlock()
	var errs []error
	for _, pc := range members {
		errs = append(errs, pc.Close())
	}
	return errors.Join(errs...)
}

// Close ends all rooms.
func (f *Forwarder) Close() error {
	f.mu.Lock()
	f.closed = true
	rooms := slices.Collect(maps.Keys(f.members))
	f.mu.Unlock()
	var errs []error
	for _, room := range rooms {
		errs = append(errs, f.Leave(room))
	}
	f.running.Wait()
	return errors.Join(append(errs, f.socket.Close())...)
}
