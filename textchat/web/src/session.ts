// Coming in and going out, and what the gateway says to whom.
import { effect, signal } from '@preact/signals';
import * as api from './api';
import { callChannel, endCalls, join, onOnline, onVoiceError, onVoiceServer, onVoiceState, useGateway } from './calls';
import { forgetChat, historyOf, hurry, load, noteChannels, noteNewest, onDelete, onEdit, onMessage, onReaction, onTyping, pinsChanged, refresh, stale } from './chat';
import { Gateway } from './gateway';
import { lookAnew, lookAt, onMemberList, useLooks } from './looks';
import { measure, watchNetwork } from './regions';
import { keepCall, lastCall, remember } from './settings';
import {
  channelOf, chooseHouse, dropAll, dropHouse, dropMember, houses, me, online, patchGuild, putChannel, putHouse, putMember, putPresence, putRole, putThread, putVoice, putVoices, ready, archiveOthers,
  textChannel, toast, token, voiceChannels,
} from './store';
import { VOICE, type Member, type PassiveUpdate } from './types';

watchNetwork();

let gateway: Gateway | undefined;
let landing: { guild?: string; channel?: string } | undefined; // where an invitation leads, until the guild is here
let fresh = false;

const [kind, code] = location.pathname.split('/').filter(Boolean);
/** The link that was opened: an invitation, the owner's, or neither. */
export const link = signal<{ kind: 'invite' | 'owner'; code: string } | null>(
  code && (kind === 'invite' || kind === 'owner') ? { kind, code: decodeURIComponent(code) } : null);

/** The link has served; it would only be in the way of a reload. */
function arrive() {
  link.value = null;
  history.replaceState(null, '', '/');
}

/** Goes in with a token. Whoever was invited lands in the voice channel. */
export function enter(s: api.Session, invited?: { guild?: string; channel?: string }) {
  if (gateway) forget(); // with another account than so far
  remember(s.token);
  token.value = s.token;
  landing = invited;
  arrive();
  start();
}

export function start() {
  if (!token.value || gateway) return;
  api.setToken(token.value);
  void measure(); // beside the gateway's greeting: most of it is there when a call begins
  gateway = new Gateway(token.value, {
    dispatch,
    status: (up) => {
      online.value = up;
      if (!up) return;
      onOnline(fresh);
      fresh = false;
      hurry();
    },
    refused: () => { forget(); toast('You were signed out.'); },
  });
  useGateway(gateway);
  useLooks(gateway);
}

export async function signOut() {
  endCalls();
  await api.logout().catch(() => {});
  forget();
}

function forget() {
  endCalls();
  gateway?.close();
  gateway = undefined;
  useGateway(undefined);
  useLooks(undefined);
  remember('');
  api.setToken('');
  token.value = '';
  forgetChat();
  dropAll();
}

/** Takes an invitation with the account one has. */
export async function accept(code: string) {
  const i = await api.accept(code);
  arrive();
  const to = { guild: i.guild.id, channel: i.channel?.id };
  if (houses.value.has(i.guild.id)) land(to); else landing = to;
}

function land(to: { guild?: string; channel?: string }) {
  if (to.guild) chooseHouse(to.guild);
  const channels = voiceChannels.value;
  const target = channels.find((c) => c.id === to.channel && c.type === VOICE) ?? channels.find((c) => !c.echo);
  if (target) join(target.id);
}

function dispatch(type: string, d: any) {
  switch (type) {
    case 'READY':
      me.value = d.user;
      ready.value = true;
      fresh = true;
      stale();
      lookAnew(false);
      for (const id of houses.value.keys()) if (!d.guilds.some((g: { id: string }) => g.id === id)) dropHouse(id);
      break;
    case 'RESUMED': lookAnew(true); break;
    case 'GUILD_CREATE': {
      putHouse(d);
      noteChannels([...d.channels, ...(d.threads ?? [])]);
      lookAt(d.id);
      const open = textChannel.value?.id ?? '';
      if (open && channelOf(open)?.guild_id === d.id && historyOf(open)) void refresh(open); // after an outage
      if (landing && (!landing.guild || landing.guild === d.id)) {
        const to = landing;
        landing = undefined;
        land(to);
      }
      break;
    }
    case 'GUILD_UPDATE': patchGuild(d); break;
    case 'GUILD_DELETE': if (!d.unavailable) dropHouse(d.id); break;
    case 'CHANNEL_CREATE': case 'CHANNEL_UPDATE': putChannel(d); break;
    case 'CHANNEL_DELETE': putChannel(d, true); break;
    case 'THREAD_CREATE': case 'THREAD_UPDATE': putThread(d); noteChannels([d]); break;
    case 'THREAD_DELETE': putChannel(d, true); break;
    case 'THREAD_LIST_SYNC': archiveOthers(d); for (const t of d.threads) putThread(t); noteChannels(d.threads); break;
    case 'THREAD_MEMBERS_UPDATE': {
      const t = channelOf(d.id);
      const mine = d.added_members?.find((m: { user_id: string }) => m.user_id === me.value?.id);
      if (t && mine) putThread(t, mine);
      else if (t && d.removed_member_ids?.includes(me.value?.id)) putThread(t, null);
      break;
    }
    case 'GUILD_ROLE_CREATE': case 'GUILD_ROLE_UPDATE': putRole(d.guild_id, d.role.id, d.role); break;
    case 'GUILD_ROLE_DELETE': putRole(d.guild_id, d.role_id); break;
    case 'GUILD_MEMBER_ADD': case 'GUILD_MEMBER_UPDATE': putMember(d.guild_id, d as Member); break;
    case 'GUILD_MEMBER_REMOVE': dropMember(d.guild_id, d.user.id); break;
    case 'GUILD_MEMBER_LIST_UPDATE': onMemberList(d); break;
    case 'PASSIVE_UPDATE_V1': onPassive(d); break;
    case 'USER_UPDATE': me.value = d; break;
    case 'VOICE_STATE_UPDATE': {
      const before = houses.value.get(d.guild_id)?.voices.get(d.user_id);
      putVoice(d);
      onVoiceState(d, before);
      break;
    }
    case 'VOICE_SERVER_UPDATE': onVoiceServer(d); break;
    case 'VOICE_ERROR': onVoiceError(d); break;
    case 'MESSAGE_CREATE':
      if (d.member && !houses.value.get(d.guild_id)?.members.has(d.author.id)) putMember(d.guild_id, { user: d.author, ...d.member });
      onMessage(d);
      break;
    case 'MESSAGE_UPDATE': onEdit(d); break;
    case 'MESSAGE_DELETE': onDelete(d.channel_id, [d.id]); break;
    case 'MESSAGE_DELETE_BULK': onDelete(d.channel_id, d.ids); break;
    case 'MESSAGE_REACTION_ADD': onReaction(d, 1); break;
    case 'MESSAGE_REACTION_REMOVE': onReaction(d, -1); break;
    case 'MESSAGE_REACTION_REMOVE_EMOJI': case 'MESSAGE_REACTION_REMOVE_ALL': onReaction(d, 0); break;
    case 'CHANNEL_PINS_UPDATE': pinsChanged.value++; break;
    case 'PRESENCE_UPDATE': putPresence(d); break;
    case 'PRESENCES_REPLACE': for (const p of d) putPresence(p); break;
    case 'TYPING_START': onTyping(d); break;
  }
}

/** New messages in a community that is not open; or all that was missed, when it is opened. */
function onPassive(u: PassiveUpdate) {
  const h = houses.value.get(u.guild_id);
  if (!h) return;
  noteNewest(u.channels);
  if (!u.voice_states) return;
  putVoices(u.guild_id, u.voice_states, u.members ?? []);
  const mine = new Set(h.guild.channels.map((c) => c.id));
  stale((id) => mine.has(id));
  const shown = textChannel.value?.id ?? '';
  if (mine.has(shown) && historyOf(shown)?.lines.length) void refresh(shown);
}

// Another channel is looked at for the first time.
effect(() => {
  const id = textChannel.value?.id ?? '';
  const h = historyOf(id);
  if (id && (!h || (h.newer && h.lines.every((l) => l.state)))) queueMicrotask(() => void load(id));
});

// ── After a reload ──────────────────────────────────────────────────────────

/** The call that this tab was in before it was loaded anew; '' once one decided. */
const left = lastCall();
export const rejoinable = signal(left.channel);
export function rejoin() {
  const id = rejoinable.value;
  stayOut();
  if (channelOf(id)) join(id);
}
export function stayOut() { rejoinable.value = ''; keepCall(''); }
effect(() => { if (callChannel.value && rejoinable.value) stayOut(); });

// Who only loaded the page anew is in the call again, if the browser lends the
// microphone without asking: then it plays sound without a click, too.
let comingBack = left.justNow && (performance.getEntriesByType('navigation')[0] as PerformanceNavigationTiming | undefined)?.type === 'reload';
effect(() => {
  if (!comingBack || !channelOf(rejoinable.value)) return;
  comingBack = false;
  navigator.permissions?.query({ name: 'microphone' as PermissionName }).then((p) => { if (p.state === 'granted' && rejoinable.value) rejoin(); }, () => {});
});
