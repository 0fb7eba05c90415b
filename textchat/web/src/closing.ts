/** What follows when the voice gateway closes the socket. */
export type Closing = 'resume' | 'again' | 'told';

/**
 * `resume`: another socket takes the session over, nobody hears of it. `again`:
 * the session is lost, a new grant is needed. `told`: somebody disconnected or
 * moved us, and the text gateway says what comes next. A session that broke
 * between Ready and its description has nothing worth resuming.
 */
export function after(code: number, resumable: boolean): Closing {
  switch (true) {
    case code === 4014 || code === 4022: return 'told';
    case code < 4000 || code === 4000 || code === 4009 || code === 4015 || code === 4021 || code >= 4900:
      return resumable ? 'resume' : 'again';
    default: return 'again';
  }
}
