import * as api from '../api';
import { callChannel, setVolume } from '../calls';
import { volumeOf } from '../settings';
import { bit } from '../permissions';
import { complain, guild, house, may, me, nameOf } from '../store';
import { Avatar } from './Avatar';
import { Panel } from './Panel';

/** One person: how loud they are to you, and what a moderator may do. */
export function Person({ id }: { id: string }) {
  const member = house.value?.members.get(id);
  const v = house.value?.voices.get(id);
  const name = nameOf(id, v?.member?.user);
  const own = id === me.value?.id;
  const volume = volumeOf(id);
  const moderate = (change: Parameters<typeof api.moderate>[2]) => void api.moderate(guild.value!.id, id, change).catch(complain);
  const roles = guild.value!.roles.filter((r) => member?.roles.includes(r.id));
  return (
    <Panel label={name}>
      <p class="whois">
        <Avatar id={id} name={name} />
        <span>
          {[member?.user.bot ? 'bot' : member?.user.guest ? 'guest' : `@${member?.user.username ?? ''}`, id === guild.value!.owner_id && 'owner', own && 'you'].filter(Boolean).join(' · ')}
          {roles.length > 0 && <small>{roles.map((r) => r.name).join(', ')}</small>}
        </span>
      </p>
      {!own && (
        <label class="field volume">
          <span>Volume of {name} <output>{Math.round(volume * 100)} %</output></span>
          <input type="range" min={0} max={2} step={0.05} value={volume} aria-label={`Volume of ${name}`} aria-valuetext={`${Math.round(volume * 100)} %`} list="volumes"
            onInput={(e) => setVolume(id, Number(e.currentTarget.value))} />
          <datalist id="volumes"><option value="1" /></datalist>
          <small>For you only, and remembered.</small>
        </label>
      )}
      {v && (may(bit.MUTE) || may(bit.DEAFEN) || may(bit.MOVE)) && (
        <div class="choices" role="group" aria-label="For everyone">
          {may(bit.MUTE) && <button class="quiet" onClick={() => moderate({ mute: !v.mute })}>{v.mute ? 'Unmute for everyone' : 'Mute for everyone'}</button>}
          {may(bit.DEAFEN) && <button class="quiet" onClick={() => moderate({ deaf: !v.deaf })}>{v.deaf ? 'Undeafen for everyone' : 'Deafen for everyone'}</button>}
          {may(bit.MOVE) && !own && callChannel.value && v.channel_id !== callChannel.value && <button class="quiet" onClick={() => moderate({ channel_id: callChannel.value })}>Bring here</button>}
          {may(bit.MOVE) && !own && <button class="quiet bad" onClick={() => moderate({ channel_id: null })}>Disconnect</button>}
        </div>
      )}
      {own && <p class="soft">This is you. Your microphone is in the settings.</p>}
    </Panel>
  );
}
