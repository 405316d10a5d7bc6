// The game on the page: its cards, its clock, its result.

import { album } from "./album.js";
import { desk, guessList, pad } from "./desk.js";
import { newKeyId } from "./forms.js";
import { chooseWords, Game, SECONDS } from "./game.js";
import { model, othersDrawings, ready } from "./model.js";
import { $, make, notice, speak } from "./page.js";
import { withArticle } from "./phrases.js";
import { card, thumbnail } from "./pictures.js";

const OTHERS = 8;
const SAID_SECONDS = [10, 5]; // to a screen reader

let finished = []; // the rounds of the last game

export const lastGame = () => finished;

const hooks = {
  announce(round, number, count) {
    pad.lock(false);
    pad.reset();
    pad.lock(true);
    pad.changed(false);
    $("studio-title").textContent = `Draw ${withArticle(round.word)}`;
    $("round").textContent = `${number} / ${count}`;
    $("card-round").textContent = `Word ${number} of ${count}`;
    $("card-word").textContent = round.word;
    $("card-time").textContent = `in ${SECONDS} seconds`;
    this.tick(SECONDS);
    $("card").returnValue = "";
    $("card").showModal();
  },

  tick(left) {
    const seconds = Math.ceil(left);
    $("left").value = left / SECONDS;
    if ($("seconds").textContent === `${seconds} s`) return;
    $("seconds").textContent = `${seconds} s`;
    if (SAID_SECONDS.includes(seconds)) $("pen").textContent = `${seconds} seconds left`;
  },

  known(round) {
    speak(`Oh I know, it’s ${withArticle(round.word)}!`);
  },

  ended(round) {
    pad.lock(true);
    if (!round.recognized) speak("Sorry, I couldn’t guess it.");
  },

  left(round) {
    Object.assign(round, { drawing: pad.strokes, timestamp: Date.now(), key_id: newKeyId() });
    if (round.drawing.length) album.add(round);
  },

  unknown(round) {
    notice(`There is another model now, and it does not know “${round.word}”.`);
  },

  finished(rounds) {
    finished = rounds;
    desk.game = null;
    location.hash = "#result";
  },
};

/** Begins a game, once there is a model; isStill: whether the player still waits then. */
export async function play(isStill) {
  pad.lock(true);
  $("speech").textContent = "";
  await ready;
  if (desk.game || !isStill() || !model.words.length) return;
  const before = new Set(finished.map((round) => round.word));
  desk.game = new Game(chooseWords(model.words, before), hooks);
  desk.game.announce();
}

export function stopPlaying() {
  desk.game?.stop();
  desk.game = null;
  $("card").close();
  pad.lock(false);
}

export function showResult() {
  const right = finished.filter((round) => round.recognized).length;
  const count = finished.length;
  $("result-title").textContent = `${right} of ${count} recognised`;
  const leads = ["That was hard for me. Once more?", "Well drawn!", "All of them. You draw well!"];
  $("result-lead").textContent = leads[right === count ? 2 : Number(right * 2 >= count)];
  $("rounds").replaceChildren(...finished.map(roundCard));
}

function roundCard({ word, drawing, guesses, recognized, seconds }) {
  const thought = guesses.length ? `I saw ${withArticle(guesses[0].word)}` : "I saw nothing";
  const verdict = recognized ? `Recognised after ${seconds.toFixed(1)} s` : thought;
  const others = make("div", { class: "others" });
  othersDrawings(word, OTHERS).then((drawings) => drawings.length && fill(others, word, drawings));
  return card(
    { drawing, word, recognized },
    drawing.length ? `Your drawing of ${withArticle(word)}` : "No drawing",
    make("p", { class: "verdict", text: verdict }),
    guessList(guesses.slice(0, 3)),
    others,
  );
}

function fill(others, word, drawings) {
  const ariaLabel = `${drawings.length} drawings of ${withArticle(word)} by others`;
  const row = make("div", { role: "img", ariaLabel }, ...drawings.map((drawing) => thumbnail(drawing)));
  others.append(make("p", { class: "muted", text: "How others drew it" }), row);
}

$("skip").addEventListener("click", () => desk.game?.skip());
$("card").addEventListener("cancel", () => (location.hash = "#home"));
$("card").addEventListener("close", () => {
  if ($("card").returnValue !== "start" || !desk.game) return;
  pad.lock(false);
  desk.game.start();
  $("pad").focus();
});
