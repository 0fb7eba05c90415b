// One voice connection: the voice WebSocket (signaling/protocol.md) and the
// PeerConnection it negotiates. The socket comes back by itself; the media does
// not notice.
import { Backoff } from './backoff';
import { voiceUrls } from './endpoints';
import type { VoiceServer } from './types';

export type CallState = 'connecting' | 'connected' | 'resuming' | 'ended';

export interface Seat { slot: number; mid: string; user_id: string; ssrc: number }

export interface CallEvents {
  state(s: CallState): void;
  track(mid: string, track: MediaStreamTrack): void;
  seat(s: Seat): void;
  speaking(user: string, on: boolean): void;
  present(users: string[], here: boolean): void;
  /** It cannot go on: ask the gateway for the channel again, unless told to leave. */
  broken(why: string): void;
}

export interface CallIdentity { guild: string; user: string; session: string }

/** Close codes after which the same socket session may be resumed; all others need a new grant. */
const resumable = (code: number) => code < 4000 || code === 4009 || code === 4020 || code === 4999;

export class Call {
  node = '';
  ssrc = 0;
  private ws?: WebSocket;
  private urls: string[];
  private turn = 0;
  private seqAck = -1;
  private identified = false;
  private beat = 0;
  private acked = true;
  private retry = 0;
  private backoff = new Backoff(100, 4000);
  private answered = false;
  private over = false;
  private watchdog = 0;

  constructor(private who: CallIdentity, private server: VoiceServer, readonly pc: Promise<RTCPeerConnection>, private on: CallEvents) {
    this.urls = voiceUrls(location, server.endpoint, server.endpoints);
    this.watchdog = window.setTimeout(() => this.fail('no media within 10 s'), 10_000);
    pc.then((pc) => this.wire(pc), (e) => this.fail(String(e)));
    this.connect();
  }

  /** Leaves; the server ends the session at once. */
  close() {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.retry);
    clearTimeout(this.watchdog);
    clearInterval(this.beat);
    this.ws?.close(1000);
    void this.pc.then((pc) => pc.close(), () => {});
    this.on.state('ended');
  }

  /** Tells the server whom this listener does not want to hear, by their SSRC. */
  want(ssrc: number, on: boolean) { this.send(15, { [String(ssrc)]: on ? 100 : 0, any: 100 }); }

  private wire(pc: RTCPeerConnection) {
    if (this.over) { pc.close(); return; }
    for (const t of pc.getTransceivers()) if (t.direction === 'recvonly' && t.mid) this.on.track(t.mid, t.receiver.track);
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'connected') {
        clearTimeout(this.watchdog);
        this.on.state('connected');
      }
      if (pc.connectionState === 'failed') this.fail('the media path is lost');
      if (pc.connectionState === 'disconnected') {
        clearTimeout(this.watchdog);
        this.watchdog = window.setTimeout(() => this.fail('the media path is lost'), 6000);
      }
    };
  }

  private fail(why: string) {
    if (this.over) return;
    this.close();
    this.on.broken(why);
  }

  private connect() {
    const ws = new WebSocket(this.urls[this.turn++ % this.urls.length]);
    this.ws = ws;
    ws.onmessage = (e) => { if (this.ws === ws) this.receive(JSON.parse(e.data)); };
    ws.onclose = (e) => { if (this.ws === ws) this.lost(e.code); };
  }

  private send(op: number, d: unknown) {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify({ op, d }));
  }

  private receive(m: { op: number; d: any; seq?: number }) {
    if (m.seq !== undefined) this.seqAck = m.seq;
    switch (m.op) {
      case 8: this.hello(m.d.heartbeat_interval); break;
      case 2: void this.ready(m.d); break;
      case 4: void this.describe(m.d.sdp); break;
      case 5: this.on.speaking(m.d.user_id, (m.d.speaking & 1) !== 0); break;
      case 6: this.acked = true; break;
      case 9: this.backoff.reset(); this.on.state('connected'); break;
      case 11: this.on.present(m.d.user_ids, true); break;
      case 13: this.on.present([m.d.user_id], false); break;
      case 100: for (const s of m.d.slots as Seat[]) this.on.seat(s); break;
    }
  }

  private hello(interval: number) {
    clearInterval(this.beat);
    this.acked = true;
    this.beat = window.setInterval(() => {
      if (!this.acked) { this.ws?.close(4009); return; }
      this.acked = false;
      this.send(3, { t: Date.now(), seq_ack: this.seqAck });
    }, interval * 0.8);
    const base = { server_id: this.who.guild, session_id: this.who.session, token: this.server.token };
    if (this.identified) this.send(7, { ...base, seq_ack: this.seqAck });
    else this.send(0, { ...base, user_id: this.who.user });
  }

  private async ready(d: any) {
    this.identified = true;
    this.backoff.reset();
    this.node = d.node ?? '';
    this.ssrc = d.ssrc;
    if (this.answered) return;
    const pc = await this.pc.catch(() => undefined);
    if (pc?.localDescription && !this.over) this.send(1, { protocol: 'webrtc', data: { type: 'offer', sdp: pc.localDescription.sdp } });
  }

  private async describe(sdp: string) {
    if (this.answered) return;
    this.answered = true;
    try {
      await (await this.pc).setRemoteDescription({ type: 'answer', sdp });
    } catch (e) {
      this.fail(`the answer was not understood: ${e}`);
    }
  }

  private lost(code: number) {
    clearInterval(this.beat);
    if (this.over) return;
    if (code === 4014) { this.close(); return; } // the gateway tells what comes next
    if (!resumable(code)) { this.fail(`voice gateway closed with ${code}`); return; }
    if (this.answered) this.on.state('resuming');
    this.retry = window.setTimeout(() => this.connect(), this.backoff.next());
  }
}
