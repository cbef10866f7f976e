// The viewer of one image: two pictures under a wipe, each a photo with its heatmap in the figures' own colours.
const SIZE = 448;

function unpack(map) {
  if (map.values) return Float32Array.from(map.values.flat(), (value) => (value === null ? NaN : value));
  const bytes = Uint8Array.from(atob(map.data), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (step) => (step === -32768 ? NaN : step * map.step));
}

function reach(map, shared) {
  let low = 0, high = 0;
  for (const one of shared ?? [map]) {
    for (const value of one.cells) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return map.signed ? [-Math.max(-low, high), Math.max(-low, high)] : [low, high];
}

function colours(palette) {
  // 256 steps between the given colours
  const table = new Float32Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (palette.length - 1);
    const before = Math.min(Math.floor(place), palette.length - 2);
    for (let c = 0; c < 3; c++) {
      table[3 * i + c] = palette[before][c] + (place - before) * (palette[before + 1][c] - palette[before][c]);
    }
  }
  return table;
}

class Viewer {
  constructor(root, data, look) {
    this.root = root;
    this.data = data;
    this.look = { ...look, tables: [colours(look.unsigned), colours(look.signed)] };
    this.find = (selector) => root.querySelector(selector);
    this.canvas = this.find(".picture");
    this.byImage = new Map(data.views.map((view, i) => [view.image, i]));
    this.state = { strength: 0.85, wipe: 0.5, cell: null };
    const draw = () => this.draw();
    for (const name of ["strength", "wipe"]) {
      this.find(`.${name}`).addEventListener("input", (event) => {
        this.state[name] = event.target.value / 100;
        draw();
      });
    }
    for (const name of [".map", ".class", ".left", ".right", ".cells", ".shared"]) {
      this.find(name).addEventListener("input", draw);
    }
    this.canvas.addEventListener("pointermove", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  has(image) {
    return this.byImage.has(image);
  }

  async show(image, facts) {
    this.find("h4").textContent = image;
    const list = this.find("dl");
    list.replaceChildren();
    for (const [, , said, title] of facts) list.append(element("dt", "", title), element("dd", "", said));
    const place = this.byImage.get(image);
    this.wanted = image;
    const view = place === undefined ? null : await loaded(this.data, place);
    if (this.wanted !== image) return;  // another row was chosen meanwhile
    this.view = null;
    this.draw();
    if (!view) {
      this.say(place === undefined ? "No picture of this image was kept."
        : "The picture of this image lies in the folder report-files, which is not beside this page.");
      return;
    }
    const [photo, other] = await Promise.all([picture(view.photo), view.other ? picture(view.other) : null]);
    if (this.wanted !== image) return;
    this.photos = [photo, other ?? photo];
    for (const map of view.maps) {
      map.cells ??= unpack(map);
      // the same everywhere: colours would show what is not there
      map.flat = map.cells.every((value) => value === map.cells[0]);
    }
    this.view = view;
    this.options(facts);
    this.draw();
  }

  options(facts) {
    const { maps } = this.view;
    const parts = (map) => {
      const cut = map.name.indexOf(" · ");
      return cut < 0 ? [map.name, ""] : [map.name.slice(0, cut), map.name.slice(cut + 3)];
    };
    this.parts = parts;
    const wanted = Object.fromEntries(facts.map(([name, value]) => [name, value]));
    const fit = (map) => Object.entries(map.keys ?? {}).filter(([key, value]) => wanted[key] === value).length;
    const best = maps.reduce((a, b) => (fit(b) > fit(a) ? b : a), maps[0]);
    const conditions = [...new Set(maps.map((map) => map.condition))];
    const fill = (name, values, value) => {
      const select = this.find(name);
      // what was chosen for the last image stays, where this one has it and the row asks for nothing else
      const kept = values.includes(select.value) && !(best && fit(best)) ? select.value : value;
      select.replaceChildren(...values.map((text) => {
        const option = element("option", "", text);
        option.value = text;
        return option;
      }));
      select.value = kept ?? values[0] ?? "";
      this.hide(name, values.length < 2);
    };
    const [first, second] = best ? parts(best) : ["", ""];
    fill(".map", [...new Set(maps.map((map) => parts(map)[0]))], first);
    fill(".class", [...new Set(maps.map((map) => parts(map)[1]))], second);
    const right = best && best.condition !== conditions[0] ? best.condition : conditions.at(-1);
    fill(".left", conditions, conditions[0]);
    fill(".right", conditions, right);
    for (const name of [".wipe", ".sharing"]) this.hide(name, conditions.length < 2);
    this.find(".sides").hidden = conditions.length < 2;
    this.conditions = conditions;
  }

  hide(name, hidden) {
    const knob = this.find(name);
    knob.hidden = hidden;
    const label = knob.id && this.root.querySelector(`label[for="${knob.id}"]`);
    if (label) label.hidden = hidden;
  }

  side(name) {
    const condition = this.find(name).value;
    const [first, second] = [this.find(".map").value, this.find(".class").value];
    const map = this.view.maps.find((one) => {
      const [a, b] = this.parts(one);
      return a === first && b === second && one.condition === condition;
    });
    return { condition, map, photo: this.photos[condition === this.conditions[0] || !condition ? 0 : 1] };
  }

  draw() {
    const brush = this.canvas.getContext("2d", { willReadFrequently: true });
    brush.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.view) return;
    const two = this.conditions.length > 1;
    const sides = [this.side(".left"), this.side(".right")];
    const [width, height] = fitted(sides[0].photo);
    Object.assign(this.canvas, { width, height });
    const shared = this.find(".shared").checked ? sides.map((side) => side.map).filter(Boolean) : null;
    const cut = two ? Math.round(this.state.wipe * width) : width;
    if (cut > 0) this.paint(brush, sides[0], shared, 0, cut, width, height);
    if (cut < width) this.paint(brush, sides[1], shared, cut, width, width, height);
    if (two && cut > 0 && cut < width) {
      brush.fillStyle = "#fff";
      brush.fillRect(cut - 1, 0, 2, height);
    }
    this.sides = sides;
    this.legend(two ? sides : [sides[0]], shared);
    const names = this.find(".sides").children;
    sides.forEach((side, i) => (names[i].textContent = side.condition));
    this.describe(two);
    if (this.state.cell) this.mark(brush);
    this.readout();
  }

  paint(brush, { photo, map }, shared, from, to, width, height) {
    // only this side's part of the photo: the other side is there already
    const scale = photo.naturalWidth / width;
    brush.drawImage(photo, from * scale, 0, (to - from) * scale, photo.naturalHeight, from, 0, to - from, height);
    if (!map || this.state.strength === 0) return;
    const how = { strength: this.state.strength, smooth: !this.find(".cells").checked };
    overlay(brush, map, reach(map, shared), this.look, how, [from, to, width, height]);
  }

  legend(sides, shared) {
    this.root.querySelectorAll(".scale").forEach((box, i) => {
      const map = sides[i]?.map;
      box.hidden = !map;
      if (!map) return;
      legend(box, map, reach(map, shared), this.look);
    });
  }

  describe(two) {
    const [left, right] = this.sides;
    const name = left.map?.name ?? right.map?.name ?? "no heatmap";
    this.canvas.setAttribute("aria-label",
      `${this.view.image}: ${name}, ${two ? `${left.condition} left, ${right.condition} right` : "photo with heatmap"}. ` +
      "Arrow keys move over the cells and tell their values.");
  }

  point(x, y) {
    const map = this.view && (this.side(".left").map ?? this.side(".right").map);
    if (!map) return;
    const clamp = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value * size)));
    this.state.cell = [clamp(y, map.rows), clamp(x, map.cols)];
    this.readout();
  }

  key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const map = this.view && (this.side(".left").map ?? this.side(".right").map);
    if (!step || !map) return;
    event.preventDefault();
    const [row, col] = this.state.cell ?? [Math.floor(map.rows / 2), Math.floor(map.cols / 2)];
    this.state.cell = [
      Math.max(0, Math.min(map.rows - 1, row + step[0])), Math.max(0, Math.min(map.cols - 1, col + step[1]))];
    this.draw();
  }

  mark(brush) {
    const map = this.sides[0].map ?? this.sides[1].map;
    if (!map || document.activeElement !== this.canvas) return;
    const [row, col] = this.state.cell;
    const [width, height] = [this.canvas.width / map.cols, this.canvas.height / map.rows];
    brush.lineWidth = 2;
    brush.strokeStyle = "#fff";
    brush.strokeRect(col * width, row * height, width, height);
    brush.strokeStyle = "#000";
    brush.strokeRect(col * width - 1.5, row * height - 1.5, width + 3, height + 3);
  }

  readout() {
    if (!this.state.cell || !this.sides) return this.say("Move over the picture for the raw values.");
    const [row, col] = this.state.cell;
    const different = this.sides[0].condition !== this.sides[1].condition;
    const told = (different ? this.sides : [this.sides[0]]).map(({ condition, map }) => {
      const value = map && row < map.rows && col < map.cols ? map.cells[row * map.cols + col] : NaN;
      return `${different ? `${condition} ` : ""}${Number.isNaN(value) ? "–" : shown(value)}`;
    });
    const map = this.sides[0].map ?? this.sides[1].map;
    if (!map) return this.say("");
    const [rows, cols] = map.native;
    const mean = rows > map.rows || cols > map.cols ? `, each cell a mean of ${rows} × ${cols} values` : "";
    return this.say(`row ${row + 1}, column ${col + 1} of ${map.rows} × ${map.cols}${mean}: ${told.join(" · ")}`);
  }

  say(text) {
    this.find(".under").textContent = text;
  }
}

// The map over the part of the photo that lies between the columns `from` and `to`, in the figures' colours.
function overlay(brush, map, [low, high], look, { strength, smooth }, [from, to, width, height]) {
  const area = brush.getImageData(from, 0, to - from, height);
  const pixels = area.data;
  const table = look.tables[map.signed ? 1 : 0];
  const { floor, ceiling } = look;
  const largest = Math.max(-low, high);
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = from; x < to; x++, p += 4) {
      const grey = 64 + 0.7 * (0.299 * pixels[p] + 0.587 * pixels[p + 1] + 0.114 * pixels[p + 2]);
      let opacity = 0, place = 0;
      if (largest > 0 && !map.flat) {
        const value = at(map, (x + 0.5) / width, (y + 0.5) / height, smooth);
        const size = Math.min(1, Math.abs(value) / largest);
        opacity = (floor + (ceiling - floor) * size) * (map.signed ? Math.min(1, 4 * size) : 1) * strength;
        place = 3 * Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
      }
      for (let c = 0; c < 3; c++) {
        const under = pixels[p + c] + strength * (grey - pixels[p + c]);
        pixels[p + c] = opacity * table[place + c] + (1 - opacity) * under;
      }
    }
  }
  brush.putImageData(area, from, 0);
}

// The bar of colours under a picture, and its two ends.
function legend(box, map, limits, look) {
  const empty = limits[0] === limits[1];
  const brush = box.querySelector(".bar").getContext("2d");
  const line = brush.createImageData(256, 1);
  const table = look.tables[map.signed ? 1 : 0];
  for (let i = 0; i < 256; i++) line.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  brush.putImageData(line, 0, 0);
  const ends = box.querySelector(".ends").children;
  const level = map.cells[0];
  const one = map.flat && level ? `the same everywhere: ${shown(level)}` : "empty map";
  ends[0].textContent = empty || map.flat ? one : shown(limits[0]);
  ends[1].textContent = empty || map.flat ? "" : shown(limits[1]);
}

function at(map, x, y, smooth) {
  // bilinear between the centres of the cells, edges held; not a number counts as zero
  const { rows, cols, cells } = map;
  if (!smooth) return cells[Math.floor(y * rows) * cols + Math.floor(x * cols)] || 0;
  const v = Math.max(0, Math.min(rows - 1, y * rows - 0.5));
  const u = Math.max(0, Math.min(cols - 1, x * cols - 0.5));
  const [r, c] = [Math.floor(v), Math.floor(u)];
  const [below, beside] = [Math.min(r + 1, rows - 1), Math.min(c + 1, cols - 1)];
  const top = (cells[r * cols + c] || 0) * (c + 1 - u) + (cells[r * cols + beside] || 0) * (u - c);
  const bottom = (cells[below * cols + c] || 0) * (c + 1 - u) + (cells[below * cols + beside] || 0) * (u - c);
  return top * (r + 1 - v) + bottom * (v - r);
}

function fitted(photo) {
  const scale = SIZE / Math.max(photo.naturalWidth, photo.naturalHeight);
  return [Math.max(1, Math.round(photo.naturalWidth * scale)), Math.max(1, Math.round(photo.naturalHeight * scale))];
}

function picture(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error("a photo could not be read"));
    image.src = source;
  });
}
