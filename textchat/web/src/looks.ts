// What the page looks at: of a large community the server tells what must be known
// until it is opened, and of its members the part that is on the screen.
import { computed, effect, signal } from '@preact/signals';
import { callChannel } from './calls';
import type { Gateway } from './gateway';
import { ranges, updated, type ListUpdate, type MemberList } from './memberlist';
import { guild, houseOf, houses, isLarge, online, parentOf, putMember, textChannel } from './store';

let gateway: Gateway | undefined;
const told = new Map<string, string>(); // by community: what the server was told last

/** The list of members beside the channel that is shown, by community. */
export const memberLists = signal<ReadonlyMap<string, MemberList>>(new Map());
/** Its places on the screen; undefined while it is not shown. */
export const placesSeen = signal<readonly [number, number] | undefined>(undefined);

export function onMemberList(u: ListUpdate) {
  memberLists.value = new Map(memberLists.value).set(u.guild_id, updated(memberLists.value.get(u.guild_id), u));
  for (const o of u.ops) for (const p of o.items ?? (o.item ? [o.item] : [])) if (p.member) putMember(u.guild_id, p.member);
}

/** Another session, or one that went on: the server may not know what was looked at. */
export function lookAnew(resumed: boolean) {
  told.clear();
  memberLists.value = new Map();
  // One that went on at another server has everything open.
  if (resumed) for (const h of houses.peek().values()) if (isLarge(h)) told.set(h.guild.id, 'not known');
  tell();
}

/** A community came, and is closed. */
export function lookAt(id: string) {
  told.delete(id);
  tell();
}

export function useLooks(g: Gateway | undefined) {
  gateway = g;
  told.clear();
  memberLists.value = new Map();
}

function tell() {
  if (!online.peek() || !gateway) return;
  const shown = guild.peek();
  const call = houseOf(callChannel.peek())?.guild.id;
  const channel = (parentOf(textChannel.peek()) ?? textChannel.peek())?.id;
  const seen = placesSeen.peek();
  const list: [string, object][] = [];
  for (const h of houses.peek().values()) {
    const g = h.guild;
    const open = g.id === shown?.id || g.id === call;
    const channels = isLarge(h) && g.id === shown?.id && channel && seen ? { [channel]: ranges(...seen) } : {};
    const look = { typing: open, activities: open, threads: open, channels };
    const text = JSON.stringify(look);
    if ((told.get(g.id) ?? closed) === text) continue;
    told.set(g.id, text);
    list.push([g.id, look]);
  }
  if (list.length === 1) gateway.send(14, { guild_id: list[0][0], ...list[0][1] });
  else for (let i = 0; i < list.length; i += AT_ONCE) gateway.send(37, { subscriptions: Object.fromEntries(list.slice(i, i + AT_ONCE)) });
}
const AT_ONCE = 20; // a frame has 4,096 bytes at most
const closed = JSON.stringify({ typing: false, activities: false, threads: false, channels: {} });

const shownId = computed(() => guild.value?.id);
const channelId = computed(() => textChannel.value?.id);
effect(() => {
  void [online.value, shownId.value, channelId.value, callChannel.value, placesSeen.value];
  queueMicrotask(tell);
});
