"use strict";

// Light or dark: the reader's setting, until the switch says otherwise for this visit.
const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const redraws = [];

function remembered(value) {
  try { // a browser that keeps nothing for files throws here; the switch then lasts until the page is left
    if (value) sessionStorage.setItem("kilonode-theme", value);
    return sessionStorage.getItem("kilonode-theme");
  } catch { return value; }
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
}

function showTheme() {
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(isDark()));
  redraws.forEach((redraw) => redraw());
}

if (remembered()) root.dataset.theme = remembered();
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = remembered(isDark() ? "light" : "dark");
  showTheme();
});
dark.addEventListener("change", showTheme);

// Tables: a button in a header sorts by its column, once more turns the order; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("th button")) button.addEventListener("click", () => sort(table, button));
}

function sort(table, button) {
  const header = button.closest("th");
  const column = header.cellIndex;
  const numbers = button.dataset.kind === "number";
  const first = numbers ? "descending" : "ascending";
  const direction = !header.ariaSort ? first : header.ariaSort === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    if (!numbers) return cell.textContent.trim().toLowerCase();
    const value = cell.dataset.value;
    return value === undefined || value === "" || value === "None" ? null : Number(value);
  };
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numbers ? a - b : a.localeCompare(b));
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

// Maps: points on a canvas; the pointer or the arrow keys choose one, its picture and values stand beside it.
const CLASSES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56a5d8", "#8c564b", "#7f7f7f", "#7b61c9", "#97a000"];
const RAMP = [[59, 111, 181], [146, 146, 150], [214, 120, 24]]; // blue, grey, orange: told apart on light and on dark

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return "rgb(" + RAMP[low].map((from, k) => Math.round(from + (at - low) * (RAMP[low + 1][k] - from))).join() + ")";
}

function spoken(value) {
  if (!Number.isFinite(value)) return "none";
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

class SampleMap {
  constructor(figure) {
    this.figure = figure;
    const data = JSON.parse(figure.querySelector("script").textContent);
    this.data = data;
    this.places = new Uint16Array(bytes(data.maps));
    this.columns = data.columns.map((column) => ({ ...column, values: new Float32Array(bytes(column.values)) }));
    this.plane = figure.querySelector(".plane");
    this.canvas = this.plane.querySelector("canvas");
    this.by = figure.querySelector(".by");
    this.seed = figure.querySelector(".seed");
    this.chosen = -1;
    if (data.sheet) {
      this.sheet = new Image();
      this.sheet.src = data.sheet.source;
    }
    this.by.addEventListener("change", () => this.draw());
    this.seed.addEventListener("change", () => this.draw());
    this.plane.addEventListener("pointermove", (event) => this.point(event));
    this.plane.addEventListener("pointerdown", (event) => this.point(event));
    this.plane.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(this.plane);
    redraws.push(() => this.draw());
  }

  place(i) { // shares of the square, y upwards
    const at = 2 * (this.data.points * Number(this.seed.value) + i);
    return [0.02 + 0.96 * this.places[at] / 65535, 0.98 - 0.96 * this.places[at + 1] / 65535];
  }

  colour(column, i) {
    const value = column.values[i];
    if (!Number.isFinite(value)) return "#888";
    if (column.labels) return CLASSES[Object.keys(column.labels).indexOf(String(value)) % CLASSES.length] ?? "#888";
    const [low, high] = column.limits;
    return ramp(high > low ? (value - low) / (high - low) : 0.5);
  }

  draw() {
    const side = this.plane.clientWidth;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = this.canvas.height = Math.round(side * scale);
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const column = this.columns[Number(this.by.value)];
    const radius = Math.max(1.6, Math.min(3.6, side / Math.sqrt(this.data.points) / 6));
    pen.globalAlpha = 0.8;
    for (let i = 0; i < this.data.points; i++) {
      const [x, y] = this.place(i);
      pen.fillStyle = column ? this.colour(column, i) : CLASSES[0];
      pen.beginPath();
      pen.arc(x * side, y * side, radius, 0, 2 * Math.PI);
      pen.fill();
    }
    if (this.chosen >= 0) {
      const [x, y] = this.place(this.chosen);
      pen.globalAlpha = 1;
      pen.lineWidth = 2;
      pen.strokeStyle = getComputedStyle(this.plane).color;
      pen.beginPath();
      pen.arc(x * side, y * side, radius + 4, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (column) this.key(column);
  }

  key(column) {
    const list = this.figure.querySelector(".legend");
    const item = (...parts) => {
      const li = document.createElement("li");
      li.append(...parts);
      return li;
    };
    if (column.labels) {
      const counts = new Map();
      column.values.forEach((value) => counts.set(String(value), (counts.get(String(value)) ?? 0) + 1));
      list.replaceChildren(...Object.entries(column.labels).filter(([value]) => counts.has(value)).map(([value, word]) => {
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = CLASSES[Object.keys(column.labels).indexOf(value) % CLASSES.length];
        return item(swatch, `${word} (${counts.get(value)})`);
      }));
    } else {
      const bar = document.createElement("span");
      bar.className = "ramp";
      bar.style.background = `linear-gradient(90deg, ${[0, 0.5, 1].map(ramp).join()})`;
      const unit = column.unit === "1" ? "" : " " + column.unit;
      list.replaceChildren(item(spoken(column.limits[0]), bar, spoken(column.limits[1]) + unit));
    }
  }

  point(event) {
    const box = this.plane.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    let [best, reach] = [-1, 0.03 ** 2];
    for (let i = 0; i < this.data.points; i++) {
      const [px, py] = this.place(i);
      const away = (px - x) ** 2 + (py - y) ** 2;
      if (away < reach) [best, reach] = [i, away];
    }
    if (best >= 0 && best !== this.chosen) this.choose(best);
  }

  step(event) { // the nearest sample within 45 degrees of the arrow
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (!arrow) return;
    event.preventDefault();
    if (this.chosen < 0) return this.choose(0);
    const [x, y] = this.place(this.chosen);
    let [best, reach] = [-1, Infinity];
    for (let i = 0; i < this.data.points; i++) {
      const [px, py] = this.place(i);
      const along = (px - x) * arrow[0] + (py - y) * arrow[1];
      const aside = Math.abs((px - x) * arrow[1]) + Math.abs((py - y) * arrow[0]);
      if (along > 0 && aside <= along && along + aside < reach) [best, reach] = [i, along + aside];
    }
    if (best >= 0) this.choose(best);
  }

  choose(i) {
    this.chosen = i;
    const list = this.figure.querySelector("dl");
    const rows = [["sample", String(this.data.samples[i])]];
    for (const column of this.columns) {
      const value = column.values[i];
      const unit = column.unit === "1" || column.labels ? "" : " " + column.unit;
      rows.push([column.name.replaceAll("_", " "), (column.labels?.[String(value)] ?? spoken(value)) + unit]);
    }
    list.replaceChildren(...rows.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      [dt.textContent, dd.textContent] = [name, value];
      return [dt, dd];
    }));
    this.thumbnail(i);
    this.draw();
  }

  thumbnail(i) {
    const thumb = this.figure.querySelector(".thumb");
    const sheet = this.data.sheet;
    thumb.hidden = !sheet || i >= sheet.count; // only the first samples have one
    if (thumb.hidden) return;
    const [x, y] = [(i % sheet.across) * sheet.w, Math.floor(i / sheet.across) * sheet.h];
    thumb.dataset.sample = this.data.samples[i];
    this.sheet.decode().then(() => thumb.getContext("2d").drawImage(this.sheet, x, y, sheet.w, sheet.h, 0, 0, sheet.w, sheet.h));
  }
}

document.querySelectorAll("figure.map").forEach((figure) => new SampleMap(figure));
showTheme();

// Paper cannot be clicked: where a figure comes from is printed with it, in light colours.
let before = null;
window.addEventListener("beforeprint", () => {
  before = root.dataset.theme;
  root.dataset.theme = "light";
  document.querySelectorAll("details.source").forEach((details) => { details.open = true; });
  redraws.forEach((redraw) => redraw());
});
window.addEventListener("afterprint", () => {
  if (before) root.dataset.theme = before; else delete root.dataset.theme;
  document.querySelectorAll("details.source").forEach((details) => { details.open = false; });
  redraws.forEach((redraw) => redraw());
});
