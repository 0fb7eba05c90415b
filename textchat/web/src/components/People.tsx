import { sections } from '../people';
import { guild, house, me, nameOf, presences } from '../store';
import type { Status } from '../types';
import { Avatar } from './Avatar';
import { Close, Speaker } from './icons';
import { peopleOpen, show } from './views';
import { Name } from './Words';

const SHOWN = 500;

export const statuses: Record<Status, string> = { online: 'online', idle: 'idle', dnd: 'do not disturb', offline: 'offline' };

export function People() {
  const h = house.value!;
  const known = presences.value.get(h.guild.id);
  const here = known && new Map(known).set(me.value!.id, 'online'); // of oneself nobody is told
  const list = sections([...h.members.values()], h.guild.roles, h.guild.id, here, (m) => nameOf(m.user.id));
  let left = SHOWN;
  return (
    <aside class="members" aria-label="Members">
      <header class="head">
        <h2>Members <small>{h.members.size}</small></h2>
        <button class="icon only-drawer" aria-label="Close members" onClick={() => { peopleOpen.value = false; }}><Close /></button>
      </header>
      {list.map((s) => {
        const some = s.members.slice(0, left);
        left -= some.length;
        return some.length > 0 && (
          <section key={s.key} class={s.key === 'away' ? 'away' : undefined}>
            {(list.length > 1 || s.key !== 'here' || s.title !== 'Members') && <h3 id={`people-${s.key}`}>{s.title} <small>{s.members.length}</small></h3>}
            <ul aria-label={s.title}>
              {some.map(({ m, name, status }) => {
                const also = m.user.id === me.value?.id ? 'you' : m.user.id === guild.value?.owner_id ? 'owner' : m.user.bot ? 'bot' : '';
                return (
                  <li key={m.user.id}>
                    <button class="person" aria-label={[name, also, status && statuses[status], h.voices.has(m.user.id) && 'in a voice channel'].filter(Boolean).join(', ')} onClick={() => show('person', m.user.id)}>
                      <Avatar id={m.user.id} name={name} status={status} />
                      <Name id={m.user.id} name={name} />
                      {also && <>{' '}<small>{also}</small></>}
                      {h.voices.has(m.user.id) && <i class="in-voice" title="In a voice channel"><Speaker /></i>}
                    </button>
                  </li>
                );
              })}
            </ul>
          </section>
        );
      })}
      {h.members.size > SHOWN && <p class="more">and {h.members.size - SHOWN} more</p>}
    </aside>
  );
}
