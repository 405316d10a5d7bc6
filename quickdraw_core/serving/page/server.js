// The server's answers, and what to do while there are none.

const TIMEOUT_MS = 15000;

/** Why a call gave no answer. again: seconds after which it may be tried again; null: never. */
export class Fault extends Error {
  constructor(message, again) {
    super(message);
    this.again = again;
  }
}

/** The JSON that a path answers with. Throws `Fault`. */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new Fault("The server does not answer. Nothing is lost; trying again…", 2);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const sentence = answer?.error ?? `The server answers with an error (HTTP ${response.status}).`;
  const isBusy = response.status === 503 || response.status === 429;
  throw new Fault(sentence, isBusy ? Number(response.headers.get("Retry-After")) || 3 : null);
}

/** The answer to a question about a drawing. Throws `Fault`. */
export function guessDrawing(question) {
  const headers = { "Content-Type": "application/json" };
  return call("api/guess", { method: "POST", headers, body: JSON.stringify(question) });
}

/** Guesses from a picture file, and the strokes that were found in it. Throws `Fault`. */
export function guessPicture(file, guesses) {
  const body = new FormData();
  body.append("picture", file);
  return call(`api/guess/picture?guesses=${guesses}`, { method: "POST", body });
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Tries a call until it is answered or refused; tells `trouble` a `Fault`, and null once it is over. */
export async function persist(attempt, trouble) {
  for (;;) {
    try {
      const answer = await attempt();
      trouble(null);
      return answer;
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      trouble(fault);
      if (fault.again === null) return null;
      await sleep(fault.again);
    }
  }
}

/** Asks for guesses, one request at a time: of those that wait, the newest alone is sent. */
export class Guesser {
  /** hooks: answered(answer), trouble(fault or null), busy(whether there is a question). */
  constructor(hooks) {
    this.hooks = hooks;
    this.next = null;
    this.isBusy = false;
    this.turn = 0;
  }

  ask(request) {
    this.next = request;
    if (!this.isBusy) this.run();
  }

  /** Drops what was asked: the drawing is gone. */
  forget() {
    this.next = null;
    this.turn += 1;
  }

  async run() {
    this.setBusy(true);
    while (this.next) {
      let sent;
      let turn;
      // A second attempt sends what is newest by then, and nothing if that is forgotten.
      const answer = await persist(async () => {
        if (this.next) [sent, turn, this.next] = [this.next, this.turn, null];
        return turn === this.turn ? guessDrawing(sent) : null;
      }, this.hooks.trouble);
      if (answer && turn === this.turn) this.hooks.answered(answer);
    }
    this.setBusy(false);
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    this.hooks.busy(isBusy);
  }
}
