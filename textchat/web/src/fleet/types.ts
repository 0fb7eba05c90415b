// The operator's API, as deploy/README.md has it: what the console reads.

export interface Load { pps: number; bps: number; sessions: number; cpu?: number; socket_drops?: number; loss?: number }

export interface Node {
  node: string; state: string; region: string; zone?: string; version: string; label?: string; started: string; at: string;
  capacity: { pps: number; bps: number; sessions: number };
  load: Load; call_count: number; reserved: Load; fullness: number;
  cordoned?: boolean; suspect?: boolean;
  /** Why its calls are moved away, of a node that is bad or too hot. */
  degraded?: string;
}

export interface Call { call: string; node: string; epoch: number; created: string; touched: string; spans?: string[] }

export interface Candidate {
  node: string; region: string; state: string; rtt_ms: number; rtt_from: string; fullness: number; penalty_ms: number;
  domain_ms?: number; aside_ms?: number; cost_ms: number; why_not?: string;
}
export interface Explanation { call: string; at: string; chosen?: string; reason: string; candidates: Candidate[] | null }
export interface Explained { entry?: Call & { why?: Explanation }; decisions?: Explanation[]; now: Explanation }

export interface Entry { at: string; by: string; deed: string; node?: string; call?: string; to?: string; why?: string }

/** Where a call would go. */
export interface PlannedMove { call: string; sessions: number; to?: string; why: string }
/** How a node stands, or what a drain of it would do. */
export interface Progress { node: string; state: string; emptying?: boolean; calls: number; sessions: number; moving?: number; stuck?: string; plan?: PlannedMove[] }
