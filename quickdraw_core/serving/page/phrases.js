// What the model says about its guesses. Pure.

const BARE = new Set(
  ("animal migration,asparagus,binoculars,bread,broccoli,camouflage,eyeglasses,flip flops,grapes," +
    "grass,hot dogs,jail,lightning,pants,peas,rain,scissors,shorts,stairs,string beans,toothpaste," +
    "underwear,yoga").split(","),
);

/** "a cat", "an owl", "pants", "the Eiffel Tower". */
export function withArticle(word) {
  if (word.startsWith("The ")) return `the ${word.slice(4)}`;
  if (BARE.has(word)) return word;
  return `${/^([aeiou]|hour)/i.test(word) ? "an" : "a"} ${word}`;
}

export const percent = (share) => (share < 0.01 ? "< 1 %" : `${Math.round(share * 100)} %`);

/** Says each guess once for a drawing, in the game's way. */
export class Speaker {
  constructor() {
    this.forget();
  }

  forget() {
    this.said = new Set();
    this.sure = null;
  }

  /** A sentence about guesses, best first; null: nothing new. known: the model is sure. */
  about(guesses, known) {
    const [best] = guesses;
    if (known) {
      if (this.sure === best.word) return null;
      this.sure = best.word;
      return `Oh I know, it’s ${withArticle(best.word)}!`;
    }
    this.sure = null;
    const fresh = guesses.filter((guess) => guess.probability >= 0.1 && !this.said.has(guess.word));
    if (!fresh.length) return this.said.size ? null : "I’m not sure what that is…";
    for (const guess of fresh) this.said.add(guess.word);
    return `I see ${fresh.slice(0, 2).map((guess) => withArticle(guess.word)).join(", or ")}…`;
  }
}
