import { displayName, guild, me, members, voiceStates } from '../store';
import { drawer } from './App';
import { Avatar } from './Avatar';
import { Close, Speaker } from './icons';

export function People() {
  const all = [...members.value.values()].sort((a, b) => displayName(a.user.id).localeCompare(displayName(b.user.id)));
  return (
    <aside class="peoplepane" aria-label="Members">
      <header class="head">
        <h2>Members <small>{all.length}</small></h2>
        <button class="icon only-narrow" aria-label="Close members" onClick={() => { drawer.value = ''; }}><Close /></button>
      </header>
      <ul>
        {all.slice(0, 500).map((m) => (
          <li key={m.user.id}>
            <Avatar id={m.user.id} name={displayName(m.user.id)} />
            <span>{displayName(m.user.id)}{m.user.id === me.value?.id && ' (you)'}</span>
            {m.user.id === guild.value?.owner_id && <small>owner</small>}
            {m.user.bot && <small>bot</small>}
            {voiceStates.value.has(m.user.id) && <i title="In a voice channel"><Speaker /></i>}
          </li>
        ))}
      </ul>
    </aside>
  );
}
