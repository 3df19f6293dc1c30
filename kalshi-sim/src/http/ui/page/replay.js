// Time: the frames that the page has seen, and recordings of streams. Both give a model for a place
// on the slider, from the last copy before it and what came after.

import { decimal, reduce, units } from './book.js';

const COPY_EVERY = 50;
const MAX_FRAMES = 6000;
const MAX_LINES = 1000000;
const MAX_BYTES = 256 * 1024 * 1024;
const LINES_PER_COPY = 1000;

const copied = (model) => new Map([...model].map(([name, rows]) => [name, new Map(rows)]));

/** The frames of a live page, the oldest of which are forgotten. */
export class Tape {
  constructor() {
    this.parts = [];
    this.model = new Map();
    this.length = 0;
  }

  push(frame) {
    let part = this.parts.at(-1);
    if (!part || part.frames.length === COPY_EVERY) {
      part = { start: copied(this.model), frames: [] };
      this.parts.push(part);
    }
    reduce(this.model, frame);
    part.frames.push(frame);
    this.length += 1;
    if (this.length > MAX_FRAMES) this.length -= this.parts.shift().frames.length;
  }

  /** Returns the model after a frame, and when that was. */
  at(place) {
    const part = this.parts[Math.floor(place / COPY_EVERY)];
    if (!part) return null;
    const model = copied(part.start);
    const frames = part.frames.slice(0, (place % COPY_EVERY) + 1);
    for (const frame of frames) reduce(model, frame);
    return { at: frames.at(-1).at, ticker: frames.at(-1).ticker, model };
  }
}

/** Returns the lines of a file, which may be compressed; those before damage if it has any. */
export async function lines(file) {
  let stream = file.stream();
  if (file.name.endsWith('.gz')) stream = stream.pipeThrough(new DecompressionStream('gzip'));
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  const found = [];
  let rest = '';
  let bytes = 0;
  let cut = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      bytes += value.length;
      const parts = (rest + value).split('\n');
      rest = parts.pop();
      found.push(...parts);
      if (bytes > MAX_BYTES || found.length > MAX_LINES) {
        cut = 'only its beginning is shown: it is too large';
        await reader.cancel();
        break;
      }
    }
  } catch {
    cut = 'it ends in the middle';
  }
  if (rest && !cut) found.push(rest);
  return { found, cut };
}

/** A recording of streams. */
export class Recording {
  constructor(found) {
    this.events = [];
    this.copies = [];
    this.books = new Map();
    this.prices = 'yes';
    for (const line of found) this.read(line);
    this.tickers = [...this.books.keys()].sort();
    this.length = this.events.length;
  }

  read(line) {
    let event;
    try {
      const { at, header, in: frame, lost, down } = JSON.parse(line);
      if (header) this.prices = header.prices ?? 'yes';
      if (lost) event = { at, note: `${lost} lines are missing` };
      if (down !== undefined) event = { at, note: 'connection lost' };
      if (frame) {
        const { type, msg } = JSON.parse(frame);
        event = { at, type, msg };
      }
    } catch {
      return;
    }
    const kinds = ['orderbook_snapshot', 'orderbook_delta', 'trade', 'market_lifecycle_v2'];
    if (!event || (!event.note && !kinds.includes(event.type))) return;
    if (this.events.length % LINES_PER_COPY === 0) {
      this.copies.push(new Map([...this.books].map(([ticker, book]) => [ticker, new Map(book)])));
    }
    this.events.push(event);
    this.apply(this.books, event);
  }

  price(side, price) {
    if (side === 'no' && this.prices === 'side') return decimal(10000n - units(price, 4), 4);
    return decimal(units(price, 4), 4);
  }

  apply(books, { type, msg }) {
    if (type === 'orderbook_snapshot') {
      const book = new Map();
      for (const [side, letter] of [['yes', 'b'], ['no', 'a']]) {
        for (const [price, count] of msg[`${side}_dollars_fp`] ?? []) {
          book.set(letter + this.price(side, price), decimal(units(count, 2), 2));
        }
      }
      books.set(msg.market_ticker, book);
    } else if (type === 'orderbook_delta') {
      const book = books.get(msg.market_ticker);
      if (!book) return;
      const key = (msg.side === 'yes' ? 'b' : 'a') + this.price(msg.side, msg.price_dollars);
      const count = units(book.get(key) ?? '0', 2) + units(msg.delta_fp, 2);
      if (count > 0n) book.set(key, decimal(count, 2));
      else book.delete(key);
    }
  }

  /** Returns the model of a market after an event, and when that was. */
  at(place, ticker) {
    const copy = Math.floor(place / LINES_PER_COPY);
    const start = this.copies[copy];
    if (!start) return null;
    const books = new Map([...start].map(([name, book]) => [name, new Map(book)]));
    for (const event of this.events.slice(copy * LINES_PER_COPY, place + 1)) this.apply(books, event);
    const shown = books.has(ticker) || this.tickers.includes(ticker) ? ticker : this.tickers[0] ?? '';
    const model = new Map();
    const book = books.get(shown);
    model.set('book', new Map([...(book ?? [])].map(([key, count]) => [key, [count, null, '0.00']])));
    model.set('markets', new Map(this.tickers.map((name) => {
      const keys = [...(books.get(name)?.keys() ?? [])];
      const bid = keys.filter((key) => key[0] === 'b').sort().at(-1)?.slice(1) ?? null;
      const ask = keys.filter((key) => key[0] === 'a').sort()[0]?.slice(1) ?? null;
      return [name, [books.has(name) ? 'recorded' : 'not yet', '', bid, ask, null, '', 0]];
    })));
    const trades = new Map();
    const events = new Map();
    const minutes = new Map();
    for (let back = place; back >= 0 && place - back < 20000; back -= 1) {
      const { at, type, msg, note } = this.events[back];
      const key = String(back);
      if (note && events.size < 60) events.set(key, [at, '', note]);
      else if (type === 'market_lifecycle_v2' && events.size < 60) events.set(key, [at, msg.market_ticker ?? '', msg.event_type ?? 'event']);
      else if (type === 'trade' && msg.market_ticker === shown) {
        const price = decimal(units(msg.yes_price_dollars, 4), 4);
        const minute = String(Math.floor(at / 60000));
        // Backwards: the first price that is seen is the last one of its minute.
        const [, low, high, close] = minutes.get(minute)?.[2] ?? [price, price, price, price];
        minutes.set(minute, ['0.0000', '1.0000', [price, price < low ? price : low, price > high ? price : high, close], '']);
        if (trades.size < 60) trades.set(key, [at, price, msg.count_fp, msg.taker_outcome_side === 'no' || msg.taker_side === 'no' ? 'ask' : 'bid', false]);
      }
    }
    model.set('chart', new Map([...minutes].slice(0, 240)));
    model.set('trades', trades);
    model.set('events', events);
    const grid = [{ start: '0.0000', end: '1.0000', step: '0.0100' }];
    model.set('market', new Map([['market', [shown, 'recorded', '', 'recorded', null, null, '', 0, 0, '–', '–', null, '', grid]]]));
    return { at: this.events[place].at, ticker: shown, model };
  }
}
