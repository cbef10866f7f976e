// The table of images: sorted, filtered and paged in memory; only one page of rows is ever in the document.
const PAGE = 50;
// of each of several runs, so that the next one is not far
const PAGE_OF_SEVERAL = 10;
// columns that a sheet of paper holds: page.css leaves out the others
const PRINTED = 8;

function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = Number.isInteger(value) && size < 1e9 ? String(value)
    : size >= 0.001 && size < 1e6 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
  return text.replace("-", "−");
}

function budget(value) {
  // as it is typed: a plain decimal, else a fraction of 255
  if (typeof value !== "number") return shown(value);
  const steps = value * 255;
  const plain = Math.abs(value - Math.round(value * 1000) / 1000) < 1e-9;
  return !plain && Math.abs(steps - Math.round(steps)) < 1e-4 ? `${Math.round(steps)}/255` : shown(value);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;  // never markup: names come from files
  return made;
}

function titled(column) {
  return column.head ?? column.name;
}

class Rows {
  constructor(root, data, onChoose, thumb) {
    this.root = root;
    this.data = data;
    this.onChoose = onChoose;
    this.thumb = thumb;
    this.columns = data.columns.map((column) => ({
      ...column,
      at: column.index ? (row) => column.values[column.index[row]] : (row) => column.values[row],
    }));
    this.id = Math.max(0, this.columns.findIndex((column) => column.name === "image"));
    this.sort = data.sort;
    this.size = document.querySelectorAll("section.run").length > 1 ? PAGE_OF_SEVERAL : PAGE;
    this.first = 0;
    this.chosen = -1;
    this.order = [];
    this.find = (selector) => root.querySelector(selector);
    this.body = this.find(".images tbody");
    this.head();
    const hidden = this.columns.length - PRINTED;
    if (hidden > 0) {
      this.find(".images").classList.add("many");
      this.find("p.on-paper").textContent = `${hidden} more columns are on the screen and in images.parquet.`;
    }
    let waiting = 0;
    this.find(".filter").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.refresh(), 100);
    });
    for (const name of [".quiet", ".threshold"]) this.find(name)?.addEventListener("input", () => this.refresh());
    this.find(".before").addEventListener("click", () => this.turn(-this.size));
    this.find(".after").addEventListener("click", () => this.turn(this.size));
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row) this.choose(Number(row.dataset.row));
    });
    this.refresh();
  }

  head() {
    const line = this.find(".images thead tr");
    if (this.thumb) line.append(element("td", "thumb"));
    this.columns.forEach((column, c) => {
      const cell = element("th", column.kind === "number" ? "number" : "");
      cell.scope = "col";
      const button = element("button", "sort", titled(column));
      button.type = "button";
      button.addEventListener("click", () => {
        const descending = this.sort.column === c ? !this.sort.descending : column.kind !== "text";
        this.sort = { column: c, descending };
        this.refresh();
      });
      // browsers leave buttons out where a head is repeated on the next sheet
      cell.append(element("span", "on-paper", titled(column)), button);
      if (column.help) cell.title = column.help;
      if (column.unit) cell.append(element("span", "unit", column.unit));
      line.append(cell);
    });
  }

  said(column, row) {
    const value = column.at(row);
    const name = column.names?.[value];
    if (name !== undefined) return name === String(value) ? name : `${name} (${value})`;
    return column.name === "epsilon" ? budget(value) : shown(value);
  }

  texts() {
    // built once, when somebody first types
    const texts = this.columns.filter((column) => column.kind === "text" || column.names);
    this.words ??= Array.from({ length: this.data.count }, (_, row) =>
      texts.map((column) => this.said(column, row)).join("\n").toLowerCase());
    return this.words;
  }

  kept() {
    const rows = Array.from({ length: this.data.count }, (_, row) => row);
    const wanted = this.find(".filter").value.trim().toLowerCase();
    const quiet = this.data.quiet && this.find(".quiet").checked ? this.data.quiet : null;
    const words = wanted ? this.texts() : null;
    const limit = Number(this.find(".threshold")?.value);
    const moved = quiet && this.columns[quiet.column];
    return rows.filter((row) => {
      if (words && !words[row].includes(wanted)) return false;
      if (!quiet) return true;
      const value = moved.at(row);
      return quiet.kept[row] === 1 && (quiet.threshold === null ? value === true : value !== null && value > limit);
    });
  }

  refresh() {
    const { column, descending } = this.sort;
    const at = this.columns[column]?.at;
    this.order = this.kept();
    if (at) {
      const text = this.columns[column].kind === "text";
      const compare = text ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : (a, b) => a - b;
      this.order.sort((a, b) => {
        const [x, y] = [at(a), at(b)];
        // what is missing comes last either way
        if (x === null || y === null) return (x === null) - (y === null) || a - b;
        return (descending ? compare(y, x) : compare(x, y)) || a - b;
      });
    }
    this.root.querySelectorAll(".images thead th").forEach((cell, c) => {
      const active = c === column;
      cell.setAttribute("aria-sort", active ? (descending ? "descending" : "ascending") : "none");
      cell.querySelector("button").textContent = titled(this.columns[c]) + (active ? (descending ? " ↓" : " ↑") : "");
    });
    this.first = 0;
    this.draw();
  }

  turn(by) {
    this.first = Math.max(0, Math.min(this.first + by, Math.floor((this.order.length - 1) / this.size) * this.size));
    this.draw();
  }

  draw() {
    const page = this.order.slice(this.first, this.first + this.size);
    this.body.replaceChildren(...page.map((row) => this.line(row)));
    this.find(".none").hidden = this.order.length > 0;
    const last = this.first + page.length;
    const all = this.order.length === this.data.count ? "" : ` (${this.data.count.toLocaleString("en")} in all)`;
    this.find(".where").textContent =
      `${page.length ? this.first + 1 : 0}–${last} of ${this.order.length.toLocaleString("en")}${all}`;
    this.find(".before").disabled = this.first === 0;
    this.find(".after").disabled = last >= this.order.length;
    this.find(".pages").hidden = this.order.length <= this.size && this.data.count <= this.size;
  }

  line(row) {
    const line = element("tr", row === this.chosen ? "chosen" : "");
    line.dataset.row = row;
    if (this.thumb) {
      const cell = element("td", "thumb");
      const source = this.thumb(this.columns[this.id].at(row));
      if (source) {
        const picture = element("img");
        picture.decoding = "async";
        picture.alt = "";
        picture.src = source;
        cell.append(picture);
      }
      line.append(cell);
    }
    this.columns.forEach((column, c) => {
      const cell = element("td", column.kind === "number" ? "number" : "");
      if (c === this.id) {
        // the folder goes under the file's name; the whole id is in the viewer and in the tooltip
        const whole = shown(column.at(row));
        const cut = whole.lastIndexOf("/") + 1;
        const button = element("button", "pick", whole.slice(cut));
        button.type = "button";
        button.title = whole;
        cell.classList.add("name");
        cell.append(button);
        if (cut > 1) cell.append(element("span", "within", whole.slice(0, cut - 1)));
      } else {
        const text = this.said(column, row);
        if (text.length < 30) cell.classList.add("short");
        cell.textContent = text;
      }
      cell.dataset.head = titled(column);
      line.append(cell);
    });
    return line;
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.classList.contains("pick")) return;
    event.preventDefault();
    const line = event.target.closest("tr");
    const next = step > 0 ? line.nextElementSibling : line.previousElementSibling;
    if (!next) return;
    next.querySelector(".pick").focus();
    this.choose(Number(next.dataset.row));
  }

  choose(row) {
    this.chosen = row;
    for (const line of this.body.children) line.classList.toggle("chosen", Number(line.dataset.row) === row);
    const facts = this.columns.map((column) => [column.name, column.at(row), this.said(column, row), titled(column)]);
    this.onChoose?.(facts);
  }
}

// Tables of numbers that stand in the page as they are: heads sort them, and a field filters those that are long.
const LONG = 8;

function worth(cell) {
  // what is missing is null, an interval below the number does not count
  const text = (cell?.firstChild?.textContent ?? "").trim();
  if (!text || text === "–") return null;
  if (!cell.classList.contains("number")) return text.toLowerCase();
  const [above, below] = text.replaceAll("−", "-").split("/").map(Number);
  return below ? above / below : above;
}

function sortable(table) {
  const body = table.tBodies[0];
  const lines = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  if (lines.length < 2) return;
  const marks = heads.map((head, c) => {
    const name = head.firstChild.textContent.trim();
    const button = element("button", "sort", name);
    button.type = "button";
    head.replaceChild(element("span", "on-paper", name), head.firstChild);
    head.prepend(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const values = new Map(lines.map((line) => [line, worth(line.cells[c])]));
      // numbers from the highest, words from A
      const numeric = [...values.values()].some((value) => typeof value === "number");
      const descending = now ? now === "ascending" : numeric;
      heads.forEach((other, o) => {
        other.removeAttribute("aria-sort");
        marks[o].button.textContent = marks[o].name;
      });
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      button.textContent = name + (descending ? " ↓" : " ↑");
      const sorted = lines.slice().sort((a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const way = x < y ? -1 : x > y ? 1 : 0;
        return descending ? -way : way;
      });
      body.append(...sorted);
    });
    return { button, name };
  });
  if (lines.length < LONG) return;
  const controls = element("div", "controls");
  const label = element("label", "", "Filter ");
  const field = element("input", "filter");
  field.type = "search";
  field.placeholder = "words of a row";
  field.setAttribute("aria-label", "Show rows that contain all of these words");
  label.append(field);
  const count = element("span", "where");
  count.setAttribute("role", "status");
  controls.append(label, count);
  const place = table.closest(".scroll") ?? table;
  place.before(controls);
  const texts = new Map(lines.map((line) => [line, [...line.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const line of lines) {
      line.hidden = !words.every((word) => texts.get(line).includes(word));
      shown += !line.hidden;
    }
    count.textContent = words.length ? `${shown} of ${lines.length} rows` : "";
  });
}

for (const table of document.querySelectorAll("table.summary")) sortable(table);
