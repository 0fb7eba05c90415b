import { useEffect, useRef, useState } from 'preact/hooks';
import { callChannel, callSince, callState, pictures, quality, speaking } from '../calls';
import { cameraTrack } from '../camera';
import { settings } from '../settings';
import { channelOf, inChannel, nameOf, me } from '../store';
import type { VoiceState } from '../types';
import { Avatar } from './Avatar';
import { EarOff, MicOff } from './icons';
import { presence } from './Rooms';
import { show } from './views';

const SHOWN = 120; // tiles; a bigger crowd is counted

const states = { none: '', connecting: 'Connecting…', placing: 'Your call is being placed anew…', waiting: 'Joins wait: voice does not answer just now. You get in by yourself.', queued: 'All seats are taken.', connected: 'Connected', resuming: 'Reconnecting…' };

function Clock() {
  const [, tick] = useState(0);
  useEffect(() => { const t = setInterval(() => tick((n) => n + 1), 1000); return () => clearInterval(t); }, []);
  if (!callSince.value) return null;
  const s = Math.floor((Date.now() - callSince.value) / 1000);
  const two = (n: number) => String(n).padStart(2, '0');
  return <time aria-hidden="true">{s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}` : Math.floor(s / 60)}:{two(s % 60)}</time>;
}

/** The call one is in: everybody at the table. */
export function Stage() {
  const channel = channelOf(callChannel.value);
  const there = inChannel(callChannel.value);
  const rtt = quality.value.rtt;
  const s = callState.value;
  const filmed = !!cameraTrack.value || pictures.value.size > 0;
  const grade = rtt === undefined ? '' : rtt < 80 ? 'good' : rtt < 200 ? 'fair' : 'poor';
  return (
    <section class={`stage ${s}${filmed ? ' filmed' : ''}`} aria-label={`Call in ${channel?.name ?? ''}`}>
      <div class="sea" aria-hidden="true" />
      <header class="head">
        <h2>{channel?.name}</h2>
        <Clock />
        <p class={`state ${s === 'connected' ? grade : 'busy'}`}><span role="status">{states[s]}</span>{s === 'connected' && rtt !== undefined && <span> · {Math.round(rtt)} ms</span>}</p>
      </header>
      {channel?.echo && <p class="note">Say something: after a moment you hear it back.</p>}
      {filmed && <Cameras />}
      <ul class={'table' + (there.length > 12 || filmed ? ' many' : '')} aria-label="In this call">
        {there.slice(0, SHOWN).map((v) => <Tile key={v.user_id} v={v} />)}
        {there.length > SHOWN && <li class="more">and {there.length - SHOWN} more</li>}
      </ul>
      {there.length === 1 && there[0].user_id === me.value?.id && !channel?.echo && s === 'connected' && <p class="note">You are the first here. Copy the invite link and bring somebody in.</p>}
    </section>
  );
}

/** The cameras that are on, one's own first. */
function Cameras() {
  const own = cameraTrack.value;
  return (
    <ul class="cameras" aria-label="Cameras">
      {own && <Picture key="own" track={own} user={me.value?.id ?? ''} own />}
      {[...pictures.value].map(([user, track]) => <Picture key={user} track={track} user={user} />)}
    </ul>
  );
}

function Picture({ track, user, own }: { track: MediaStreamTrack; user: string; own?: boolean }) {
  const name = own ? 'You' : nameOf(user);
  const box = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const v = box.current!;
    v.srcObject = new MediaStream([track]);
    void v.play().catch(() => {});
    return () => { v.srcObject = null; };
  }, [track]);
  return <li class={(own ? 'own' : '') + (speaking.value.has(user) ? ' talks' : '')}><video ref={box} muted autoplay playsInline aria-label={own ? 'Your camera' : `Camera of ${name}`} /><span>{name}</span></li>;
}

function Tile({ v }: { v: VoiceState }) {
  const p = presence(v, callState.value === 'connected' || callState.value === 'resuming');
  const volume = settings.value.volumes[v.user_id] ?? 1;
  return (
    <li aria-label={p.label} class={p.talks ? 'talks' : ''}>
      <button class="tile" aria-label={`Options for ${nameOf(v.user_id)}`} onClick={() => show('person', v.user_id)}>
        <Avatar id={v.user_id} name={p.name} />
        {(p.isDeaf || p.isMuted) && <i class="badge">{p.isDeaf ? <EarOff /> : <MicOff />}</i>}
        <span>{p.name}{p.own && <small data-drawn=" you" />}</span>
        {volume !== 1 && !p.own && <small class="vol" data-drawn={`${Math.round(volume * 100)} %`} />}
      </button>
    </li>
  );
}
