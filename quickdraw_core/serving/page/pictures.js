// Drawings and pixels on canvases.

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

/** {left, top, width, height} around strokes. */
export function boundsOf(strokes) {
  const all = (axis) => strokes.flatMap((stroke) => stroke[axis]);
  const [x, y] = [all(0), all(1)];
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const [left, top] = [least(x), least(y)];
  return { left, top, width: most(x) - left, height: most(y) - top };
}

/** Where strokes stand if they fill a square of `side`, but for a margin: for `paintStrokes`. */
export function fitted(strokes, side, margin) {
  const { left, top, width, height } = boundsOf(strokes);
  const scale = (side - 2 * margin) / Math.max(width, height, 1);
  return {
    scale,
    left: (side - width * scale) / 2 - left * scale,
    top: (side - height * scale) / 2 - top * scale,
  };
}

const inkOf = (element) => getComputedStyle(element).getPropertyValue("--ink");

/** A small picture of a drawing. label: what it shows; none: it is decoration. */
export function thumbnail(strokes, label, side = 160) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side * 2;
  canvas.className = "thumbnail";
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else canvas.setAttribute("aria-hidden", "true");
  const paint = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!strokes.length) return;
    const place = fitted(strokes, canvas.width, canvas.width / 10);
    paintStrokes(context, strokes, { ...place, width: canvas.width / 50, colour: inkOf(document.body) });
  };
  canvas.repaint = paint;
  paint();
  return canvas;
}

/** A drawing as a PNG file, dark on white. */
export function pngOf(strokes, side = 800) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
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
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
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
