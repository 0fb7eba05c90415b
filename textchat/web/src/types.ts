// What the gateway and REST carry, as far as the page reads it.
export interface User { id: string; username: string; global_name?: string | null; bot?: boolean; guest?: boolean }
export interface Member { user: User; nick?: string | null; roles: string[]; mute?: boolean; deaf?: boolean; joined_at?: string }
export interface Role { id: string; name: string; permissions: string; position: number; color: number; hoist: boolean; mentionable: boolean; managed?: boolean }
/** Type 0 is of a role, 1 of a member. */
export interface Overwrite { id: string; type: 0 | 1; allow: string; deny: string }
export interface Channel {
  id: string; guild_id?: string; type: number; name: string; position: number; user_limit?: number; echo?: boolean;
  topic?: string | null; parent_id?: string | null; last_message_id?: string | null; permission_overwrites?: Overwrite[];
  /** Of threads: who began it, its life, and oneself, when one follows it. */
  owner_id?: string; thread_metadata?: { archived: boolean; locked: boolean; archive_timestamp: string }; message_count?: number; member?: { user_id?: string } | null;
}
export interface VoiceState {
  guild_id?: string; channel_id: string | null; user_id: string; session_id: string;
  mute: boolean; deaf: boolean; self_mute: boolean; self_deaf: boolean; self_video?: boolean; member?: Member;
}
export type Status = 'online' | 'idle' | 'dnd' | 'offline';
export interface Presence { user: { id: string }; guild_id?: string; status: Status }
export interface Guild {
  id: string; name: string; description?: string | null; owner_id: string; channels: Channel[]; members: Member[]; roles: Role[];
  voice_states: VoiceState[]; presences?: Presence[]; threads?: Channel[];
  large?: boolean; member_count?: number;
}
/** What a community that was not open has new; `voice_states` are told when it is opened. */
export interface PassiveUpdate { guild_id: string; channels: { id: string; last_message_id: string }[]; voice_states?: VoiceState[]; members?: Member[] }
export interface Emoji { id: string | null; name: string }
export interface Reaction { count: number; me: boolean; emoji: Emoji }
export interface Attachment { id: string; filename: string; size: number; url: string; content_type?: string; width?: number | null; height?: number | null; description?: string }
export interface Message {
  id: string; channel_id: string; guild_id?: string; author: User; content: string; timestamp: string; edited_timestamp: string | null; nonce?: string | number;
  type?: number; pinned?: boolean; webhook_id?: string;
  mentions?: User[]; mention_roles?: string[]; mention_everyone?: boolean; member?: Omit<Member, 'user'>;
  attachments?: Attachment[]; reactions?: Reaction[];
  message_reference?: { message_id?: string; channel_id?: string }; referenced_message?: Message | null;
}
export interface Invite {
  code: string; guild: { id: string; name: string }; channel?: { id: string; name: string; type: number }; inviter?: User;
  approximate_member_count?: number; uses?: number; max_uses?: number; max_age?: number; created_at?: string; expires_at?: string | null;
}
/** Why a call has another node now. `planned`: the old one still serves. */
export interface VoiceMove { from: string; to: string; cause: string; planned?: boolean }
export interface VoiceServer { token: string; guild_id: string; endpoint: string | null; endpoints?: string[]; move?: VoiceMove }
export interface VoiceError { guild_id: string; channel_id: string; code: string; message: string; full?: { place?: number; wait?: number; elsewhere?: { node: string; region: string; rtt_ms: number } } }

export const TEXT = 0, VOICE = 2, CATEGORY = 4, NEWS = 5;
export const isThread = (c: { type: number } | null | undefined) => !!c && c.type >= 10 && c.type <= 12;

/** Order of ids: they are decimal numbers too long for a JavaScript one. */
export const byId = (a: string, b: string) => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
