// The live page: what is chosen goes to the server of this machine, what comes back is drawn.
"use strict";
const key = location.hash.slice(1);
const find = (id) => document.getElementById(id);
const CHOICES = ["photo", "target", "explainer", "layer", "attack", "epsilon", "sigma", "copies"];
const PATIENT = 400;  // ms that a question may take before a newer one ends it: a slider that is drawn is followed
const SAID = 1000;  // ms after which the page says what it waits for
const HOVER = "Move over a picture: the square under the pointer is covered, and the network is asked again.";
let look, seen = null, square = null;

async function ask(question, body = {}, signal = null) {
  let reply;
  try {
    reply = await fetch(question, {
      method: "POST",
      signal,
      headers: { "Content-Type": "application/json", "X-Heatproof-Token": key },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("heatproof app does not answer: was it ended? Start it again, and open the address that it writes.");
  }
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

// Only the last wish counts: the ones between are forgotten, and what takes long gives way to it.
function latest(work, failed) {
  let running = null, wish = null;
  return async (...given) => {
    wish = given;
    if (running) {
      const { controller, start } = running;
      setTimeout(() => controller.abort(), Math.max(0, start + PATIENT - performance.now()));
      return;
    }
    while (wish) {
      const now = wish;
      wish = null;
      running = { controller: new AbortController(), start: performance.now() };
      try {
        await work(running.controller.signal, ...now);
      } catch (error) {
        if (!running.controller.signal.aborted) failed(error.message);
      }
    }
    running = null;
  };
}

const percent = (share) => (share >= 0.9995 ? "100%" : share > 0 && share < 0.0005 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`);
const apart = (nissim) => (nissim === null ? "NISSIM not known" : `NISSIM ${nissim.toFixed(3)}`);
const epsilon = () => Number(find("epsilon").value) / 255;

function wanted() {
  return {
    photo: Number(find("photo").value),
    target: find("target").value,
    explainer: find("explainer").value,
    layer: find("layer").value,
    attack: find("attack").value,
    epsilon: epsilon(),
    sigma: Number(find("sigma").value),
    copies: Number(find("copies").value),
  };
}

function outputs() {
  const said = {
    epsilon: (value) => (value > 0 ? `${value}/255` : "none"),
    sigma: (value) => (value > 0 ? value.toFixed(2) : "none"),
    strength: (value) => `${value} %`,
    side: (value) => `${value} %`,
    copies: (value) => (Number(find("sigma").value) > 0 ? String(value) : "–"),
  };
  for (const output of document.querySelectorAll("output")) {
    const name = output.htmlFor.value;
    output.textContent = said[name](Number(find(name).value));
    find(name).setAttribute("aria-valuetext", output.textContent);
  }
}

function tell(lines, bad = false) {
  find("said").replaceChildren(...lines.map((line) => element("p", "", line)));
  find("said").classList.toggle("bad", bad);
}

const refresh = latest(async (signal) => {
  const body = wanted();
  const start = performance.now();
  const pane = document.querySelector(".seen");
  pane.classList.add("busy");
  const clock = setInterval(() => waiting(body, performance.now() - start), SAID);
  try {
    const answer = await ask("look", body, signal);
    for (const sight of answer.sights) {
      for (const one of sight.conditions) {
        one.map.cells = unpack(one.map);
        one.picture = await picture(one.photo);
      }
    }
    for (const map of answer.differences) map.cells = unpack(map);
    seen = { ...answer, body };
    square = null;
    find("saved").textContent = "";
    find("save").disabled = false;
    find("target").placeholder = `what it answers: ${answer.target}`;
    tell(answer.sentences);
    build();
    pane.classList.remove("stale");
    find("took").textContent = `The last answer took ${((performance.now() - start) / 1000).toFixed(2)} s.`;
  } finally {
    clearInterval(clock);
    find("waiting").textContent = "";
    pane.classList.remove("busy");
  }
}, missed);

// What takes long: the pictures are those of the choice before, and are not saved under the new one.
function waiting(body, spent) {
  const smoothed = body.sigma > 0 ? `, ${body.copies} noisy copies` : "";
  const attacked = body.epsilon > 0 ? `, ${body.attack}` : "";
  find("waiting").textContent = `Waiting for ${body.explainer}${smoothed}${attacked}: ${Math.round(spent / 1000)} s. ` +
    "Another choice ends it.";
  stale();
}

function stale() {
  document.querySelector(".seen").classList.add("stale");
  find("save").disabled = true;
}

// Nothing was found: another photo's pictures go, those of the same photo stay and are seen to be of another choice.
function missed(text) {
  tell([text], true);
  stale();
  find("saved").textContent = "";
  if (seen && seen.body.photo === wanted().photo) return;
  seen = square = null;
  find("panels").replaceChildren();
  find("under").textContent = HOVER;
  find("target").placeholder = "what it answers";
}

// A row of pictures for each network, and one for what differs between two.
function build() {
  const attacked = seen.body.epsilon > 0;
  const titles = ["clean", seen.changed];
  const rows = seen.sights.map((sight, model) => ({
    title: seen.sights.length > 1 ? sight.model : "",
    panels: sight.conditions.map((one, place) => ({
      model, place, map: one.map, picture: one.picture, answers: one.answers, probability: one.probability,
      shared: sight.conditions.map((other) => other.map), title: titles[place],
      within: place ? `${budget(seen.body.epsilon)} · ${apart(sight.nissim)}` : "as it is",
    })),
  }));
  if (seen.differences.length) {
    rows.push({
      title: `${seen.sights[0].model} minus ${seen.sights[1].model}`,
      panels: seen.differences.map((map, place) => ({
        map, picture: seen.sights[0].conditions[place].picture, shared: seen.differences, answers: [], title: titles[place],
        within: `${apart(seen.apart[place])} between the two`,
      })),
    });
  }
  const shownRows = rows.map((row) => ({ ...row, panels: attacked ? row.panels : row.panels.slice(0, 1) }));
  const kept = document.querySelectorAll("#panels figure");
  const count = shownRows.reduce((sum, row) => sum + row.panels.length, 0);
  // the same figures as long as they are as many: the focus stays where it is
  if (kept.length !== count) find("panels").replaceChildren(...shownRows.map(made));
  const figures = [...document.querySelectorAll("#panels figure")];
  shownRows.flatMap((row) => row.panels).forEach((panel, place) => fill(figures[place], panel));
  document.querySelectorAll("#panels .row").forEach((row, place) => {
    row.querySelector("h2").textContent = shownRows[place].title;
    row.querySelector("h2").hidden = !shownRows[place].title;
  });
}

function made(row) {
  const box = element("div", row.panels.length > 1 ? "row" : "row single");
  box.append(element("h2"));
  for (const panel of row.panels) {
    const figure = find("panel").content.firstElementChild.cloneNode(true);
    const canvas = figure.querySelector("canvas");
    const point = (event) => {
      const place = canvas.getBoundingClientRect();
      aim(figure, (event.clientX - place.left) / place.width, (event.clientY - place.top) / place.height);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("keydown", (event) => step(figure, event));
    box.append(figure);
  }
  return box;
}

function fill(figure, panel) {
  figure.panel = panel;
  figure.querySelector("figcaption b").textContent = panel.title;
  figure.querySelector("figcaption .within").textContent = panel.within;
  const list = figure.querySelector(".answers");
  const named = panel.answers.some(([name]) => name === seen.target);
  const answers = named || !panel.answers.length ? panel.answers : [...panel.answers, [seen.target, panel.probability]];
  list.replaceChildren(...answers.map(([name, probability]) => {
    const line = element("li", name === seen.target ? "explained" : "");
    const bar = element("progress");
    bar.max = 1;
    bar.value = probability;
    bar.setAttribute("aria-hidden", "true");
    line.append(element("span", "", name), element("span", "", percent(probability)), bar);
    return line;
  }));
  const [best] = panel.answers;
  figure.querySelector("canvas").setAttribute("aria-label",
    `${panel.title}: photo with the map of ${seen.target}${best ? `, answered ${best[0]} with ${percent(best[1])}` : ""}. ` +
    "Arrow keys move a square that is covered.");
  draw(figure);
}

function draw(figure) {
  const { panel } = figure;
  const canvas = figure.querySelector("canvas");
  const [width, height] = fitted(panel.picture);
  Object.assign(canvas, { width, height });
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.imageSmoothingEnabled = false;
  brush.drawImage(panel.picture, 0, 0, width, height);
  const limits = reach(panel.map, find("shared").checked ? panel.shared : null);
  const how = { strength: Number(find("strength").value) / 100, smooth: !find("cells").checked };
  if (how.strength > 0) overlay(brush, panel.map, limits, look, how, [0, width, width, height]);
  legend(figure.querySelector(".scale"), panel.map, limits, look);
  figure.drawn = brush.getImageData(0, 0, width, height);
  if (square?.figure === figure) frame();
}

// The square under the pointer: where it is, and what the network says without it.
function aim(figure, x, y) {
  if (figure.panel.model === undefined) return;
  const within = (share) => Math.max(0, Math.min(1, share));
  const before = square?.figure;
  square = { figure, x: within(x), y: within(y), side: Number(find("side").value) / 100 };
  if (before && before !== figure) before.querySelector("canvas").getContext("2d").putImageData(before.drawn, 0, 0);
  frame();
  cover(square, seen);
}

function frame() {
  const canvas = square.figure.querySelector("canvas");
  const brush = canvas.getContext("2d");
  brush.putImageData(square.figure.drawn, 0, 0);
  const size = square.side * Math.min(canvas.width, canvas.height);
  const left = Math.max(0, Math.min(canvas.width - size, square.x * canvas.width - size / 2));
  const top = Math.max(0, Math.min(canvas.height - size, square.y * canvas.height - size / 2));
  brush.lineWidth = 2;
  brush.strokeStyle = "#000";
  brush.strokeRect(left, top, size, size);
  brush.strokeStyle = "#fff";
  brush.strokeRect(left + 2, top + 2, size - 4, size - 4);
}

const cover = latest(async (signal, { figure, x, y, side }, now) => {
  const { panel } = figure;
  const found = await ask("cover", { ...now.body, model: panel.model, attacked: panel.place === 1, x, y, side }, signal);
  if (now !== seen) return;  // something else is looked at by now
  const [before, after] = found.probabilities;
  const [logit, without] = found.logits;
  const way = logit >= without ? "falls" : "rises";
  const logits = `${shown(Number(logit.toFixed(2)))} to ${shown(Number(without.toFixed(2)))}`;
  // of two shares that are written alike, the logit says what changed
  const told = percent(before) === percent(after)
    ? `stays at ${percent(before)} (its logit ${way} from ${logits})`
    : `${after <= before ? "falls" : "rises"} from ${percent(before)} to ${percent(after)} (logit ${logits})`;
  find("under").textContent = `Without this square, ${now.target} ${told}, and the network answers ` +
    `${found.answer}. ` + (found.share === null ? "Nothing in the map is positive."
      : `The map puts ${percent(found.share)} of its weight here; an even map would put ${percent(found.area)}.`);
}, (text) => seen && (find("under").textContent = text));

function step(figure, event) {
  const way = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
  if (!way) return;
  event.preventDefault();
  const [x, y] = square?.figure === figure ? [square.x, square.y] : [0.5, 0.5];
  aim(figure, x + way[0] / 20, y + way[1] / 20);
}

function options(name, entries) {
  find(name).replaceChildren(...entries.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
}

function turn(way) {
  const select = find("photo");
  select.selectedIndex = (select.selectedIndex + way + select.options.length) % select.options.length;
  refresh();
}

async function begin() {
  const given = await ask("begin");
  look = { ...given.look, tables: [colours(given.look.unsigned), colours(given.look.signed)] };
  find("lead").textContent = `${given.models.join(" beside ")} · ${given.source}, ${given.photos.length} photos`;
  document.title = `${given.models.join(" beside ")} · heatproof live`;
  options("photo", given.photos.map((name, place) => [place, name]));
  options("explainer", given.explainers.map((name) => [name, name]));
  options("layer", [["", `default (${given.default})`], ...given.layers.map((name) => [name, name])]);
  options("attack", given.attacks.map((name) => [name, name]));
  find("classes").replaceChildren(...given.classes.map((name) => Object.assign(element("option"), { value: name })));
  for (const name of CHOICES) {
    const knob = find(name);
    // a class is read when it is whole
    knob.addEventListener(knob.type === "search" ? "change" : "input", () => (outputs(), refresh()));
  }
  for (const name of ["strength", "cells", "shared"]) {
    find(name).addEventListener("input", () => (outputs(), document.querySelectorAll("#panels figure").forEach(draw)));
  }
  find("side").addEventListener("input", () => (outputs(), square && aim(square.figure, square.x, square.y)));
  find("before").addEventListener("click", () => turn(-1));
  find("after").addEventListener("click", () => turn(1));
  find("save").addEventListener("click", latest(async () => {
    find("saved").textContent = "…";
    find("saved").textContent = `${(await ask("save", seen.body)).folder}/report.html`;
  }, (text) => (find("saved").textContent = text)));
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  outputs();
  await refresh();
}

begin().catch((error) => {
  find("lead").textContent = "Nothing is shown yet.";
  tell([error.message], true);
});
