// The state of the page and what can be done to it. Components read the signals;
// the gateway and the call write them.
import { computed, signal } from '@preact/signals';
import * as api from './api';
import { Loudspeaker, Microphone, audio, chime } from './audio';
import { Gateway } from './gateway';
import { QualityReader, prepare, type Quality } from './rtc';
import { change, remember, remembered, settings } from './settings';
import { Call, type CallState } from './voice';
import { TEXT, VOICE, type Guild, type Member, type Message, type User, type VoiceServer, type VoiceState } from './types';

export interface Line extends Message { state?: 'sending' | 'failed' }

export const token = signal(remembered());
export const me = signal<User | null>(null);
export const guild = signal<Guild | null>(null);
export const online = signal(false);
export const toasts = signal<{ id: number; text: string }[]>([]);
export const lines = signal<Record<string, Line[]>>({});
export const textChannel = signal('');
export const members = signal<Map<string, Member>>(new Map());
export const voiceStates = signal<Map<string, VoiceState>>(new Map());
export const speaking = signal<Set<string>>(new Set());
export const callState = signal<CallState>('ended');
export const callChannel = signal('');
export const node = signal('');
export const quality = signal<Quality>({});
export const muted = signal(false);
export const deafened = signal(false);
export const talking = signal(false); // push-to-talk key held
export const mutedHint = signal(false);

const byPlace = (a: { position: number; id: string }, b: { position: number; id: string }) => a.position - b.position || (BigInt(a.id) < BigInt(b.id) ? -1 : 1);
export const textChannels = computed(() => (guild.value?.channels ?? []).filter((c) => c.type === TEXT).sort(byPlace));
export const voiceChannels = computed(() => (guild.value?.channels ?? []).filter((c) => c.type === VOICE).sort(byPlace));
export const inChannel = (channel: string) => [...voiceStates.value.values()].filter((v) => v.channel_id === channel);

export function displayName(user: string, known?: User): string {
  const m = members.value.get(user);
  const u = m?.user ?? known;
  return m?.nick || u?.global_name || u?.username || 'Somebody';
}

const MUTE_MEMBERS = 1n << 22n, ADMINISTRATOR = 1n << 3n, CREATE_INVITE = 1n;

function permissions(): bigint {
  const g = guild.value, m = me.value && members.value.get(me.value.id);
  if (!g || !m) return 0n;
  if (g.owner_id === me.value!.id) return ~0n;
  const bits = g.roles.filter((r) => r.id === g.id || m.roles.includes(r.id)).reduce((a, r) => a | BigInt(r.permissions), 0n);
  return bits & ADMINISTRATOR ? ~0n : bits;
}
export const mayMute = computed(() => (permissions() & MUTE_MEMBERS) !== 0n);
export const mayInvite = computed(() => (permissions() & CREATE_INVITE) !== 0n);

let toastId = 0;
export function toast(text: string) {
  const id = ++toastId;
  toasts.value = [...toasts.value.slice(-3), { id, text }];
  setTimeout(() => { toasts.value = toasts.value.filter((t) => t.id !== id); }, 6000);
}
export const complain = (e: unknown) => toast(e instanceof Error ? e.message : String(e));

// ── Coming and going ────────────────────────────────────────────────────────

let gateway: Gateway | undefined;

export function enter(s: api.Session) {
  remember(s.token);
  token.value = s.token;
  history.replaceState(null, '', '/');
  start();
}

export function start() {
  if (!token.value || gateway) return;
  api.setToken(token.value);
  gateway = new Gateway(token.value, {
    dispatch,
    status: (up) => { online.value = up; },
    refused: () => { toast('You were signed out.'); forget(); },
  });
}

export async function signOut() {
  await api.logout().catch(() => {});
  forget();
}

function forget() {
  leave();
  gateway?.close();
  gateway = undefined;
  remember('');
  api.setToken('');
  token.value = '';
  me.value = guild.value = null;
  online.value = false;
  lines.value = {};
}

// ── The gateway's dispatches ────────────────────────────────────────────────

const edit = <K, V>(s: { value: Map<K, V> }, fn: (m: Map<K, V>) => void) => { const m = new Map(s.value); fn(m); s.value = m; };

function dispatch(type: string, d: any) {
  switch (type) {
    case 'READY':
      me.value = d.user;
      if (call || wanted) reask(); // the voice state ended with the old session
      break;
    case 'GUILD_CREATE':
      if (guild.value && guild.value.id !== d.id) return; // the page shows one community
      guild.value = d;
      members.value = new Map(d.members.map((m: Member) => [m.user.id, m]));
      voiceStates.value = new Map(d.voice_states.map((v: VoiceState) => [v.user_id, v]));
      if (!textChannels.value.some((c) => c.id === textChannel.value)) textChannel.value = textChannels.value[0]?.id ?? '';
      void loadMessages(textChannel.value);
      break;
    case 'GUILD_UPDATE': if (d.id === guild.value?.id) guild.value = { ...guild.value!, ...d }; break;
    case 'CHANNEL_CREATE': case 'CHANNEL_UPDATE': case 'CHANNEL_DELETE':
      if (!guild.value) return;
      guild.value = { ...guild.value, channels: [...guild.value.channels.filter((c) => c.id !== d.id), ...(type === 'CHANNEL_DELETE' ? [] : [d])] };
      break;
    case 'GUILD_MEMBER_ADD': case 'GUILD_MEMBER_UPDATE':
      edit(members, (m) => m.set(d.user.id, { ...m.get(d.user.id), ...d }));
      break;
    case 'GUILD_MEMBER_REMOVE': edit(members, (m) => m.delete(d.user.id)); break;
    case 'VOICE_STATE_UPDATE': voiceState(d); break;
    case 'VOICE_SERVER_UPDATE': voiceServer(d); break;
    case 'VOICE_ERROR': voiceError(d); break;
    case 'MESSAGE_CREATE': putLine(d); break;
    case 'MESSAGE_UPDATE': putLine(d); break;
    case 'MESSAGE_DELETE':
      lines.value = { ...lines.value, [d.channel_id]: (lines.value[d.channel_id] ?? []).filter((m) => m.id !== d.id) };
      break;
  }
}

function voiceState(v: VoiceState) {
  const mine = v.user_id === me.value?.id;
  const before = voiceStates.value.get(v.user_id)?.channel_id ?? null;
  if (v.member) edit(members, (m) => m.set(v.user_id, v.member!));
  edit(voiceStates, (m) => { if (v.channel_id) m.set(v.user_id, v); else m.delete(v.user_id); });
  if (!v.channel_id) hush(v.user_id);
  if (!mine && before !== v.channel_id && settings.value.chimes && callChannel.value) {
    if (v.channel_id === callChannel.value) chime(true);
    else if (before === callChannel.value) chime(false);
  }
  if (!mine) return;
  if (v.session_id && gateway && v.session_id !== gateway.sessionId && call) {
    toast('You joined from another place.');
    end();
  } else if (!v.channel_id && callChannel.value) end();
  else if (v.channel_id && v.channel_id !== callChannel.value && (call || wanted)) callChannel.value = v.channel_id;
}

function voiceError(d: { channel_id: string; message: string }) {
  toast(d.message);
  if (d.channel_id === wanted?.channel) { drop(); if (!call) end(); }
}

const hush = (user: string) => { if (speaking.value.has(user)) { const s = new Set(speaking.value); s.delete(user); speaking.value = s; } };

// ── Calls ───────────────────────────────────────────────────────────────────

export const mic = new Microphone(() => settings.value);
let call: Call | undefined;
let speaker: Loudspeaker | undefined;
let wanted: { channel: string; pc: Promise<RTCPeerConnection> } | undefined; // asked for, not yet answered
let reader = new QualityReader();
let poll = 0;
let retries = 0;

const state = () => ({ guild_id: guild.value!.id, channel_id: callChannel.value || null, self_mute: muted.value, self_deaf: deafened.value });

/** Asks for a voice channel; everything that can be made ready meanwhile is. */
export async function join(channel: string) {
  if (!guild.value || (callChannel.value === channel && callState.value !== 'ended')) return;
  audio();
  try {
    await mic.acquire();
  } catch (e) {
    const name = (e as DOMException).name;
    toast(name === 'NotAllowedError' ? 'The browser may not use the microphone: you can listen, and allow it in the address bar to talk.'
      : name === 'NotFoundError' ? 'No microphone was found: you can listen, and it is used as soon as you plug one in.' : String((e as Error).message));
  }
  retries = 0;
  ask(channel);
}

function ask(channel: string) {
  drop();
  callChannel.value = channel;
  if (!call) callState.value = 'connecting';
  gateway?.send(4, state());
  const pc = prepare(mic.sent ?? null);
  pc.catch(() => {});
  wanted = { channel, pc };
}

/** Asks again for the channel after something broke. */
function reask() {
  const channel = callChannel.value;
  if (!channel) return;
  if (++retries > 8) { toast('The call could not be brought back.'); leave(); return; }
  setTimeout(() => { if (callChannel.value === channel && online.value) ask(channel); }, retries === 1 ? 0 : 250 * 2 ** Math.min(retries, 5));
}

function voiceServer(server: VoiceServer) {
  if (!me.value || !gateway || server.guild_id !== guild.value?.id || !callChannel.value) return;
  if (!server.endpoint && !server.endpoints?.length) { callState.value = 'connecting'; return; } // a place is being found
  const pc = wanted?.pc ?? prepare(mic.sent ?? null); // moved: nobody asked
  wanted = undefined;
  const old = call, oldSpeaker = speaker;
  const ears = new Loudspeaker((user) => settings.value.volumes[user] ?? 1, settings.value.sink);
  ears.deaf = deafened.value;
  const seen = new Set<string>();
  const next: Call = new Call({ guild: server.guild_id, user: me.value.id, session: gateway.sessionId }, server, pc, {
    state: (s) => {
      if (call !== next) return;
      callState.value = s;
      if (s === 'connected') {
        retries = 0;
        node.value = next.node;
        // The new path carries sound: the old one may go (make before break).
        old?.close();
        oldSpeaker?.close();
      }
    },
    track: (mid, t) => ears.add(mid, t),
    seat: (s) => ears.seat(s.mid, s.user_id),
    speaking: (user, on) => { const s = new Set(speaking.value); if (on) s.add(user); else s.delete(user); speaking.value = s; },
    present: (users, here) => { for (const u of users) { if (here) seen.add(u); else { seen.delete(u); hush(u); } } },
    broken: () => { if (call === next) { end(true); reask(); } },
  });
  call = next;
  speaker = ears;
  if (!old) callState.value = 'connecting';
  reader = new QualityReader();
  mic.onReplaced = (t) => { void call?.pc.then((pc) => pc.getSenders()[0]?.replaceTrack(t)).catch(() => {}); };
  clearInterval(poll);
  poll = window.setInterval(() => void measure(), 1000);
}

async function measure() {
  const c = call;
  if (!c || callState.value === 'connecting') return;
  const q = await c.pc.then((pc) => reader.read(pc)).catch(() => ({}));
  if (call === c) quality.value = q;
}

function drop() {
  void wanted?.pc.then((pc) => pc.close(), () => {});
  wanted = undefined;
}

function end(keepChannel = false) {
  const c = call, s = speaker;
  call = speaker = undefined;
  c?.close();
  s?.close();
  drop();
  clearInterval(poll);
  speaking.value = new Set();
  quality.value = {};
  callState.value = keepChannel ? 'connecting' : 'ended';
  if (!keepChannel) { callChannel.value = ''; node.value = ''; }
}

export function leave() {
  if (!callChannel.value) return;
  callChannel.value = '';
  if (guild.value) gateway?.send(4, state());
  end();
}

/** Whether the microphone is open now. */
export const open = computed(() => !muted.value && !deafened.value && (!settings.value.pushToTalk || talking.value));
open.subscribe((on) => { mic.enabled = on; });

export function setMuted(on: boolean) {
  muted.value = on;
  if (!on && deafened.value) setDeafened(false);
  else if (callChannel.value && guild.value) gateway?.send(4, state());
}

export function setDeafened(on: boolean) {
  deafened.value = on;
  if (speaker) speaker.deaf = on;
  if (callChannel.value && guild.value) gateway?.send(4, state());
}

export function setVolume(user: string, v: number) {
  change({ volumes: { ...settings.value.volumes, [user]: v } });
  speaker?.refresh();
}

export const setOutput = (sink: string) => { change({ sink }); void speaker?.output(sink); };
export const setInput = (part: Parameters<typeof change>[0]) => { change(part); void mic.again(); };

// Push-to-talk, and a hint to whoever talks while muted.
const typing = (t: EventTarget | null) => t instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName);
addEventListener('keydown', (e) => {
  if (settings.value.pushToTalk && e.code === settings.value.talkKey && !typing(e.target)) { talking.value = true; if (callChannel.value) e.preventDefault(); }
});
addEventListener('keyup', (e) => { if (e.code === settings.value.talkKey) talking.value = false; });
addEventListener('blur', () => { talking.value = false; });

let loud = 0;
setInterval(() => {
  if (!callChannel.value || !muted.value || !mic.meter) { mutedHint.value = false; loud = 0; return; }
  loud = mic.meter.level() > 0.55 ? loud + 1 : Math.max(0, loud - 0.25);
  if (loud >= 3) mutedHint.value = true;
  if (loud === 0) mutedHint.value = false;
}, 150);

// ── Messages ────────────────────────────────────────────────────────────────

const MAX_LINES = 500;

function putLine(m: Line) {
  const list = lines.value[m.channel_id] ?? [];
  const at = list.findIndex((x) => x.id === m.id || (m.nonce !== undefined && x.nonce === String(m.nonce) && x.state));
  const next = at < 0 ? [...list, m] : list.map((x, i) => (i === at ? { ...x, ...m, state: undefined } : x));
  lines.value = { ...lines.value, [m.channel_id]: next.slice(-MAX_LINES) };
}

export async function loadMessages(channel: string) {
  if (!channel) return;
  try {
    const page = (await api.messages(channel)).reverse();
    const sending = (lines.value[channel] ?? []).filter((x) => x.state);
    lines.value = { ...lines.value, [channel]: [...page, ...sending] };
  } catch (e) { complain(e); }
}

export async function loadOlder(channel: string): Promise<boolean> {
  const list = lines.value[channel] ?? [];
  if (!list.length) return false;
  const page = (await api.messages(channel, list[0].id)).reverse();
  lines.value = { ...lines.value, [channel]: [...page, ...(lines.value[channel] ?? [])] };
  return page.length > 0;
}

export async function say(channel: string, content: string) {
  const nonce = crypto.getRandomValues(new Uint32Array(2)).join('');
  putLine({ id: 'n' + nonce, nonce, channel_id: channel, author: me.value!, content, timestamp: new Date().toISOString(), edited_timestamp: null, state: 'sending' });
  try {
    putLine({ ...(await api.say(channel, content, nonce)), nonce });
  } catch (e) {
    lines.value = { ...lines.value, [channel]: (lines.value[channel] ?? []).map((x) => (x.nonce === nonce ? { ...x, state: 'failed' } : x)) };
    complain(e);
  }
}
