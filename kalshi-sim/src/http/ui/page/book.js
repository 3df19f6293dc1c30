// The model of the page: rows of panels by their keys, and what is worked out from them. Pure.
// Prices and counts stay texts; sums are whole numbers of their smallest unit, as BigInt.

/** Applies a frame to a model: a Map of panels, each a Map from keys to rows. */
export function reduce(model, frame) {
  if (frame.full) model.clear();
  for (const [name, change] of Object.entries(frame.panels)) {
    const panel = model.get(name) ?? new Map();
    for (const key of change.drop) panel.delete(key);
    for (const [key, row] of Object.entries(change.set)) panel.set(key, row);
    if (panel.size === 0) model.delete(name);
    else model.set(name, panel);
  }
}

/** Returns the hash of a book, to compare with that of the exchange: FNV-1a, 32 bits. */
export function hash(book) {
  let value = 0x811c9dc5;
  const keys = book ? [...book.keys()].sort() : [];
  for (const key of keys) {
    const text = `${key}=${JSON.stringify(book.get(key))};`;
    for (let place = 0; place < text.length; place += 1) {
      value = Math.imul(value ^ text.charCodeAt(place), 0x01000193);
    }
  }
  return (value >>> 0).toString(16).padStart(8, '0');
}

/** Reads a decimal text as a whole number of its smallest unit: ('0.56', 4) is 5600n. */
export function units(text, decimals) {
  const negative = text.startsWith('-');
  const [whole, part = ''] = text.replace('-', '').split('.');
  const value = BigInt(whole + part.padEnd(decimals, '0').slice(0, decimals));
  return negative ? -value : value;
}

/** Writes a whole number of the smallest unit as a decimal text: (5600n, 4) is '0.5600'. */
export function decimal(value, decimals) {
  const digits = (value < 0n ? -value : value).toString().padStart(decimals + 1, '0');
  const text = `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
  return value < 0n ? `-${text}` : text;
}

/** Returns the price of the other leg: '0.5600' is '0.4400'. */
export const complement = (price) => decimal(10000n - units(price, 4), 4);

/** Returns all prices of a market, the highest first: its grid, and levels that are off it. */
export function prices(ranges, book) {
  const all = new Set();
  for (const { start, end, step } of ranges) {
    const [from, to, by] = [units(start, 4), units(end, 4), units(step, 4)];
    if (by <= 0n) continue;
    for (let price = from; price <= to; price += by) {
      if (price > 0n && price < 10000n) all.add(decimal(price, 4));
    }
  }
  for (const key of book?.keys() ?? []) all.add(key.slice(1));
  return [...all].sort().reverse();
}

/** Returns the best bid and the best ask of a book, or null. */
export function best(book) {
  let bid = null;
  let ask = null;
  for (const key of book?.keys() ?? []) {
    const price = key.slice(1);
    if (key[0] === 'b') {
      if (bid === null || price > bid) bid = price;
    } else if (ask === null || price < ask) ask = price;
  }
  return { bid, ask };
}

/** Returns the place in a list of prices that the middle of a book is at. */
export function middle(list, book) {
  const { bid, ask } = best(book);
  const found = [bid, ask].filter((price) => price !== null).map((price) => list.indexOf(price));
  const place = found.length ? found.reduce((sum, at) => sum + at, 0) / found.length : list.length / 2;
  return Math.max(0, Math.min(list.length - 1, Math.floor(place)));
}

/** Returns the rows of a panel as [key, ...row], by numeric keys, the latest first. */
export function latest(panel) {
  return [...(panel ?? [])]
    .sort((a, b) => b[0].length - a[0].length || (a[0] < b[0] ? 1 : -1))
    .map(([key, row]) => [key, ...row]);
}
