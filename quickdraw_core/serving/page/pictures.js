// Drawings and pixels on canvases.

import { make } from "./page.js";

/** Draws strokes whose coordinates are multiplied by `scale` and moved by `left` and `top`. */
export function paintStrokes(context, strokes, { scale = 1, left = 0, top = 0, width, colour }) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const [x, y] of strokes) {
    const at = (i) => [x[i] * scale + left, y[i] * scale + top];
    context.beginPath();
    context.moveTo(...at(0));
    for (let i = 0; i < x.length; i++) context.lineTo(...at(i));
    context.stroke();
  }
}

/** Where strokes stand if they fill a square of `side`, but for a margin: for `paintStrokes`. */
export function fitted(strokes, side, margin) {
  const range = (axis) => {
    const values = strokes.flatMap((stroke) => stroke[axis]);
    const pick = (choose, start) => values.reduce((a, b) => choose(a, b), start);
    return [pick(Math.min, Infinity), pick(Math.max, -Infinity)];
  };
  const [[left, right], [top, bottom]] = [range(0), range(1)];
  const scale = (side - 2 * margin) / Math.max(right - left, bottom - top, 1);
  return { scale, left: (side - (left + right) * scale) / 2, top: (side - (top + bottom) * scale) / 2 };
}

/** An empty canvas. label: what it shows; none: it is decoration. */
function canvasOf(width, height, label) {
  const role = label ? { role: "img", ariaLabel: label } : { ariaHidden: "true" };
  return make("canvas", { width, height, ...role });
}

/** A small picture of a drawing. */
export function thumbnail(strokes, label, side = 320) {
  const canvas = canvasOf(side, side, label);
  canvas.className = "thumbnail";
  canvas.repaint = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    if (!strokes.length) return;
    const colour = getComputedStyle(document.body).getPropertyValue("--ink");
    paintStrokes(context, strokes, { ...fitted(strokes, side, side / 10), width: side / 50, colour });
  };
  canvas.repaint();
  return canvas;
}

/** A card with a drawing, its word and what else there is. label: of the drawing. */
export const card = ({ drawing, word, recognized }, label, ...rest) =>
  make(
    "article",
    { class: recognized ? "card right" : "card" },
    thumbnail(drawing, label),
    make("h2", { text: word }),
    ...rest,
  );

/** A drawing as a PNG file, dark on white. */
export function pngOf(strokes, side = 800) {
  const canvas = canvasOf(side, side);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  paintStrokes(context, strokes, { ...fitted(strokes, side, 60), width: 8, colour: "#1d2327" });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** A PNG in base64, on a canvas of as many pixels: so it needs no address of its own. */
export async function pixelsOf(base64, label) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = canvasOf(image.width, image.height, label);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas;
}

/** Has the browser save a file. */
export function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
