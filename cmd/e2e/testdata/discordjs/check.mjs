// Logs a stock discord.js bot in and tells, a line each, what it sees of voice.
//
//   node check.mjs API TOKEN      API is https://host:port/api
//
// It ends when it has seen somebody join, mute and leave a voice channel.
import { Client, Events, GatewayIntentBits } from 'discord.js';

const [api, token] = process.argv.slice(2);
const client = new Client({
  intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildVoiceStates, GatewayIntentBits.GuildMessages],
  rest: { api, version: '10' },
});
const say = (what) => console.log(JSON.stringify(what));

client.once(Events.ClientReady, (c) => {
  for (const guild of c.guilds.cache.values()) {
    say({
      ready: c.user.displayName,
      guild: guild.name,
      channels: guild.channels.cache.map((ch) => ch.name).sort(),
      voice: guild.voiceStates.cache.filter((v) => v.channel).map((v) => [v.member?.displayName, v.channel.name]),
    });
  }
});
client.on(Events.VoiceStateUpdate, (before, now) => {
  const who = now.member?.displayName ?? now.id;
  if (!before.channelId && now.channelId) say({ joined: who, channel: now.channel?.name });
  else if (before.channelId && !now.channelId) {
    say({ left: who, channel: before.channel?.name });
    client.destroy().then(() => process.exit(0));
  } else if (before.selfMute !== now.selfMute) say({ mute: now.selfMute, who });
});
client.on(Events.Error, (e) => say({ error: String(e) }));
setTimeout(() => { say({ error: 'nothing more happened within 60 s' }); process.exit(1); }, 60_000);
await client.login(token);
