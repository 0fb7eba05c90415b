// The one PeerConnection of a call: microphone and camera go out, K slots of sound and
// nine views of other cameras come in. The offer is sent once, without candidates; the
// server is ICE-lite and answers every slot and view with a stream of its own, so nothing
// is negotiated again when people come and go.
import { midsOf, withNack } from './sdp';

export const SLOTS = 16;
const VIEWS = 9;
const cameraRate = 800_000; // bit/s, of 640 by 360

function only(kind: 'audio' | 'video', mimeType: RegExp) {
  const codecs = RTCRtpReceiver.getCapabilities?.(kind)?.codecs.filter((c) => mimeType.test(c.mimeType));
  return (t: RTCRtpTransceiver) => { if (codecs?.length && t.setCodecPreferences) t.setCodecPreferences(codecs); };
}

/**
 * Whether this browser knows no TCP candidates (RFC 6544). Where it does, they are
 * tried beside UDP and a relay is needed by almost nobody.
 */
const noTCP = typeof navigator !== 'undefined' && /firefox/i.test(navigator.userAgent);

let maker: { RTCPeerConnection: typeof RTCPeerConnection } | undefined;

/**
 * What makes connections. Chromium binds the sockets of a document that may use the
 * microphone to the addresses of this host, of which it hears anew up to 2 s late. One
 * that may not gets sockets of no address: they go on from whichever the host has. So
 * connections are made in a frame that may not, and use the microphone of the page.
 */
export function peers() {
  if (maker || noTCP) return maker ?? window;
  const frame = document.createElement('iframe');
  frame.hidden = true;
  frame.allow = "microphone 'none'; camera 'none'";
  document.body.append(frame);
  maker = (frame.contentWindow as (Window & typeof globalThis) | null) ?? window;
  return maker;
}

/**
 * Makes the connection and its offer. A microphone that comes later goes into the same
 * sender. The offer is applied at once, ahead of time, unless relays are to be tried
 * from the beginning: only the node knows them (settle).
 */
export async function prepare(mic: MediaStreamTrack | undefined, relayed = false): Promise<RTCPeerConnection> {
  const pc = new (peers().RTCPeerConnection)({ bundlePolicy: 'max-bundle' });
  const opusOnly = only('audio', /opus$/i), vp8Only = only('video', /vp8$/i);
  opusOnly(pc.addTransceiver(mic ?? 'audio', { direction: 'sendonly' }));
  for (let i = 0; i < SLOTS; i++) {
    const slot = pc.addTransceiver('audio', { direction: 'recvonly' });
    opusOnly(slot);
    // As little delay as the network allows: the browser raises it where it must.
    if ('jitterBufferTarget' in slot.receiver) (slot.receiver as { jitterBufferTarget: number | null }).jitterBufferTarget = 0;
  }
  vp8Only(pc.addTransceiver('video', { direction: 'sendonly', sendEncodings: [{ maxBitrate: cameraRate }] }));
  for (let i = 0; i < VIEWS; i++) vp8Only(pc.addTransceiver('video', { direction: 'recvonly' }));
  offers.set(pc, await pc.createOffer());
  if (!relayed && !noTCP) await settle(pc, undefined);
  return pc;
}

const offers = new WeakMap<RTCPeerConnection, RTCSessionDescriptionInit>();

/** The offer that a prepared connection makes. */
export const offerOf = (pc: RTCPeerConnection) => withNack(offers.get(pc)?.sdp ?? '');

/** Applies the offer. Candidates are gathered from then on, with relays those of them, too. */
export async function settle(pc: RTCPeerConnection, relays: RTCIceServer[] | undefined) {
  const offer = offers.get(pc);
  if (!offer || pc.localDescription) return;
  try {
    if (relays?.length) pc.setConfiguration({ ...pc.getConfiguration(), iceServers: relays });
  } catch { /* a URL this browser does not know: there are other ways */ }
  try {
    await pc.setLocalDescription({ type: 'offer', sdp: withNack(offer.sdp!) });
  } catch {
    await pc.setLocalDescription(offer); // a browser that keeps its offer as it made it
  }
}

const receives = (kind: string) => (t: RTCRtpTransceiver) => t.direction === 'recvonly' && t.receiver.track.kind === kind;

function streams(pc: RTCPeerConnection, kind: string) {
  const mids = midsOf(offers.get(pc)?.sdp ?? ''); // in the order of the transceivers
  return pc.getTransceivers().map((t, i) => ({ t, mid: t.mid ?? mids[i] })).filter(({ t, mid }) => receives(kind)(t) && mid !== undefined)
    .map(({ t, mid }) => ({ mid: mid!, track: t.receiver.track }));
}

/** What the slots are called and play. */
export const slots = (pc: RTCPeerConnection) => streams(pc, 'audio');
/** What the views are called and show. */
export const views = (pc: RTCPeerConnection) => streams(pc, 'video');

export const send = (pc: RTCPeerConnection, mic: MediaStreamTrack) => pc.getSenders()[0]?.replaceTrack(mic);
export const film = (pc: RTCPeerConnection, camera: MediaStreamTrack | null) => pc.getTransceivers()[1 + SLOTS]?.sender.replaceTrack(camera);

/** The sections in which something was heard within the last `ms`. */
export function audible(pc: RTCPeerConnection, ms: number): string[] {
  const since = performance.timeOrigin + performance.now() - ms;
  return pc.getTransceivers().filter((t) => t.mid !== null && receives('audio')(t) &&
    t.receiver.getSynchronizationSources().some((s) => (s.timestamp < performance.timeOrigin ? s.timestamp + performance.timeOrigin : s.timestamp) >= since)).map((t) => t.mid!);
}

/** Milliseconds, and parts of one. */
export interface Quality { rtt?: number; lossIn?: number; lossOut?: number; jitter?: number; buffer?: number; codec?: string; path?: string }

/** Reads how good a connection was since it was last read. */
export class QualityReader {
  private last = { lost: 0, received: 0, delay: 0, emitted: 0 };

  async read(pc: RTCPeerConnection): Promise<Quality> {
    const q: Quality = {};
    const now = { lost: 0, received: 0, delay: 0, emitted: 0 };
    const byId = new Map<string, any>();
    (await pc.getStats()).forEach((s: any) => byId.set(s.id, s));
    let codec: any;
    for (const s of byId.values()) {
      if (s.type === 'candidate-pair' && (s.nominated || s.selected) && s.state === 'succeeded' && s.currentRoundTripTime !== undefined) {
        q.rtt = s.currentRoundTripTime * 1000;
        const remote = byId.get(s.remoteCandidateId);
        if (remote?.address) q.path = `${remote.address.includes(':') ? `[${remote.address}]` : remote.address}:${remote.port} ${remote.protocol}`;
      } else if (s.kind === 'video') {
        continue; // the figures are of the voices
      } else if (s.type === 'inbound-rtp' && s.packetsReceived > 0) {
        now.lost += s.packetsLost ?? 0;
        now.received += s.packetsReceived;
        now.delay += s.jitterBufferDelay ?? 0;
        now.emitted += s.jitterBufferEmittedCount ?? 0;
        q.jitter = Math.max(q.jitter ?? 0, (s.jitter ?? 0) * 1000);
        codec ??= byId.get(s.codecId);
      } else if (s.type === 'remote-inbound-rtp' && s.fractionLost !== undefined) {
        q.lossOut = s.fractionLost;
      } else if (s.type === 'outbound-rtp') {
        codec ??= byId.get(s.codecId);
      }
    }
    const lost = Math.max(0, now.lost - this.last.lost), received = now.received - this.last.received;
    if (received > 0) q.lossIn = lost / (received + lost);
    const emitted = now.emitted - this.last.emitted;
    if (emitted > 0) q.buffer = ((now.delay - this.last.delay) / emitted) * 1000;
    this.last = now;
    if (codec?.mimeType) q.codec = `${codec.mimeType.split('/')[1]} ${codec.clockRate / 1000} kHz`;
    return q;
  }
}
