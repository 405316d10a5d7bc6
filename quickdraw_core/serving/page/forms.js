// A drawing in the forms that leave this page: a link, a line of Google's ndjson, a zip file of
// such. Pure: from values to values.
//
// A drawing is a list of strokes; a stroke is [[x…], [y…]] if simplified (integers 0..255), and
// [[x…], [y…], [t…]] if raw (any unit, t in milliseconds since the first point).

const MAX_POINTS = 20000;

/** The fragment of a link that holds a simplified drawing and, if given, its word.
 * A stroke is its number of points (7 bits a byte, lowest first), then a byte for each x and y. */
export function encodeLink(drawing, word = "") {
  const bytes = [];
  for (const [x, y] of drawing) {
    let count = x.length;
    for (; count > 127; count >>>= 7) bytes.push((count & 127) | 128);
    bytes.push(count, ...x, ...y);
  }
  const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
  const fields = { drawing: text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "") };
  return `#${new URLSearchParams(word ? { ...fields, word } : fields)}`;
}

/** {drawing, word} of a link's fragment; null: it holds none. Throws if it is damaged. */
export function decodeLink(fragment) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  if (!fields.has("drawing")) return null;
  const damaged = () => new Error("This link holds no whole drawing; copy it once more.");
  let text;
  try {
    text = atob(fields.get("drawing").replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    throw damaged();
  }
  const drawing = [];
  for (let at = 0; at < text.length; ) {
    let count = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= text.length || shift > 14) throw damaged();
      const byte = text.charCodeAt(at++);
      count |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    if (!count || count > MAX_POINTS || at + 2 * count > text.length) throw damaged();
    const axis = (from) => Array.from({ length: count }, (_, i) => text.charCodeAt(from + i));
    drawing.push([axis(at), axis(at + count)]);
    at += 2 * count;
  }
  if (!drawing.length) throw damaged();
  return { drawing, word: fields.get("word") ?? "" };
}

/** A key_id as Google's look: 16 digits. */
export const newKeyId = () => String(4e15 + Math.floor(Math.random() * 3e15));

/** A line of Google's raw ndjson. timestamp: milliseconds since 1970. */
export function ndjsonLine({ word, timestamp, recognized, key_id, drawing }) {
  const time = new Date(timestamp).toISOString().replace("T", " ").replace("Z", " UTC");
  const row = { word, countrycode: "", timestamp: time, recognized, key_id, drawing };
  return `${JSON.stringify(row)}\n`;
}

/** The first drawing of an ndjson file, {word, drawing}. Throws if there is none. */
export function firstOfNdjson(text) {
  try {
    const { word, drawing } = JSON.parse(text.split("\n").find((line) => line.trim()));
    const axes = drawing[0].length;
    const isAxis = (axis, length) => axis.length === length && axis.every(Number.isFinite);
    const isStroke = (stroke) =>
      stroke.length === axes && stroke[0].length > 0 && stroke.every((axis) => isAxis(axis, stroke[0].length));
    if ((axes === 2 || axes === 3) && drawing.every(isStroke)) return { word: String(word ?? ""), drawing };
  } catch {
    // Said below.
  }
  throw new Error("The first line of this file is no drawing in Google's ndjson form.");
}

/** A file's name without its ending, for a word from anywhere: no path, no sign that means more. */
export const fileStem = (word) =>
  word.replace(/[^\p{L}\p{M}\p{N} '_-]+/gu, "_").slice(0, 80).trim() || "drawing";

/** {name, content} of the drawings as `quickdraw ingest` takes them, which wants a file for each
 * word: one file if they have one word, else a zip file. */
export function asFile(items) {
  const byWord = new Map();
  for (const item of items) byWord.set(item.word, (byWord.get(item.word) ?? "") + ndjsonLine(item));
  const contents = new Map();
  for (const [word, text] of byWord) {
    const stem = fileStem(word);
    let name = stem;
    for (let n = 2; contents.has(`${name}.ndjson`); n++) name = `${stem}-${n}`;
    contents.set(`${name}.ndjson`, new TextEncoder().encode(text));
  }
  const files = [...contents];
  if (files.length === 1) return { name: files[0][0], content: files[0][1] };
  return { name: "my-drawings.zip", content: zipped(files) };
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255];
  return ~crc >>> 0;
}

/** Numbers as bytes, lowest first: `size` of each. */
const numbers = (size, ...values) =>
  values.flatMap((value) => Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 255));

/** A zip file of [name, bytes] pairs, stored as they are. Form: PKWARE's APPNOTE.TXT, 4.3. */
function zipped(files) {
  const DATE = 0x5a21; // 2025-01-01: the drawings' own times are in the lines
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const path = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored.
    const common = numbers(2, 20, 0x800, 0, 0, DATE);
    common.push(...numbers(4, crc32(bytes), bytes.length, bytes.length), ...numbers(2, path.length, 0));
    const local = [...numbers(4, 0x04034b50), ...common, ...path];
    directory.push(...numbers(4, 0x02014b50), ...numbers(2, 20), ...common);
    directory.push(...numbers(2, 0, 0, 0), ...numbers(4, 0, offset), ...path);
    parts.push(Uint8Array.from(local), bytes);
    offset += local.length + bytes.length;
  }
  const sizes = numbers(4, directory.length, offset);
  const end = [...numbers(4, 0x06054b50), ...numbers(2, 0, 0, files.length, files.length), ...sizes, 0, 0];
  return new Blob([...parts, Uint8Array.from([...directory, ...end])]);
}
