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
const intents = (1 << 0) | (1 << 1) | (1 << 7) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 15);

export class Gateway {
  private ws?: WebSocket;
  private session = '';
  private seq: number | null = null;
  private beat = 0;
  private acked = true;
  private retry = 0;
  private backoff = new Backoff(250, 8000);
  private ended = false;

  constructor(private token: string, private on: GatewayEvents) {
    this.connect();
    addEventListener('online', this.hurry);
  }

  get sessionId() { return this.session; }

  /** Ends the session for good. */
  close() {
    this.ended = true;
    clearTimeout(this.retry);
    clearInterval(this.beat);
    removeEventListener('online', this.hurry);
    this.ws?.close(1000);
  }

  send(op: number, d: unknown) {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify({ op, d }));
  }

  private hurry = () => {
    if (this.ws && this.ws.readyState <= WebSocket.OPEN) return;
    clearTimeout(this.retry);
    this.connect();
  };

  private connect() {
    const ws = new WebSocket(`${location.protocol === 'http:' ? 'ws' : 'wss'}://${location.host}/gateway?v=10&encoding=json`);
    this.ws = ws;
    ws.onmessage = (e) => { if (this.ws === ws) this.receive(JSON.parse(e.data)); };
    ws.onclose = (e) => { if (this.ws === ws) this.lost(e.code); };
  }

  private receive(m: { op: number; d: any; s: number | null; t: string | null }) {
    switch (m.op) {
      case 0:
        if (m.s !== null) this.seq = m.s;
        if (m.t === 'READY') this.session = m.d.session_id;
        if (m.t === 'READY' || m.t === 'RESUMED') {
          this.backoff.reset();
          this.on.status(true);
        }
        this.on.dispatch(m.t!, m.d);
        break;
      case 1: this.send(1, this.seq); break;
      case 7: this.ws?.close(4000); break;
      case 9:
        if (!m.d) { this.session = ''; this.seq = null; }
        this.ws?.close(4000);
        break;
      case 10: this.hello(m.d.heartbeat_interval); break;
      case 11: this.acked = true; break;
    }
  }

  private hello(interval: number) {
    clearInterval(this.beat);
    this.acked = true;
    this.beat = window.setInterval(() => {
      if (!this.acked) { this.ws?.close(4000); return; }
      this.acked = false;
      this.send(1, this.seq);
    }, interval * 0.9);
    if (this.session) this.send(6, { token: this.token, session_id: this.session, seq: this.seq });
    else this.send(2, { token: this.token, intents, properties: { os: 'web', browser: 'voicefleet', device: 'page' }, presence: { status: 'online', since: null, activities: [], afk: false } });
  }

  private lost(code: number) {
    clearInterval(this.beat);
    if (this.ended) return;
    this.on.status(false);
    if (final.has(code)) { this.on.refused(); return; }
    if (code === 1000 || code === 1001 || code === 4007) { this.session = ''; this.seq = null; }
    this.retry = window.setTimeout(() => this.connect(), this.backoff.next());
  }
}
