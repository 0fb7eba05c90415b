// When a call moves, two connections stand for a while. Who is heard on the new one
// is silenced on the old; the old one goes when nobody needs it any more.

const bothFor = 5_000; // ms that two stand at most
const bothMore = 1_500; // and after everybody is on the new one: some media may still be on its way

export interface Side {
  users: ReadonlySet<string>; // who is there
  audible: ReadonlySet<string>; // who was heard within the last moment
}

/** Two connections of one call, the old one and the new. Times are in ms. */
export class Crossing {
  private over = 0; // since when everybody is on the new one

  constructor(private began: number) {}

  /** Who is to be heard on the new one from now on, and whether the old one may go. */
  step(now: number, old: Side, next: Side): { give: string[]; done: boolean } {
    const here = [...old.users].every((u) => next.users.has(u)) && [...old.audible].every((u) => next.audible.has(u));
    if (!here) this.over = 0;
    else this.over ||= now;
    return { give: [...next.audible], done: now - this.began >= bothFor || (here && now - this.over >= bothMore) };
  }
}
