// The text gateway: one connection that identifies, beats, resumes by itself and
// starts over when it must.
import { Backoff } from './backoff';

export interface GatewayEvents {
  /** A dispatch, in order, each once. */
  dispatch(type: string, data: any): void;
  status(up: boolean): void;
  /** The token is no longer good. */
  refused(): void;
}

/** Close codes after which identifying again is of no use. */
const final = new Set([4004, 4010, 4011, 4012, 4013, 4014]);
/** Guilds, members, invites, voice states, presences, messages, reactions, typing, content. */
const intents = [0, 1, 6, 7, 8, 9, 10, 11, 15].reduce((all, bit) => all | (1 << bit), 0);
/** Of large communities that are not open the page wants what must be known: see looks.ts. */
const capabilities = 1 << 11;
const openTimeout = 8_000;
const probeTimeout = 3_000;
const checkTimeout = 300; // and what the last answer took, four times

export class Gateway {
  private ws?: WebSocket;
  private session = '';
  private seq: number | null = null;
  private beat = 0;
  private acked = true;
  private asked = 0; // when a sign of life was asked for
  private rtt = 0; // ms, of the last answer
  private retry = 0;
  private timer = 0; // opening or probing
  private backoff = new Backoff(250, 5000);
  private least = 0; // ms that the server wants us to wait
  private ended = false;

  constructor(private token: string, private on: GatewayEvents) {
    this.connect();
    addEventListener('online', this.probe);
  }

  get sessionId() { return this.session; }

  /** Ends the session for good. */
  close() {
    this.ended = true;
    clearTimeout(this.retry);
    clearTimeout(this.timer);
    clearInterval(this.beat);
    removeEventListener('online', this.probe);
    this.ws?.close(1000);
  }

  send(op: number, d: unknown) {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify({ op, d }));
  }

  /** Looks at once whether the connection is alive, and brings it back if it is not. */
  probe = () => {
    if (this.ended || this.ws?.readyState === WebSocket.CONNECTING) return;
    if (this.ws?.readyState !== WebSocket.OPEN) {
      clearTimeout(this.retry);
      this.connect();
      return;
    }
    this.ask();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => { if (!this.acked) this.abandon(); }, probeTimeout);
  };

  /** Asks for a sign of life, and tells if none comes soon. */
  check(dead: () => void) {
    const ws = this.ws;
    if (this.ended || ws?.readyState !== WebSocket.OPEN) return;
    this.ask();
    setTimeout(() => { if (this.ws === ws && !this.acked && !this.ended) dead(); }, checkTimeout + 4 * this.rtt);
  }

  private ask() {
    this.acked = false;
    this.asked = performance.now();
    this.send(1, this.seq);
  }

  /** This host has another address: what is open leads nowhere. */
  renew() {
    if (this.ended) return;
    if (this.ws) this.abandon();
    clearTimeout(this.retry);
    this.backoff.reset();
    this.connect();
  }

  private connect() {
    const ws = new WebSocket(`${location.protocol === 'http:' ? 'ws' : 'wss'}://${location.host}/gateway?v=10&encoding=json`);
    this.ws = ws;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => { if (ws.readyState === WebSocket.CONNECTING) this.abandon(); }, openTimeout);
    ws.onmessage = (e) => { if (this.ws === ws) this.receive(JSON.parse(e.data)); };
    ws.onclose = (e) => { if (this.ws === ws) this.lost(e.code); };
  }

  /** Takes the connection for dead without waiting for its closing handshake. */
  private abandon() {
    const ws = this.ws;
    this.ws = undefined;
    ws?.close(4000);
    this.lost(1006);
  }

  private receive(m: { op: number; d: any; s: number | null; t: string | null; retry_after?: number }) {
    switch (m.op) {
      case 0:
        if (m.s !== null) this.seq = m.s;
        if (m.t === 'READY') this.session = m.d.session_id;
        this.on.dispatch(m.t!, m.d);
        if (m.t === 'READY' || m.t === 'RESUMED') {
          this.backoff.reset();
          this.on.status(true);
        }
        break;
      case 1: this.send(1, this.seq); break;
      case 7: this.abandon(); break;
      case 9:
        if (!m.d) { this.session = ''; this.seq = null; }
        this.least = Math.min(60, Math.max(0, m.retry_after ?? 0)) * 1000;
        this.abandon();
        break;
      case 10: this.hello(m.d.heartbeat_interval); break;
      case 11:
        this.acked = true;
        if (this.asked) this.rtt = Math.min(1000, performance.now() - this.asked);
        this.asked = 0;
        break;
    }
  }

  private hello(interval: number) {
    clearInterval(this.beat);
    clearTimeout(this.timer);
    this.acked = true;
    this.beat = window.setInterval(() => {
      if (!this.acked) { this.abandon(); return; }
      this.ask();
    }, interval * 0.9);
    this.asked = 0;

    if (this.session) this.send(6, { token: this.token, session_id: this.session, seq: this.seq });
    else this.send(2, { token: this.token, intents, capabilities, properties: { os: 'web', browser: 'voicefleet', device: 'page' }, presence: { status: 'online', since: null, activities: [], afk: false } });
  }

  private lost(code: number) {
    clearInterval(this.beat);
    clearTimeout(this.timer);
    if (this.ended) return;
    this.on.status(false);
    if (final.has(code)) { this.on.refused(); return; }
    if (code === 1000 || code === 4007) { this.session = ''; this.seq = null; }
    clearTimeout(this.retry);
    this.retry = window.setTimeout(() => this.connect(), this.backoff.next(this.least));
    this.least = 0;
  }
}
