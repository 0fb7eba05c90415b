// The list of members of a large community, of which only the parts that are looked at
// are known: the server tells them in pages, and what changes there.
import type { Member, Presence } from './types';

export interface Group { id: string; count: number }
/** A place of the list: the title of a group, or a member. */
export interface Place { group?: Group; member?: Member & { presence?: Presence } }
interface Op { op: string; range?: [number, number]; index?: number; item?: Place; items?: Place[] }
export interface ListUpdate { guild_id: string; id: string; member_count: number; online_count: number; groups: Group[]; ops: Op[] }

export interface MemberList {
  readonly id: string;
  readonly count: number; // members of the community
  readonly groups: readonly Group[];
  readonly places: readonly (Place | undefined)[];
}

/** How many places there are: each group has one for its title. */
export const lengthOf = (l: MemberList) => l.groups.reduce((n, g) => n + 1 + g.count, 0);

/** The list after an update. Another list than so far begins with nothing known. */
export function updated(was: MemberList | undefined, u: ListUpdate): MemberList {
  const places: (Place | undefined)[] = was?.id === u.id ? [...was.places] : [];
  for (const o of u.ops) {
    const [from, to] = o.range ?? [0, -1];
    switch (o.op) {
      case 'SYNC':
        if (o.items?.length) while (places.length < from) places.push(undefined);
        places.splice(from, to - from + 1, ...(o.items ?? []));
        break;
      case 'INVALIDATE':
        for (let i = from; i <= to && i < places.length; i++) places[i] = undefined;
        break;
      case 'INSERT': places.splice(o.index!, 0, o.item); break;
      case 'UPDATE': places[o.index!] = o.item; break;
      case 'DELETE': places.splice(o.index!, 1); break;
    }
  }
  return { id: u.id, count: u.member_count, groups: u.groups, places };
}

const PAGE = 100;
const MOST = 10; // pages that the server tells at once

/** The pages with these places, as ranges. */
export function ranges(first: number, last: number): [number, number][] {
  const list: [number, number][] = [];
  for (let p = Math.floor(Math.max(0, first) / PAGE); p * PAGE <= last && list.length < MOST; p++) list.push([p * PAGE, p * PAGE + PAGE - 1]);
  return list;
}
