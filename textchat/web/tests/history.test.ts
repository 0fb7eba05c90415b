import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WINDOW, after, arrived, before, leaves, nothing, opened, patched, reacted, without, type History, type Line } from '../src/history';
import type { Message } from '../src/types';

const msg = (id: number | string, more: Partial<Message> = {}): Message =>
  ({ id: String(id), channel_id: 'c', author: { id: 'u', username: 'u' }, content: `m${id}`, timestamp: '', edited_timestamp: null, ...more });
const line = (nonce: string): Line => ({ ...msg('n' + nonce), nonce, state: 'sending' });
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => msg(from + i));
const ids = (h: History) => h.lines.map((l) => l.id).join(' ');

test('what was sent is there once, whichever of answer and event comes first', () => {
  const sent = leaves({ ...nothing, older: false }, line('7'));
  const confirmed = msg(5, { nonce: '7' });
  for (const order of [[confirmed, confirmed], [msg(5, { nonce: 7 }), confirmed]]) {
    const h = order.reduce(arrived, sent);
    assert.equal(ids(h), '5');
    assert.equal(h.lines[0].state, undefined);
    assert.equal(h.lines[0].nonce, '7', 'the nonce stays: it is what the page knows the line by');
  }
  // Another's nonce is no word about ours.
  assert.equal(ids(arrived(sent, msg(5, { nonce: '7', author: { id: 'other', username: 'o' } }))), '5 n7');
});

test('events out of order, and twice, make an ordered list of each once', () => {
  const h = ['9', '10', '8', '9', '100'].reduce((h, id) => arrived(h, msg(id)), { ...nothing, older: false });
  assert.equal(ids(h), '8 9 10 100');
});

test('what is on its way out stays at the end', () => {
  let h = leaves(leaves(nothing, line('1')), line('2'));
  h = arrived(h, msg(5));
  assert.equal(ids(h), '5 n1 n2');
  h = leaves(h, { ...line('1'), state: 'failed', problem: 'no' });
  assert.equal(h.lines[1].state, 'failed');
  assert.equal(ids(without(h, (l) => l.nonce === '1')), '5 n2');
});

test('the window is bounded, whichever way one reads', () => {
  let h = opened(nothing, range(1001, 1050), true, false);
  for (let i = 0; i < 6; i++) h = before(h, range(951 - 50 * i, 1000 - 50 * i), true);
  assert.equal(h.lines.length, WINDOW);
  assert.deepEqual([h.lines[0].id, h.lines.at(-1)!.id, h.older, h.newer], ['701', '900', true, true]);
  assert.equal(arrived(h, msg(2000)).lines.at(-1)!.id, '900', 'what comes beyond the window is not shown beside what it does not follow');
  h = after(h, range(901, 950), true);
  assert.deepEqual([h.lines[0].id, h.lines.at(-1)!.id, h.older, h.newer], ['751', '950', true, true]);
  h = after(h, range(951, 960), false);
  assert.equal(arrived(h, msg(2000)).lines.at(-1)!.id, '2000');
  for (let i = 0; i < 500; i++) h = arrived(h, msg(3000 + i));
  assert.deepEqual([h.lines.length, h.lines.at(-1)!.id, h.older], [WINDOW, '3499', true]);
});

test('after an outage the fetched stands, with what came meanwhile and what still leaves', () => {
  let h = leaves(opened(nothing, range(1, 10), false, false), line('7'));
  h = arrived(h, msg(14));
  h = opened(h, [...range(1, 3), ...range(5, 12).map((m) => ({ ...m, content: 'edited' }))], false, false);
  assert.equal(ids(h), '1 2 3 5 6 7 8 9 10 11 12 14 n7', '4 was deleted');
  assert.equal(h.lines[3].content, 'edited');
});

test('what comes while an empty channel is fetched is not lost', () => {
  assert.equal(ids(opened(arrived({ ...nothing, older: false }, msg(5)), [], false, false)), '5');
});

test('edits touch one line, and lists that need no change stay the same', () => {
  const h = opened(nothing, range(1, 3), false, false);
  assert.equal(patched(h, '2', () => ({ content: 'x' })).lines[1].content, 'x');
  assert.equal(patched(h, '9', () => ({ content: 'x' })), h);
  assert.equal(without(h, (l) => l.id === '9'), h);
});

test('reactions: one’s own counts once, however often it is told', () => {
  const emoji = { id: null, name: '👍' };
  const tell = (list: ReturnType<typeof reacted>) => list.map((r) => `${r.emoji.name}${r.count}${r.me ? '!' : ''}`).join(' ');
  let list = reacted([], emoji, 1, true);
  list = reacted(list, emoji, 1, true); // the gateway says it too
  list = reacted(list, emoji, 1, false);
  assert.equal(tell(list), '👍2!');
  list = reacted(reacted(list, emoji, -1, true), emoji, -1, true);
  assert.equal(tell(list), '👍1');
  list = reacted(list, { id: null, name: '🎉' }, 1, false);
  assert.equal(tell(reacted(list, emoji, -1, false)), '🎉1');
  assert.equal(tell(reacted(list, emoji, 0, false)), '🎉1');
  assert.equal(tell(reacted(list, undefined, 0, false)), '');
  assert.equal(tell(reacted(list, { id: null, name: '🔥' }, -1, false)), '👍1 🎉1');
});
