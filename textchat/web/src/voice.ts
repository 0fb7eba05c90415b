// One voice connection: the voice WebSocket (signaling/protocol.md) and the
// PeerConnection it negotiates. The socket comes back by itself; the media does
// not notice.
import { Backoff } from './backoff';
import { after, type Closing } from './closing';
import { voiceUrls } from './endpoints';
import { Pulse, counted } from './pulse';
import { offerOf, settle } from './rtc';
import type { VoiceServer } from './types';

/** Whose camera is in a view, '0' for nobody's; `why` then says why not. */
export interface View { view: number; mid: string; user_id: string; why?: 'off' | 'busy' | 'loss' }
export interface Seat { slot: number; mid: string; user_id: string; ssrc: number }

export interface CallEvents {
  /** Sound can flow from now on. */
  connected(): void;
  /** The socket is away and comes back, or is back; sound flows all the while. */
  resuming(yes: boolean): void;
  seat(s: Seat): void;
  view(v: View): void;
  /** All views are empty, until more is said. */
  viewless(): void;
  speaking(user: string, ssrc: number, on: boolean): void;
  /** All who are there, the listener apart. */
  roster(users: string[]): void;
  gone(user: string): void;
  /** No path is found, and relays of the node have not been tried. */
  stuck(): void;
  /** Nothing has come for a moment: it may be this host that reaches nobody. */
  doubt(): void;
  /** The node sees us at another address than before. */
  moved(): void;
  /** Nothing comes from the node any more. The server was told. */
  silent(): void;
  /** It is over, and not by close(): 'again' wants a new grant, 'told' waits for what the text gateway says. */
  over(then: 'again' | 'told', why: string): void;
}

export interface CallIdentity { guild: string; user: string; session: string }

const openTimeout = 4_000; // one endpoint is given this long before the next
const mediaTimeout = 10_000; // from the grant to the first connected path; the server gives up a handshake then, too
const silenceTimeout = 4_000; // a path that lost its consent checks rarely comes back later
const pulseEvery = 100;
const stuckAfter = 1_500; // a path that is there is found in a tenth of that

export class Call {
  node = '';
  session = ''; // the name of this voice session
  private ws?: WebSocket;
  private urls: string[];
  private turn = 0;
  private seqAck = -1;
  private identified = false;
  private answered = false;
  private relays = false; // the node has some
  private stuck = 0;
  private settled?: Promise<void>; // the offer is applied
  private over = false;
  private beat = 0;
  private acked = true;
  private retry = 0;
  private opening = 0;
  private watchdog = 0;
  private backoff = new Backoff(200, 5000);
  private timer = 0; // of the pulse
  private pulse = new Pulse();
  private feeling = false;
  private from = ''; // the candidate we send from
  private talking = new Set<string>();
  /** Who else is there, as the server says. */
  readonly users = new Set<string>();
  readonly seats = new Map<string, string>(); // by section, who is heard in it

  constructor(private who: CallIdentity, private server: VoiceServer, readonly pc: Promise<RTCPeerConnection>, private on: CallEvents) {
    this.urls = voiceUrls(location, server.endpoint, server.endpoints);
    this.watchdog = window.setTimeout(() => this.end('again', 'no media in time'), mediaTimeout);
    pc.then((pc) => this.watch(pc), (e) => this.end('again', String(e)));
    addEventListener('online', this.hurry);
    this.connect();
  }

  /** Whether sound flows, as far as this side knows. */
  healthy = false;

  /** For how many ms nothing has come that ought to. */
  get quiet() { return this.pulse.quiet; }
  /** For how many ms nothing has come at all. */
  get silent() { return this.pulse.silent; }
  get ended() { return this.over; }

  /** Leaves; the server ends the session at once. */
  close() {
    if (this.over) return;
    this.over = true;
    this.healthy = false;
    removeEventListener('online', this.hurry);
    for (const t of [this.retry, this.watchdog, this.opening, this.stuck]) clearTimeout(t);
    clearInterval(this.beat);
    clearInterval(this.timer);
    this.ws?.close(1000);
    this.pc.then((pc) => pc.close(), () => {});
  }

  /** Names the sources this listener does not want to be sent. */
  unwanted(ssrcs: number[]) {
    this.send(15, { any: 100, ...Object.fromEntries(ssrcs.map((s) => [s, 0])) });
  }

  private end(then: 'again' | 'told', why: string) {
    if (this.over) return;
    this.close();
    this.on.over(then, why);
  }

  // ── Media ──────────────────────────────────────────────────────────────────

  private watch(pc: RTCPeerConnection) {
    if (this.over) { pc.close(); return; }
    pc.onconnectionstatechange = () => {
      this.healthy = pc.connectionState === 'connected';
      switch (pc.connectionState) {
        case 'connected':
          clearTimeout(this.watchdog);
          clearInterval(this.timer);
          this.timer = window.setInterval(() => void this.feel(pc), pulseEvery);
          this.on.connected();
          break;
        case 'disconnected':
          clearTimeout(this.watchdog);
          this.watchdog = window.setTimeout(() => this.end('again', 'the media path is silent'), silenceTimeout);
          break;
        case 'failed': this.end('again', 'the media path failed'); break;
      }
    };
  }

  /** Looks whether anything still comes. */
  private async feel(pc: RTCPeerConnection) {
    if (this.feeling) return; // a busy browser takes longer than a beat
    this.feeling = true;
    try {
      const read = async (s: Promise<RTCStatsReport>) => counted(((await s) as unknown as Map<string, any>).values());
      const some = await read(pc.getSenders()[0].getStats()); // less than all of it
      if (this.over) return;
      const b = this.pulse.beat(performance.now(), some.bytes, this.talking.size > 0 && this.ws?.readyState === WebSocket.OPEN);
      if (this.from && some.from && this.from !== some.from) this.on.moved();
      this.from = some.from ?? this.from;
      if (b.doubt) this.on.doubt();
      if (b.lost) this.on.silent();
      if (!b.report) return;
      const silent = Math.round(this.pulse.quiet);
      this.send(101, { received: (await read(pc.getStats())).received, silent });
    } catch { /* it is closing */ } finally { this.feeling = false; }
  }

  private async describe(sdp: string) {
    if (this.answered) return;
    this.answered = true;
    try {
      await this.settled;
      const pc = await this.pc;
      await pc.setRemoteDescription({ type: 'answer', sdp });
      if (this.over || !this.relays || pc.getConfiguration().iceServers?.length) return;
      this.stuck = window.setTimeout(() => {
        if (pc.iceConnectionState === 'new' || pc.iceConnectionState === 'checking') this.on.stuck();
      }, stuckAfter);
    } catch (e) {
      this.end('again', `the answer was not understood: ${e}`);
    }
  }

  // ── The socket ─────────────────────────────────────────────────────────────

  private connect() {
    if (!this.urls.length) { this.end('again', 'no voice gateway was named'); return; }
    const ws = new WebSocket(this.urls[this.turn++ % this.urls.length]);
    this.ws = ws;
    this.opening = window.setTimeout(() => { if (ws.readyState === WebSocket.CONNECTING) this.abandon(); }, openTimeout);
    ws.onmessage = (e) => { if (this.ws === ws) this.receive(JSON.parse(e.data)); };
    ws.onclose = (e) => { if (this.ws === ws) this.lost(e.code); };
  }

  /** Takes the socket for dead without waiting for a closing handshake that may never come. */
  private abandon() {
    const ws = this.ws;
    this.ws = undefined;
    ws?.close(4000);
    this.lost(1006);
  }

  /** This host has another address: what is open leads nowhere. */
  renew() {
    if (this.ws) this.abandon();
    if (this.over) return;
    clearTimeout(this.retry);
    this.backoff.reset();
    this.connect();
  }

  private hurry = () => {
    if (this.over || this.ws?.readyState === WebSocket.OPEN) return;
    this.backoff.reset();
    clearTimeout(this.retry);
    this.connect();
  };

  private send(op: number, d: unknown) {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify({ op, d }));
  }

  private receive(m: { op: number; d: any; seq?: number }) {
    if (m.seq !== undefined) this.seqAck = m.seq;
    switch (m.op) {
      case 2: void this.ready(m.d); break;
      case 4: this.session = m.d.media_session_id; void this.describe(m.d.sdp); break;
      case 5: {
        const on = (m.d.speaking & 1) !== 0;
        if (on) this.talking.add(m.d.user_id); else this.talking.delete(m.d.user_id);
        this.on.speaking(m.d.user_id, m.d.ssrc, on);
        break;
      }
      case 6: this.acked = true; break;
      case 8: this.hello(m.d.heartbeat_interval); break;
      case 9: this.backoff.reset(); this.on.resuming(false); break;
      case 11:
        if (m.d.all) { this.users.clear(); this.on.viewless(); }
        for (const u of m.d.user_ids) this.users.add(u);
        if (!m.d.all) break;
        for (const u of this.talking) if (!this.users.has(u)) this.talking.delete(u);
        this.on.roster(m.d.user_ids);
        break;
      case 13:
        this.users.delete(m.d.user_id);
        this.talking.delete(m.d.user_id);
        this.on.gone(m.d.user_id);
        break;
      case 100: {
        const list = m.d.slots as Seat[];
        if (m.d.all) this.seats.clear();
        for (const s of list) {
          this.seats.set(s.mid, s.user_id);
          this.on.seat(s);
        }
        break;
      }
      case 102: for (const v of m.d.views as View[]) this.on.view(v); break;
    }
  }

  private hello(interval: number) {
    clearTimeout(this.opening);
    clearInterval(this.beat);
    this.acked = true;
    this.beat = window.setInterval(() => {
      if (!this.acked) { this.abandon(); return; }
      this.acked = false;
      this.send(3, { t: Date.now(), seq_ack: this.seqAck });
    }, interval * 0.8);
    const base = { server_id: this.who.guild, session_id: this.who.session, token: this.server.token };
    if (this.identified) this.send(7, { ...base, seq_ack: this.seqAck });
    else this.send(0, { ...base, user_id: this.who.user });
  }

  private async ready(d: { node?: string; ice_servers?: RTCIceServer[] }) {
    this.identified = true;
    this.backoff.reset();
    this.node = d.node ?? '';
    if (this.answered) return;
    const pc = await this.pc.catch(() => undefined);
    if (!pc || this.over) return;
    this.send(1, { protocol: 'webrtc', data: { type: 'offer', sdp: offerOf(pc) } });
    this.relays = !!d.ice_servers?.length;
    this.settled ??= settle(pc, d.ice_servers); // while the server answers
    this.settled.catch((e) => this.end('again', `the offer was not taken: ${e}`));
  }

  private lost(code: number) {
    clearInterval(this.beat);
    clearTimeout(this.opening);
    if (this.over) return;
    const then: Closing = after(code, this.answered || !this.identified);
    if (then !== 'resume') { this.end(then, `the voice gateway closed with ${code}`); return; }
    if (this.answered) this.on.resuming(true);
    this.retry = window.setTimeout(() => this.connect(), this.backoff.next());
  }
}
