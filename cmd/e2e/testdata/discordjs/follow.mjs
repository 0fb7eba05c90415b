// Logs a stock discord.js bot in, has it ask for a voice channel the way that
// @discordjs/voice does, and tells, a line each, which voice servers it is sent to.
//
//   node follow.mjs API TOKEN CHANNEL      API is https://host:port/api
import { Client, Events, GatewayIntentBits } from 'discord.js';

const [api, token, name] = process.argv.slice(2);
const client = new Client({ intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildVoiceStates], rest: { api, version: '10' } });
const say = (what) => console.log(JSON.stringify(what));

client.once(Events.ClientReady, (c) => {
  const guild = c.guilds.cache.first();
  const channel = guild.channels.cache.find((ch) => ch.name === name);
  const adapter = guild.voiceAdapterCreator({
    onVoiceServerUpdate: (d) => say({ endpoint: d.endpoint, token: d.token, move: d.move ?? null }),
    onVoiceStateUpdate: (d) => say({ state: d.channel_id ? 'in' : 'out', session: d.session_id }),
    destroy: () => say({ destroyed: true }),
  });
  adapter.sendPayload({ op: 4, d: { guild_id: guild.id, channel_id: channel.id, self_mute: false, self_deaf: false } });
  say({ asked: channel.name });
});
client.on(Events.Error, (e) => say({ error: String(e) }));
process.stdin.on('end', () => void client.destroy().then(() => process.exit(0))).resume();
setTimeout(() => { say({ error: 'nobody ended it within 60 s' }); process.exit(1); }, 60_000);
await client.login(token);
