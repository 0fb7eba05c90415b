// What the gateway and REST carry, as far as the page reads it.
export interface User { id: string; username: string; global_name?: string | null; bot?: boolean; guest?: boolean }
export interface Member { user: User; nick?: string | null; roles: string[]; mute?: boolean; deaf?: boolean }
export interface Role { id: string; name: string; permissions: string; position: number }
export interface Channel { id: string; guild_id?: string; type: number; name: string; position: number; user_limit?: number; echo?: boolean }
export interface VoiceState {
  guild_id?: string; channel_id: string | null; user_id: string; session_id: string;
  mute: boolean; deaf: boolean; self_mute: boolean; self_deaf: boolean; member?: Member;
}
export interface Guild {
  id: string; name: string; owner_id: string; channels: Channel[]; members: Member[]; roles: Role[]; voice_states: VoiceState[];
}
export interface Message {
  id: string; channel_id: string; author: User; content: string; timestamp: string; edited_timestamp: string | null; nonce?: string | number;
}
export interface VoiceServer { token: string; guild_id: string; endpoint: string | null; endpoints?: string[] }
export interface VoiceError { guild_id: string; channel_id: string; code: string; message: string }

export const TEXT = 0;
export const VOICE = 2;
