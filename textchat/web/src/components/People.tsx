import { guild, house, me, nameOf } from '../store';
import { Avatar } from './Avatar';
import { Close, Speaker } from './icons';
import { peopleOpen, show } from './views';

const SHOWN = 500;

export function People() {
  const h = house.value!;
  const all = [...h.members.values()].map((m) => ({ m, name: nameOf(m.user.id) })).sort((a, b) => a.name.localeCompare(b.name));
  return (
    <aside class="members" aria-label="Members">
      <header class="head">
        <h2>Members <small>{all.length}</small></h2>
        <button class="icon only-drawer" aria-label="Close members" onClick={() => { peopleOpen.value = false; }}><Close /></button>
      </header>
      <ul>
        {all.slice(0, SHOWN).map(({ m, name }) => (
          <li key={m.user.id}>
            <button class="person" onClick={() => show('person', m.user.id)}>
              <Avatar id={m.user.id} name={name} />
              <span>{name}</span>
              {m.user.id === me.value?.id ? <small>you</small> : m.user.id === guild.value?.owner_id ? <small>owner</small> : m.user.bot ? <small>bot</small> : null}
              {h.voices.has(m.user.id) && <i class="in-voice" title="In a voice channel"><Speaker /></i>}
            </button>
          </li>
        ))}
        {all.length > SHOWN && <li class="more">and {all.length - SHOWN} more</li>}
      </ul>
    </aside>
  );
}
