// Who may do what: the public algorithm, so that the page offers what the server
// will grant. The server alone decides.
import type { Overwrite, Role } from './types';

export const bit = {
  CREATE_INVITE: 1n << 0n, KICK: 1n << 1n, BAN: 1n << 2n, ADMINISTRATOR: 1n << 3n, MANAGE_CHANNELS: 1n << 4n, MANAGE_GUILD: 1n << 5n, ADD_REACTIONS: 1n << 6n,
  VIEW: 1n << 10n, SEND: 1n << 11n, MANAGE_MESSAGES: 1n << 13n, EMBED_LINKS: 1n << 14n, ATTACH: 1n << 15n, HISTORY: 1n << 16n, MENTION_EVERYONE: 1n << 17n,
  STREAM: 1n << 9n, CONNECT: 1n << 20n, SPEAK: 1n << 21n, MUTE: 1n << 22n, DEAFEN: 1n << 23n, MOVE: 1n << 24n, CHANGE_NICK: 1n << 26n, MANAGE_NICKS: 1n << 27n, MANAGE_ROLES: 1n << 28n, MANAGE_THREADS: 1n << 34n, MAKE_THREADS: 1n << 35n, SEND_IN_THREADS: 1n << 38n, PIN: 1n << 51n,
} as const;

/** The bits that a role can be given on this page, in the order they are shown in. */
export const offered: readonly { group: string; bits: readonly [keyof typeof bit, string][] }[] = [
  { group: 'Community', bits: [['VIEW', 'See channels'], ['CREATE_INVITE', 'Invite people'], ['CHANGE_NICK', 'Change their own nickname'], ['MANAGE_NICKS', 'Change nicknames of others'], ['KICK', 'Remove members'], ['BAN', 'Ban members'],
    ['MANAGE_CHANNELS', 'Manage channels'], ['MANAGE_ROLES', 'Manage roles'], ['MANAGE_GUILD', 'Manage the community'], ['ADMINISTRATOR', 'Everything (administrator)']] },
  { group: 'Text', bits: [['SEND', 'Write messages'], ['HISTORY', 'Read older messages'], ['ATTACH', 'Attach files'], ['EMBED_LINKS', 'Embed links'], ['ADD_REACTIONS', 'Add reactions'], ['MENTION_EVERYONE', 'Mention everyone'], ['MAKE_THREADS', 'Begin threads'], ['SEND_IN_THREADS', 'Write in threads'], ['MANAGE_THREADS', 'Manage threads'], ['MANAGE_MESSAGES', 'Delete messages of others'], ['PIN', 'Pin messages']] },
  { group: 'Voice', bits: [['CONNECT', 'Join voice channels'], ['SPEAK', 'Speak'], ['STREAM', 'Show their camera'], ['MUTE', 'Mute others'], ['DEAFEN', 'Deafen others'], ['MOVE', 'Move others']] },
];

export interface Rights { user: string; guild: string; owner: boolean; roles: readonly string[]; all: readonly Pick<Role, 'id' | 'permissions'>[] }

const everything = (1n << 53n) - 1n;

/** In the community as a whole. */
export function base(r: Rights): bigint {
  if (r.owner) return everything;
  const bits = r.all.filter((x) => x.id === r.guild || r.roles.includes(x.id)).reduce((a, x) => a | BigInt(x.permissions), 0n);
  return bits & bit.ADMINISTRATOR ? everything : bits;
}

/** In a channel with these overwrites: @everyone's first, then those of all roles at once, then one's own. A thread of the channel has its own bit for writing; of a voice channel those who may not connect see only that it is there. */
export function resolve(r: Rights, overwrites: readonly Overwrite[], kind?: 'thread' | 'voice'): bigint {
  let p = base(r);
  if (p & bit.ADMINISTRATOR) return p;
  const steps = [
    overwrites.filter((o) => o.type === 0 && o.id === r.guild),
    overwrites.filter((o) => o.type === 0 && o.id !== r.guild && r.roles.includes(o.id)),
    overwrites.filter((o) => o.type === 1 && o.id === r.user),
  ];
  for (const s of steps) p = (p & ~s.reduce((a, o) => a | BigInt(o.deny), 0n)) | s.reduce((a, o) => a | BigInt(o.allow), 0n);
  p &= ~bit.ADMINISTRATOR;
  if (kind === 'thread') p = p & bit.SEND_IN_THREADS ? p | bit.SEND : p & ~bit.SEND;
  if (!(p & bit.VIEW)) return 0n;
  if (kind === 'voice' && !(p & bit.CONNECT)) return bit.VIEW;
  if (!(p & bit.SEND)) p &= ~(bit.MENTION_EVERYONE | bit.ATTACH | bit.EMBED_LINKS);
  return p;
}

/** Who may see a channel and write in it, as people say it: all, or only some roles. */
export interface Access { hidden: boolean; quiet: boolean; roles: string[] }

const has = (s: string, b: bigint) => (BigInt(s) & b) !== 0n;

export function access(overwrites: readonly Overwrite[], guild: string): Access {
  const all = overwrites.find((o) => o.type === 0 && o.id === guild);
  return {
    hidden: !!all && has(all.deny, bit.VIEW), quiet: !!all && has(all.deny, bit.SEND),
    roles: overwrites.filter((o) => o.type === 0 && o.id !== guild && has(o.allow, bit.VIEW | bit.SEND)).map((o) => o.id),
  };
}

/** The same overwrites with this access; what they say of other things stays. */
export function withAccess(overwrites: readonly Overwrite[], guild: string, a: Access): Overwrite[] {
  const ours = bit.VIEW | bit.SEND;
  const closed = (a.hidden ? bit.VIEW : 0n) | (a.quiet ? bit.SEND : 0n);
  const left = overwrites.map((o) => (o.type === 0 ? { ...o, allow: String(BigInt(o.allow) & ~ours), deny: String(o.id === guild ? BigInt(o.deny) & ~ours : BigInt(o.deny)) } : o));
  const change = (id: string, allow: bigint, deny: bigint) => {
    let o = left.find((x) => x.type === 0 && x.id === id);
    if (!o) { o = { id, type: 0, allow: '0', deny: '0' }; left.push(o); }
    o.allow = String(BigInt(o.allow) | allow);
    o.deny = String((BigInt(o.deny) | deny) & ~allow);
  };
  if (closed) {
    change(guild, 0n, closed);
    for (const r of a.roles) change(r, closed, 0n);
  }
  return left.filter((o) => o.allow !== '0' || o.deny !== '0');
}
