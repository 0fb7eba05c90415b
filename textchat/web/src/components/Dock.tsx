import { callState, deafened, leave, line, micProblem, muted, mutedHint, open, retryMic, setDeafened, setMuted, talking, waitInLine } from '../calls';
import { settings } from '../settings';
import { house, me } from '../store';
import { keyName } from '../text';
import { Bars, Ear, EarOff, Leave, Mic, MicOff } from './icons';
import { panel, show } from './views';

/** What one needs while talking; it stands at the same place all the time. */
export function Dock() {
  const m = muted.value, d = deafened.value;
  const mine = house.value?.voices.get(me.value?.id ?? '');
  const silenced = mine?.deaf ? 'A moderator deafened you: you hear nobody, and nobody hears you.' : mine?.mute ? 'A moderator muted you. Nobody hears you.' : '';
  return (
    <div class={`dock ${callState.value}`}>
      <div role="alert" class="notices">
        {line.value && <p class="hint">{line.value.message[0]?.toUpperCase() + line.value.message.slice(1)} {!line.value.waits && <button class="quiet" onClick={waitInLine}>Wait in line</button>}</p>}
        {silenced && <p class="hint">{silenced}</p>}
        {mutedHint.value && !silenced && <p class="hint">You are muted. Nobody hears you.</p>}
        {micProblem.value && <p class="hint">{micProblem.value} <button class="quiet" onClick={retryMic}>Try again</button></p>}
      </div>
      <div class="controls" role="group" aria-label="Call controls">
        {settings.value.pushToTalk && !m && !d && (
          <button class={'talk' + (open.value ? ' on' : '')} aria-pressed={open.value}
            onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); talking.value = true; }}
            onPointerUp={() => { talking.value = false; }} onPointerCancel={() => { talking.value = false; }} onContextMenu={(e) => e.preventDefault()}>
            <Mic />{open.value ? 'On air' : 'Hold to talk'}<kbd>{keyName(settings.value.talkKey)}</kbd>
          </button>
        )}
        <button class={'round' + (m || d ? ' off' : '')} aria-label={m ? 'Unmute' : 'Mute'} title={m ? 'Unmute' : 'Mute'} onClick={() => setMuted(!m)}>{m || d ? <MicOff /> : <Mic />}</button>
        <button class={'round' + (d ? ' off' : '')} aria-label={d ? 'Undeafen' : 'Deafen'} title={d ? 'Undeafen' : 'Deafen'} onClick={() => setDeafened(!d)}>{d ? <EarOff /> : <Ear />}</button>
        <button class="round" aria-label="Connection" title="Connection" aria-expanded={panel.value === 'connection'} onClick={() => show('connection')}><Bars /></button>
        <button class="round leave" aria-label="Leave call" title="Leave call" onClick={leave}><Leave /></button>
      </div>
    </div>
  );
}
