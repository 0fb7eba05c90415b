// Microphone, loudspeaker, levels and chimes.

export interface MicSettings {
  device: string;
  echoCancellation: boolean;
  noiseSuppression: boolean;
  autoGainControl: boolean;
}

let context: AudioContext | undefined;

/** The one audio context; made or woken by a click or key. */
export function audio(): AudioContext {
  context ??= new AudioContext({ latencyHint: 'interactive' });
  if (context.state === 'suspended') void context.resume();
  return context;
}

/** Reads the level of a stream, 0..1, whenever asked. */
export class Meter {
  private node: AnalyserNode;
  private source: MediaStreamAudioSourceNode;
  private buf: Float32Array<ArrayBuffer>;

  constructor(stream: MediaStream) {
    const ctx = audio();
    this.source = ctx.createMediaStreamSource(stream);
    this.node = ctx.createAnalyser();
    this.node.fftSize = 1024;
    this.buf = new Float32Array(this.node.fftSize);
    this.source.connect(this.node);
  }

  level(): number {
    this.node.getFloatTimeDomainData(this.buf);
    let sum = 0;
    for (const v of this.buf) sum += v * v;
    const db = 10 * Math.log10(sum / this.buf.length + 1e-10);
    return Math.min(1, Math.max(0, (db + 60) / 55));
  }

  close() { this.source.disconnect(); }
}

/** The microphone. What is sent is a copy of it that can be shut, so that the meter still hears. */
export class Microphone {
  stream?: MediaStream;
  sent?: MediaStreamTrack;
  meter?: Meter;
  /** Called with the new track after it was lost and is back. */
  onReplaced?: (t: MediaStreamTrack) => void;
  private open = true;
  private busy?: Promise<MediaStreamTrack>;

  constructor(private settings: () => MicSettings) {
    navigator.mediaDevices?.addEventListener('devicechange', () => { if (this.stream && this.stream.getTracks()[0]?.readyState !== 'live') void this.again(); });
  }

  /** Opens the microphone, or gives the open one. */
  acquire(): Promise<MediaStreamTrack> {
    if (this.sent?.readyState === 'live') return Promise.resolve(this.sent);
    this.busy ??= this.take().finally(() => { this.busy = undefined; });
    return this.busy;
  }

  private async take(): Promise<MediaStreamTrack> {
    if (!navigator.mediaDevices) throw new Error('This address is not secure, so the browser lends no microphone. Use https, or localhost.');
    const s = this.settings();
    const audio = { echoCancellation: s.echoCancellation, noiseSuppression: s.noiseSuppression, autoGainControl: s.autoGainControl };
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: s.device ? { ...audio, deviceId: { exact: s.device } } : audio });
    } catch (e) {
      if (!s.device || (e as DOMException).name === 'NotAllowedError') throw e;
      stream = await navigator.mediaDevices.getUserMedia({ audio }); // the chosen one is not plugged in
    }
    this.release();
    this.stream = stream;
    this.sent = stream.getAudioTracks()[0].clone();
    this.sent.enabled = this.open;
    this.meter = new Meter(stream);
    stream.getAudioTracks()[0].onended = () => void this.again();
    return this.sent;
  }

  /** Opens it anew, with the settings as they are now. */
  async again() {
    if (!this.stream) return;
    try {
      const t = await this.take();
      this.onReplaced?.(t);
    } catch { /* no microphone now: devicechange will tell when one comes */ }
  }

  set enabled(on: boolean) {
    this.open = on;
    if (this.sent) this.sent.enabled = on;
  }

  release() {
    this.meter?.close();
    for (const t of [...(this.stream?.getTracks() ?? []), ...(this.sent ? [this.sent] : [])]) { t.onended = null; t.stop(); }
    this.stream = this.sent = this.meter = undefined;
  }
}

/** Plays the slots of a call, each at the volume of who sits in it. */
export class Loudspeaker {
  private slots = new Map<string, { gain: GainNode; source: MediaStreamAudioSourceNode; el: HTMLAudioElement; user: string }>();
  private master: GainNode;

  constructor(private volume: (user: string) => number, sink: string) {
    const ctx = audio();
    this.master = ctx.createGain();
    this.master.connect(ctx.destination);
    void this.output(sink);
  }

  add(mid: string, track: MediaStreamTrack) {
    const ctx = audio();
    const stream = new MediaStream([track]);
    // A remote stream gives WebAudio nothing in Chromium unless an element plays it too.
    const el = new Audio();
    el.muted = true;
    el.srcObject = stream;
    void el.play().catch(() => {});
    const source = ctx.createMediaStreamSource(stream);
    const gain = ctx.createGain();
    source.connect(gain).connect(this.master);
    this.slots.set(mid, { gain, source, el, user: '' });
  }

  seat(mid: string, user: string) {
    const s = this.slots.get(mid);
    if (s) { s.user = user; s.gain.gain.value = this.volume(user); }
  }

  /** Applies volumes that have changed. */
  refresh() { for (const s of this.slots.values()) s.gain.gain.value = this.volume(s.user); }

  set deaf(on: boolean) { this.master.gain.value = on ? 0 : 1; }

  async output(sink: string) {
    const ctx = audio() as AudioContext & { setSinkId?: (id: string) => Promise<void> };
    await ctx.setSinkId?.(sink).catch(() => {});
  }

  close() {
    for (const s of this.slots.values()) { s.source.disconnect(); s.el.srcObject = null; }
    this.slots.clear();
    this.master.disconnect();
  }
}

/** Two short notes: up when somebody comes, down when somebody goes. */
export function chime(up: boolean) {
  const ctx = audio();
  if (ctx.state !== 'running') return;
  [up ? 523 : 659, up ? 659 : 440].forEach((hz, i) => {
    const o = ctx.createOscillator(), g = ctx.createGain(), t = ctx.currentTime + i * 0.09;
    o.frequency.value = hz;
    o.type = 'sine';
    g.gain.setValueAtTime(0, t);
    g.gain.linearRampToValueAtTime(0.06, t + 0.01);
    g.gain.exponentialRampToValueAtTime(0.0001, t + 0.16);
    o.connect(g).connect(ctx.destination);
    o.start(t);
    o.stop(t + 0.17);
  });
}
