// How the members are listed.
import type { Member, Role, Status } from './types';

export interface Section { key: string; title: string; members: { m: Member; name: string; status?: Status }[] }

const isHere = (s: Status | undefined) => s !== undefined && s !== 'offline';

/**
 * Members in sections: those here by their highest role that is shown apart, then
 * the rest of them, then those who are not here. Where nobody's presence is
 * known (`here` undefined) nobody is called away.
 */
export function sections(members: readonly Member[], roles: readonly Role[], guild: string, here: ReadonlyMap<string, Status> | undefined, name: (m: Member) => string): Section[] {
  const apart = roles.filter((r) => r.hoist && r.id !== guild).sort((a, b) => b.position - a.position);
  const list: Section[] = [
    ...apart.map((r) => ({ key: r.id, title: r.name, members: [] })),
    { key: 'here', title: here ? 'Online' : 'Members', members: [] },
    { key: 'away', title: 'Offline', members: [] },
  ];
  for (const m of members) {
    const status = here?.get(m.user.id);
    const top = apart.find((r) => m.roles.includes(r.id));
    const key = here && !isHere(status) ? 'away' : top?.id ?? 'here';
    list.find((s) => s.key === key)!.members.push({ m, name: name(m), status });
  }
  for (const s of list) s.members.sort((a, b) => a.name.localeCompare(b.name));
  return list.filter((s) => s.members.length);
}
