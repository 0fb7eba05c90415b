import { callChannel, callState, deafened, filming, leave, line, micProblem, muted, mutedHint, open, retryMic, setDeafened, setFilming, setMuted, talking, unseen, waitInLine } from '../calls';
import { camera, cameraProblem } from '../camera';
import { bit } from '../permissions';
import { settings } from '../settings';
import { channelOf, house, mayIn, me } from '../store';
import { keyName } from '../text';
import { Bars, Camera, CameraOff, Ear, EarOff, Leave, Mic, MicOff } from './icons';
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
        {unseen.value && <p class="hint">{unseen.value === 'busy' ? 'The node has too much to do for video just now. Voices go on; video comes back by itself.' : 'Too much is lost on your line for video just now. Voices come first; video comes back by itself.'}</p>}
        {cameraProblem.value && <p class="hint">{cameraProblem.value}</p>}
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
        {camera.any && mayIn(channelOf(callChannel.value), bit.STREAM) && (
          <button class={'round' + (filming.value ? ' on' : '')} aria-label={filming.value ? 'Turn off camera' : 'Turn on camera'} title={filming.value ? 'Turn off camera' : 'Turn on camera'} onClick={() => void setFilming(!filming.value)}>{filming.value ? <Camera /> : <CameraOff />}</button>
        )}
        <button class="round" aria-label="Connection" title="Connection" aria-expanded={panel.value === 'connection'} onClick={() => show('connection')}><Bars /></button>
        <button class="round leave" aria-label="Leave call" title="Leave call" onClick={leave}><Leave /></button>
      </div>
    </div>
  );
}
