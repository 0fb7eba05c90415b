// The emoji one can pick, by group, each with the words it is found by. They are
// those of Unicode; the system draws them.

const table = `
Faces
😀 grin smile happy|😄 laugh smile happy|😁 beam grin|😅 sweat relief|😂 joy tears laugh|🤣 rolling laugh|🙂 slight smile|🙃 upside down|😉 wink|😊 blush smile|😇 angel halo|🥰 love hearts|😍 heart eyes love|😘 kiss|😋 yum tasty|😜 tongue wink|🤪 zany crazy|🤗 hug|🤭 oops giggle|🤫 quiet shush|🤔 think hmm|🫡 salute|🤐 zip mouth|😐 neutral|😶 speechless|😏 smirk|🙄 roll eyes|😬 grimace|😌 relieved calm|😴 sleep tired|🤤 drool|😷 mask ill|🤒 fever ill|🤯 mind blown|🥳 party celebrate|😎 cool sunglasses|🤓 nerd glasses|🧐 monocle inspect|😕 confused|🙁 frown sad|😮 wow open mouth|😳 flushed|🥺 plead puppy|😢 cry sad|😭 sob cry|😱 scream fear|😤 huff steam|😡 angry red|🤬 swear|💀 skull dead|🤡 clown|👻 ghost|👽 alien|🤖 robot bot
Hands
👍 thumbs up yes good|👎 thumbs down no bad|👏 clap applause|🙌 raise hooray|🙏 please thanks pray|👋 wave hello bye|🤝 handshake deal|👌 ok fine|✌️ peace victory|🤞 fingers crossed luck|🤟 love you|🤘 rock horns|👈 left point|👉 right point|👆 up point|👇 down point|☝️ one point up|✋ stop hand|💪 strong muscle|🫶 heart hands|🤷 shrug dunno|🤦 facepalm|👀 eyes look|🧠 brain|👂 ear listen|👄 mouth
Hearts and marks
❤️ heart love red|🧡 heart orange|💛 heart yellow|💚 heart green|💙 heart blue|💜 heart purple|🖤 heart black|💔 broken heart|💯 hundred|✅ check done yes|❌ cross no wrong|❓ question|❗ exclamation|‼️ double exclamation|⚠️ warning|🚫 forbidden|⭐ star|🌟 glowing star|✨ sparkles new|🔥 fire hot|💥 boom bang|💤 sleep zzz|💬 speech talk|🔔 bell|🔕 bell off quiet|🎵 music note|➕ plus|➖ minus|🔴 red circle|🟠 orange circle|🟡 yellow circle|🟢 green circle|🔵 blue circle
Things
🎉 party tada celebrate|🎂 cake birthday|🎁 gift present|🏆 trophy win|🥇 gold medal first|🎮 game controller|🎲 dice|🎯 target goal|🎤 microphone sing|🎧 headphones listen|🎸 guitar|🎬 film movie|📷 camera photo|💻 laptop computer|🖥️ desktop computer|⌨️ keyboard|📱 phone mobile|🔋 battery|💡 idea bulb light|🔧 wrench fix tool|🔨 hammer build|⚙️ gear settings|🐛 bug|📦 package box|🚀 rocket launch ship|🛠️ tools|📌 pin|📎 paperclip|📝 note write memo|📅 calendar date|📈 chart up|📉 chart down|🔒 lock|🔑 key|⏰ alarm clock|⏳ hourglass wait|💰 money bag|✉️ mail letter|🗑️ bin trash
Nature and food
☀️ sun|🌙 moon night|🌈 rainbow|☁️ cloud|⚡ lightning|❄️ snow cold|🌊 wave sea water|🌍 earth world|🌱 seedling plant|🌳 tree|🌸 blossom flower|🍀 clover luck|🐶 dog|🐱 cat|🦊 fox|🐻 bear|🐼 panda|🐸 frog|🐧 penguin|🦆 duck|🦉 owl|🐝 bee|🦋 butterfly|🐙 octopus|🐬 dolphin|🐳 whale|🍎 apple|🍌 banana|🍓 strawberry|🍕 pizza|🍔 burger|🌮 taco|🍣 sushi|🍪 cookie|🍫 chocolate|🍿 popcorn|☕ coffee|🍵 tea|🍺 beer|🍷 wine|🥂 cheers
Places
🏠 house home|🏢 office|⛵ sailboat boat|🚢 ship|⚓ anchor harbour|🚂 train|🚗 car|🚲 bicycle|✈️ plane flight|🗺️ map|🏖️ beach holiday|⛺ tent camp|🏔️ mountain|🌆 city evening|🏁 finish flag|🚩 red flag|🏳️ white flag
`;

export interface Picked { emoji: string; words: string }
export interface Group { name: string; list: Picked[] }

const lines = table.trim().split('\n');
export const groups: Group[] = lines.flatMap((l, i) => (i % 2 ? [] : [{
  name: l, list: lines[i + 1].split('|').map((e) => ({ emoji: e.slice(0, e.indexOf(' ')), words: e.slice(e.indexOf(' ') + 1) })),
}]));

/** What an emoji is called, as far as it is one of these. */
export const wordsFor = (emoji: string) => groups.flatMap((g) => g.list).find((e) => e.emoji === emoji)?.words.split(' ').slice(0, 2).join(' ') ?? '';

/** Those of which a word begins with each word of the query. */
export function find(query: string): Picked[] {
  const q = query.toLowerCase().trim().split(/\s+/);
  return groups.flatMap((g) => g.list).filter((e) => q.every((w) => e.emoji === w || e.words.split(' ').some((x) => x.startsWith(w))));
}
