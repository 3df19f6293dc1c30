// The panels: from the rows of the model to the rows of tables.

import { best, complement, decimal, latest, middle, prices, units } from './book.js';
import { Table, chart, named, write } from './draw.js';

const LADDER = 25;
const time = (millis) => new Date(millis).toISOString();
const clock = (millis) => time(millis).slice(11, 23);
const text = (value) => (value === null || value === undefined ? '' : String(value));
const dollars = (amount) => {
  const cut = decimal(units(amount, 6) / 100n, 4);
  return cut.endsWith('00') ? cut.slice(0, -2) : cut;
};
const side = (name) => [name, name === 'bid' || name === 'yes' ? 'yes' : 'no'];
const gain = (amount) => [(amount.startsWith('-') ? '' : '+') + dollars(amount), amount.startsWith('-') ? 'num no' : 'num yes'];
const millis = (micros) => (micros === null ? '' : `${Math.floor(micros / 1000)}.${String(Math.floor(micros / 100) % 10)}`);

/** Makes the tables. `act` has what a row does when it is chosen. */
export function make(act) {
  const n = 'num';
  return {
    markets: new Table('markets', 'Markets', [['ticker', '', ''], ['bid', n, '7.6ch'], ['ask', n, '7.6ch'], ['status', '', '8.6ch']], act.market),
    ladder: new Table('ladder', 'Order book by price', [['own ● ahead/nth', n, ''], ['YES bid', n, '11.6ch'], ['price', 'price', '7.4ch'], ['YES ask', n, '11.2ch']], act.price),
    trades: new Table('trades', 'Trades and market events', [['time', '', '13.6ch'], ['', '', ''], ['price', n, '8ch'], ['count', n, '9ch']]),
    orders: new Table('orders', 'Orders of members', [['member', '', '8ch'], ['side', '', '5.8ch'], ['price', n, '7.6ch'], ['filled', n, '8ch'], ['of', n, '8ch'], ['status', '', ''], ['market', 'wide', '24ch']], act.order),
    timeline: new Table('timeline', 'Timeline of an order', [['time', '', '13.6ch'], ['what', '', '12ch'], ['values', 'wide', ''], ['told', '', ''], ['readable', n, '10ch']]),
    members: new Table('members', 'Members', [['', '', ''], ['trader', n, '14ch'], ['maker', n, '14ch']]),
    positions: new Table('positions', 'Positions', [['member', '', '8ch'], ['market', '', ''], ['net', n, '8ch'], ['P&L', n, '10ch']]),
    requests: new Table('requests', 'Requests', [['time', '', '13.6ch'], ['operation', '', ''], ['status', n, '7.6ch'], ['ms', 'num wide', '8ch'], ['key', 'wide', '18ch'], ['fault', '', '']]),
    faults: new Table('faults', 'Faults of requests', [['fault', '', ''], ['operation', '', ''], ['key', 'wide', '14ch'], ['1 in', n, '6ch'], ['hits', n, '7ch']]),
    streams: new Table('streams', 'Stream connections', [['', '', '12ch'], ['channel', '', ''], ['of', n, '5ch'], ['seq', n, '7ch'], ['late', n, '9ch']]),
  };
}

const MEMBER = ['cash', 'held', 'P&L', 'resting orders', 'keys', 'tier', 'reads left', 'writes left'];

/** Draws the panels that show rows of a name in `dirty`. */
export function draw(view, tables, model, dirty) {
  const rows = (name) => model.get(name) ?? new Map();
  const has = (...names) => names.some((name) => dirty.has(name));
  if (has('markets')) markets(view, tables, rows('markets'));
  if (has('market', 'book', 'own')) ladder(view, tables, model);
  if (has('trades', 'events')) trades(tables, rows);
  if (has('chart')) minutes(rows('chart'));
  if (has('orders')) orders(view, tables, rows('orders'));
  if (has('timeline')) timeline(view, tables, rows('timeline'));
  if (has('members')) members(tables, rows('members'));
  if (has('positions')) positions(tables, rows('positions'));
  if (has('requests')) requests(tables, rows('requests'));
  if (has('faults')) faults(tables, rows('faults'));
  if (has('streams', 'subscriptions')) streams(tables, rows);
  if (has('exchange')) exchange(view, rows('exchange'));
}

function markets(view, tables, rows) {
  const rank = ([, [status]]) => (status === 'active' ? 0 : 1);
  const sorted = [...rows].sort((a, b) => rank(a) - rank(b) || (a[0] < b[0] ? -1 : 1));
  tables.markets.fill(sorted.map(([key, [status, result, bid, ask]]) => ({
    key,
    className: key === view.shown ? 'chosen' : status === 'active' ? '' : 'off',
    flash: true,
    cells: [key, [text(bid), 'yes'], [text(ask), 'no'], result ? `${status} ${result}` : status],
  })));
}

/** Works out what the ladder shows, and draws it. */
export function ladder(view, tables, model) {
  const book = model.get('book');
  const market = model.get('market')?.get('market');
  if (market) {
    write(named('ticker'), market[0]);
    write(named('status'), market[4] === null ? market[3] : `${market[3]} at ${market[4]}`);
    const closes = market[8] ? `; closes ${time(market[8]).slice(0, 16)}` : '';
    const shard = market[5] === null ? '' : `; shard ${market[5]}`;
    write(named('about'), `${market[1]}${market[2] ? `: ${market[2]}` : ''}; volume ${market[9]}, open interest ${market[10]}${shard}${closes}`);
  }
  const list = prices(market?.[13] ?? [], book);
  if (view.center || view.listed !== list.length) {
    view.center = false;
    view.listed = list.length;
    view.at = middle(list, book);
  }
  view.at = Math.max(0, Math.min(list.length - 1, view.at));
  view.prices = list;
  const start = Math.max(0, Math.min(list.length - LADDER, view.at - Math.floor(LADDER / 2)));
  const { bid, ask } = best(book);
  const own = {};
  for (const [, letter, price, count, ahead, place] of model.get('own')?.values() ?? []) {
    const key = letter[0] + price;
    own[key] = own[key] ? `${own[key].replace(' …', '')} …` : `${count}● ${ahead}/${place}`;
  }
  const count = (key) => {
    const level = book?.get(key);
    return level ? [level[1] === null ? level[0] : `${level[0]} ·${level[1]}`, key[0] === 'b' ? 'level yes' : 'level no'] : '';
  };
  tables.ladder.fill(list.slice(start, start + LADDER).map((price, place) => ({
    key: price,
    flash: true,
    className: `${price === bid || price === ask ? 'best' : ''} ${start + place === view.at ? 'at' : ''}`.trim(),
    cells: [
      own[`b${price}`] ? [own[`b${price}`], 'own yes'] : [own[`a${price}`] ?? '', 'own no'],
      count(`b${price}`),
      view.complement ? `NO ${complement(price)}` : price,
      count(`a${price}`),
    ],
  })));
}

function trades(tables, rows) {
  const events = latest(rows('events')).map(([key, at, ticker, change]) => ({
    at, key: `event ${key}`, className: 'off', cells: [clock(at), change, '', ticker],
  }));
  const list = latest(rows('trades')).map(([key, at, price, count, taker, block]) => ({
    at, key, cells: [clock(at), taker === 'bid' ? [block ? 'yes block' : 'yes', 'yes'] : [block ? 'no block' : 'no', 'no'], price, count],
  }));
  tables.trades.fill([...list, ...events].sort((a, b) => b.at - a.at).slice(0, 80));
}

function minutes(rows) {
  const pips = (price) => Number(units(price, 4));
  const list = latest(rows).reverse().map(([minute, bid, ask, bar]) => ({
    minute: Number(minute), bid: pips(bid), ask: pips(ask), bar: bar && bar.map(pips),
  }));
  chart(named('chart'), list);
}

function orders(view, tables, rows) {
  tables.orders.fill(latest(rows).map(([key, member, ticker, name, price, initial, filled, , status, reason]) => ({
    key,
    flash: true,
    className: key === String(view.order) ? 'chosen' : status === 'resting' ? '' : 'off',
    cells: [member, side(name), price, filled, initial, reason && status !== 'resting' ? `${status} ${reason}` : status, ticker],
  })));
}

function timeline(view, tables, rows) {
  const order = rows.get('order');
  write(named('timeline-of'), order ? `${order[0]}: ${order[2]} ${order[4]} at ${order[3]}, ${order[1]}` : view.order ? 'nothing is kept of this order' : 'choose an order');
  const list = latest(rows).reverse().filter(([key]) => key !== 'order');
  let request = null;
  const lines = [];
  for (const [key, at, number, change, details, sent, more, readable] of list) {
    if (number !== null && number !== request) {
      lines.push({ key: `request ${number}`, className: 'off', cells: [clock(at), `request ${number}`, '', '', ''] });
    }
    request = number;
    const values = Object.entries(details).map(([name, value]) => `${name} ${value}`).join(', ');
    const told = sent.map(([link, member, channel, sid, seq]) => `${member} #${link} ${channel} sid ${sid}${seq ? ` seq ${seq}` : ''}`).join('; ');
    lines.push({
      key,
      cells: [clock(at), change, values, (told || 'no one') + (more ? ` and ${more} more` : ''), change === 'level' || readable === null ? '' : readable === at ? 'at once' : `+${readable - at} ms`],
    });
  }
  tables.timeline.fill(lines);
}

function members(tables, rows) {
  const cell = (row, place) => {
    if (!row) return '';
    if (place < 2) return dollars(row[place]);
    if (place === 2) return gain(row[2]);
    if (place < 6) return text(row[place]);
    const left = row[6]?.[place - 6];
    return left ? `${left[0]} / ${left[1]}` : '∞';
  };
  const [trader, maker] = [rows.get('trader'), rows.get('maker')];
  tables.members.fill(MEMBER.map((name, place) => ({ key: name, cells: [name, cell(trader, place), cell(maker, place)] })));
}

function positions(tables, rows) {
  const sorted = [...rows].sort((a, b) => (a[0] < b[0] ? -1 : 1));
  tables.positions.fill(sorted.map(([key, [net, , , , , gained]]) => {
    const [member, ticker, sub] = key.split('/');
    return { key, flash: true, cells: [sub === '0' ? member : `${member} ${sub}`, ticker, net, gain(gained)] };
  }));
}

function requests(tables, rows) {
  tables.requests.fill(latest(rows).map(([key, at, , operation, , status, took, id, faults]) => ({
    key,
    cells: [
      clock(at), operation, [status === null ? '–' : String(status), status >= 400 ? 'num bad' : 'num'], millis(took),
      id?.startsWith('by-hand-') ? `by hand (${id.slice(8)})` : text(id).slice(-12), faults.map((fault) => fault.kind).join(', '),
    ],
  })));
}

function faults(tables, rows) {
  tables.faults.fill(latest(rows).map(([key, fault, operation, id, oneIn, times, hits]) => {
    const { kind, ...values } = fault;
    const given = Object.entries(values).map(([name, value]) => ` ${name} ${value}`).join('');
    return { key, className: times !== null && hits >= times ? 'off' : '', cells: [kind + given, operation ?? 'all', text(id).slice(-12), String(oneIn), times === null ? String(hits) : `${hits} / ${times}`] };
  }));
}

function streams(tables, rows) {
  const lines = [];
  for (const [key, member, status, frames, bytes, late] of latest(rows('streams'))) {
    lines.push({ key, className: status === 'up' ? '' : 'off', cells: [`${member} #${key}`, frames ? `${status}: ${frames} wait, ${bytes} B` : status, '', '', `${late} ms`] });
    const own = [...rows('subscriptions')].filter(([id]) => id.startsWith(`${key}/`));
    for (const [id, [channel, markets, seq]] of own.sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
      lines.push({ key: id, cells: [`· sid ${id.split('/')[1]}`, channel, markets === null ? 'all' : String(markets), text(seq), ''] });
    }
  }
  tables.streams.fill(lines);
}

function exchange(view, rows) {
  const lag = rows.get('lag')?.[0];
  const range = ([least, most]) => (least === most ? `${most}` : `${least}–${most}`);
  if (lag) write(named('lag'), `${range(lag.reads_millis)} / ${range(lag.streams_millis)} ms`);
  view.shards = [...rows].filter(([key]) => key.startsWith('shard/')).map(([key, row]) => [key.slice(6), ...row]);
  view.requests = rows.get('requests')?.[0] ?? 0;
}
