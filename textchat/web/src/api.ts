// REST, as textchat/api.md has it. Every failure is an ApiError with words for
// people.
import type { Message, User } from './types';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    /** The field that is wrong, when one is. */
    readonly field?: string,
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

export interface Invite {
  code: string;
  guild: { id: string; name: string };
  channel?: { id: string; name: string; type: number };
  approximate_member_count?: number;
}

let token = '';

export const setToken = (t: string) => { token = t; };

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let res: Response;
  try {
    res = await fetch('/api/v10' + path, {
      method,
      headers: { ...(token && { Authorization: token }), ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, 0, 'The server cannot be reached. Check your connection.');
  }
  if (res.status === 204) return undefined as T;
  const data = await res.json().catch(() => ({}));
  if (res.ok) return data as T;
  const field = Object.keys(data.errors ?? {})[0];
  const detail = field && data.errors[field]?._errors?.[0]?.message;
  if (res.status === 429) throw new ApiError(429, 0, `Too many tries. Wait ${Math.ceil(data.retry_after ?? 1)} s and try again.`);
  throw new ApiError(res.status, data.code ?? 0, detail ?? data.message ?? `The server answered ${res.status}.`, field);
}

export const guest = (invite: string, nickname: string) => call<Session>('POST', '/auth/guest', { invite, nickname });
export const register = (username: string, password: string, invite?: string) => call<Session>('POST', '/auth/register', { username, password, invite });
export const login = (username: string, password: string) => call<Session>('POST', '/auth/login', { username, password });
export const owner = (code: string, username: string, password: string) => call<Session>('POST', '/auth/owner', { code, username, password });
export const claim = (username: string, password: string) => call<Session>('POST', '/auth/claim', { username, password });
export const logout = () => call<void>('POST', '/auth/logout');
export const invite = (code: string) => call<Invite>('GET', `/invites/${encodeURIComponent(code)}?with_counts=true`);
export const accept = (code: string) => call<Invite>('POST', `/invites/${encodeURIComponent(code)}`, {});
export const makeInvite = (channel: string) => call<Invite>('POST', `/channels/${channel}/invites`, { max_age: 0, max_uses: 0 });
export const messages = (channel: string, before?: string) => call<Message[]>('GET', `/channels/${channel}/messages?limit=50${before ? `&before=${before}` : ''}`);
export const say = (channel: string, content: string, nonce: string) => call<Message>('POST', `/channels/${channel}/messages`, { content, nonce, enforce_nonce: true });
export const typing = (channel: string) => call<void>('POST', `/channels/${channel}/typing`);
export const unsay = (channel: string, message: string) => call<void>('DELETE', `/channels/${channel}/messages/${message}`);
export const moderate = (guild: string, user: string, change: { mute?: boolean; deaf?: boolean; channel_id?: string | null }) => call<unknown>('PATCH', `/guilds/${guild}/members/${user}`, change);
