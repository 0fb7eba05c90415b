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
  if (context.state !== 'running') void context.resume().catch(() => {});
  return context;
}
// A context that the system put to sleep (a phone call, a closed lid) wakes with the next touch.
for (const e of ['pointerdown', 'keydown']) addEventListener(e, () => { if (context) audio(); }, { capture: true, passive: true });

/** Where sound is played; '' is the system's choice. */
export async function output(sink: string) {
  const ctx = audio() as AudioContext & { setSinkId?: (id: string) => Promise<void> };
  await ctx.setSinkId?.(sink).catch(() => {}); // unplugged: the system's choice stays
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

  /** -60 dBFS and less is 0, -5 dBFS and more is 1. */
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
  sent?: MediaStreamTrack;
  meter?: Meter;
  /** Called with the track to send whenever there is another one. */
  onTrack?: (t: MediaStreamTrack) => void;
  /** Called when it is lost, and when it is back. */
  onLost?: (lost: boolean) => void;
  private stream?: MediaStream;
  private wanted = false;
  private open = true;
  private busy?: Promise<MediaStreamTrack>;

  constructor(private settings: () => MicSettings) {
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.devicesChanged());
  }

  /** Opens the microphone, or gives the open one. */
  acquire(): Promise<MediaStreamTrack> {
    this.wanted = true;
    if (this.sent?.readyState === 'live') return Promise.resolve(this.sent);
    this.busy ??= this.take().finally(() => { this.busy = undefined; });
    return this.busy;
  }

  private async take(): Promise<MediaStreamTrack> {
    if (!navigator.mediaDevices) throw new Error('This address is not secure, so the browser lends no microphone. Use https, or localhost.');
    const { device, echoCancellation, noiseSuppression, autoGainControl } = this.settings();
    const audio = { echoCancellation, noiseSuppression, autoGainControl };
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: device ? { ...audio, deviceId: { exact: device } } : audio });
    } catch (e) {
      if (!device || (e as DOMException).name === 'NotAllowedError') throw e;
      stream = await navigator.mediaDevices.getUserMedia({ audio }); // the chosen one is not plugged in
    }
    this.stop();
    if (!this.wanted) { for (const t of stream.getTracks()) t.stop(); throw new DOMException('no longer wanted', 'AbortError'); }
    const track = stream.getAudioTracks()[0];
    this.stream = stream;
    this.sent = track.clone();
    this.sent.enabled = this.open;
    this.meter = new Meter(stream);
    track.onended = () => { this.stop(); this.onLost?.(true); void this.again(); };
    this.onTrack?.(this.sent);
    return this.sent;
  }

  /** Opens it anew, with the settings as they are now. */
  async again() {
    if (!this.wanted) return;
    const had = this.sent?.readyState === 'live';
    try {
      await this.take();
      if (!had) this.onLost?.(false);
    } catch { /* there is none now: devicechange tells when one comes */ }
  }

  private async devicesChanged() {
    if (!this.wanted) return;
    const track = this.stream?.getAudioTracks()[0];
    if (track?.readyState !== 'live') { await this.again(); return; }
    const chosen = this.settings().device;
    if (!chosen || track.getSettings().deviceId === chosen) return;
    const list = await navigator.mediaDevices.enumerateDevices();
    if (list.some((d) => d.kind === 'audioinput' && d.deviceId === chosen)) await this.again(); // it is plugged in again
  }

  set enabled(on: boolean) {
    this.open = on;
    if (this.sent) this.sent.enabled = on;
  }

  /** Gives it back to the system. */
  release() {
    this.wanted = false;
    this.stop();
  }

  private stop() {
    this.meter?.close();
    for (const t of [...(this.stream?.getTracks() ?? []), ...(this.sent ? [this.sent] : [])]) { t.onended = null; t.stop(); }
    this.stream = this.sent = this.meter = undefined;
  }
}

interface Slot { track: MediaStreamTrack; user: string; gain?: GainNode; source?: MediaStreamAudioSourceNode; el?: HTMLAudioElement }

/** Plays the slots of a call, each at the volume of who sits in it. */
export class Loudspeaker {
  private slots = new Map<string, Slot>();
  private given = new Set<string>();
  private master: GainNode;

  constructor(private volume: (user: string) => number) {
    const ctx = audio();
    this.master = ctx.createGain();
    this.master.connect(ctx.destination);
  }

  /** A slot costs nothing until somebody is to be heard in it. */
  add(mid: string, track: MediaStreamTrack) {
    const slot: Slot = { track, user: '' };
    this.slots.set(mid, slot);
    track.onunmute = () => this.play(slot);
    if (!track.muted) this.play(slot);
  }

  seat(mid: string, user: string) {
    const slot = this.slots.get(mid);
    if (!slot) return;
    slot.user = user;
    this.play(slot);
    slot.gain!.gain.value = this.loudness(user);
  }

  private play(slot: Slot) {
    if (slot.gain) return;
    const ctx = audio();
    const stream = new MediaStream([slot.track]);
    // A remote stream gives WebAudio nothing in Chromium unless an element plays it, too.
    slot.el = new Audio();
    slot.el.muted = true;
    slot.el.srcObject = stream;
    void slot.el.play().catch(() => {});
    slot.source = ctx.createMediaStreamSource(stream);
    slot.gain = ctx.createGain();
    slot.gain.gain.value = this.loudness(slot.user);
    slot.source.connect(slot.gain).connect(this.master);
  }

  /** Applies volumes that have changed. */
  refresh() { for (const s of this.slots.values()) if (s.gain) s.gain.gain.value = this.loudness(s.user); }

  /** Who is heard on another path from now on. */
  give(user: string) {
    if (this.given.has(user)) return;
    this.given.add(user);
    for (const s of this.slots.values()) if (s.gain && s.user === user) s.gain.gain.setTargetAtTime(0, audio().currentTime, 0.005);
  }

  private loudness(user: string) { return this.given.has(user) ? 0 : this.volume(user); }

  set deaf(on: boolean) { this.master.gain.value = on ? 0 : 1; }

  close() {
    for (const s of this.slots.values()) {
      s.track.onunmute = null;
      s.source?.disconnect();
      if (s.el) s.el.srcObject = null;
    }
    this.slots.clear();
    this.master.disconnect();
  }
}

const tunes = { come: [523, 659], go: [659, 440], off: [392, 330], on: [330, 392] };

/** Two short notes: up when somebody comes, down when somebody goes. */
export function chime(tune: keyof typeof tunes) {
  const ctx = audio();
  if (ctx.state !== 'running') return;
  tunes[tune].forEach((hz, i) => {
    const o = ctx.createOscillator(), g = ctx.createGain(), t = ctx.currentTime + i * 0.09;
    o.frequency.value = hz;
    g.gain.setValueAtTime(0, t);
    g.gain.linearRampToValueAtTime(0.06, t + 0.01);
    g.gain.exponentialRampToValueAtTime(0.0001, t + 0.16);
    o.connect(g).connect(ctx.destination);
    o.start(t);
    o.stop(t + 0.17);
  });
}
