// The one PeerConnection of a call: the microphone goes out, K slots come in.
// The offer is sent once, without candidates; the server is ICE-lite and answers
// every slot with a stream of its own, so nothing is negotiated again when people
// come and go.

export const SLOTS = 16;

/** Asks for resends of lost Opus packets: adds `nack` feedback to the Opus payload of each audio section. */
export function withNack(sdp: string): string {
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => {
      if (!section.startsWith('m=audio')) return section;
      const opus = /^a=rtpmap:(\d+) opus\/48000/im.exec(section)?.[1];
      if (!opus || section.includes(`a=rtcp-fb:${opus} nack`)) return section;
      return section.replace(new RegExp(`^(a=rtpmap:${opus} opus/48000.*)(\\r\\n)`, 'im'), `$1$2a=rtcp-fb:${opus} nack$2`);
    })
    .join('');
}

function opusOnly(t: RTCRtpTransceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.('audio')?.codecs.filter((c) => /opus$/i.test(c.mimeType));
  if (codecs?.length && t.setCodecPreferences) t.setCodecPreferences(codecs);
}

/** Makes the connection and its offer; the answer is applied with `answer`. */
export async function prepare(mic: MediaStreamTrack | null): Promise<RTCPeerConnection> {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const sender = pc.addTransceiver(mic ?? 'audio', { direction: 'sendonly' });
  opusOnly(sender);
  for (let i = 0; i < SLOTS; i++) opusOnly(pc.addTransceiver('audio', { direction: 'recvonly' }));
  const offer = await pc.createOffer();
  try {
    await pc.setLocalDescription({ type: 'offer', sdp: withNack(offer.sdp!) });
  } catch {
    await pc.setLocalDescription(offer); // a browser that keeps its offer as it made it
  }
  for (const t of pc.getTransceivers()) {
    // As little delay as the network allows: the browser raises it where it must.
    if ('jitterBufferTarget' in t.receiver) (t.receiver as any).jitterBufferTarget = 0;
  }
  return pc;
}

export interface Quality { rtt?: number; loss?: number; jitter?: number; codec?: string }

/** Reads round trip (ms), loss (0..1 since the last reading), jitter (ms) and codec. */
export class QualityReader {
  private lost = 0;
  private received = 0;

  async read(pc: RTCPeerConnection): Promise<Quality> {
    const q: Quality = {};
    let lost = 0, received = 0, jitter = 0;
    const codecs = new Map<string, string>();
    let codec: string | undefined;
    (await pc.getStats()).forEach((s: any) => {
      if (s.type === 'candidate-pair' && s.nominated && s.currentRoundTripTime !== undefined) q.rtt = s.currentRoundTripTime * 1000;
      if (s.type === 'codec') codecs.set(s.id, `${s.mimeType.split('/')[1]} ${s.clockRate / 1000} kHz`);
      if (s.type === 'inbound-rtp' && s.packetsReceived > 0) {
        lost += s.packetsLost ?? 0;
        received += s.packetsReceived;
        jitter = Math.max(jitter, (s.jitter ?? 0) * 1000);
        codec = s.codecId;
      }
      if (s.type === 'outbound-rtp') codec ??= s.codecId;
    });
    const dl = lost - this.lost, dr = received - this.received;
    if (dr > 0) { q.loss = Math.max(0, dl) / (dr + Math.max(0, dl)); q.jitter = jitter; }
    this.lost = lost;
    this.received = received;
    if (codec) q.codec = codecs.get(codec);
    return q;
  }
}
