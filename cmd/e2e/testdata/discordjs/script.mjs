// A stock discord.js bot that does as it is told, for the common script.
//
//   node script.mjs BASE TOKEN SHARDS      BASE is http://host:port
//
// Each line of standard input is {"id", "verb", "args"}, answered on standard
// output by {"id", "value"} or {"id", "code"} or {"id", "error"}; what is heard
// comes between as {"event"}.
import { createInterface } from 'node:readline';
import { Client, DiscordAPIError, Events, GatewayIntentBits, Partials } from 'discord.js';

const [base, token, shards] = process.argv.slice(2);
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const event = (text) => say({ event: text });

const client = new Client({
  intents: Object.values(GatewayIntentBits).filter((b) => typeof b === 'number'),
  partials: [Partials.Message, Partials.Channel, Partials.Reaction],
  shards: Array.from({ length: Number(shards) }, (_, i) => i), shardCount: Number(shards),
  rest: { api: base + '/api', version: '10' },
});
client.on(Events.ShardReady, (id) => event(`ready ${id}`));
client.on(Events.ShardResume, () => event('resumed'));
client.on(Events.MessageCreate, (m) => event(`message ${m.content}`));
client.on(Events.MessageUpdate, (_, m) => event(`edited ${m.content}`));
client.on(Events.MessageDelete, (m) => event(`deleted ${m.id}`));
client.on(Events.MessageBulkDelete, (list) => event(`bulk ${list.size}`));
client.on(Events.MessageReactionAdd, (r) => event(`reaction ${r.emoji.name}`));
client.on(Events.MessageReactionRemoveAll, (m) => event(`cleared ${m.id}`));
client.on(Events.ThreadCreate, (t) => event(`thread ${t.name}`));
client.on(Events.GuildRoleCreate, (r) => event(`role ${r.name}`));
client.on(Events.Error, (e) => say({ error: String(e) }));

const channel = (id) => client.channels.fetch(id);
const message = async (ch, id) => (await channel(ch)).messages.fetch({ message: id, force: true });
const guild = (id) => client.guilds.fetch(id);
const verbs = {
  send: async (ch, text) => (await (await channel(ch)).send(text)).id,
  reply: async (ch, text, to) => (await (await channel(ch)).send({ content: text, reply: { messageReference: to } })).id,
  edit: async (ch, id, text) => (await (await channel(ch)).messages.edit(id, text)).content,
  get: async (ch, id) => (await message(ch, id)).content,
  history: async (ch, limit, where, id) => [...(await (await channel(ch)).messages.fetch({ limit: Number(limit), ...(where && { [where]: id }), cache: false })).values()].map((m) => m.content).join('|'),
  react: async (ch, id, emoji) => { await (await channel(ch)).messages.react(id, emoji); },
  unreact: async (ch, id, emoji) => { await (await message(ch, id)).reactions.cache.get(emoji).users.remove(); },
  clear: async (ch, id, emoji) => { const { reactions } = await message(ch, id); await (emoji ? reactions.cache.get(emoji).remove() : reactions.removeAll()); },
  reactions: async (ch, id) => [...(await message(ch, id)).reactions.cache.keys()].join('|'),
  embed: async (ch, title, description) => (await (await channel(ch)).send({ embeds: [{ title, description }] })).id,
  embedded: async (ch, id) => (await message(ch, id)).embeds.map((e) => `${e.title}: ${e.description}`).join('|'),
  webhook: async (ch, name) => { const w = await (await channel(ch)).createWebhook({ name }); return `${w.id}/${w.token}`; },
  post: async (hook, text) => (await (await client.fetchWebhook(...hook.split('/'))).send(text)).id,
  unhook: async (hook) => { await client.deleteWebhook(hook.split('/')[0]); },
  thread: async (ch, id, name) => (await (await message(ch, id)).startThread({ name })).id,
  dm: async (user) => (await client.users.createDM(user)).id,
  reactors: async (ch, id, emoji) => [...(await (await message(ch, id)).reactions.cache.get(emoji).users.fetch()).keys()].join('|'),
  pin: async (ch, id) => { await (await channel(ch)).messages.pin(id); },
  unpin: async (ch, id) => { await (await channel(ch)).messages.unpin(id); },
  pins: async (ch) => (await (await channel(ch)).messages.fetchPins()).items.map((p) => p.message.id).join('|'),
  typing: async (ch) => { await (await channel(ch)).sendTyping(); },
  delete: async (ch, id) => { await (await channel(ch)).messages.delete(id); },
  bulk: async (ch, ...ids) => { await (await channel(ch)).bulkDelete(ids); },
  upload: async (ch, name, text) => (await (await channel(ch)).send({ files: [{ attachment: Buffer.from(text), name }] })).attachments.first().url,
  role: async (g, name) => (await (await guild(g)).roles.create({ name })).id,
  give: async (g, user, role) => { await (await (await guild(g)).members.fetch(user)).roles.add(role); },
  take: async (g, user, role) => { await (await (await guild(g)).members.fetch(user)).roles.remove(role); },
  unrole: async (g, role) => { await (await guild(g)).roles.delete(role); },
  invite: async (ch) => (await (await channel(ch)).createInvite({ maxAge: 600, unique: true })).code,
  invites: async (ch) => [...(await (await channel(ch)).fetchInvites()).keys()].join('|'),
  uninvite: async (code) => { await client.deleteInvite?.(code) ?? await client.rest.delete(`/invites/${code}`); },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, verb, args } = JSON.parse(line);
  try {
    say({ id, value: (await verbs[verb](...args)) ?? '' });
  } catch (e) {
    say(e instanceof DiscordAPIError ? { id, code: Number(e.code) } : { id, error: String(e) });
  }
}).on('close', () => void client.destroy().then(() => process.exit(0)));

client.once(Events.ClientReady, () => say({ id: 0, value: '' }));
await client.login(token);
