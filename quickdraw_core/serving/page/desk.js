// The paper and the guesses beside it.

import { loadModel, model } from "./model.js";
import { $, make, speak, trouble } from "./page.js";
import { Pad } from "./pad.js";
import { percent, Speaker, withArticle } from "./phrases.js";
import { pixelsOf } from "./pictures.js";
import { Guesser } from "./server.js";

export const GUESSES = 5;
const LIVE_MS = 300; // between guesses while a stroke is drawn
const KNOWN = 0.8; // from this probability on, the model says that it knows

export const pad = new Pad($("pad"), changed, (text) => ($("pen").textContent = text));
const guesser = new Guesser({
  answered,
  trouble,
  busy: (isBusy) => $("guesses").setAttribute("aria-busy", isBusy),
});
const speaker = new Speaker();

/** guesses: about what is on the paper, best first. game: the one that is on. */
export const desk = { guesses: [], game: null };

let live = null; // the timer of the next guess while a stroke is drawn
let imagesTurn = 0; // of the newest images: older ones come too late

/** Asks for guesses about what is on the paper. */
export function ask() {
  clearTimeout(live);
  live = null;
  guesser.ask({
    // A copy: a stroke under way grows.
    drawing: structuredClone(pad.simplified ?? pad.strokes),
    simplified: pad.simplified !== null,
    guesses: GUESSES,
    show_images: $("sees").open && !desk.game,
  });
}

export function changed(isDrawing) {
  $("undo").disabled = !pad.can(-1);
  $("redo").disabled = !pad.can(1);
  $("clear").disabled = !pad.strokes.length;
  if (isDrawing) live ??= setTimeout(ask, LIVE_MS);
  else if (pad.strokes.length) ask();
  else blank();
}

function blank() {
  clearTimeout(live);
  live = null;
  guesser.forget();
  speaker.forget();
  showGuesses([]);
  desk.game?.guessed([]);
  showImages([]);
  $("speech").textContent = desk.game ? "" : "Draw something, and I say what I see.";
}

function answered({ guesses, images, model: by }) {
  const { game } = desk;
  if (model.info && by.version !== model.info.version) loadModel().then(() => game?.check(model.words));
  showGuesses(guesses);
  showImages(images);
  game?.guessed(guesses);
  if (game && game.state !== "drawing") return;
  const sentence = speaker.about(guesses, !game && guesses[0].probability >= KNOWN);
  if (sentence) speak(sentence);
}

function showGuesses(guesses) {
  desk.guesses = guesses;
  const list = $("guesses");
  while (list.children.length < guesses.length) list.append(guessRow());
  [...list.children].forEach((row, i) => {
    row.hidden = i >= guesses.length;
    if (!row.hidden) fillRow(row, guesses[i]);
  });
  const near = model.info?.confusions?.[guesses[0]?.word] ?? [];
  $("neighbours").textContent = near.length
    ? `Often mixed up with ${withArticle(guesses[0].word)}: ${near.map(withArticle).join(", ")}.`
    : "";
}

const guessRow = () => make("li", {}, make("span", { class: "word" }), make("b"));

function fillRow(row, { word, probability }) {
  row.firstChild.textContent = word;
  row.lastChild.textContent = percent(probability);
  row.style.setProperty("--share", probability);
  return row;
}

/** A list of guesses that stays as it is. */
export const guessList = (guesses) =>
  make("ol", { class: "guesses" }, ...guesses.map((guess) => fillRow(guessRow(), guess)));

async function showImages(images) {
  const turn = ++imagesTurn;
  if (!images) return;
  const parts = images.flatMap(({ side_px: side, channels }) =>
    channels.map(async ({ name, png_base64: png }) => {
      const picture = await pixelsOf(png, `${name}, ${side} by ${side} pixels`);
      return make("figure", {}, picture, make("figcaption", { text: name }));
    }),
  );
  const figures = await Promise.all(parts);
  if (turn === imagesTurn) $("channels").replaceChildren(...figures);
}

$("undo").addEventListener("click", () => pad.move(-1));
$("redo").addEventListener("click", () => pad.move(1));
$("clear").addEventListener("click", () => pad.clear());
$("sees").addEventListener("toggle", () => $("sees").open && pad.strokes.length && ask());
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const isOurs = (event.ctrlKey || event.metaKey) && (key === "z" || key === "y");
  if (!isOurs || $("studio").hidden || event.target.matches("input")) return;
  event.preventDefault();
  pad.move(key === "y" || event.shiftKey ? 1 : -1);
});
