import { useEffect, useRef } from 'preact/hooks';
import { memberLists, placesSeen } from '../looks';
import { lengthOf, type Place } from '../memberlist';
import { sections } from '../people';
import { guild, house, isLarge, me, nameOf, presences, roleOf } from '../store';
import type { Member, Status } from '../types';
import { Avatar } from './Avatar';
import { Close, Speaker } from './icons';
import { peopleOpen, show } from './views';
import { Name } from './Words';

const SHOWN = 500;

export const statuses: Record<Status, string> = { online: 'online', idle: 'idle', dnd: 'do not disturb', offline: 'offline' };

/** One in the list, as a button. */
function Someone({ m, name, status }: { m: Member; name: string; status?: Status }) {
  const talks = house.value!.voices.has(m.user.id);
  const also = m.user.id === me.value?.id ? 'you' : m.user.id === guild.value?.owner_id ? 'owner' : m.user.bot ? 'bot' : '';
  return (
    <button class="person" aria-label={[name, also, status && statuses[status], talks && 'in a voice channel'].filter(Boolean).join(', ')} onClick={() => show('person', m.user.id)}>
      <Avatar id={m.user.id} name={name} status={status} />
      <Name id={m.user.id} name={name} />
      {also && <>{' '}<small>{also}</small></>}
      {talks && <i class="in-voice" title="In a voice channel"><Speaker /></i>}
    </button>
  );
}

export const People = () => (isLarge(house.value!) ? <Many /> : <Few />);

const HIGH = 44; // pixels of each place, as style.css has it
const SPARE = 10; // places drawn beyond either edge

/** The members of a large community: those on the screen are known, and drawn. */
function Many() {
  const h = house.value!;
  const box = useRef<HTMLElement>(null);
  const list = memberLists.value.get(h.guild.id);
  const length = list ? lengthOf(list) : 0;
  const look = () => {
    const b = box.current!;
    const first = Math.max(0, Math.floor(b.scrollTop / HIGH) - SPARE);
    const last = first + Math.ceil(b.clientHeight / HIGH) + 2 * SPARE;
    const was = placesSeen.peek();
    if (!was || was[0] !== first || was[1] !== last) placesSeen.value = [first, last];
  };
  useEffect(() => {
    look();
    const size = new ResizeObserver(look);
    size.observe(box.current!);
    return () => { size.disconnect(); placesSeen.value = undefined; };
  }, []);
  const [first, last] = placesSeen.value ?? [0, 0];
  const end = Math.min(length, last + 1);
  const title = (p: Place) => `${{ online: 'Online', offline: 'Offline' }[p.group!.id] ?? roleOf(p.group!.id)?.name ?? 'Members'}`;
  return (
    <aside class="members many" aria-label="Members" ref={box} onScroll={look}>
      <header class="head">
        <h2>Members <small>{list?.count ?? h.guild.member_count}</small></h2>
        <button class="icon only-drawer" aria-label="Close members" onClick={() => { peopleOpen.value = false; }}><Close /></button>
      </header>
      <ul aria-label="Members" style={{ paddingTop: `${first * HIGH}px`, paddingBottom: `${Math.max(0, length - end) * HIGH}px` }}>
        {Array.from({ length: Math.max(0, end - first) }, (_, i) => {
          const p = list?.places[first + i];
          if (p?.group) return <li key={'g' + p.group.id}><h3>{title(p)} <small>{p.group.count}</small></h3></li>;
          if (!p?.member) return <li key={'p' + (first + i)} aria-hidden="true" />;
          const m = p.member;
          return <li key={m.user.id} class={m.presence?.status === 'offline' ? 'away' : undefined}><Someone m={m} name={m.nick || m.user.global_name || m.user.username} status={m.presence?.status} /></li>;
        })}
      </ul>
    </aside>
  );
}

function Few() {
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
              {some.map((x) => <li key={x.m.user.id}><Someone {...x} /></li>)}
            </ul>
          </section>
        );
      })}
      {h.members.size > SHOWN && <p class="more">and {h.members.size - SHOWN} more</p>}
    </aside>
  );
}
