// What the page knows. The gateway writes it through session.ts, calls.ts writes
// what belongs to the call; components read it.
import { computed, signal } from '@preact/signals';
import { remembered } from './settings';
import { TEXT, VOICE, type Channel, type Guild, type Member, type User, type VoiceState } from './types';

/** One community: its guild, and what changes often apart from it. */
export interface House { guild: Guild; members: Map<string, Member>; voices: Map<string, VoiceState> }

export const token = signal(remembered());
export const me = signal<User | null>(null);
export const online = signal(false);
export const ready = signal(false); // READY was seen
export const houses = signal<ReadonlyMap<string, House>>(new Map());
export const shown = signal(''); // id of the house that is looked at

export const house = computed(() => houses.value.get(shown.value) ?? houses.value.values().next().value ?? null);
export const guild = computed(() => house.value?.guild ?? null);
const byPlace = (a: Channel, b: Channel) => a.position - b.position || (BigInt(a.id) < BigInt(b.id) ? -1 : 1);
const ofType = (type: number) => computed(() => (guild.value?.channels ?? []).filter((c) => c.type === type).sort(byPlace));
export const textChannels = ofType(TEXT);
export const voiceChannels = ofType(VOICE);

const chosenText = signal('');
export const textChannel = computed(() => textChannels.value.find((c) => c.id === chosenText.value) ?? textChannels.value[0] ?? null);
export const chooseText = (id: string) => { chosenText.value = id; };

export const houseOf = (channel: string) => [...houses.value.values()].find((h) => h.guild.channels.some((c) => c.id === channel));
export const channelOf = (id: string) => houseOf(id)?.guild.channels.find((c) => c.id === id);
export const inChannel = (channel: string) => [...(houseOf(channel)?.voices.values() ?? [])].filter((v) => v.channel_id === channel);

export function nameOf(user: string, known?: User): string {
  const m = house.value?.members.get(user);
  const u = m?.user ?? known;
  return m?.nick || u?.global_name || u?.username || 'Somebody';
}

// ── Permissions ─────────────────────────────────────────────────────────────

export const CREATE_INVITE = 1n, ADMINISTRATOR = 1n << 3n, MANAGE_MESSAGES = 1n << 13n, MUTE_MEMBERS = 1n << 22n, DEAFEN_MEMBERS = 1n << 23n, MOVE_MEMBERS = 1n << 24n;

const permissions = computed(() => {
  const h = house.value, m = me.value && h?.members.get(me.value.id);
  if (!h || !m) return 0n;
  if (h.guild.owner_id === me.value!.id) return ~0n;
  const bits = h.guild.roles.filter((r) => r.id === h.guild.id || m.roles.includes(r.id)).reduce((a, r) => a | BigInt(r.permissions), 0n);
  return bits & ADMINISTRATOR ? ~0n : bits;
});
export const may = (bit: bigint) => (permissions.value & bit) !== 0n;

// ── Facts of the gateway ────────────────────────────────────────────────────

/** Changes one house through a copy of what changes in it. */
function alter(id: string | undefined, fn: (h: House) => Partial<House>) {
  const h = id !== undefined && houses.value.get(id);
  if (h) houses.value = new Map(houses.value).set(h.guild.id, { ...h, ...fn(h) });
}
const changed = <V>(m: Map<string, V>, fn: (m: Map<string, V>) => void) => { const c = new Map(m); fn(c); return c; };

export function putHouse(g: Guild) {
  houses.value = new Map(houses.value).set(g.id, {
    guild: g,
    members: new Map(g.members.map((m) => [m.user.id, m])),
    voices: new Map(g.voice_states.map((v) => [v.user_id, v])),
  });
}
export function dropHouse(id: string) { houses.value = changed(houses.value as Map<string, House>, (m) => m.delete(id)); }
export function dropAll() { houses.value = new Map(); me.value = null; ready.value = online.value = false; shown.value = ''; }
export const patchGuild = (g: Partial<Guild> & { id: string }) => alter(g.id, (h) => ({ guild: { ...h.guild, ...g, channels: h.guild.channels } }));
export const putChannel = (c: Channel, gone = false) =>
  alter(c.guild_id, (h) => ({ guild: { ...h.guild, channels: [...h.guild.channels.filter((x) => x.id !== c.id), ...(gone ? [] : [c])] } }));
export const putRole = (guild: string, id: string, role?: Guild['roles'][number]) =>
  alter(guild, (h) => ({ guild: { ...h.guild, roles: [...h.guild.roles.filter((r) => r.id !== id), ...(role ? [role] : [])] } }));
export const putMember = (guild: string, m: Member) => alter(guild, (h) => ({ members: changed(h.members, (all) => all.set(m.user.id, { ...all.get(m.user.id), ...m })) }));
export const dropMember = (guild: string, user: string) => alter(guild, (h) => ({ members: changed(h.members, (all) => all.delete(user)), voices: changed(h.voices, (all) => all.delete(user)) }));

export function putVoice(v: VoiceState) {
  if (v.member && v.guild_id) putMember(v.guild_id, v.member);
  alter(v.guild_id, (h) => ({ voices: changed(h.voices, (all) => { if (v.channel_id) all.set(v.user_id, v); else all.delete(v.user_id); }) }));
}

// ── Notes ───────────────────────────────────────────────────────────────────

export const toasts = signal<{ id: number; text: string }[]>([]);
let lastToast = 0;

/** Tells something; the same words are not told twice at a time. */
export function toast(text: string) {
  if (toasts.value.some((t) => t.text === text)) return;
  const id = ++lastToast;
  toasts.value = [...toasts.value.slice(-3), { id, text }];
  setTimeout(() => dismiss(id), 7000);
}
export const dismiss = (id: number) => { toasts.value = toasts.value.filter((t) => t.id !== id); };
export const complain = (e: unknown) => toast(e instanceof Error ? e.message : String(e));
