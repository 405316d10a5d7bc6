// The game: some words, some seconds each. Knows no page: hooks tell what happens.

export const ROUNDS = 6;
export const SECONDS = 20;
const PAUSE_MS = 1800; // after a round: the model says what it was

/** Guesses count as recognised while there is time left only from this probability of the first. */
const SURE = 0.4;

/** `count` words at random; of those in `before` only if there are too few others. */
export function chooseWords(words, before, count = ROUNDS) {
  const order = words.map((word) => [before.has(word), Math.random(), word]);
  return order.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, count).map(([, , word]) => word);
}

export class Game {
  /** hooks: announce(round, number, count): a word; tick(seconds left); known(round): its word is
   * recognised; ended(round): no more drawing; left(round): what is guessed is final;
   * unknown(round): the model lacks its word; finished(rounds). */
  constructor(words, hooks) {
    this.rounds = words.map((word) => ({ word, drawing: [], guesses: [], recognized: false, seconds: null }));
    this.hooks = hooks;
    this.number = 0;
    this.state = "waiting"; // → drawing → ending → waiting …
  }

  get round() {
    return this.rounds[this.number];
  }

  announce() {
    this.state = "waiting";
    this.hooks.announce(this.round, this.number + 1, this.rounds.length);
  }

  start() {
    this.state = "drawing";
    this.startedAt = performance.now();
    this.timer = setInterval(() => this.tick(), 100);
    this.tick();
  }

  tick() {
    const left = SECONDS - (performance.now() - this.startedAt) / 1000;
    this.hooks.tick(Math.max(left, 0));
    if (left <= 0) this.end();
  }

  /** Takes an answer about the drawing of this round. */
  guessed(guesses) {
    if (this.state === "waiting" || this.round.recognized) return;
    this.round.guesses = guesses;
    const [best] = guesses;
    const enough = this.state === "ending" ? 0 : SURE;
    if (best?.word !== this.round.word || best.probability < enough) return;
    this.round.recognized = true;
    this.hooks.known(this.round);
    if (this.state === "drawing") this.end();
  }

  /** Ends a round whose word another model does not know. */
  check(words) {
    if (this.state !== "drawing" || words.includes(this.round.word)) return;
    this.hooks.unknown(this.round);
    this.end();
  }

  skip() {
    if (this.state === "drawing") this.end();
  }

  end() {
    clearInterval(this.timer);
    this.state = "ending";
    this.guessed(this.round.guesses); // now the first guess counts, however sure
    this.round.seconds = Math.min((performance.now() - this.startedAt) / 1000, SECONDS);
    this.hooks.ended(this.round);
    this.timer = setTimeout(() => this.advance(), PAUSE_MS);
  }

  advance() {
    this.hooks.left(this.round);
    this.number += 1;
    if (this.round) return this.announce();
    this.state = "waiting";
    return this.hooks.finished(this.rounds);
  }

  stop() {
    clearInterval(this.timer);
    clearTimeout(this.timer);
    this.state = "waiting";
  }
}
