// REST, as textchat/api.md has it. Every failure is an ApiError with words for
// people.
import type { Channel, Guild, Invite, Member, Message, Role, User } from './types';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    /** The field that is wrong, when one is. */
    readonly field?: string,
    /** Milliseconds until another try is of use, when the server says so. */
    readonly wait?: number,
  ) {
    super(message);
  }
}

export interface Session {
  token: string;
  user: User;
  guild_id?: string;
  channel_id?: string;
}

let token = '';

export const setToken = (t: string) => { token = t; };

const unreachable = () => new ApiError(0, 0, 'The server cannot be reached. Check your connection.');

/** The first field that is wrong, as a path, and what is wrong with it. */
function wrong(errors: any, path = ''): [string, string] | undefined {
  if (!errors || typeof errors !== 'object') return undefined;
  if (Array.isArray(errors._errors) && errors._errors[0]?.message) return [path, errors._errors[0].message];
  for (const [k, v] of Object.entries(errors)) {
    const found = wrong(v, path ? `${path}.${k}` : k);
    if (found) return found;
  }
  return undefined;
}

function failed(status: number, data: any, header: string | null): ApiError {
  const after = Number(data.retry_after ?? header ?? 0) * 1000 || undefined;
  if (status === 429) return new ApiError(429, 0, `Too many tries. Wait ${Math.ceil((after ?? 1000) / 1000)} s and try again.`, undefined, after ?? 1000);
  const [field, detail] = wrong(data.errors) ?? [];
  return new ApiError(status, data.code ?? 0, detail ?? data.message ?? `The server answered ${status}.`, field, after);
}

/** How often what a busy server put off is asked before people are told. */
const TRIES = 3;

/** A POST that is put off may have been done all the same: of those only what may be done
 *  twice is tried again. */
async function call<T>(method: string, path: string, body?: unknown, tries = method === 'POST' ? 1 : TRIES): Promise<T> {
  for (;; tries--) {
    try {
      return await callOnce<T>(method, path, body);
    } catch (e) {
      if (tries <= 1 || !(e instanceof ApiError) || e.status !== 503 || e.wait === undefined) throw e;
      const { wait } = e;
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

async function callOnce<T>(method: string, path: string, body?: unknown): Promise<T> {
  let res: Response;
  try {
    res = await fetch('/api/v10' + path, {
      method,
      headers: { ...(token && { Authorization: token }), ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch { throw unreachable(); }
  if (res.status === 204) return undefined as T;
  const data = await res.json().catch(() => ({}));
  if (res.ok) return data as T;
  throw failed(res.status, data, res.headers.get('Retry-After'));
}

export const guest = (invite: string, nickname: string) => call<Session>('POST', '/auth/guest', { invite, nickname }, TRIES);
export const register = (username: string, password: string, invite?: string) => call<Session>('POST', '/auth/register', { username, password, invite });
export const login = (username: string, password: string) => call<Session>('POST', '/auth/login', { username, password });
export const owner = (code: string, username: string, password: string) => call<Session>('POST', '/auth/owner', { code, username, password });
export const claim = (username: string, password: string) => call<Session>('POST', '/auth/claim', { username, password });
export const logout = () => call<void>('POST', '/auth/logout');
export const invite = (code: string) => call<Invite>('GET', `/invites/${encodeURIComponent(code)}?with_counts=true`);
export const accept = (code: string) => call<Invite>('POST', `/invites/${encodeURIComponent(code)}`, {});
export const makeInvite = (channel: string, o = { max_age: 0, max_uses: 0 }) => call<Invite>('POST', `/channels/${channel}/invites`, o);

// ── Messages ────────────────────────────────────────────────────────────────

const query = (q: Record<string, string | number | undefined>) => new URLSearchParams(Object.entries(q).flatMap(([k, v]) => (v === undefined ? [] : [[k, String(v)]]))).toString();

/** Newest first. */
export const messages = (channel: string, q: { limit: number; before?: string; after?: string; around?: string }) => call<Message[]>('GET', `/channels/${channel}/messages?${query(q)}`);
export const message = (channel: string, id: string) => call<Message>('GET', `/channels/${channel}/messages/${id}`);
export const say = (channel: string, content: string, nonce: string, reply?: string) =>
  call<Message>('POST', `/channels/${channel}/messages`, { content, nonce, enforce_nonce: true, ...(reply && { message_reference: { message_id: reply, fail_if_not_exists: false } }) });
/** The same with files; `progress` is told what share of them is sent, 0..1. */
export function sayWithFiles(channel: string, content: string, nonce: string, reply: string | undefined, files: readonly File[], progress: (share: number) => void, stop: AbortSignal): Promise<Message> {
  const form = new FormData();
  form.append('payload_json', JSON.stringify({
    content, nonce, enforce_nonce: true, attachments: files.map((f, id) => ({ id, filename: f.name })), ...(reply && { message_reference: { message_id: reply, fail_if_not_exists: false } }),
  }));
  files.forEach((f, i) => form.append(`files[${i}]`, f, f.name));
  return new Promise((done, fail) => {
    const x = new XMLHttpRequest(); // fetch does not tell how far a body is sent
    x.open('POST', `/api/v10/channels/${channel}/messages`);
    x.setRequestHeader('Authorization', token);
    x.responseType = 'json';
    x.upload.onprogress = (e) => { if (e.lengthComputable) progress(e.loaded / e.total); };
    x.onload = () => (x.status < 300 ? done(x.response as Message) : fail(failed(x.status, x.response ?? {}, x.getResponseHeader('Retry-After'))));
    x.onerror = () => fail(unreachable());
    x.onabort = () => fail(new ApiError(400, 0, 'The upload was stopped.'));
    stop.addEventListener('abort', () => x.abort());
    x.send(form);
  });
}
export const react = (channel: string, id: string, emoji: string, on: boolean) => call<void>(on ? 'PUT' : 'DELETE', `/channels/${channel}/messages/${id}/reactions/${encodeURIComponent(emoji)}/@me`);
export const reactors = (channel: string, id: string, emoji: string) => call<User[]>('GET', `/channels/${channel}/messages/${id}/reactions/${encodeURIComponent(emoji)}?limit=20`);
export const pins = (channel: string) => call<{ items: { message: Message }[]; has_more: boolean }>('GET', `/channels/${channel}/messages/pins`);
export const pin = (channel: string, id: string, on: boolean) => call<void>(on ? 'PUT' : 'DELETE', `/channels/${channel}/pins/${id}`);
export const edit = (channel: string, id: string, content: string) => call<Message>('PATCH', `/channels/${channel}/messages/${id}`, { content });
export const unsay = (channel: string, message: string) => call<void>('DELETE', `/channels/${channel}/messages/${message}`);
/** Begins a thread, on a message or on its own. */
export const beginThread = (channel: string, name: string, message?: string) =>
  call<Channel>('POST', `/channels/${channel}${message ? `/messages/${message}` : ''}/threads`, { name, ...(!message && { type: 11 }) });
export const changeThread = (thread: string, change: { archived?: boolean; locked?: boolean; name?: string }) => call<Channel>('PATCH', `/channels/${thread}`, change);
export const followThread = (thread: string, on: boolean) => call<void>(on ? 'PUT' : 'DELETE', `/channels/${thread}/thread-members/@me`);
export const closedThreads = (channel: string) => call<{ threads: Channel[] }>('GET', `/channels/${channel}/threads/archived/public?limit=50`);
export const typing = (channel: string) => call<void>('POST', `/channels/${channel}/typing`);

/** The regions there are, with what to measure them by. */
export const regions = () => call<import('./regions').Region[]>('GET', '/voice/regions');

// ── People and the community ────────────────────────────────────────────────

export const moderate = (guild: string, user: string, change: { mute?: boolean; deaf?: boolean; channel_id?: string | null; nick?: string | null }) => call<Member>('PATCH', `/guilds/${guild}/members/${user}`, change);
export const rename = (guild: string, nick: string) => call<Member>('PATCH', `/guilds/${guild}/members/@me`, { nick });
export const bans = (guild: string) => call<{ user: User; reason: string | null }[]>('GET', `/guilds/${guild}/bans`);
export const ban = (guild: string, user: string, on: boolean) => call<void>(on ? 'PUT' : 'DELETE', `/guilds/${guild}/bans/${user}`, on ? {} : undefined);
export const arrange = (guild: string, what: 'channels' | 'roles', order: { id: string; position: number }[]) => call<unknown>('PATCH', `/guilds/${guild}/${what}`, order);
export const kick = (guild: string, user: string) => call<void>('DELETE', `/guilds/${guild}/members/${user}`);
export const giveRole = (guild: string, user: string, role: string, on: boolean) => call<void>(on ? 'PUT' : 'DELETE', `/guilds/${guild}/members/${user}/roles/${role}`);
export const changeGuild = (guild: string, change: { name?: string; description?: string }) => call<Guild>('PATCH', `/guilds/${guild}`, change);
export const makeChannel = (guild: string, c: Partial<Channel>) => call<Channel>('POST', `/guilds/${guild}/channels`, c);
export const changeChannel = (channel: string, c: Partial<Channel>) => call<Channel>('PATCH', `/channels/${channel}`, c);
export const dropChannel = (channel: string) => call<Channel>('DELETE', `/channels/${channel}`);
export const makeRole = (guild: string, r: Partial<Role>) => call<Role>('POST', `/guilds/${guild}/roles`, r);
export const changeRole = (guild: string, role: string, r: Partial<Role>) => call<Role>('PATCH', `/guilds/${guild}/roles/${role}`, r);
export const dropRole = (guild: string, role: string) => call<void>('DELETE', `/guilds/${guild}/roles/${role}`);
export const invites = (guild: string) => call<Invite[]>('GET', `/guilds/${guild}/invites`);
export const dropInvite = (code: string) => call<Invite>('DELETE', `/invites/${encodeURIComponent(code)}`);
