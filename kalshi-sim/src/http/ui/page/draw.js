// Drawing: tables that change only the cells that differ, and the chart. All text is text.

/** Counts what drawing has done, for the line at the foot of the page and for tests. */
export const counters = { cells: 0, draws: 0, longest: 0 };

const element = (name, className) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
};

/** Sets a text, if it is another. */
export function write(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
    counters.cells += 1;
    return true;
  }
  return false;
}

export const named = (id) => document.getElementById(id);

/** A table. Its rows are reused by their place, so that nothing moves when values change. */
export class Table {
  /** `columns` are [title, class, width]; `choose` is called with the key of a row that is chosen. */
  constructor(id, caption, columns, choose) {
    this.table = named(id);
    this.columns = columns;
    this.choose = choose;
    this.rows = [];
    const title = element('caption');
    title.textContent = caption;
    const line = element('tr');
    const widths = element('colgroup');
    for (const [text, className, width] of columns) {
      const column = element('col', className.includes('wide') ? 'wide' : '');
      column.style.width = width;
      widths.append(column);
      const head = element('th', className);
      head.scope = 'col';
      head.textContent = text;
      line.append(head);
    }
    const head = element('thead');
    head.append(line);
    this.body = element('tbody');
    this.table.append(title, widths, head, this.body);
    this.body.addEventListener('animationend', ({ target }) => target.classList.remove('changed-a', 'changed-b'));
    // What does not fit is told by the pointer.
    this.body.addEventListener('mouseover', ({ target }) => {
      if (target.tagName === 'TD') target.title = target.scrollWidth > target.clientWidth ? target.textContent : '';
    });
    if (choose) {
      this.body.addEventListener('click', (event) => this.chosen(event.target.closest('tr')));
      this.body.addEventListener('keydown', (event) => this.pressed(event));
    }
  }

  chosen(row) {
    if (row?.dataset.key) this.choose(row.dataset.key);
  }

  pressed(event) {
    const row = event.target.closest('tr');
    const to = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (to && !to.hidden) {
      to.focus();
      event.preventDefault();
    } else if (event.key === 'Enter') this.chosen(row);
  }

  /** Shows rows: { key, cells, className, flash }. A cell is a text, or [text, class]. */
  fill(rows) {
    rows.forEach((row, place) => {
      const line = (this.rows[place] ??= this.add());
      if (line.row.hidden) line.row.hidden = false;
      if (line.row.dataset.key !== row.key) line.row.dataset.key = row.key;
      const className = row.className ?? '';
      if (line.row.className !== className) {
        line.row.className = className;
        line.row.ariaCurrent = className.includes('chosen') ? 'true' : null;
      }
      if (this.choose) line.row.tabIndex = place === 0 || row.className?.includes('chosen') ? 0 : -1;
      row.cells.forEach((cell, column) => {
        const [text, extra] = Array.isArray(cell) ? cell : [cell, ''];
        const node = line.cells[column];
        const changed = write(node, text);
        const base = `${this.columns[column][1]} ${extra}`.trim();
        const same = line.keys[column] === row.key;
        if (changed && same && row.flash) line.turn = !line.turn;
        const flash = row.flash && line.turn !== undefined && changed && same;
        if (flash) node.className = `${base} changed-${line.turn ? 'a' : 'b'}`;
        else if (changed || line.base[column] !== base) node.className = base;
        line.base[column] = base;
        line.keys[column] = row.key;
      });
    });
    for (const line of this.rows.slice(rows.length)) if (!line.row.hidden) line.row.hidden = true;
  }

  add() {
    const row = element('tr');
    const cells = this.columns.map(([, className]) => element('td', className));
    row.append(...cells);
    this.body.append(row);
    return { row, cells, base: [], keys: [], turn: false };
  }
}

/** Draws the minutes of a price: the band between bid and ask, and the trades. */
export function chart(canvas, minutes) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext('2d');
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  pen.fillStyle = color('--quiet');
  if (minutes.length === 0) {
    pen.fillText('no trades yet', 4, height / 2);
    return;
  }
  // Places on the screen may be fractions; prices are whole hundredths of a cent.
  const pips = minutes.flatMap(({ bid, ask, bar }) => [...(bar ?? []), ...[bid, ask].filter((pip) => pip > 0 && pip < 10000)]);
  let [low, high] = [Math.min(...pips, 10000), Math.max(...pips, 0)];
  if (low >= high) [low, high] = [Math.max(0, low - 100), Math.min(10000, low + 100)];
  const [left, right, top, bottom] = [2, width - 52, 8, height - 18];
  const [first, last] = [minutes[0].minute, Math.max(minutes[0].minute + 10, minutes.at(-1).minute)];
  const x = (minute) => left + ((minute - first) / (last - first)) * (right - left);
  const y = (pip) => bottom - ((pip - low) / (high - low)) * (bottom - top);
  pen.strokeStyle = color('--line');
  for (const part of [0, 1, 2, 3]) {
    const pip = Math.round(low + ((high - low) * part) / 3);
    const line = Math.round(y(pip)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, line);
    pen.lineTo(right, line);
    pen.stroke();
    pen.fillText(`0.${String(pip).padStart(4, '0')}`, right + 6, line + 4);
  }
  const time = (minute) => new Date(minute * 60000).toISOString().slice(5, 16).replace('T', ' ');
  pen.fillText(time(first), left, height - 4);
  pen.textAlign = 'right';
  pen.fillText(time(last), right, height - 4);
  pen.textAlign = 'left';
  const steps = (field, name, empty) => {
    pen.strokeStyle = color(name);
    pen.globalAlpha = 0.55;
    pen.beginPath();
    let before = empty;
    for (const { minute, [field]: pip } of minutes) {
      if (before !== empty) pen.lineTo(x(minute), y(before));
      if (pip !== empty && before === empty) pen.moveTo(x(minute), y(pip));
      else if (pip !== empty) pen.lineTo(x(minute), y(pip));
      before = pip;
    }
    pen.stroke();
    pen.globalAlpha = 1;
  };
  steps('bid', '--yes', 0);
  steps('ask', '--no', 10000);
  pen.strokeStyle = color('--quiet');
  pen.beginPath();
  for (const { minute, bar } of minutes) if (bar) pen.lineTo(x(minute), y(bar[3]));
  pen.stroke();
  pen.strokeStyle = color('--ink');
  pen.fillStyle = color('--ink');
  for (const { minute, bar } of minutes) {
    if (!bar) continue;
    const [open, least, most, close] = bar;
    const at = x(minute);
    pen.beginPath();
    pen.moveTo(at, y(least));
    pen.lineTo(at, y(most));
    pen.stroke();
    pen.fillRect(at - 1.5, Math.min(y(open), y(close)) - 0.5, 3, Math.abs(y(open) - y(close)) + 1);
  }
}
