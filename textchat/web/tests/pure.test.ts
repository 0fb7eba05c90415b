import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff';
import { after } from '../src/closing';
import { Crossing } from '../src/crossing';
import { find, groups, wordsFor } from '../src/emoji';
import { voiceUrls } from '../src/endpoints';
import { Pulse, counted } from '../src/pulse';
import { answerOf, chosen } from '../src/regions';
import { midsOf, withNack } from '../src/sdp';
import { colour, hue, initials, inviteCode, isSilent, keyName, movedNotice, size } from '../src/text';

test('voice gateways: an entry without a host is the page’s own host and scheme', () => {
  const lan = { protocol: 'https:', hostname: '192.0.2.7', port: '8443' };
  assert.deepEqual(voiceUrls(lan, 'x:1', [':8443', ':8444', 'voice.example:443']), ['wss://192.0.2.7:8443/?v=8', 'wss://192.0.2.7:8444/?v=8', 'wss://voice.example:443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'http:', hostname: 'localhost', port: '8443' }, null, [':8443']), ['ws://localhost:8443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'https:', hostname: '::1', port: '' }, null, [':']), ['wss://[::1]:443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'https:', hostname: '[::1]', port: '8443' }, null, [':8443']), ['wss://[::1]:8443/?v=8']);
  assert.deepEqual(voiceUrls(lan, 'voice.example:443'), ['wss://voice.example:443/?v=8']);
  assert.deepEqual(voiceUrls(lan, null), []);
});

test('a region is measured by an answer without media', () => {
  const target = { address: '198.51.100.7', port: 50000, ufrag: 'prbBaVZi7P/////AAAIA', password: '/SyMcNlrnFbcpqim5mO1RAzFnRTeGFx7', expires: '' };
  const sdp = answerOf(target);
  for (const line of ['a=ice-lite', 'a=ice-ufrag:prbBaVZi7P/////AAAIA', 'a=ice-pwd:/SyMcNlrnFbcpqim5mO1RAzFnRTeGFx7', 'a=candidate:1 1 udp 2130706431 198.51.100.7 50000 typ host', 'o=- 1 1 IN IP4 198.51.100.7']) assert.ok(sdp.includes(`${line}\r\n`), line);
  assert.ok(answerOf({ ...target, address: '2001:db8::1' }).includes('o=- 1 1 IN IP6 2001:db8::1\r\n'));
  assert.ok(sdp.endsWith('\r\n'));
  const some = Array.from({ length: 20 }, (_, i) => ({ id: `r${i}`, optimal: i === 19, ...(i % 2 && { probe: target }) }));
  assert.deepEqual(chosen(some).map((r) => r.id), ['r19', 'r1', 'r3', 'r5', 'r7', 'r9', 'r11', 'r13', 'r15', 'r17']);
  assert.equal(chosen(Array.from({ length: 40 }, (_, i) => ({ id: `r${i}`, optimal: false, probe: target }))).length, 12);
});

test('nack is asked for once in every audio section, and nowhere else', () => {
  const section = (kind: string) => `m=${kind} 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=rtpmap:63 red/48000/2\r\n`;
  const sdp = 'v=0\r\ns=-\r\n' + section('audio') + section('audio') + section('video');
  const out = withNack(sdp);
  assert.equal(out.match(/a=rtcp-fb:111 nack\r\n/g)?.length, 2);
  assert.ok(out.endsWith(section('video')));
  assert.equal(withNack(out), out);
  assert.equal(withNack('v=0\r\nm=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n'), 'v=0\r\nm=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n');
  // "nack pli" is another thing.
  assert.match(withNack('m=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack pli\r\n'), /a=rtcp-fb:111 nack\r\n/);
});

test('back-off doubles, stays within its bound and starts over', () => {
  const b = new Backoff(100, 1000, () => 1);
  assert.deepEqual([b.next(), b.next(), b.next(), b.next(), b.next(), b.next()], [100, 200, 400, 800, 1000, 1000]);
  b.reset();
  assert.equal(b.next(), 100);
  const low = new Backoff(100, 1000, () => 0);
  assert.deepEqual([low.next(), low.next(2000)], [0, 2000], 'anything from zero on, but not before the server asked for');
});

test('the pulse of a path: silence is doubted, reported and lost, once each', () => {
  const p = new Pulse();
  const beats = ([
    // now, bytes, expected
    [0, 10, false], [1000, 10, false], [2000, 11, false], // alone: a report of the server now and then
    [3000, 500, true], [3250, 900, true], [4000, 1800, true], // somebody speaks
    [4249, 1800, true], [4250, 1800, true], [4599, 1800, true], [4600, 1800, true], [4700, 1800, true], [5000, 1800, true], [5199, 1800, true], [5200, 1800, true], [5750, 1800, true], [6500, 1800, true], // cut off
    [7000, 1900, true], [7500, 1900, false], // back, and a pause
    [7600, 1900, false], [8100, 1900, false], [9500, 1900, false], [12900, 1900, false], [13000, 1900, false],
  ] as const).map(([now, bytes, expected]) => {
    const b = p.beat(now, bytes, expected);
    return `${b.report ? Math.round(p.quiet) : '-'}${b.doubt ? ' doubt' : ''}${b.lost ? ' lost' : ''}`;
  });
  assert.deepEqual(beats, ['-', '-', '-', '0', '-', '0', '-', '- doubt', '-', '600', '-', '1000', '-', '1200 lost', '-', '2500', '-', '- doubt', '-', '-', '- doubt', '-', '6000 lost']);
});

test('what a connection got', () => {
  assert.deepEqual(counted([
    { type: 'transport', bytesReceived: 100, selectedCandidatePairId: 'p' }, { type: 'candidate-pair', id: 'o', localCandidateId: 'x', responsesReceived: 2 },
    { type: 'candidate-pair', id: 'p', localCandidateId: 'y' },
    { type: 'inbound-rtp', kind: 'audio', packetsReceived: 3 }, { type: 'inbound-rtp', kind: 'audio', packetsReceived: 4 }, { type: 'inbound-rtp', kind: 'video', packetsReceived: 9 }, { type: 'outbound-rtp', packetsReceived: 5 },
  ]), { bytes: 102, received: 7, from: 'y' });
});

test('two connections stand until everybody has come over, and no longer', () => {
  const set = (s: string) => new Set(s.split(' ').filter(Boolean));
  const c = new Crossing(1000);
  const step = (now: number, users: string, heard: string, nowUsers: string, nowHeard: string) =>
    c.step(now, { users: set(users), audible: set(heard) }, { users: set(nowUsers), audible: set(nowHeard) });
  assert.deepEqual(step(1020, 'ann bob', 'ann', '', ''), { give: [], done: false });
  assert.deepEqual(step(1040, 'ann bob', 'ann', 'ann', 'ann'), { give: ['ann'], done: false }, 'bob is not there');
  assert.deepEqual(step(1060, 'ann bob', 'ann bob', 'ann bob', 'ann'), { give: ['ann'], done: false }, 'bob is not heard there');
  assert.deepEqual(step(1080, 'ann bob', 'ann bob', 'ann bob', 'ann bob').done, false, 'their media may be on its way');
  assert.deepEqual(step(2560, 'ann bob', 'ann bob', 'ann bob', 'ann').done, false, 'it begins anew');
  assert.deepEqual(step(2600, '', '', 'ann bob', 'ann').done, false);
  assert.deepEqual(step(4100, '', '', 'ann bob', 'ann').done, true);
  assert.deepEqual(new Crossing(0).step(5000, { users: set('ann'), audible: set('ann') }, { users: set(''), audible: set('') }).done, true, 'five seconds are enough');
});

test('what is told of a move', () => {
  assert.equal(movedNotice({ from: 'fra-1', cause: 'drain' }, 'fra-2', 204), 'Moved to fra-2, 0.2 s.');
  assert.equal(movedNotice({ from: 'fra-1', cause: 'node_lost' }, 'fra-2', 940), 'fra-1 was lost: moved to fra-2, 0.9 s.');
  assert.equal(movedNotice({ from: '', cause: 'node_lost' }, 'fra-2', 940), 'Your voice server was lost: moved to fra-2, 0.9 s.');
  assert.equal(movedNotice({ from: 'fra-1', cause: 'mend' }, 'fra-1', 300), 'Your connection was renewed, 0.3 s.');
});

test('what follows a closed voice gateway', () => {
  for (const code of [1000, 1001, 1005, 1006, 1009, 1013, 3000, 4000, 4009, 4015, 4021, 4999]) {
    assert.equal(after(code, true), 'resume', `${code} with a session`);
    assert.equal(after(code, false), 'again', `${code} before the description`);
  }
  for (const code of [4001, 4002, 4003, 4004, 4005, 4006, 4011, 4012, 4016, 4020]) assert.equal(after(code, true), 'again', `${code}`);
  for (const code of [4014, 4022]) for (const session of [true, false]) assert.equal(after(code, session), 'told', `${code}`);
});

test('people: initials and hues', () => {
  assert.deepEqual(['Ada Lovelace', 'brian', 'Jean-Luc Van Damme', '🦊 fox', '!!', '李小龙', ''].map(initials), ['AL', 'B', 'JD', 'F', '!', '李', '?']);
  const hues = Array.from({ length: 200 }, (_, i) => hue(String(1419926400000000000n + BigInt(i))));
  assert.ok(hues.every((h) => Number.isInteger(h) && h >= 0 && h < 360));
  assert.ok(new Set(hues.map((h) => Math.floor(h / 30))).size === 12, 'neighbouring ids get hues from all around');
});

test('invite links and keys', () => {
  for (const s of ['https://h:8443/invite/aB3', ' aB3 ', 'h/invite/aB3?x=1']) assert.equal(inviteCode(s), 'aB3');
  assert.deepEqual(['KeyV', 'Digit4', 'Space', 'ControlLeft', 'F8', 'Backquote', 'ArrowUp'].map(keyName), ['V', '4', 'Space', 'Ctrl (left)', 'F8', '`', 'ArrowUp']);
  assert.deepEqual(['F8', 'ControlRight', 'KeyV', 'Space', 'CapsLock'].map(isSilent), [true, true, false, false, true]);
});

test('sizes and colours', () => {
  assert.deepEqual([0, 1023, 1536, 10 * 1024 * 1024, 3 * 1024 ** 3].map(size), ['0 bytes', '1023 bytes', '1.5 KiB', '10 MiB', '3.0 GiB']);
  assert.deepEqual([0, 255, 0xff8800].map(colour), ['', '#0000ff', '#ff8800']);
});

test('every emoji is one, stands once and is found by its words', () => {
  const all = groups.flatMap((g) => g.list);
  assert.ok(all.length > 200 && new Set(all.map((e) => e.emoji)).size === all.length);
  for (const e of all) assert.ok(/^[\p{Emoji_Presentation}\p{Extended_Pictographic}]/u.test(e.emoji) && /^[a-z]/.test(e.words), `${e.emoji} ${e.words}`);
  assert.deepEqual(find('thumbs up').map((e) => e.emoji), ['👍']);
  assert.deepEqual([find('zebra').length, wordsFor('🚀'), wordsFor('x')], [0, 'rocket launch', '']);
});

test('the names of the sections come in their order', () => {
  assert.deepEqual(midsOf('v=0\r\na=group:BUNDLE 0 a b\r\nm=audio 9\r\na=mid:0\r\nm=audio 9\r\na=mid:a\r\nm=audio 9\na=mid:b\n'), ['0', 'a', 'b']);
  assert.deepEqual(midsOf(''), []);
});
