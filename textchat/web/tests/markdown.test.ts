import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromWire, inline, jumbo, naming, parse, plain, toWire, type Block, type Inline } from '../src/markdown';

/** The tree as one reads it: S() strong, E() em, U() under, X() strike, H() spoiler, C() code, L() link, @ # & mentions. */
const show = (nodes: Inline[]): string => nodes.map((n) => {
  switch (n.kind) {
    case 'text': return n.text;
    case 'code': return `C(${n.text})`;
    case 'link': return `L(${n.href})`;
    case 'user': return `@(${n.id})`;
    case 'role': return `&(${n.id})`;
    case 'channel': return `#(${n.id})`;
    case 'all': return `A(${n.text})`;
    default: return { strong: 'S', em: 'E', under: 'U', strike: 'X', spoiler: 'H' }[n.kind] + `(${show(n.nodes)})`;
  }
}).join('');
const blocks = (list: Block[]): string => list.map((b) => {
  switch (b.kind) {
    case 'par': return `p:${show(b.nodes)}`;
    case 'heading': return `h${b.level}:${show(b.nodes)}`;
    case 'quote': return `q[${blocks(b.blocks)}]`;
    case 'fence': return `f(${b.lang}):${b.text}`;
    case 'list': return `${b.ordered ? `o${b.start}` : 'u'}:${b.items.map(show).join(';')}`;
  }
}).join('|');

test('marks within a line', () => {
  for (const [s, want] of [
    ['**bold** *it* _it_ __under__ ~~gone~~ ||psst||', 'S(bold) E(it) E(it) U(under) X(gone) H(psst)'],
    ['**a *b* c**', 'S(a E(b) c)'], ['***both***', 'S(E(both))'], ['**a**b**', 'S(a)b**'],
    ['snake_case_name and 2 * 3 * 4', 'snake_case_name and 2 * 3 * 4'],
    ['* not* ** not**', '* not* ** not**'], ['**open', '**open'], ['a ** b', 'a ** b'],
    ['\\*plain\\* \\_x\\_', '*plain* _x_'], ['c:\\dir', 'c:\\dir'],
    ['`**a**` ``x`y``', 'C(**a**) C(x`y)'], ['`open', '`open'], ['` `', 'C( )'],
    ['<@12> <@!13> <@&14> <#15> @everyone @here', '@(12) @(13) &(14) #(15) A(@everyone) A(@here)'],
    ['<@x> <#> <@123456789012345678901>', '<@x> <#> <@123456789012345678901>'],
  ]) assert.equal(show(inline(s)), want, s);
});

test('links are found, and nothing else is one', () => {
  assert.equal(show(inline('see https://example.org/a_b_?b=c#d, or (http://x.y/z).')), 'see L(https://example.org/a_b_?b=c#d), or (L(http://x.y/z)).');
  assert.equal(show(inline('<https://a.example/x> **https://b.example**')), 'L(https://a.example/x) S(L(https://b.example))');
  assert.equal(show(inline('https://a.b"onclick=x')), 'L(https://a.b)"onclick=x');
  for (const s of ['<img src=x onerror=alert(1)>', 'javascript:alert(1)', 'ftp://x', 'https://', '[a](javascript:x)', '&lt;b&gt;']) assert.equal(show(inline(s)), s);
});

test('blocks', () => {
  for (const [s, want] of [
    ['one\ntwo', 'p:one\ntwo'], ['# A\nb\n### C', 'h1:A|p:b|h3:C'], ['#no ####no', 'p:#no ####no'],
    ['> a\n> **b**\nc', 'q[p:a\nS(b)]|p:c'], ['> > a', 'q[p:> a]'], ['>no', 'p:>no'],
    ['- a\n- *b*\nc', 'u:a;E(b)|p:c'], ['3. a\n4. b', 'o3:a;b'], ['-no', 'p:-no'],
    ['```go\nx := 1\n\n**y**\n```', 'f(go):x := 1\n\n**y**'], ['a ```b``` c', 'p:a|f():b|p: c'], ['```open', 'p:```open'], ['``````', 'p:``````'],
    ['```\na\n```\n```\nb\n```', 'f():a|f():b'], ['', ''], [' \n ', ''], ['\r\na\r\n', 'p:a'],
  ]) assert.equal(blocks(parse(s)), want, JSON.stringify(s));
});

test('what is meant to take long takes no long', () => {
  for (const s of ['*', '_', '**', '`', '||', '~~', '*a', '_a ', '**a ', '<@', '> ', '`` `', '*_**__', '\\*', '```', '* _ ** ', '- ', 'http', '***a']) {
    const long = s.repeat(2000);
    const began = performance.now();
    parse(long);
    const took = performance.now() - began;
    assert.ok(took < 500, `${JSON.stringify(s)} by 2000 took ${took} ms`);
  }
  assert.ok(plain('**'.repeat(1000) + 'a' + '**'.repeat(1000), { user: String, role: String, channel: String }).includes('a'));
});

const names = { user: (id: string) => (id === '1' ? 'Ada Lovelace' : 'Bo'), role: () => 'crew', channel: () => 'general' };

test('a message in plain words', () => {
  assert.equal(plain('**Hi** <@1>, ||secret||\n> <#3> `x`', names), 'Hi @Ada Lovelace, (hidden)\n#general x');
});

test('names become ids and come back', () => {
  const list = [{ label: '@Ada', token: '<@9>' }, { label: '@Ada Lovelace', token: '<@1>' }, { label: '#general', token: '<#3>' }, { label: '@crew', token: '<@&7>' }];
  assert.equal(toWire('hi @ada lovelace and @Ada, see #general', list), 'hi <@1> and <@9>, see <#3>');
  assert.equal(toWire('`@Ada` me@ada @Adam ```\n@crew``` @crew', list), '`@Ada` me@ada @Adam ```\n@crew``` <@&7>');
  assert.equal(fromWire('<@1> <@!2> <@&7> <#3> <@x>', names), '@Ada Lovelace @Bo @crew #general <@x>');
});

test('whom one is about to name', () => {
  assert.deepEqual(naming('hello @Ad', 9), { from: 6, query: '@ad' });
  assert.deepEqual(naming('#', 1), { from: 0, query: '#' });
  for (const [s, at] of [['mail@x', 6], ['@a b', 4], ['@ada', 0], ['', 0]] as const) assert.equal(naming(s, at), null, s);
});

test('a few emoji alone stand large', () => {
  assert.deepEqual(['👍', '❤️ 🎉', '👨‍👩‍👧', '👋🏽', 'a 👍', '1', '#', '', '👍'.repeat(7)].map(jumbo), [true, true, true, true, false, false, false, false, false]);
});
