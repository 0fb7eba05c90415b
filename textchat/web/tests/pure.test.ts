import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff';
import { after } from '../src/closing';
import { find, groups, wordsFor } from '../src/emoji';
import { voiceUrls } from '../src/endpoints';
import { withNack } from '../src/sdp';
import { colour, hue, initials, inviteCode, isSilent, keyName, size } from '../src/text';

test('voice gateways: an entry without a host is the page’s own host and scheme', () => {
  const lan = { protocol: 'https:', hostname: '192.0.2.7', port: '8443' };
  assert.deepEqual(voiceUrls(lan, 'x:1', [':8443', ':8444', 'voice.example:443']), ['wss://192.0.2.7:8443/?v=8', 'wss://192.0.2.7:8444/?v=8', 'wss://voice.example:443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'http:', hostname: 'localhost', port: '8443' }, null, [':8443']), ['ws://localhost:8443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'https:', hostname: '::1', port: '' }, null, [':']), ['wss://[::1]:443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'https:', hostname: '[::1]', port: '8443' }, null, [':8443']), ['wss://[::1]:8443/?v=8']);
  assert.deepEqual(voiceUrls(lan, 'voice.example:443'), ['wss://voice.example:443/?v=8']);
  assert.deepEqual(voiceUrls(lan, null), []);
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
  assert.deepEqual([low.next(), low.next()], [50, 100]);
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
