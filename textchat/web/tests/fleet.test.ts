import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { age, count, found, line, ms, ordered, percent, planned, standing, told, totals, trend } from '../src/fleet/figures';
import type { Call, Node } from '../src/fleet/types';

const node = (name: string, more: Partial<Node> = {}): Node => ({
  node: name, state: 'ready', region: 'eu', version: 'v1', started: '2026-01-01T00:00:00Z', at: '2026-01-01T00:01:00Z', capacity: { pps: 1000, bps: 1e6, sessions: 100 },
  load: { pps: 100, bps: 1e5, sessions: 10 }, call_count: 2, reserved: { pps: 0, bps: 0, sessions: 0 }, fullness: 0.1, ...more,
});
const call = (id: string, on: string, created: string, spans?: string[]): Call => ({ call: id, node: on, epoch: 1, created, touched: created, spans });

test('figures are short and honest', () => {
  assert.deepEqual([0, 9999, 10_000, 123_456, 999_600, 4_560_000, 2.5e9].map(count), ['0', '9,999', '10.0 k', '123 k', '1.00 M', '4.56 M', '2.50 G']);
  assert.deepEqual([0, 0.004, 0.021, 0.0994, 0.5, 1].map(percent), ['0 %', '0.4 %', '2.1 %', '9.9 %', '50 %', '100 %']);
  assert.deepEqual([-1, 0, 89, 90, 5399, 7200, 200_000].map(age), ['0 s', '0 s', '89 s', '2 min', '90 min', '2 h', '2 d']);
  assert.deepEqual([0.42, 12.6].map(ms), ['0.4 ms', '13 ms']);
});

test('a node is what is worst about it', () => {
  // The file that ctl is held to, too: both say the same.
  const standings: { word: string; node: Partial<Node> }[] = JSON.parse(readFileSync('../../allocator/testdata/standings.json', 'utf8'));
  assert.ok(standings.length >= 10);
  for (const one of standings) assert.equal(standing(node('n', { call_count: 0, ...one.node })).word, one.word, JSON.stringify(one));
  const list = [node('b'), node('a'), node('d', { state: 'draining', call_count: 0 }), node('c', { suspect: true }), node('e', { region: 'ap' })];
  assert.deepEqual(ordered(list).map((n) => n.node), ['c', 'e', 'a', 'b', 'd']);
  assert.deepEqual(totals(list, []), { nodes: 5, ready: 4, sessions: 50, seats: 400, calls: 0, pps: 500 });
});

test('a trend keeps its newest points and is drawn from the right', () => {
  let t: number[] | undefined;
  for (let i = 0; i < 5; i++) t = trend(t, i, 3);
  assert.deepEqual(t, [2, 3, 4]);
  assert.equal(line([], 10, 10, 3), '');
  assert.equal(line([4], 10, 10, 3), 'M10.0 0.0');
  assert.equal(line([0, 2, 4], 10, 10, 3), 'M0.0 10.0L5.0 5.0L10.0 0.0');
  assert.equal(line([0, 1], 10, 10, 3, 4), 'M5.0 10.0L10.0 7.5');
});

test('calls are found by channel and by any of their nodes', () => {
  const all = [call('11', 'fra-1', '2026-01-01T00:00:01Z'), call('12', 'ams-1', '2026-01-01T00:00:03Z', ['fra-2']), call('13', 'ams-2', '2026-01-01T00:00:02Z')];
  assert.deepEqual(found(all, '', 2), { list: [all[1], all[2]], more: 1 });
  assert.deepEqual(found(all, ' FRA ', 9).list.map((c) => c.call), ['12', '11']);
  assert.deepEqual(found(all, '13', 9).list.map((c) => c.call), ['13']);
});

test('the journal speaks', () => {
  const at = '2026-01-01T00:00:00Z';
  assert.equal(told({ at, by: 'allocator', deed: 'move', node: 'fra-1', call: '11', to: 'fra-2' }), 'call 11 moved from fra-1 to fra-2');
  assert.equal(told({ at, by: 'allocator', deed: 'lost', node: 'fra-1' }), 'fra-1 is lost');
  assert.equal(told({ at, by: 'x', deed: 'something new', node: 'n' }), 'n something new');
});

test('a plan is told in a sentence', () => {
  const move = (call: string, to?: string) => ({ call, sessions: 2, to, why: '' });
  assert.equal(planned([]), 'It has no calls.');
  assert.equal(planned([move('1', 'b'), move('2', 'a'), move('3', 'b')]), 'It would move 2 calls to b, 1 call to a. Nobody hears a gap.');
  assert.equal(planned([move('1')]), 'There is no room elsewhere for 1 call now.');
  assert.match(planned(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((n, i) => move(String(i), n))), /1 call to e, the rest to 2 more\./);
});
