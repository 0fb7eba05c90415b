import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sections } from '../src/people';
import { access, base, bit, offered, resolve, withAccess } from '../src/permissions';
import type { Role, Status } from '../src/types';

const role = (id: string, more: Partial<Role> = {}): Role => ({ id, name: 'r' + id, permissions: '0', position: Number(id), color: 0, hoist: true, mentionable: false, ...more });
const member = (id: string, ...roles: string[]) => ({ user: { id, username: id }, roles });
const listed = (here?: ReadonlyMap<string, Status>) =>
  sections([member('b', '2'), member('a', '2', '3'), member('d'), member('c', '4')], [role('1'), role('2'), role('3'), role('4', { hoist: false })], '1', here, (m) => m.user.id)
    .map((s) => `${s.title}: ${s.members.map((m) => m.name).join(' ')}`);

test('members stand under their highest role; those away at the end, when that is known', () => {
  assert.deepEqual(listed(), ['r3: a', 'r2: b', 'Members: c d']);
  assert.deepEqual(listed(new Map([['a', 'offline'], ['b', 'idle'], ['d', 'online']])), ['r2: b', 'Online: d', 'Offline: a c']);
});

test('permissions follow the public order', () => {
  const p = (...bits: bigint[]) => String(bits.reduce((a, b) => a | b, 0n));
  const all = [{ id: 'g', permissions: p(bit.VIEW, bit.SEND, bit.ATTACH) }, { id: 'mod', permissions: p(bit.MANAGE_MESSAGES) }, { id: 'boss', permissions: p(bit.ADMINISTRATOR) }];
  const who = (...roles: string[]) => ({ user: 'u', guild: 'g', owner: false, roles, all });
  const may = (roles: string[], over: [string, 0 | 1, bigint, bigint][], b: bigint) => (resolve(who(...roles), over.map(([id, type, allow, deny]) => ({ id, type, allow: String(allow), deny: String(deny) }))) & b) !== 0n;
  assert.ok(may([], [], bit.SEND) && !may([], [], bit.MANAGE_MESSAGES) && may(['mod'], [], bit.MANAGE_MESSAGES));
  assert.ok(!may([], [['g', 0, 0n, bit.SEND]], bit.SEND), '@everyone is denied');
  assert.ok(!may([], [['g', 0, 0n, bit.SEND]], bit.ATTACH), 'who may not write may not attach');
  assert.ok(may(['mod'], [['g', 0, 0n, bit.SEND], ['mod', 0, bit.SEND, 0n]], bit.SEND), 'a role is let in');
  assert.ok(may(['a', 'b'], [['a', 0, 0n, bit.SEND], ['b', 0, bit.SEND, 0n]], bit.SEND), 'of roles the allow wins');
  assert.ok(!may(['mod'], [['mod', 0, bit.SEND, 0n], ['u', 1, 0n, bit.SEND]], bit.SEND), 'one’s own comes last');
  assert.equal(resolve(who(), [{ id: 'g', type: 0, allow: '0', deny: String(bit.VIEW) }]), 0n, 'who sees nothing may nothing');
  assert.ok(may(['boss'], [['g', 0, 0n, bit.VIEW]], bit.VIEW), 'administrators pass');
  const quiet = [{ id: 'g', type: 0 as const, allow: String(bit.SEND_IN_THREADS), deny: String(bit.SEND) }];
  assert.equal(resolve(who(), quiet, 'thread') & (bit.SEND | bit.ATTACH), bit.SEND | bit.ATTACH, 'threads have a bit of their own');
  assert.equal(resolve(who(), [], 'thread') & (bit.SEND | bit.ATTACH), 0n, 'and want it');
  const closed = [{ id: 'g', type: 0 as const, allow: '0', deny: String(bit.CONNECT) }];
  assert.equal(resolve(who(), closed, 'voice'), bit.VIEW, 'who may not connect sees that it is there');
  assert.notEqual(resolve(who(), closed), bit.VIEW, 'of text nothing is lost by that');
  assert.ok(!may([], [['u', 1, bit.ADMINISTRATOR, 0n]], bit.MANAGE_MESSAGES), 'a channel makes no administrator');
  assert.equal(base({ ...who(), owner: true }) & bit.BAN, bit.BAN);
  const shown = offered.flatMap((g) => g.bits.map(([k]) => k));
  assert.equal(new Set(shown).size, Object.keys(bit).length, 'every bit the page knows can be given on it, once');
});

test('who may see a channel and write in it', () => {
  const had = [{ id: 'g', type: 0 as const, allow: '0', deny: String(bit.ATTACH) }, { id: 'u', type: 1 as const, allow: String(bit.VIEW), deny: '0' }];
  assert.deepEqual(access(had, 'g'), { hidden: false, quiet: false, roles: [] });
  const closed = withAccess(had, 'g', { hidden: true, quiet: true, roles: ['r'] });
  assert.deepEqual(access(closed, 'g'), { hidden: true, quiet: true, roles: ['r'] });
  assert.ok(BigInt(closed.find((o) => o.id === 'g')!.deny) & bit.ATTACH, 'what else was said stays');
  assert.deepEqual(closed.find((o) => o.id === 'u'), had[1]);
  assert.deepEqual(withAccess(closed, 'g', { hidden: false, quiet: false, roles: ['r'] }), had, 'opened again it is as before');
});
