import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lengthOf, ranges, updated, type ListUpdate, type MemberList } from '../src/memberlist';

const member = (id: string) => ({ member: { user: { id, username: id }, roles: [] } });
const title = (id: string, count: number) => ({ group: { id, count } });
const update = (groups: [string, number][], ...ops: ListUpdate['ops']): ListUpdate =>
  ({ guild_id: 'g', id: 'everyone', member_count: 500, online_count: 2, groups: groups.map(([id, count]) => ({ id, count })), ops });
const told = (l: MemberList) => l.places.map((p) => p?.group?.id ?? p?.member?.user.id ?? '-').join(' ');

test('a list is what its operations made of it', () => {
  let l = updated(undefined, update([['online', 2]], { op: 'SYNC', range: [0, 99], items: [title('online', 2), member('a'), member('c')] }));
  assert.equal(told(l), 'online a c');
  assert.equal(lengthOf(l), 3);
  l = updated(l, update([['online', 3]], { op: 'UPDATE', index: 0, item: title('online', 3) }, { op: 'INSERT', index: 2, item: member('b') }));
  assert.equal(told(l), 'online a b c');
  l = updated(l, update([['online', 2]], { op: 'DELETE', index: 1 }));
  assert.equal(told(l), 'online b c');
  l = updated(l, update([['online', 300]], { op: 'SYNC', range: [200, 299], items: [member('x'), member('y')] }));
  assert.equal(l.places.length, 202);
  assert.equal(l.places[201]?.member?.user.id, 'y');
  l = updated(l, update([['online', 300]], { op: 'INVALIDATE', range: [0, 99] }));
  assert.equal(l.places[0], undefined);
  assert.equal(l.places[200]?.member?.user.id, 'x');
  l = updated(l, { ...update([['online', 1]], { op: 'SYNC', range: [0, 99], items: [title('online', 1), member('z')] }), id: '77' });
  assert.equal(told(l), 'online z', 'another list begins anew');
});

test('what is on the screen is asked for in whole pages', () => {
  assert.deepEqual(ranges(0, 30), [[0, 99]]);
  assert.deepEqual(ranges(95, 130), [[0, 99], [100, 199]]);
  assert.deepEqual(ranges(-5, 0), [[0, 99]]);
  assert.equal(ranges(0, 100_000).length, 10);
});
