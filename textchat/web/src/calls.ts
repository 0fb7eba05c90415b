// The call of this page: asking for a channel, being placed, moved, cut off and
// brought back. What is wanted is one thing (`callChannel`), what is there another
// (`live`), and what is on its way a third (`next`): a new connection replaces the
// old one only when sound flows.
import { computed, effect, signal } from '@preact/signals';
import { Backoff } from './backoff';
import { Crossing } from './crossing';
import { Loudspeaker, Microphone, audio, chime, output } from './audio';
import type { Gateway } from './gateway';
import { reportFrom } from './pulse';
import { distances, measure, moment } from './regions';
import { camera, filming } from './camera';
import { QualityReader, audible, film, prepare, send, slots, views, type Quality } from './rtc';
import { change, keepCall, settings, volumeOf } from './settings';
import { channelOf, houseOf, inChannel, me, online, toast } from './store';
import { isSilent, movedNotice } from './text';
import type { VoiceError, VoiceMove, VoiceServer, VoiceState } from './types';
import { Call } from './voice';

export type CallState = 'none' | 'connecting' | 'placing' | 'waiting' | 'queued' | 'connected' | 'resuming';

export const callChannel = signal(''); // what is wanted; '' is no call
export const callState = signal<CallState>('none');
/** All seats are taken: what the server says about that, and whether we stand in line or only could. */
export const line = signal<{ message: string; waits: boolean } | null>(null);
export const callSince = signal(0);
export const speaking = signal<ReadonlySet<string>>(new Set());
export const node = signal('');
export const quality = signal<Quality>({});
export const muted = signal(false);
export const deafened = signal(false);
export const talking = signal(false); // push-to-talk is held
export const mutedHint = signal(false);
export const micProblem = signal('');

const askTimeout = 6_000; // an op 4 without any answer is repeated
const leaveTimeout = 1_500; // for the text gateway to say why the voice gateway sent us away
const lineAgain = 30_000; // how often a place in line is asked for anew
const spareKept = 60_000; // its ports would not fit the network for much longer
const micKept = 60_000; // after a call the microphone stays warm this long

const hushed = 100; // at least, and up to three times as long, before the first time
const anewEvery = 2_000; // to be told of another server, before one is asked for; oftener the gateway does not answer
const anewTries = 4; // then the channel is left and entered again
const openPatience = 6_000; // for a voice session to open; a join takes less than one
const goesOn = 250; // whoever was heard within it is heard from the new address, too
const crossEvery = 20;
const checkEvery = 2_000; // each pause of a talk is a silence, too

/** What is seen of the cameras of others, by user; and why some of it is not. */
export const pictures = signal<ReadonlyMap<string, MediaStreamTrack>>(new Map());
export const unseen = signal<'' | 'busy' | 'loss'>('');

interface Connection { call: Call; ears: Loudspeaker; seen: Map<string, string>; sawAny: boolean; why: '' | 'busy' | 'loss'; pc?: RTCPeerConnection; move?: VoiceMove; told: number }

export const mic = new Microphone(() => settings.value);
let gateway: Gateway | undefined;
let live: Connection | undefined;
let next: Connection | undefined;
let old: Connection | undefined; // was live, and stands until everybody has come over
let crossing = 0; // timer: who is heard where
let silence = 0; // timer: ask for another seat
let anews = 0; // how often that was done in vain
let offer: Promise<RTCPeerConnection> | undefined; // made ready while the answer to op 4 is out
let spare: { pc: Promise<RTCPeerConnection>; until: number } | undefined; // made ready before that
let asked = false;
let holding = false; // what was asked for is to be in the channel by `live`, not another seat
let turn = 0; // of asking
let queueing = false; // we wait in line where there is no seat
let again = 0; // timer: ask anew
let cool = 0; // timer: give the microphone back
let backoff = new Backoff(200, 5000);
let reader = new QualityReader();
const ssrcs = new Map<string, number>(); // of who is in the call

export const useGateway = (g: Gateway | undefined) => { gateway = g; };

// ── Joining and leaving ─────────────────────────────────────────────────────

/** Joins a voice channel. Microphone, offer and placement come at the same time. */
export function join(channel: string) {
  if (callChannel.value === channel) return;
  audio();
  openMic();
  if (!callChannel.value) callSince.value = 0;
  backoff.reset();
  queueing = false;
  line.value = null;
  ask(channel);
}

/** Waits for a seat, in the order of those who do. */
export function waitInLine() {
  queueing = true;
  if (callChannel.value) ask(callChannel.value);
}

function openMic() {
  clearTimeout(cool);
  micProblem.value = '';
  mic.acquire().catch((e: Error) => {
    micProblem.value = e.name === 'NotAllowedError' ? 'The browser may not use the microphone. You can listen; to talk, allow it beside the address.'
      : e.name === 'NotFoundError' ? 'No microphone was found. You can listen; plug one in to talk.'
      : e.name === 'AbortError' ? '' : e.message;
  });
}
mic.onTrack = (t) => {
  micProblem.value = '';
  for (const pc of [live?.call.pc, next?.call.pc, old?.call.pc, offer]) pc?.then((pc) => send(pc, t)).catch(() => {});
};
mic.onLost = (lost) => { micProblem.value = lost ? 'The microphone was lost. It is used again as soon as it is back.' : ''; };

/** Tries the microphone again after it was refused or missing. */
export const retryMic = openMic;

/**
 * Makes an offer ahead of time: with its sixteen slots it costs the browser some
 * 40 ms, which then do not stand between the press and the first sound.
 */
export function warm() {
  if (!callChannel.value && online.value) void measure(); // if it is long ago
  if (spare || callChannel.value || !online.value) return;
  const pc = prepare(mic.sent, relayed);
  spare = { pc, until: window.setTimeout(cold, spareKept) };
  pc.catch(cold);
}
function cold() {
  clearTimeout(spare?.until);
  spare?.pc.then((pc) => pc.close(), () => {});
  spare = undefined;
}
for (const e of ['online', 'offline']) addEventListener(e, cold);

/** The spare, or a new one. */
function takeOffer(): Promise<RTCPeerConnection> {
  const pc = spare?.pc;
  if (!pc) return prepare(mic.sent, relayed);
  clearTimeout(spare!.until);
  spare = undefined;
  const t = mic.sent;
  if (t) pc.then((pc) => send(pc, t)).catch(() => {});
  return pc;
}

function state(channel: string | null) {
  return { guild_id: (houseOf(callChannel.value || (channel ?? '')) ?? houseOf(channel ?? ''))?.guild.id, channel_id: channel, self_mute: muted.value || deafened.value, self_deaf: deafened.value, self_video: filming.value,
    ...(channel && holding && live && { holds: live.call.session }) };
}

function ask(channel: string) {
  clearTimeout(again);
  dropNext();
  const house = houseOf(channel);
  const before = houseOf(callChannel.value);
  if (before && house && before !== house) gateway?.send(4, state(null));
  callChannel.value = channel;
  holding = false;
  if (!live) callState.value = callState.value === 'waiting' || callState.value === 'placing' || callState.value === 'queued' ? callState.value : 'connecting';
  asked = true;
  const mine = ++turn;
  const place = () => { if (mine === turn && asked) gateway?.send(4, { ...state(channel), rtt: distances(), ...(queueing && { wait: true }) }); };
  const wait = moment();
  if (wait) void wait.then(place); else place();
  offer = takeOffer();
  offer.catch(() => {});
  again = window.setTimeout(() => { if (online.value) ask(channel); else gateway?.probe(); }, askTimeout);
}

export function leave() {
  const channel = callChannel.value;
  if (!channel) return;
  if (houseOf(channel)) gateway?.send(4, state(null));
  over();
}

/** Ends the call on this side. */
function over() {
  const was = callState.value;
  clearTimeout(again);
  clearTimeout(silence);
  dropNext();
  dropOld();
  drop(live);
  live = undefined;
  asked = holding = false;
  queueing = false;
  line.value = null;
  anews = 0;
  callChannel.value = '';
  callState.value = 'none';
  node.value = '';
  void setFilming(false);
  quiet();
  if (settings.value.chimes && (was === 'connected' || was === 'resuming')) chime('off');
  clearTimeout(cool);
  cool = window.setTimeout(() => mic.release(), micKept);
  setTimeout(warm, 400); // whoever leaves often goes somewhere else
}

function quiet() {
  speaking.value = new Set();
  look();
  quality.value = {};
  ssrcs.clear();
}

function drop(c: Connection | undefined) {
  c?.call.close();
  c?.ears.close();
}

function dropNext() {
  offer?.then((pc) => pc.close(), () => {});
  offer = undefined;
  drop(next);
  next = undefined;
}

function dropOld() {
  clearInterval(crossing);
  drop(old);
  old = undefined;
  look();
}

/** Signed out. */
export function endCalls() {
  leave();
  cold();
  clearTimeout(cool);
  mic.release();
}

// ── Being placed ────────────────────────────────────────────────────────────

export function onVoiceServer(server: VoiceServer) {
  const channel = callChannel.value;
  if (!channel || !me.value || !gateway || houseOf(channel)?.guild.id !== server.guild_id) return;
  if (!server.endpoint && !server.endpoints?.length) { callState.value = live ? callState.value : 'placing'; return; } // a place is being found
  clearTimeout(again);
  clearTimeout(silence);
  asked = holding = false;
  const pc = offer ?? prepare(mic.sent, relayed); // moved: nobody asked
  offer = undefined;
  drop(next);
  const ears = new Loudspeaker(volumeOf);
  ears.deaf = deafened.value;
  pc.then((pc) => { for (const s of slots(pc)) ears.add(s.mid, s.track); return camera.track && film(pc, camera.track); }).catch(() => {});
  const mine = () => live?.call === call || next?.call === call;
  const call: Call = new Call({ guild: server.guild_id, user: me.value.id, session: gateway.sessionId }, server, pc, {
    connected: () => { if (mine()) connected(call); },
    resuming: (yes) => { if (live?.call === call) callState.value = yes ? 'resuming' : 'connected'; },
    seat: (s) => ears.seat(s.mid, s.user_id),
    view: (v) => {
      if (v.user_id === '0') mineNow.seen.delete(v.mid); else mineNow.seen.set(v.mid, v.user_id);
      mineNow.sawAny ||= v.user_id !== '0';
      if (v.why !== 'off') mineNow.why = v.why ?? '';
      look();
    },
    viewless: () => { mineNow.seen.clear(); mineNow.why = ''; look(); },
    speaking: (user, ssrc, on) => {
      if (!mine()) return;
      const isNew = ssrcs.get(user) !== ssrc;
      ssrcs.set(user, ssrc);
      setSpeaking(user, on);
      if (isNew && volumeOf(user) === 0) tellUnwanted();
    },
    roster: (users) => {
      if (!mine() || live && next?.call === call) return; // while the call moves, some have not come yet
      for (const u of ssrcs.keys()) if (!users.includes(u)) ssrcs.delete(u);
      for (const u of speaking.value) if (u !== me.value?.id && !users.includes(u)) setSpeaking(u, false);
    },
    gone: (user) => { if (mine() && !old) { ssrcs.delete(user); setSpeaking(user, false); } },
    stuck: () => {
      if (relayed || next?.call !== call) return;
      relayed = true; // from here on, in this network
      cold();
      clearTimeout(again);
      again = window.setTimeout(() => { if (next?.call === call) anew(); }, Math.max(0, anewEvery + 50 - (performance.now() - mineNow.told)));
    },
    doubt: () => {
      if (live?.call !== call || performance.now() - checked < checkEvery) return;
      checked = performance.now();
      gateway?.check(elsewhere);
    },
    moved: () => { if (live?.call === call) gateway?.check(elsewhere); },
    silent: () => { if (live?.call === call) hush(); },
    over: (then) => { if (mine()) broken(call, then); else if (old?.call === call) dropOld(); },
  });
  const mineNow: Connection = { call, ears, seen: new Map(), sawAny: false, why: '', move: server.move, told: performance.now() };
  pc.then((pc) => { mineNow.pc = pc; }, () => {});
  next = mineNow;
  // The node may be one that has just died.
  again = window.setTimeout(() => { if (next === mineNow) anew(); }, openPatience);
}

function connected(call: Call) {
  if (next?.call === call) {
    clearTimeout(again);
    dropOld();
    const before = live;
    live = next;
    next = undefined;
    if (before?.call.healthy && before.call.quiet < reportFrom) cross(before, live);
    else drop(before);
    reader = new QualityReader();
    look();
    tellUnwanted();
    if (live.move && callSince.value) toast(movedNotice(live.move, call.node || live.move.to, performance.now() - live.told));
    if (!callSince.value) {
      callSince.value = Date.now();
      if (settings.value.chimes) chime('on');
    }
  }
  backoff.reset();
  anews = 0;
  node.value = call.node;
  queueing = false;
  line.value = null;
  callState.value = 'connected';
}

/**
 * Both paths carry sound: the microphone goes out on both, and each speaker is heard
 * on the new one as soon as sound comes by it.
 */
function cross(before: Connection, now: Connection) {
  old = before;
  const c = new Crossing(performance.now());
  const heard = (x: Connection, ms: number) => new Set(x.pc ? audible(x.pc, ms).map((mid) => x.call.seats.get(mid) ?? '').filter((u) => u && u !== '0') : []);
  crossing = window.setInterval(() => {
    const { give, done } = c.step(performance.now(), { users: before.call.users, audible: heard(before, 500) }, { users: now.call.users, audible: heard(now, 100) });
    for (const u of give) before.ears.give(u);
    if (!done && !before.call.ended && live === now) return;
    dropOld();
    for (const u of ssrcs.keys()) if (!now.call.users.has(u)) { ssrcs.delete(u); setSpeaking(u, false); } // who has not come over
  }, crossEvery);
}

/**
 * Nothing comes from the node. Its death is known to others by now, and another is on
 * its way; if none comes at once, our own network may have closed, and another seat
 * is found by another way.
 */
function hush(wait = hushed * (1 + Math.random() * 2)) {
  clearTimeout(silence);
  silence = window.setTimeout(() => {
    if (!live || live.call.quiet < reportFrom) return;
    if (!next) anew();
    hush(anewEvery * (1 + Math.random() / 4));
  }, wait);
}

/** Asks for another seat in the channel we are in. */
function anew() {
  const channel = callChannel.value;
  if (!channel || !online.value) return;
  asked = true;
  holding = false;
  gateway?.send(4, { ...state(channel), anew: true });
  clearTimeout(again);
  again = window.setTimeout(() => { asked = false; if (!live || live.call.quiet >= reportFrom) bringBack(); }, anewEvery * 1.25);
}

/** This host reaches nobody the way it did: it has another address. */
function elsewhere() {
  if (!live) return;
  renewing = true; // onOnline goes on
  relayed = false; // that was the other network's
  gateway?.renew();
  live.call.renew();
}
let renewing = false;
let relayed = false; // this network lets through neither UDP nor plain TCP
addEventListener('online', () => { relayed = false; });
let checked = -checkEvery; // when we last looked
addEventListener('online', elsewhere);

function broken(call: Call, then: 'again' | 'told') {
  if (next?.call === call) { drop(next); next = undefined; } else {
    drop(live);
    clearInterval(crossing);
    live = old; // which was about to go
    old = undefined;
    if (!live) quiet(); else look();
  }
  if (holding) asked = holding = false; // there is nothing to hold
  if (live || next || asked) return; // another one stands, or is on its way
  callState.value = 'placing';
  clearTimeout(again);
  // Sent away: the text gateway says whether we were moved or removed. If it says nothing, we come back.
  if (then === 'told') again = window.setTimeout(() => bringBack(), leaveTimeout);
  else bringBack();
}

/** Asks for a new grant for the channel we are, as far as the server knows, still in. */
function bringBack() {
  const channel = callChannel.value;
  if (!channel) return;
  clearTimeout(again);
  again = window.setTimeout(() => {
    gateway?.probe();
    if (!online.value) return; // onOnline goes on
    if (++anews % anewTries) { anew(); return; }
    asked = true; // from here on, our own leaving is no news
    holding = false;
    gateway?.send(4, state(null));
    ask(channel);
  }, backoff.next());
}

/** Tells a gateway session that knows nothing of the call that we are in it. Sound goes on all the while. */
function hold(heard: boolean) {
  const channel = callChannel.value;
  if (!channel) return;
  if (!heard || !live?.call.session || next || asked && !holding) { ask(channel); return; }
  asked = holding = true;
  gateway?.send(4, { ...state(channel), rtt: distances() });
  clearTimeout(again);
  again = window.setTimeout(() => { if (online.value) hold(soundFlows()); else gateway?.probe(); }, askTimeout);
}
const soundFlows = () => !!live?.call.healthy && live.call.quiet < reportFrom;

/** The text gateway is back: `fresh` when it is another session, which does not know our voice state. */
export function onOnline(fresh: boolean) {
  const channel = callChannel.value;
  if (!channel) return;
  const renewed = renewing;
  renewing = false;
  if (fresh) hold(soundFlows() && (!renewed || live!.call.silent < goesOn));
  else if (renewed && live && live.call.silent < goesOn) return; // its sockets are of no address
  else if (renewed) anew();
  else if (!next && (!live || live.call.quiet >= reportFrom)) bringBack();
}

export function onVoiceState(v: VoiceState, before: VoiceState | undefined) {
  if (v.user_id !== me.value?.id) {
    if (v.channel_id !== callChannel.value) setSpeaking(v.user_id, false);
    if (v.channel_id !== before?.channel_id) crowdChanged();
    return;
  }
  if (!callChannel.value || v.guild_id !== houseOf(callChannel.value)?.guild.id) return;
  const elsewhere = v.session_id !== gateway?.sessionId;
  if (v.channel_id) {
    if (holding && !elsewhere && v.channel_id === callChannel.value) {
      asked = holding = false;
      clearTimeout(again);
    }
    if (elsewhere && !asked) { toast('You joined this call from another place.'); over(); return; }
    if (!asked && v.channel_id !== callChannel.value) {
      callChannel.value = v.channel_id;
      toast(`You were moved to ${channelOf(v.channel_id)?.name ?? 'another channel'}.`);
    }
    return;
  }
  if (asked || elsewhere) return; // the server let go of an older call
  if (live && !live.call.healthy || !live && !next) { bringBack(); return; } // it gave us up for lost
  toast('You were disconnected from the call.');
  over();
}

export function onVoiceError(e: VoiceError) {
  if (e.channel_id !== callChannel.value || !asked) { toast(e.message); return; }
  clearTimeout(again);
  offer?.then((pc) => pc.close(), () => {});
  offer = undefined;
  if (e.code === 'queued' || (e.code === 'full' && e.full?.place)) {
    // Told once more from time to time: whoever keeps the line may have been replaced.
    queueing = e.code === 'queued';
    line.value = { message: e.message, waits: queueing };
    if (!live) callState.value = 'queued';
    asked = queueing;
    holding = false;
    if (queueing) again = window.setTimeout(() => ask(e.channel_id), lineAgain);
    return;
  }
  asked = false;
  // Nobody can take the call just now: that passes.
  if (e.code === 'unavailable' || e.code === 'no_nodes' || e.code === 'full') {
    if (holding) { again = window.setTimeout(() => hold(soundFlows()), Math.min(2000, backoff.next())); return; }
    if (!live) { callState.value = 'waiting'; again = window.setTimeout(() => ask(e.channel_id), Math.min(2000, backoff.next())); }
    return;
  }
  toast(e.message);
  over();
}

// ── Who is there ────────────────────────────────────────────────────────────

function setSpeaking(user: string, on: boolean) {
  if (speaking.value.has(user) === on) return;
  const s = new Set(speaking.value);
  if (on) s.add(user); else s.delete(user);
  speaking.value = s;
}

let crowd = { channel: '', users: new Set<string>() };
let crowdTimer = 0;

/** Chimes once for all who came or went within a moment; who only reconnected makes no sound. */
function crowdChanged() {
  clearTimeout(crowdTimer);
  crowdTimer = window.setTimeout(() => {
    const channel = callChannel.value;
    const users = new Set(inChannel(channel).map((v) => v.user_id).filter((u) => u !== me.value?.id));
    const was = crowd;
    crowd = { channel, users };
    if (!channel || was.channel !== channel || callState.value === 'connecting' || !settings.value.chimes) return;
    if ([...users].some((u) => !was.users.has(u))) chime('come');
    else if ([...was.users].some((u) => !users.has(u))) chime('go');
  }, 300);
}
effect(() => { void callChannel.value; crowdChanged(); });

/** Who stands at volume 0 need not be sent. */
function tellUnwanted() {
  live?.call.unwanted([...ssrcs].filter(([user]) => volumeOf(user) === 0).map(([, ssrc]) => ssrc));
}

export function setVolume(user: string, v: number) {
  const { [user]: was = 1, ...others } = settings.value.volumes;
  change({ volumes: v === 1 ? others : { ...others, [user]: v } });
  live?.ears.refresh();
  old?.ears.refresh();
  if ((was === 0) !== (v === 0)) tellUnwanted();
}

/** Draws what the connections show: whom the live one does not show yet, the one before. */
function look() {
  const m = new Map<string, MediaStreamTrack>();
  for (const c of [old, live]) {
    if (!c?.pc) continue;
    for (const v of views(c.pc)) {
      const user = c.seen.get(v.mid);
      if (user && (!v.track.muted || !m.has(user))) m.set(user, v.track);
      v.track.onunmute = look;
    }
  }
  pictures.value = m;
  unseen.value = live && (live.sawAny || camera.track) ? live.why : ''; // who only talks need not know
}
let shows = false; // as the server was told
effect(() => {
  const on = filming.value;
  look();
  if (on !== shows) queueMicrotask(() => { shows = on; tell(); });
});

/** Begins or ends to show oneself. */
export async function setFilming(on: boolean) {
  const track = on ? await camera.acquire() : camera.release();
  if (on && !callChannel.value) { camera.release(); return; } // the call is over meanwhile
  for (const pc of [live?.call.pc, next?.call.pc, old?.call.pc]) pc?.then((pc) => film(pc, track)).catch(() => {});
}
export { filming };

// ── Microphone and loudspeaker ──────────────────────────────────────────────

/** Whether the microphone is heard by the others now. */
export const open = computed(() => !muted.value && !deafened.value && (!settings.value.pushToTalk || talking.value));
effect(() => { mic.enabled = open.value; });

const tell = () => { if (callChannel.value) gateway?.send(4, state(callChannel.value)); };

export function setMuted(on: boolean) {
  muted.value = on;
  if (!on && deafened.value) setDeafened(false);
  else tell();
}

export function setDeafened(on: boolean) {
  deafened.value = on;
  if (live) live.ears.deaf = on;
  if (next) next.ears.deaf = on;
  if (old) old.ears.deaf = on;
  tell();
}

export function setOutput(sink: string) { change({ sink }); void output(sink); }
export function setInput(part: Parameters<typeof change>[0]) { change(part); void mic.again(); }
if (settings.value.sink) addEventListener('pointerdown', () => void output(settings.value.sink), { once: true });

// Push-to-talk. A key that writes letters does not talk while somebody writes.
const writes = (t: EventTarget | null) => t instanceof HTMLElement && (t.isContentEditable || /^(TEXTAREA|SELECT)$/.test(t.tagName) || (t.tagName === 'INPUT' && !/^(checkbox|range|button)$/.test((t as HTMLInputElement).type)));
const isTalkKey = (e: KeyboardEvent) => settings.value.pushToTalk && callChannel.value !== '' && e.code === settings.value.talkKey && (isSilent(e.code) || !writes(e.target));
addEventListener('keydown', (e) => { if (isTalkKey(e)) { talking.value = true; e.preventDefault(); } }, { capture: true });
addEventListener('keyup', (e) => {
  if (e.code !== settings.value.talkKey) return;
  if (isTalkKey(e)) e.preventDefault(); // else it would press the focused button
  talking.value = false;
}, { capture: true });
for (const e of ['blur', 'pagehide']) addEventListener(e, () => { talking.value = false; });

// One's own ring and the hint to whoever talks while muted come from the meter:
// the server tells nobody about himself.
let loud = 0;
setInterval(() => {
  const level = callState.value !== 'none' && mic.meter ? mic.meter.level() : 0;
  const id = me.value?.id ?? '';
  setSpeaking(id, level > 0.35 && open.value && (callState.value === 'connected' || callState.value === 'resuming'));
  loud = (muted.value || deafened.value) && callState.value !== 'none' ? Math.min(8, level > 0.5 ? loud + 1 : Math.max(0, loud - 0.2)) : 0;
  mutedHint.value = loud >= 4 || (mutedHint.value && loud > 0);
}, 100);

setInterval(() => {
  const c = live;
  if (c && document.visibilityState === 'visible') c.call.pc.then((pc) => reader.read(pc)).then((q) => { if (live === c) quality.value = q; }, () => {});
}, 1000);

// Whoever closes the page leaves at once, instead of after the session's time-out;
// whoever only reloads it is asked whether to go on.
addEventListener('pagehide', (e) => {
  if (callChannel.value) keepCall(callChannel.value);
  if (!e.persisted) leave();
});
