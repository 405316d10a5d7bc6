// Drawings that leave the page or come to it: links, files, the album.

import { album } from "./album.js";
import { desk, GUESSES, pad } from "./desk.js";
import { asFile, decodeLink, encodeLink, fileStem, firstOfNdjson, newKeyId } from "./forms.js";
import { model, ready } from "./model.js";
import { $, attempt, make, notice } from "./page.js";
import { withArticle } from "./phrases.js";
import { card, pngOf, save } from "./pictures.js";
import { lastGame } from "./playing.js";
import { guessDrawing, guessPicture } from "./server.js";

/** What is on the paper, as a drawing to keep. */
function itemNow() {
  if (!pad.strokes.length) throw new Error("Draw something first.");
  const first = desk.guesses[0]?.word ?? "drawing";
  const word = $("word").value.trim() || first;
  const recognized = word === first;
  return { word, recognized, key_id: newKeyId(), timestamp: Date.now(), drawing: pad.strokes };
}

async function copyLink(drawing, word) {
  const link = new URL(encodeLink(drawing, word), location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    notice("The link is copied. The drawing is in the link itself.");
  } catch {
    notice(`Copy this link: ${link}`);
  }
}

const simplify = async (drawing) => (await guessDrawing({ drawing, simplified: false })).drawing;

function saveItems(items) {
  if (!items.length) throw new Error("There is no drawing to download.");
  const { name, content } = asFile(items);
  save(name, content);
}

function refuseInGame() {
  if (desk.game || pad.locked) throw new Error("A game is on: draw by hand.");
}

/** Puts a drawing from elsewhere on the paper. word: what it shows, if that is known. */
function open(drawing, word) {
  refuseInGame();
  const isByte = (value) => Number.isInteger(value) && value >= 0 && value <= 255;
  pad.load(drawing, drawing.every((stroke) => stroke.length === 2 && stroke.flat().every(isByte)));
  $("word").value = word;
  if (word && model.words.length && !model.words.includes(word)) {
    notice(`This model does not know the word “${word}”, so it cannot guess it.`);
  }
}

/** Opens the drawing of the page's own link, if it has one. */
export function openLink() {
  attempt(async () => {
    const shared = decodeLink(location.hash);
    if (shared) await ready.then(() => open(shared.drawing, shared.word));
  });
}

async function openFile(file) {
  if (!file) return;
  refuseInGame();
  notice("");
  if (/\.(ndjson|jsonl)$/i.test(file.name)) {
    const { word, drawing } = firstOfNdjson(await file.text());
    open(drawing, word);
  } else open((await guessPicture(file, GUESSES)).drawing, "");
  if ($("studio").hidden) location.hash = "#draw";
}

export function showAlbum() {
  const count = album.items.length;
  const those = count === 1 ? "1 drawing" : `${count} drawings`;
  const none = "Nothing here yet. Drawings of the game are kept here, in this browser only.";
  $("mine-lead").textContent = count ? `${those}, kept in this browser only.` : none;
  $("save-all").disabled = $("forget-all").disabled = !count;
  $("album").replaceChildren(...album.items.toReversed().map(albumCard));
}

function albumCard(item) {
  const name = `${item.word}, ${new Date(item.timestamp).toLocaleString()}`;
  const button = (text, action) =>
    make("button", { type: "button", text, ariaLabel: `${text}: ${name}`, onclick: () => attempt(action) });
  const remove = () => {
    album.keep(album.items.filter((other) => other.key_id !== item.key_id));
    showAlbum();
    $("mine-title").focus();
  };
  const copy = button("Copy link", async () => copyLink(await simplify(item.drawing), item.word));
  const buttons = make("p", { class: "row" }, copy, button("Delete", remove));
  return card(item, `Drawing of ${withArticle(item.word)}`, buttons);
}

function onClick(id, action) {
  $(id).addEventListener("click", () => attempt(action));
}

onClick("link", async () => {
  const { drawing } = itemNow();
  await copyLink(pad.simplified ?? (await simplify(drawing)), $("word").value.trim());
});
onClick("picture", async () => save(`${fileStem(itemNow().word)}.png`, await pngOf(pad.strokes)));
onClick("strokes", () => saveItems([itemNow()]));
onClick("save-all", () => saveItems(album.items));
onClick("save-game", () => saveItems(lastGame().filter((round) => round.drawing.length)));
onClick("forget-all", () => {
  if (!confirm("Delete all drawings that this browser keeps?")) return;
  album.keep([]);
  showAlbum();
});
$("keep").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => {
    album.add(itemNow());
    notice("Kept in My drawings.");
  });
});
$("file").addEventListener("change", async ({ target }) => {
  await attempt(() => openFile(target.files[0]));
  target.value = "";
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  attempt(() => openFile(event.dataTransfer.files[0]));
});
document.addEventListener("paste", (event) => attempt(() => openFile(event.clipboardData.files[0])));
