// How far each region is: measured by what connects us in a call anyway, the STUN
// checks of a PeerConnection, but one without media. Nothing waits for it for long:
// it runs ahead of the first call, and again when the network changed.
import * as api from './api';
import { peers } from './rtc';

/** An entry of GET /voice/regions. */
export interface Region { id: string; optimal: boolean; probe?: { address: string; port: number; ufrag: string; password: string; expires: string } }

/** Milliseconds by region. */
export type Distances = Record<string, number>;

const kept = 5 * 60_000; // after this a new call measures again
const patience = 2500; // for the answers of all regions
const samples = 3; // the least of them counts: all else is waiting
const look = 20; // how often an answer is looked for
const joinWait = 150; // what a join waits at most for a measurement under way
const settle = 1000; // a network that just came up is not measured at once
const most = 12;

/** The answer of a media port that has no media: STUN credentials and an address. */
export function answerOf(p: NonNullable<Region['probe']>): string {
  const ip = p.address.includes(':') ? 'IP6' : 'IP4';
  return [
    'v=0', `o=- 1 1 IN ${ip} ${p.address}`, 's=-', 't=0 0', 'a=ice-lite', 'a=group:BUNDLE 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', 'a=mid:0', `a=ice-ufrag:${p.ufrag}`, `a=ice-pwd:${p.password}`,
    // Nobody speaks DTLS there: the fingerprint is one that nothing has.
    `a=fingerprint:sha-256 ${Array(32).fill('00').join(':')}`, 'a=setup:passive', 'a=sctp-port:5000',
    `a=candidate:1 1 udp 2130706431 ${p.address} ${p.port} typ host`, 'a=end-of-candidates', '',
  ].join('\r\n');
}

/** Measures one until `until`, and tells the least round trip so far, in ms, whenever there is an answer more. */
async function measureOne(p: NonNullable<Region['probe']>, until: number, tell: (ms: number) => void): Promise<void> {
  const pc = new (peers().RTCPeerConnection)();
  try {
    pc.createDataChannel('');
    await pc.setLocalDescription(await pc.createOffer());
    await pc.setRemoteDescription({ type: 'answer', sdp: answerOf(p) });
    let least = Infinity;
    for (let seen = 0, answers = 0; seen < samples && Date.now() < until;) {
      await new Promise((done) => setTimeout(done, look));
      (await pc.getStats()).forEach((s: any) => {
        if (s.type !== 'candidate-pair' || s.currentRoundTripTime === undefined || !(s.responsesReceived > answers)) return;
        answers = s.responsesReceived;
        seen++;
        // Browsers count whole milliseconds; 0 would be no measurement.
        least = Math.min(least, Math.max(0.5, s.currentRoundTripTime * 1000));
        tell(least);
      });
    }
  } finally {
    pc.close();
  }
}

/** Those to measure: with more of them a browser would be busy with nothing else; the others follow from how far these are from each other. */
export const chosen = (regions: readonly Region[]) =>
  [...regions].sort((a, b) => Number(b.optimal) - Number(a.optimal)).filter((r) => r.probe).slice(0, most);

let known: { at: number; distances: Distances } | undefined;
let running: Promise<void> | undefined;
let enough: Promise<void> | undefined; // of a measurement under way: an answer of each; undefined when there is no choice

async function run() {
  const regions = chosen(await api.regions());
  const distances: Distances = {};
  known = { at: Date.now(), distances };
  if (regions.length < 2) return; // one is not offered to be measured
  const until = Date.now() + patience;
  const first: Promise<unknown>[] = [];
  const all = regions.map((r) => {
    let answered = () => {};
    first.push(new Promise<void>((done) => { answered = done; }));
    return measureOne(r.probe!, until, (ms) => { distances[r.id] = ms; answered(); }).catch(() => {}).finally(answered);
  });
  enough = Promise.all(first).then(() => {});
  await Promise.all(all);
}

/** Measures, unless it was done of late. */
export function measure(): Promise<void> {
  if (known && Date.now() - known.at < kept) return running ?? Promise.resolve();
  running ??= run().catch(() => {}).finally(() => { running = enough = undefined; });
  return running;
}

/** What is known, for a join; undefined when it is nothing. */
export function distances(): Distances | undefined {
  return known && Object.keys(known.distances).length ? known.distances : undefined;
}

/**
 * A moment to wait for before a join: until each region has answered once, but not
 * for long. Undefined when there is nothing to wait for, as where there is one
 * region only.
 */
export const moment = (): Promise<void> | undefined => enough && Promise.race([enough, new Promise<void>((done) => setTimeout(done, joinWait))]);

/** Measures anew when the network is another one. */
export function watchNetwork() {
  const changed = () => { if (known) { known = undefined; setTimeout(() => void measure(), settle); } };
  addEventListener('online', changed);
  (navigator as { connection?: EventTarget }).connection?.addEventListener('change', changed);
}
