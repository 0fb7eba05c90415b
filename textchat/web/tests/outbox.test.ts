import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Outbox, TRY_FOR, type Failure, type Job } from '../src/outbox';

const settle = async () => { for (let i = 0; i < 20; i++) await Promise.resolve(); };

/** An outbox whose server does as told, try by try: 'ok', or a failure. */
function bench(plan: ('ok' | Failure)[]) {
  const log: string[] = [];
  const box = new Outbox<string>({
    post: async (j: Job) => { log.push(`try ${j.nonce}`); const p = plan.shift() ?? 'ok'; if (p !== 'ok') throw p; return j.nonce; },
    failure: (e) => e as Failure,
    sent: (j) => log.push(`sent ${j.nonce}`),
    state: (j, s) => { if (s !== 'sending') log.push(`${s} ${j.nonce}`); },
  });
  return { box, log };
}
const job = (nonce: string, channel = 'c'): Job => ({ channel, nonce, content: nonce });
const away: Failure = { message: 'away', again: true };

test('a channel keeps its order through an outage; another channel does not wait', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const { box, log } = bench([away, 'ok', 'ok', 'ok']);
    box.add(job('1'));
    box.add(job('2'));
    box.add(job('3', 'd'));
    await settle();
    assert.deepEqual(log, ['try 1', 'try 3', 'waiting 1', 'sent 3']);
    mock.timers.tick(500);
    await settle();
    assert.deepEqual(log.slice(4), ['try 1', 'sent 1', 'try 2', 'sent 2']);
  } finally { mock.timers.reset(); }
});

test('what waits goes at once when the connection is back, but not before the server allows', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const { box, log } = bench([away, { message: 'slow down', again: true, wait: 3000 }]);
    box.add(job('1'));
    await settle();
    box.wake();
    await settle();
    assert.deepEqual(log, ['try 1', 'waiting 1', 'try 1', 'waiting 1']);
    box.wake();
    mock.timers.tick(2999);
    await settle();
    assert.equal(log.length, 4);
    mock.timers.tick(1);
    await settle();
    assert.deepEqual(log.slice(4), ['try 1', 'sent 1']);
  } finally { mock.timers.reset(); }
});

test('a refusal is final, and the next one goes', async () => {
  const { box, log } = bench([{ message: 'no', again: false }]);
  box.add(job('1'));
  box.add(job('2'));
  await settle();
  assert.deepEqual(log, ['try 1', 'failed 1', 'try 2', 'sent 2']);
});

test('tries end before the server forgets the nonce', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const { box, log } = bench(Array<Failure>(1000).fill(away));
    box.add(job('1'));
    for (let ms = 0; ms < TRY_FOR + 10_000; ms += 500) { await settle(); mock.timers.tick(500); }
    await settle();
    assert.equal(log.at(-1), 'failed 1');
    const tries = log.length;
    mock.timers.tick(60_000);
    await settle();
    assert.equal(log.length, tries);
  } finally { mock.timers.reset(); }
});

test('signing out forgets what waits', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const { box, log } = bench([away]);
    box.add(job('1'));
    await settle();
    box.clear();
    mock.timers.tick(60_000);
    await settle();
    assert.deepEqual(log, ['try 1', 'waiting 1']);
  } finally { mock.timers.reset(); }
});
