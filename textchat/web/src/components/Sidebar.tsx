import { signal } from '@preact/signals';
import * as api from '../api';
import {
  callChannel, callState, complain, deafened, displayName, guild, inChannel, join, mayInvite, mayMute, me, members, muted, setVolume,
  signOut, speaking, textChannel, textChannels, toast, voiceChannels, loadMessages,
} from '../store';
import { settings } from '../settings';
import type { Channel, VoiceState } from '../types';
import { drawer, toggle } from './App';
import { Avatar } from './Avatar';
import { Echo, EarOff, Gear, Hash, Link, MicOff, Speaker } from './icons';

const opened = signal(''); // whose volume is shown

async function invitePeople() {
  const channel = voiceChannels.value[0] ?? textChannels.value[0];
  if (!channel) return;
  try {
    const { code } = await api.makeInvite(channel.id);
    const link = `${location.origin}/invite/${code}`;
    await navigator.clipboard.writeText(link).then(() => toast('The invite link is copied.'), () => toast(link));
  } catch (e) { complain(e); }
}

export function Sidebar() {
  return (
    <>
      <header class="head">
        <h1>{guild.value!.name}</h1>
        {mayInvite.value && <button class="icon" aria-label="Copy invite link" title="Copy invite link" onClick={invitePeople}><Link /></button>}
      </header>
      <div class="channels">
        <h2 id="voice-head">Voice</h2>
        <ul aria-labelledby="voice-head">{voiceChannels.value.map((c) => <VoiceChannel key={c.id} c={c} />)}</ul>
        <h2 id="text-head">Text</h2>
        <ul aria-labelledby="text-head">
          {textChannels.value.map((c) => (
            <li key={c.id}>
              <button class="channel" aria-current={textChannel.value === c.id} aria-label={`Text channel ${c.name}`}
                onClick={() => { textChannel.value = c.id; drawer.value = ''; void loadMessages(c.id); }}>
                <Hash /><span>{c.name}</span>
              </button>
            </li>
          ))}
        </ul>
      </div>
      <footer class="me">
        <Avatar id={me.value!.id} name={displayName(me.value!.id, me.value!)} ring={speaking.value.has(me.value!.id)} />
        <span class="who">{displayName(me.value!.id, me.value!)}</span>
        <button class="icon" aria-label="Settings" title="Settings" aria-expanded={drawer.value === 'settings'} onClick={() => toggle('settings')}><Gear /></button>
        <button class="quiet" onClick={() => void signOut()}>Log out</button>
      </footer>
    </>
  );
}

function VoiceChannel({ c }: { c: Channel }) {
  const here = inChannel(c.id);
  const mine = callChannel.value === c.id;
  return (
    <li>
      <button class="channel" aria-current={mine} aria-label={mine ? `In voice channel ${c.name}` : `Join voice channel ${c.name}`}
        onClick={() => void join(c.id)}>
        {c.echo ? <Echo /> : <Speaker />}<span>{c.name}</span>
        {c.echo && <small>hear yourself</small>}
        {!!c.user_limit && <small>{here.length}/{c.user_limit}</small>}
        {mine && callState.value !== 'connected' && <small role="status">{callState.value === 'resuming' ? 'reconnecting' : 'connecting'}</small>}
      </button>
      {here.length > 0 && <ul class="people" aria-label={`People in ${c.name}`}>{here.map((v) => <Person key={v.user_id} v={v} near={mine} />)}</ul>}
    </li>
  );
}

function Person({ v, near }: { v: VoiceState; near: boolean }) {
  const own = v.user_id === me.value?.id;
  const name = displayName(v.user_id, v.member?.user);
  const isMuted = v.mute || (own ? muted.value : v.self_mute);
  const isDeaf = v.deaf || (own ? deafened.value : v.self_deaf);
  const talks = near && speaking.value.has(v.user_id) && !isMuted;
  const open = opened.value === v.user_id;
  const volume = settings.value.volumes[v.user_id] ?? 1;
  return (
    <li aria-label={name + (talks ? ', speaking' : isDeaf ? ', deafened' : isMuted ? ', muted' : '')} class={talks ? 'talks' : ''}>
      <button class="person" aria-expanded={own ? undefined : open} disabled={own} aria-label={own ? `${name} (you)` : `${name}: volume`}
        onClick={() => { opened.value = open ? '' : v.user_id; }}>
        <Avatar id={v.user_id} name={name} ring={talks} />
        <span>{name}</span>
        {isMuted && <i title={v.mute ? 'Muted by a moderator' : 'Muted'}><MicOff /></i>}
        {isDeaf && <i title="Deafened"><EarOff /></i>}
      </button>
      {open && (
        <div class="volume">
          <label>
            <span>Volume of {name}</span>
            <input type="range" min={0} max={2} step={0.05} value={volume} aria-valuetext={`${Math.round(volume * 100)} %`}
              onInput={(e) => setVolume(v.user_id, Number(e.currentTarget.value))} />
          </label>
          {mayMute.value && (
            <button class="quiet" onClick={() => api.moderate(guild.value!.id, v.user_id, { mute: !members.value.get(v.user_id)?.mute && !v.mute }).catch(complain)}>
              {v.mute ? 'Unmute for everyone' : 'Mute for everyone'}
            </button>
          )}
        </div>
      )}
    </li>
  );
}
