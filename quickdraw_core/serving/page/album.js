// The drawings that this browser keeps, with their words: in its own storage, nowhere else.

const KEY = "quickdraw.drawings";
const MOST = 300;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return []; // storage is off, or holds what is not ours
  }
}

export const album = {
  items: stored(),

  /** Without storage, or if it is full, they are kept as long as the page is open. */
  keep(items) {
    this.items = items.slice(-MOST);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.items));
    } catch {
      // As said above.
    }
  },

  add(item) {
    this.keep([...this.items, item]);
  },
};
