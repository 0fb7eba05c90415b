import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, guest, message, register } from '../src/api';

/** Answers requests in turn, and tells how many came. */
function server(...answers: [status: number, body: unknown][]) {
  const seen: string[] = [];
  globalThis.fetch = (async (path: string, init: RequestInit) => {
    seen.push(`${init.method} ${path}`);
    const [status, body] = answers.shift()!;
    return new Response(JSON.stringify(body), { status });
  }) as typeof fetch;
  return seen;
}

const busy: [number, unknown] = [503, { message: 'The server is busy, try again.', retry_after: 0.001 }];
const refused = (status: number) => (e: unknown) => e instanceof ApiError && e.status === status;

test('what a busy server put off is asked again', async () => {
  let seen = server(busy, busy, [200, { id: '1' }]);
  assert.equal((await message('2', '1')).id, '1');
  assert.equal(seen.length, 3);
  seen = server(busy, [200, { token: 't' }]);
  assert.equal((await guest('invite', 'Ada')).token, 't');
  assert.equal(seen.length, 2);
});

test('but not for ever, not where it might be done twice, and not without a word when', async () => {
  let seen = server(busy, busy, busy);
  await assert.rejects(message('2', '1'), refused(503));
  assert.equal(seen.length, 3);
  seen = server(busy);
  await assert.rejects(register('ada', 'a password of hers'), refused(503));
  assert.equal(seen.length, 1);
  seen = server([503, {}]);
  await assert.rejects(message('2', '1'), refused(503));
  assert.equal(seen.length, 1);
});
