// The drawings that this browser keeps, with their words: in its own storage, nowhere else.

const KEY = "quickdraw.drawings";
const MOST = 300;

export class Album {
  constructor() {
    try {
      this.items = JSON.parse(localStorage.getItem(KEY)) ?? [];
    } catch {
      this.items = []; // storage is off, or holds what is not ours
    }
  }

  add(items) {
    this.items = [...this.items, ...items].slice(-MOST);
    this.write();
  }

  remove(keyId) {
    this.items = this.items.filter((item) => item.key_id !== keyId);
    this.write();
  }

  clear() {
    this.items = [];
    this.write();
  }

  /** Without storage, or if it is full, the drawings are kept as long as the page is open. */
  write() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.items));
    } catch {
      // As said above.
    }
  }
}
