import { callChannel, callState, deafened, guild, leave, muted, mutedHint, open, quality, setDeafened, setMuted } from '../store';
import { settings } from '../settings';
import { drawer, toggle } from './App';
import { Bars, Ear, EarOff, Leave, Mic, MicOff } from './icons';

/** What one needs while talking; it stands at the same place on every screen. */
export function CallBar() {
  if (!callChannel.value) return null;
  const channel = guild.value?.channels.find((c) => c.id === callChannel.value);
  const s = callState.value;
  return (
    <section class={'call ' + s} aria-label="Call">
      <p class="callhead">
        <strong>{channel?.name}</strong>
        <span role="status">{s === 'connected' ? (quality.value.rtt !== undefined ? `${Math.round(quality.value.rtt)} ms` : 'connected') : s === 'resuming' ? 'reconnecting…' : 'connecting…'}</span>
      </p>
      {mutedHint.value && <p class="hint" role="alert">You are muted. Nobody hears you.</p>}
      {settings.value.pushToTalk && !muted.value && <p class="hint soft">{open.value ? 'On air' : `Hold ${settings.value.talkKey} to talk`}</p>}
      <div class="buttons" role="group" aria-label="Call controls">
        <button class="round" aria-pressed={muted.value} aria-label={muted.value ? 'Unmute' : 'Mute'} title={muted.value ? 'Unmute' : 'Mute'} onClick={() => setMuted(!muted.value)}>{muted.value ? <MicOff /> : <Mic />}</button>
        <button class="round" aria-pressed={deafened.value} aria-label={deafened.value ? 'Undeafen' : 'Deafen'} title={deafened.value ? 'Undeafen' : 'Deafen'} onClick={() => setDeafened(!deafened.value)}>{deafened.value ? <EarOff /> : <Ear />}</button>
        <button class="round" aria-label="Connection" title="Connection" aria-expanded={drawer.value === 'connection'} onClick={() => toggle('connection')}><Bars /></button>
        <button class="round bad" aria-label="Leave call" title="Leave call" onClick={leave}><Leave /></button>
      </div>
    </section>
  );
}
