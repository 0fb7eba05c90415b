import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff';
import { voiceUrls } from '../src/endpoints';
import { withNack } from '../src/sdp';

test('voice gateways: an entry without a host is the page’s own host and scheme', () => {
  const lan = { protocol: 'https:', hostname: '192.0.2.7', port: '8443' };
  assert.deepEqual(voiceUrls(lan, 'x:1', [':8443', ':8444', 'voice.example:443']), ['wss://192.0.2.7:8443/?v=8', 'wss://192.0.2.7:8444/?v=8', 'wss://voice.example:443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'http:', hostname: 'localhost', port: '8443' }, null, [':8443']), ['ws://localhost:8443/?v=8']);
  assert.deepEqual(voiceUrls({ protocol: 'https:', hostname: '::1', port: '' }, null, [':']), ['wss://[::1]:443/?v=8']);
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
});

test('back-off doubles, stays within its bound and starts over', () => {
  const b = new Backoff(100, 1000, () => 1);
  assert.deepEqual([b.next(), b.next(), b.next(), b.next(), b.next(), b.next()], [100, 200, 400, 800, 1000, 1000]);
  b.reset();
  assert.equal(b.next(), 100);
  const low = new Backoff(100, 1000, () => 0);
  assert.deepEqual([low.next(), low.next()], [50, 100]);
});
