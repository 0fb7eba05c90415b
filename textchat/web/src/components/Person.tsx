import { useState } from 'preact/hooks';
import * as api from '../api';
import { callChannel, setVolume } from '../calls';
import { volumeOf } from '../settings';
import { bit } from '../permissions';
import { complain, guild, house, may, me, nameOf, toast } from '../store';
import { Avatar } from './Avatar';
import { Panel } from './Panel';
import { hide, question } from './views';

/** One person: how loud they are to you, and what a moderator may do. */
export function Person({ id }: { id: string }) {
  const member = house.value?.members.get(id);
  const v = house.value?.voices.get(id);
  const name = nameOf(id, v?.member?.user);
  const own = id === me.value?.id;
  const volume = volumeOf(id);
  const moderate = (change: Parameters<typeof api.moderate>[2]) => void api.moderate(guild.value!.id, id, change).catch(complain);
  const g = guild.value!;
  const given = g.roles.filter((r) => r.id !== g.id && !r.managed).sort((a, b) => b.position - a.position);
  const roles = g.roles.filter((r) => member?.roles.includes(r.id));
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
      {may(bit.MANAGE_ROLES) && member && given.length > 0 && (
        <div class="group">
          <h3>Roles</h3>
          <div class="choices" role="group" aria-label={`Roles of ${name}`}>
            {given.map((r) => (
              <label class="choice" key={r.id}><input type="checkbox" checked={member.roles.includes(r.id)} onChange={(e) => { const box = e.currentTarget; api.giveRole(g.id, id, r.id, box.checked).catch((err) => { box.checked = !box.checked; complain(err); }); }} /><span>{r.name}</span></label>
            ))}
          </div>
        </div>
      )}
      {member && (own ? may(bit.CHANGE_NICK) : may(bit.MANAGE_NICKS)) && <Nick key={id} guild={g.id} id={id} own={own} nick={member.nick ?? ''} name={member.user.global_name || member.user.username} />}
      {!own && member && id !== g.owner_id && (may(bit.KICK) || may(bit.BAN)) && (
        <div class="choices" role="group" aria-label="Membership">
          {may(bit.KICK) && <button class="quiet bad" onClick={() => { question.value = { title: `Remove ${name}?`, text: 'With an invite they can come back.', yes: 'Remove from the community', act: () => api.kick(g.id, id).then(hide) }; }}>Remove</button>}
          {may(bit.BAN) && <button class="quiet bad" onClick={() => { question.value = { title: `Ban ${name}?`, text: 'No invite lets them in until the ban is lifted.', yes: 'Ban from the community', act: () => api.ban(g.id, id, true).then(hide) }; }}>Ban</button>}
        </div>
      )}
      {own && <p class="soft">This is you. Your microphone is in the settings.</p>}
    </Panel>
  );
}

/** What somebody is called in this community. */
function Nick({ guild, id, own, nick, name }: { guild: string; id: string; own: boolean; nick: string; name: string }) {
  const [problem, set] = useState('');
  const save = (e: Event) => {
    e.preventDefault();
    const wanted = String(new FormData(e.currentTarget as HTMLFormElement).get('nick')).trim();
    (own ? api.rename(guild, wanted) : api.moderate(guild, id, { nick: wanted })).then(() => { set(''); toast('Saved.'); }, (err: Error) => set(err.message));
  };
  return (
    <form class="field" onSubmit={save}>
      <label class="field"><span>Nickname here</span><input name="nick" maxLength={32} value={nick} placeholder={name} autoComplete="off" /></label>
      <p class="problem" role="alert">{problem}</p>
      <p class="row"><button class="quiet">Save nickname</button></p>
    </form>
  );
}
