import * as api from '../api';
import { callChannel, callState, deafened, filming, join, muted, speaking, warm } from '../calls';
import { pinged, unread } from '../chat';
import { bit } from '../permissions';
import { change, settings } from '../settings';
import {
  chooseHouse, chooseText, complain, guild, houses, inChannel, may, me, nameOf, textChannel, textChannels, threadsOf, toast, voiceChannels,
} from '../store';
import type { Channel, VoiceState } from '../types';
import { Avatar } from './Avatar';
import { mayManage } from './Community';
import { AddPerson, Branch, Camera, Echo, EarOff, Gear, Hash, MicOff, Moon, Speaker, Sun, Tune } from './icons';
import { panel, part, show } from './views';

async function invitePeople() {
  const channel = callChannel.value || voiceChannels.value.find((c) => !c.echo)?.id || textChannels.value[0]?.id;
  if (!channel) return;
  try {
    const { code } = await api.makeInvite(channel);
    const link = `${location.origin}/invite/${code}`;
    const local = /^(localhost|127\.|\[::1\])/.test(location.hostname) ? ' It works on this computer only: open the page at an address that others reach, and copy it there.' : '';
    await navigator.clipboard.writeText(link).then(() => toast('The invite link is copied.' + local), () => toast(link));
  } catch (e) { complain(e); }
}

const isDark = () => settings.value.theme === 'dark' || (settings.value.theme === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);

/** Where one can be: rooms to talk in, channels to write in. */
export function Rooms() {
  const dark = isDark();
  const name = nameOf(me.value!.id, me.value!);
  return (
    <nav class="rooms" aria-label="Channels" onPointerOver={warm} onFocusIn={warm}>
      <header class="head">
        {houses.value.size > 1 ? (
          <select class="which" aria-label="Community" value={guild.value!.id} onChange={(e) => { chooseHouse(e.currentTarget.value); }}>
            {[...houses.value.values()].map((h) => <option key={h.guild.id} value={h.guild.id}>{h.guild.name}</option>)}
          </select>
        ) : <h1>{guild.value!.name}</h1>}
        {mayManage() && <button class="icon" aria-label="Community settings" title="Community settings" onClick={() => show('community')}><Tune /></button>}
        {may(bit.CREATE_INVITE) && <button class="icon" aria-label="Copy invite link" title="Copy invite link" onClick={invitePeople}><AddPerson /></button>}
      </header>
      <div class="channels">
        <h2 id="voice-head">Voice</h2>
        <ul aria-labelledby="voice-head">{voiceChannels.value.map((c) => <VoiceRoom key={c.id} c={c} />)}</ul>
        <h2 id="text-head">Text</h2>
        <ul aria-labelledby="text-head">
          {textChannels.value.map((c) => (
            <li key={c.id}>
              <button class={'channel' + (unread.value.has(c.id) ? ' unread' : '')} aria-current={textChannel.value?.id === c.id ? 'true' : undefined}
                aria-label={`Text channel ${c.name}${unread.value.has(c.id) ? ', unread' : ''}`} aria-description={pinged.value[c.id] ? `You were named ${pinged.value[c.id]} times` : undefined}
                onClick={() => { chooseText(c.id); part.value = 'chat'; }}>
                <Hash /><span>{c.name}</span>{pinged.value[c.id] ? <b class="count" aria-hidden="true">{pinged.value[c.id]}</b> : unread.value.has(c.id) && <i class="dot" />}
              </button>
              <Followed of={c} />
            </li>
          ))}
        </ul>
      </div>
      <footer class="me">
        <Avatar id={me.value!.id} name={name} />
        <span class="who"><strong>{name}</strong><small>{me.value!.guest ? 'guest' : `@${me.value!.username}`}</small></span>
        <button class="icon" aria-label={dark ? 'Switch to light' : 'Switch to dark'} title={dark ? 'Switch to light' : 'Switch to dark'} onClick={() => change({ theme: dark ? 'light' : 'dark' })}>{dark ? <Sun /> : <Moon />}</button>
        <button class="icon" aria-label="Settings" title="Settings" aria-expanded={panel.value === 'settings'} onClick={() => show('settings')}><Gear /></button>
      </footer>
    </nav>
  );
}

function VoiceRoom({ c }: { c: Channel }) {
  const here = inChannel(c.id);
  const mine = callChannel.value === c.id;
  const full = !!c.user_limit && here.length >= c.user_limit && !mine;
  const note = c.echo ? 'hear yourself' : c.user_limit ? `${here.length} of ${c.user_limit}` : '';
  return (
    <li class={'room' + (mine ? ' mine' : '') + (here.length ? ' lit' : '')}>
      <button class="channel" aria-current={mine ? 'true' : undefined} aria-label={`Join voice channel ${c.name}`} aria-description={note || undefined} aria-disabled={full} onClick={() => join(c.id)}>
        {c.echo ? <Echo /> : <Speaker />}<span>{c.name}</span>
        {note && <small data-drawn={note} />}
        {mine && callState.value !== 'connected' && <i class="spin" />}
      </button>
      {here.length > 0 && <ul class="people" aria-label={`People in ${c.name}`}>{here.map((v) => <Present key={v.user_id} v={v} near={mine} />)}</ul>}
    </li>
  );
}

/** The threads of a channel that one follows, was named in, or looks at. */
function Followed({ of }: { of: Channel }) {
  const list = threadsOf(of.id).filter((t) => t.member || pinged.value[t.id] || t.id === textChannel.value?.id);
  if (!list.length) return null;
  return (
    <ul class="followed" aria-label={`Threads of ${of.name}`}>
      {list.map((t) => (
        <li key={t.id}>
          <button class={'channel' + (unread.value.has(t.id) ? ' unread' : '')} aria-current={textChannel.value?.id === t.id ? 'true' : undefined}
            aria-label={`Thread ${t.name}${unread.value.has(t.id) ? ', unread' : ''}`} onClick={() => { chooseText(t.id); part.value = 'chat'; }}>
            <Branch /><span>{t.name}</span>{pinged.value[t.id] ? <b class="count" aria-hidden="true">{pinged.value[t.id]}</b> : unread.value.has(t.id) && <i class="dot" />}
          </button>
        </li>
      ))}
    </ul>
  );
}

/** What is to be known of somebody in a channel. */
export function presence(v: VoiceState, near: boolean) {
  const own = v.user_id === me.value?.id;
  const name = nameOf(v.user_id, v.member?.user);
  const isDeaf = v.deaf || (own ? deafened.value : v.self_deaf);
  const isMuted = v.mute || isDeaf || (own ? muted.value : v.self_mute);
  const talks = near && !isMuted && speaking.value.has(v.user_id);
  const films = own ? filming.value : !!v.self_video;
  return { own, name, isDeaf, isMuted, talks, films, label: name + (talks ? ', speaking' : isDeaf ? ', deafened' : isMuted ? ', muted' : '') };
}

function Present({ v, near }: { v: VoiceState; near: boolean }) {
  const p = presence(v, near);
  return (
    <li aria-label={p.label} class={p.talks ? 'talks' : ''}>
      <button class="person" aria-label={`Options for ${p.name}`} onClick={() => show('person', v.user_id)}>
        <Avatar id={v.user_id} name={p.name} />
        <span>{p.name}</span>
        {p.films && <i title="Camera on"><Camera /></i>}
        {p.isDeaf ? <EarOff /> : p.isMuted && <MicOff />}
      </button>
    </li>
  );
}
