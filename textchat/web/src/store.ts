// What the page knows. The gateway writes it through session.ts, calls.ts writes
// what belongs to the call; components read it.
import { computed, signal } from '@preact/signals';
import { base, resolve, type Rights } from './permissions';
import { keepPlace, place, remembered } from './settings';
import { NEWS, TEXT, VOICE, byId, isThread, type Channel, type Guild, type Member, type Presence, type Role, type Status, type User, type VoiceState } from './types';

/** One community: its guild, and what changes often apart from it. */
export interface House { guild: Guild; members: Map<string, Member>; voices: Map<string, VoiceState> }

/** Whether its members are known by the part that is looked at. */
export const isLarge = (h: House) => !!h.guild.large;

export const token = signal(remembered());
export const me = signal<User | null>(null);
export const online = signal(false);
export const ready = signal(false); // READY was seen
export const houses = signal<ReadonlyMap<string, House>>(new Map());
const was = place(); // before this visit
export const shown = signal(was.guild); // id of the house that is looked at

export const house = computed(() => houses.value.get(shown.value) ?? houses.value.values().next().value ?? null);
export const guild = computed(() => house.value?.guild ?? null);
const byPlace = (a: Channel, b: Channel) => a.position - b.position || byId(a.id, b.id);
const ofType = (...types: number[]) => computed(() => (guild.value?.channels ?? []).filter((c) => types.includes(c.type)).sort(byPlace));
export const textChannels = ofType(TEXT, NEWS);
export const voiceChannels = ofType(VOICE);
/** The threads of a channel that are open; the newest first. */
export const threadsOf = (channel: string) => (guild.value?.channels ?? []).filter((c) => isThread(c) && c.parent_id === channel && !c.thread_metadata?.archived).sort((a, b) => byId(b.id, a.id));
/** A thread has the permissions of the channel it hangs on. */
export const parentOf = (c: Channel | null | undefined) => (isThread(c) ? guild.value?.channels.find((p) => p.id === c!.parent_id) : undefined);

/** Per house, the text channel or thread one looked at last. */
const chosen = signal<Readonly<Record<string, string>>>(was.channels);
export const textChannel = computed(() => {
  const id = chosen.value[guild.value?.id ?? ''];
  return textChannels.value.find((c) => c.id === id) ?? guild.value?.channels.find((c) => c.id === id && isThread(c)) ?? textChannels.value[0] ?? null;
});
export function chooseText(id: string) {
  const h = houseOf(id);
  if (!h) return;
  chosen.value = { ...chosen.value, [h.guild.id]: id };
  keepPlace({ guild: h.guild.id, channels: chosen.value });
}
export function chooseHouse(id: string) {
  shown.value = id;
  keepPlace({ guild: id, channels: chosen.value });
}

export const houseOf = (channel: string) => [...houses.value.values()].find((h) => h.guild.channels.some((c) => c.id === channel));
export const channelOf = (id: string) => houseOf(id)?.guild.channels.find((c) => c.id === id);
export const inChannel = (channel: string) => [...(houseOf(channel)?.voices.values() ?? [])].filter((v) => v.channel_id === channel);

export function nameOf(user: string, known?: User): string {
  const m = house.value?.members.get(user);
  const u = m?.user ?? known;
  return m?.nick || u?.global_name || u?.username || 'Somebody';
}

export const roleOf = (id: string) => guild.value?.roles.find((r) => r.id === id);
export const rolesOf = (user: string): Role[] => {
  const mine = house.value?.members.get(user)?.roles ?? [];
  return (guild.value?.roles ?? []).filter((r) => mine.includes(r.id)).sort((a, b) => b.position - a.position || byId(a.id, b.id));
};
/** The colour of a person's name: that of the highest role that has one. */
export const colourOf = (user: string) => rolesOf(user).find((r) => r.color)?.color ?? 0;

/** What a message's mentions are called. */
export const names = {
  user: (id: string) => nameOf(id),
  role: (id: string) => (id === guild.value?.id ? 'everyone' : roleOf(id)?.name ?? 'unknown role'),
  channel: (id: string) => channelOf(id)?.name ?? 'unknown channel',
};

// ── Permissions ─────────────────────────────────────────────────────────────

/** What one may do in the house, or in one of its channels: the server decides, the page only shows what it would. */
const everywhere = computed(() => {
  const h = house.value;
  return h && me.value ? base(rightsOf(h, me.value.id)) : 0n;
});
export const may = (bit: bigint) => (everywhere.value & bit) !== 0n;
export function mayIn(channel: Channel | null | undefined, bit: bigint): boolean {
  const h = channel && houseOf(channel.id);
  return !!h && !!me.value && (resolve(rightsOf(h, me.value.id), (parentOf(channel) ?? channel).permission_overwrites ?? [], isThread(channel) ? 'thread' : channel!.type === VOICE ? 'voice' : undefined) & bit) !== 0n;
}
function rightsOf(h: House, user: string): Rights {
  return { user, guild: h.guild.id, owner: h.guild.owner_id === user, roles: h.members.get(user)?.roles ?? [], all: h.guild.roles };
}

// ── Who is here ─────────────────────────────────────────────────────────────

/** Per house and user; who is not in it is away. */
export const presences = signal<ReadonlyMap<string, ReadonlyMap<string, Status>>>(new Map());

export function putPresence(p: Presence) {
  const guild = p.guild_id;
  if (guild) presences.value = new Map(presences.value).set(guild, new Map(presences.value.get(guild)).set(p.user.id, p.status));
}
function putPresences(guild: string, list: readonly Presence[]) {
  presences.value = new Map(presences.value).set(guild, new Map(list.map((p) => [p.user.id, p.status])));
}

// ── Facts of the gateway ────────────────────────────────────────────────────

/** Changes one house through a copy of what changes in it. */
function alter(id: string | undefined, fn: (h: House) => Partial<House>) {
  const h = id !== undefined && houses.value.get(id);
  if (h) houses.value = new Map(houses.value).set(h.guild.id, { ...h, ...fn(h) });
}
const changed = <V>(m: Map<string, V>, fn: (m: Map<string, V>) => void) => { const c = new Map(m); fn(c); return c; };

export function putHouse(g: Guild) {
  if (g.presences) putPresences(g.id, g.presences);
  houses.value = new Map(houses.value).set(g.id, {
    guild: { ...g, channels: [...g.channels, ...(g.threads ?? [])] },
    members: new Map(g.members.map((m) => [m.user.id, m])),
    voices: new Map(g.voice_states.map((v) => [v.user_id, v])),
  });
}
export function dropHouse(id: string) { houses.value = changed(houses.value as Map<string, House>, (m) => m.delete(id)); }
export function dropAll() { houses.value = new Map(); presences.value = new Map(); me.value = null; ready.value = online.value = false; }
export const patchGuild = (g: Partial<Guild> & { id: string }) => alter(g.id, (h) => ({ guild: { ...h.guild, ...g, channels: h.guild.channels, roles: h.guild.roles } }));
export const putChannel = (c: Channel, gone = false) =>
  alter(c.guild_id, (h) => ({ guild: { ...h.guild, channels: [...h.guild.channels.filter((x) => x.id !== c.id && !(gone && x.parent_id === c.id && isThread(x))), ...(gone ? [] : [c])] } }));
/** The open threads of some channels were told: others that were open are so no more. */
export function archiveOthers(s: { guild_id: string; channel_ids: string[]; threads: Channel[] }) {
  const over = (c: Channel) => isThread(c) && s.channel_ids.includes(c.parent_id ?? '') && !c.thread_metadata?.archived && !s.threads.some((t) => t.id === c.id);
  alter(s.guild_id, (h) => (h.guild.channels.some(over)
    ? { guild: { ...h.guild, channels: h.guild.channels.map((c) => (over(c) ? { ...c, thread_metadata: { ...c.thread_metadata!, archived: true } } : c)) } } : {}));
}
/** A thread as all are told of it: whether one follows it oneself stays as it is known. */
export function putThread(t: Channel, mine?: Channel['member']) {
  if (houses.value.has(t.guild_id ?? '')) putChannel({ ...t, member: mine === undefined ? t.member ?? channelOf(t.id)?.member : mine });
}
export const putRole = (guild: string, id: string, role?: Guild['roles'][number]) =>
  alter(guild, (h) => ({ guild: { ...h.guild, roles: [...h.guild.roles.filter((r) => r.id !== id), ...(role ? [role] : [])] } }));
export const putMember = (guild: string, m: Member) => alter(guild, (h) => ({ members: changed(h.members, (all) => all.set(m.user.id, { ...all.get(m.user.id), ...m })) }));
export const dropMember = (guild: string, user: string) => alter(guild, (h) => ({ members: changed(h.members, (all) => all.delete(user)), voices: changed(h.voices, (all) => all.delete(user)) }));

export function putVoice(v: VoiceState) {
  if (v.member && v.guild_id) putMember(v.guild_id, v.member);
  alter(v.guild_id, (h) => ({ voices: changed(h.voices, (all) => { if (v.channel_id) all.set(v.user_id, v); else all.delete(v.user_id); }) }));
}

/** A community was opened: who is in voice there. */
export function putVoices(guild: string, list: readonly VoiceState[], members: readonly Member[]) {
  for (const m of members) putMember(guild, m);
  alter(guild, () => ({ voices: new Map(list.map((v) => [v.user_id, { ...v, guild_id: guild }])) }));
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
