// The paper: strokes by mouse, touch, pen or keyboard, with undo and redo.

import { fitted, paintStrokes } from "./pictures.js";

const SIDE = 800; // of the paper, in its own units, whatever its size on the screen
const STEP = 16; // of an arrow key
const FINE_STEP = 4;
const PALM_MS = 1500; // after a pen was near, touches are taken for the hand that holds it

const round = (value) => Math.round(Math.min(Math.max(value, 0), SIDE) * 10) / 10;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /** changed(isDrawing): the drawing is another. say(text): for a screen reader. */
  constructor(canvas, changed, say) {
    Object.assign(this, { canvas, changed, say });
    this.locked = false;
    this.pointer = null;
    this.penAt = -Infinity;
    this.held = new Set();
    this.reset();
    const on = (type, handle) => canvas.addEventListener(type, (event) => handle.call(this, event));
    on("pointerdown", this.pointerDown);
    on("pointermove", this.pointerMove);
    on("pointerup", (event) => this.pointer?.id === event.pointerId && this.end());
    on("pointercancel", (event) => this.pointer?.id === event.pointerId && this.drop());
    on("keydown", this.keyDown);
    on("keyup", (event) => this.held.delete(event.key));
    on("blur", this.leave);
    on("focus", this.paint);
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  /** Empty paper, without a past. */
  reset() {
    this.stroke = null;
    this.past = [{ strokes: [], simplified: null }];
    this.at = 0;
    this.begun = null;
    this.cursor = [SIDE / 2, SIDE / 2];
    this.paint();
  }

  /** Raw strokes, [[x…], [y…], [t…]], in units of the paper. */
  get strokes() {
    const { strokes } = this.past[this.at];
    return this.stroke ? [...strokes, this.stroke] : strokes;
  }

  /** The simplified drawing that was put on the paper, if nothing was drawn since. */
  get simplified() {
    return this.stroke ? null : this.past[this.at].simplified;
  }

  /** Whether there is a drawing before (-1) or after (1) this one. */
  can(by) {
    return this.past[this.at + by] !== undefined;
  }

  keep(strokes, simplified = null) {
    this.past = [...this.past.slice(0, this.at + 1), { strokes, simplified }];
    this.at += 1;
    this.update(false);
  }

  move(by) {
    this.end();
    if (this.locked || !this.can(by)) return;
    this.at += by;
    this.update(false);
  }

  clear() {
    this.end();
    if (!this.locked && this.strokes.length) this.keep([]);
  }

  /** Puts a drawing that came from elsewhere on the paper, simplified or raw. */
  load(drawing, isSimplified) {
    this.end();
    if (this.locked) return;
    const { scale, left, top } = fitted(drawing, SIDE, 90);
    let time = 0;
    const strokes = drawing.map(([x, y, t]) => [
      x.map((value) => round(value * scale + left)),
      y.map((value) => round(value * scale + top)),
      t ?? x.map(() => (time += 20)), // it came without times
    ]);
    this.keep(strokes, isSimplified ? drawing : null);
  }

  /** Ends a stroke, and takes no other until it is unlocked. */
  lock(locked) {
    this.end();
    this.locked = locked;
    this.canvas.classList.toggle("locked", locked);
  }

  /** Begins a stroke without points. Its times go on from those on the paper. */
  begin(time) {
    const last = this.strokes.at(-1)?.[2].at(-1);
    this.begun = last === undefined ? time : Math.min(this.begun ?? time, time - Math.ceil(last));
    this.stroke = [[], [], []];
  }

  add(x, y, time) {
    const [xs, ys, ts] = this.stroke;
    [x, y] = [round(x), round(y)];
    if (xs.at(-1) === x && ys.at(-1) === y) return;
    xs.push(x);
    ys.push(y);
    ts.push(Math.max(Math.round(time - this.begun), ts.at(-1) ?? 0));
  }

  end() {
    this.pointer = null;
    if (!this.stroke) return;
    const { strokes } = this;
    this.stroke = null;
    this.keep(strokes);
  }

  addEvent(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = SIDE / box.width;
    this.add((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, event.timeStamp);
  }

  /** Whether a touch is that of the hand that holds a pen. */
  isPalm(event) {
    if (event.pointerType === "pen") this.penAt = event.timeStamp;
    return event.pointerType === "touch" && event.timeStamp - this.penAt < PALM_MS;
  }

  pointerDown(event) {
    if (this.locked || event.button > 0 || this.isPalm(event)) return;
    event.preventDefault();
    this.canvas.classList.add("pointed"); // the pen of the keyboard is not shown
    this.canvas.focus({ preventScroll: true });
    if (this.pointer?.type === "touch" && event.pointerType === "pen") this.drop();
    if (this.pointer) return;
    this.end(); // the keyboard's stroke
    this.pointer = { id: event.pointerId, type: event.pointerType };
    this.canvas.setPointerCapture(event.pointerId);
    this.begin(event.timeStamp);
    this.addEvent(event);
    this.update(true);
  }

  pointerMove(event) {
    this.isPalm(event); // a pen above the paper counts too
    if (this.pointer?.id !== event.pointerId || !this.stroke) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const part of all.length ? all : [event]) this.addEvent(part);
    this.update(true);
  }

  /** Takes back the stroke under way: the browser or a pen says that it was none. */
  drop() {
    this.pointer = this.stroke = null;
    this.update(false);
  }

  update(isDrawing) {
    this.paint();
    this.changed(isDrawing);
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    this.canvas.classList.remove("pointed");
    const [x, y] = this.cursor;
    if (event.key in ARROWS) {
      this.held.add(event.key);
      const step = event.shiftKey ? FINE_STEP : STEP;
      const sum = (axis) => [...this.held].reduce((total, key) => total + ARROWS[key][axis], 0);
      this.cursor = [round(x + step * sum(0)), round(y + step * sum(1))];
      if (this.stroke && !this.pointer) {
        this.add(...this.cursor, event.timeStamp);
        this.changed(true);
      }
      this.paint();
    } else if (event.key === " ") {
      if (event.repeat || this.pointer || this.locked) return event.preventDefault();
      if (this.stroke) this.lift();
      else {
        this.begin(event.timeStamp);
        this.add(x, y, event.timeStamp);
        this.update(true);
        this.say("Pen down");
      }
    } else if (event.key === "Escape") this.lift();
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else return undefined;
    return event.preventDefault();
  }

  lift() {
    if (!this.stroke) return;
    this.end();
    this.say("Pen up");
  }

  leave() {
    this.held.clear();
    this.canvas.classList.remove("pointed");
    if (!this.pointer) this.end();
    this.paint();
  }

  resize() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (!side || side === this.canvas.width) return;
    this.canvas.width = this.canvas.height = side;
    this.paint();
  }

  paint() {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    const scale = canvas.width / SIDE;
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, canvas.width, canvas.height);
    paintStrokes(context, this.strokes, { scale, width: 7 * scale, colour: style.getPropertyValue("--ink") });
    if (!canvas.matches(":focus-visible:not(.pointed)")) return;
    const [x, y] = this.cursor.map((value) => value * scale);
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
    context.lineWidth = 2 * scale;
    context.beginPath();
    context.arc(x, y, 12 * scale, 0, 2 * Math.PI);
    if (this.stroke) context.fill();
    else context.stroke();
  }
}
