// The page: which of its views is shown.

import { changed, pad } from "./desk.js";
import { $, notice } from "./page.js";
import { lastGame, play, showResult, stopPlaying } from "./playing.js";
import { openLink, showAlbum } from "./sharing.js";

const VIEWS = {
  home: { section: "home", title: "Draw and guess" },
  play: { section: "studio", title: "Play", enter: enterGame },
  draw: { section: "studio", title: "Draw", enter: enterDraw },
  result: { section: "result", title: "Result", enter: showResult },
  mine: { section: "mine", title: "My drawings", enter: showAlbum },
};

let shown = null; // the name of the view

function viewOf(fragment) {
  if (fragment.startsWith("#drawing=")) return "draw";
  const name = fragment.slice(1);
  return Object.hasOwn(VIEWS, name) && (name !== "result" || lastGame().length) ? name : "home";
}

function route() {
  const view = viewOf(location.hash);
  const { section, title, enter } = VIEWS[view];
  const [isFirst, isOther] = [shown === null, shown !== view];
  if (shown === "play" && isOther) {
    stopPlaying();
    pad.reset();
  }
  shown = view;
  for (const element of document.querySelectorAll("main > section")) {
    element.hidden = element.id !== section;
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "home" ? title : `${title} · Draw and guess`;
  $("studio").dataset.mode = view;
  if (isOther && !isFirst) {
    if (!$("notice").dataset.fault) notice("");
    $(`${section}-title`).focus();
    scrollTo(0, 0);
  }
  enter?.();
}

function enterDraw() {
  $("clock").hidden = $("left").hidden = true;
  $("studio-title").textContent = "Draw anything";
  changed(false);
  openLink();
}

function enterGame() {
  $("clock").hidden = $("left").hidden = false;
  $("studio-title").textContent = "Play";
  pad.reset();
  play(() => shown === "play");
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const canvas of document.querySelectorAll(".thumbnail")) canvas.repaint();
});
window.addEventListener("hashchange", route);
route();
