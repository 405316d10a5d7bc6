// The model that guesses: what the server says of it.

import { $, make, trouble } from "./page.js";
import { thumbnail } from "./pictures.js";
import { chooseWords } from "./game.js";
import { call, persist } from "./server.js";

const WALL = 12; // drawings on the first view

/** info: of /api/model, null until there is a model; words: those that it knows. */
export const model = { info: null, words: [] };

export async function loadModel() {
  model.info = await persist(() => call("api/model"), trouble);
  if (!model.info) return;
  model.words = (await persist(() => call("api/words"), trouble))?.words ?? [];
  $("words").replaceChildren(...model.words.map((word) => make("option", { value: word })));
  $("model").textContent = `${knows()} ${hits()}`;
}

/** Settled once there is a model. */
export const ready = loadModel();
ready.then(fillWall);

const knows = () => `The model ${model.info.name} knows ${model.words.length} words.`;

function hits() {
  const top3 = model.info.metrics?.top_3;
  if (!top3) return "";
  const share = (top3.value * 100).toFixed(1);
  return `For ${share} % of drawings that it had never seen, the word was among its first three guesses.`;
}

/** Some drawings of others; none if the server has no store. */
export function othersDrawings(word, count) {
  const path = `api/words/${encodeURIComponent(word)}/drawings?count=${count}`;
  return call(path).then(({ drawings }) => drawings, () => []);
}

async function fillWall() {
  const [first, ...rest] = chooseWords(model.words, new Set(), WALL);
  const drawings = await othersDrawings(first, 1);
  if (!drawings.length) return; // there is no store: not asked again
  const others = await Promise.all(rest.map((word) => othersDrawings(word, 1)));
  const all = [...drawings, ...others.flat()];
  $("wall").replaceChildren(...all.map((drawing) => thumbnail(drawing)));
}
