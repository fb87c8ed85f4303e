// The page of the board: asks the server for what has changed and draws it. No library.
// From top to bottom: state, asking, controls, then one part for each view.
"use strict";

const COLORS = ["#0072b2", "#e07b00", "#009e73", "#cc5fa0", "#c43c2c", "#7a5fd0", "#8a6d00", "#3b9fd8"];
const EVERY_MS = Number(new URLSearchParams(location.search).get("every")) || 2000;
const VIEWS = { curves: "Curves", system: "System", histograms: "Histograms", samples: "Samples", graph: "Model", settings: "Settings" };
const SYSTEM = /^(system|throughput)\//;

const state = {
  view: location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "curves",
  runs: [], hidden: new Set(), data: new Map(), zoom: null, record: null, group: "weights", drawn: "",
};
const $ = id => document.getElementById(id);

// Small helpers

function el(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "path", "line", "text", "rect", "circle", "title"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "fill" || name === "stroke" || name === "background") node.style[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const color = run => COLORS[state.runs.findIndex(r => r.name === run) % COLORS.length];
const shown = () => state.runs.filter(run => !state.hidden.has(run.name));

function format(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential(2);
  return String(Number(x.toPrecision(5)));
}

function duration(seconds) {
  if (seconds < 120) return `${format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 7200) return `${format(Math.round(seconds / 6) / 10)} min`;
  return `${format(Math.round(seconds / 360) / 10)} h`;
}

// Asking

async function ask(path, query = {}) {
  const answer = await fetch(`/api/${path}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// What a view needs of a run, and the number that grows when it changes.
const NEEDS = {
  curves: ["curves", r => r.versions.metrics], system: ["curves", r => r.versions.metrics],
  histograms: ["histograms", r => r.versions.histograms], samples: ["samples", r => r.versions.samples],
  graph: ["graph", r => Number(r.graph)], settings: ["settings", r => r.steps === 0 ? 0 : 1],
};

async function refresh() {
  const { root, runs } = await ask("runs");
  $("root").textContent = root;
  state.runs = runs;
  const view = state.view, [what, version] = NEEDS[view];
  const stale = [];
  for (const run of what === "settings" ? [] : shown()) {
    const kept = state.data.get(`${what} ${run.name}`);
    if (kept && kept.version === version(run)) continue;
    if (what === "graph" && !run.graph) continue;
    stale.push(ask(what, { run: run.name }).then(
      content => state.data.set(`${what} ${run.name}`, { version: version(run), content })));
  }
  if (what === "settings") state.data.set("settings", { content: await ask("settings") });
  await Promise.all(stale);
  if (view !== state.view) return;  // another was chosen meanwhile, and asks for what it needs
  const mark = JSON.stringify([view, runs.map(r => [r.name, version(r)])]);
  drawRuns();
  if (mark !== state.drawn) { state.drawn = mark; draw(); }
}

async function keepUp() {
  try {
    await refresh();
    $("status").className = "";
    $("status").textContent = `${state.runs.some(r => r.live) ? "live" : "up to date"} · ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    $("status").className = "gone";
    $("status").textContent = "the server does not answer";
  }
  setTimeout(keepUp, EVERY_MS);
}

const isLogarithmic = () => $("log").checked && state.view === "curves";
const content = (what, run) => (state.data.get(`${what} ${run}`) || { content: null }).content;

// Controls

function drawRuns() {
  $("runs").replaceChildren(...state.runs.map(run => {
    const box = el("input", { type: "checkbox", "aria-label": run.name, onchange: () => {
      box.checked ? state.hidden.delete(run.name) : state.hidden.add(run.name);
      state.drawn = "";
      refresh();
    } });
    box.checked = !state.hidden.has(run.name);
    return el("label", { class: "run line", title: run.name }, box, el("b", { background: color(run.name) }),
      el("span", { class: "name" }, run.name), el("span", { class: "live" }, run.live ? "●" : ""),
      el("span", { class: "steps" }, format(run.steps)));
  }));
  if (!state.runs.length) $("runs").append(el("span", { class: "steps" }, "none yet"));
}

function drawTabs() {
  $("tabs").replaceChildren(...Object.entries(VIEWS).map(([name, title]) =>
    el("button", { type: "button", "aria-current": String(name === state.view), "data-view": name, onclick: () => {
      state.view = name;
      history.replaceState(null, "", `#${name}`);
      drawTabs();
      state.drawn = "";
      refresh().catch(() => {});
    } }, title)));
}

for (const id of ["filter", "smoothing", "log", "axis"]) {
  $(id).addEventListener("input", () => {
    $("smoothing-value").textContent = $("smoothing").value;
    if (id === "axis") state.zoom = null;
    draw();
  });
}

function wanted() {
  try { return new RegExp($("filter").value, "i"); } catch { return /(?:)/; }
}

function draw() {
  const views = { curves: drawCurves, system: drawCurves, histograms: drawHistograms, samples: drawSamples, graph: drawGraph, settings: drawSettings };
  const parts = views[state.view]();
  $("tip").hidden = true;
  $("view").replaceChildren(...(parts.length ? parts : [el("p", { class: "empty" }, EMPTY[state.view])]));
}

const EMPTY = {
  curves: "No numbers yet. Runs are directories with metrics.jsonl or metrics.csv: Trainer(logger=JSONLinesLogger(...)).",
  system: "No records of the machine. Trainer(callbacks=[SystemMonitor(), ThroughputMonitor()]) makes them.",
  histograms: "No distributions. Trainer(callbacks=[HistogramMonitor()]) records them.",
  samples: "No samples. Trainer(callbacks=[SampleMonitor()]), or trainer.logger.log_image and log_text, record them.",
  graph: "No graph of a model. Trainer(callbacks=[GraphMonitor()]) records it.",
  settings: "No settings. save_hyperparameters() in the module's __init__ records them.",
};

// Curves

function drawCurves() {
  const filter = wanted(), names = new Set();
  for (const run of shown()) for (const name of Object.keys(content("curves", run.name) || {})) {
    if (name !== "epoch" && SYSTEM.test(name) === (state.view === "system") && filter.test(name)) names.add(name);
  }
  const sections = new Map();
  for (const name of [...names].sort()) {
    const group = name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
    if (!sections.has(group)) sections.set(group, []);
    sections.get(group).push(chart(name));
  }
  return [...sections].map(([group, charts]) =>
    el("section", {}, ...(group ? [el("h2", {}, group)] : []), el("div", { class: "grid" }, ...charts)));
}

function curvesOf(name) {
  const lines = [];
  for (const run of shown()) {
    const series = (content("curves", run.name) || {})[name];
    if (!series) continue;
    const begin = Math.min(...Object.values(content("curves", run.name)).map(s => s.time[0] || Infinity));
    const byTime = $("axis").value === "time";
    const points = [];
    series.value.forEach((y, i) => {
      const x = byTime ? series.time[i] - begin : series.step[i];
      if (y !== null && Number.isFinite(x) && (!isLogarithmic() || y > 0)) points.push([x, y]);
    });
    lines.push({ run: run.name, points, smooth: smoothed(points), odd: series.value.filter(y => y === null).length });
  }
  return lines;
}

// An average with exponentially falling weights, made right for its start.
function smoothed(points) {
  const keep = Number($("smoothing").value);
  let sum = 0, weight = 0;
  return points.map(([x, y]) => {
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + 1 - keep;
    return [x, sum / weight];
  });
}

const SIZE = { width: 420, height: 230, left: 52, right: 8, top: 8, bottom: 22 };

function scale(low, high, from, to, isLog) {
  const f = isLog ? Math.log10 : x => x, span = f(high) - f(low) || 1;
  const go = x => from + (f(x) - f(low)) / span * (to - from);
  go.back = p => { const v = f(low) + (p - from) / (to - from) * span; return isLog ? 10 ** v : v; };
  return go;
}

function ticks(low, high, count, isLog) {
  if (isLog && high / low > 30) {
    const found = [], first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high));
    for (let e = first; e <= last; e += Math.ceil((last - first + 1) / count)) found.push(10 ** e);
    return found;
  }
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= raw);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

function chart(name) {
  const lines = curvesOf(name), isLog = isLogarithmic(), { width, height, left, right, top, bottom } = SIZE;
  const zoom = state.zoom;
  const inside = lines.map(l => l.points.filter(([x]) => !zoom || (x >= zoom[0] && x <= zoom[1])));
  const xs = inside.flat().map(p => p[0]), ys = inside.flat().map(p => p[1]);
  const odd = lines.reduce((n, l) => n + l.odd, 0);
  const note = odd ? `${odd} not finite` : "";
  const card = el("div", { class: "card", "data-metric": name }, el("h3", { title: name }, el("small", {}, note), name));
  if (!xs.length) { card.append(el("p", { class: "empty" }, "nothing to draw")); return card; }
  const least = a => a.reduce((x, y) => Math.min(x, y), Infinity), most = a => a.reduce((x, y) => Math.max(x, y), -Infinity);
  let [x0, x1] = zoom || [least(xs), most(xs)], [y0, y1] = [least(ys), most(ys)];
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  if (y0 === y1) { const pad = isLog ? y0 * 0.1 : Math.abs(y0) * 0.1 || 1; y0 -= pad; y1 += pad; }
  else if (!isLog) { const pad = (y1 - y0) * 0.04; y0 -= pad; y1 += pad; }
  const X = scale(x0, x1, left, width - right, false), Y = scale(y0, y1, height - bottom, top, isLog);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over ${$("axis").value}` });
  const byTime = $("axis").value === "time";
  for (const y of ticks(y0, y1, 5, isLog)) svg.append(
    el("line", { class: "rule", x1: left, x2: width - right, y1: Y(y), y2: Y(y) }),
    el("text", { x: left - 5, y: Y(y) + 3, "text-anchor": "end" }, format(y)));
  for (const x of ticks(x0, x1, 5, false)) svg.append(
    el("text", { x: X(x), y: height - 7, "text-anchor": "middle" }, byTime ? duration(x) : format(x)));
  const clip = pts => {  // with one point beyond each edge, so that lines reach it
    const first = pts.findIndex(p => p[0] >= x0), after = pts.findIndex(p => p[0] > x1);
    return pts.slice(Math.max(0, first - 1), after < 0 ? pts.length : after + 1).filter(p => !isLog || p[1] > 0);
  };
  const path = pts => clip(pts).map(([x, y], i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("");
  const isSmooth = Number($("smoothing").value) > 0;
  for (const line of lines) {
    const points = line.points;
    if (isSmooth) svg.append(el("path", { class: "raw", stroke: color(line.run), d: path(points) }));
    svg.append(el("path", { class: "curve", stroke: color(line.run), d: path(line.smooth), "data-run": line.run }));
    if (points.length === 1) svg.append(el("circle", { cx: X(points[0][0]), cy: Y(points[0][1]), r: 3, fill: color(line.run) }));
  }
  watchPointer(svg, lines, X, byTime);
  card.append(svg);
  return card;
}

function watchPointer(svg, lines, X, byTime) {
  const { width, height, left, right, top, bottom } = SIZE;
  const cross = el("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" });
  const area = el("rect", { class: "zoom", y: top, height: height - top - bottom, x: 0, width: 0 });
  svg.append(area, cross);
  let start = null;
  const place = event => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width * width, left), width - right);
  };
  svg.addEventListener("pointermove", event => {
    const p = place(event), x = X.back(p);
    cross.setAttribute("x1", p); cross.setAttribute("x2", p); cross.setAttribute("visibility", "visible");
    if (start !== null) { area.setAttribute("x", Math.min(p, start)); area.setAttribute("width", Math.abs(p - start)); }
    const rows = lines.filter(l => l.smooth.length).map(line => {
      const near = line.smooth.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      return el("div", {}, el("b", { background: color(line.run) }), `${line.run}: ${format(near[1])} at ${byTime ? duration(near[0]) : format(near[0])}`);
    });
    tip(event, rows);
  });
  svg.addEventListener("pointerdown", event => { start = place(event); event.preventDefault(); });
  svg.addEventListener("pointerup", event => {
    const p = place(event);
    if (start !== null && Math.abs(p - start) > 6) { state.zoom = [X.back(Math.min(p, start)), X.back(Math.max(p, start))]; draw(); }
    start = null;
  });
  svg.addEventListener("dblclick", () => { state.zoom = null; draw(); });
  svg.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); $("tip").hidden = true; start = null; });
}

function tip(event, rows) {
  const box = $("tip");
  box.replaceChildren(...rows);
  box.hidden = !rows.length;
  box.style.left = `${Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8)}px`;
  box.style.top = `${Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8)}px`;
}

// Histograms: one ridge for each recorded step, the newest in front

function drawHistograms() {
  const filter = wanted(), cards = [], groups = new Set();
  for (const run of shown()) for (const name of Object.keys(content("histograms", run.name) || {})) groups.add(name.split("/")[0]);
  if (!groups.size) return [];
  if (!groups.has(state.group)) state.group = [...groups][0];
  for (const run of shown()) {
    for (const [name, records] of Object.entries(content("histograms", run.name) || {}))
      if (name.split("/")[0] === state.group && filter.test(name)) cards.push(ridges(run.name, name, records));
  }
  const choose = el("select", { "aria-label": "what", onchange: () => { state.group = choose.value; draw(); } },
    ...[...groups].map(g => el("option", { value: g }, g)));
  choose.value = state.group;
  const row = el("div", { class: "row" }, choose);
  return [row, el("div", { class: "grid" }, ...cards)];
}

function ridges(run, name, records) {
  const { width, height } = SIZE, found = records.filter(r => r.counts.length);
  const odd = records.reduce((n, r) => n + r.odd, 0);
  const card = el("div", { class: "card", "data-histogram": name },
    el("h3", { title: `${name} of ${run}` }, el("small", {}, odd ? `${odd} not finite` : run), name.slice(name.indexOf("/") + 1)));
  if (!found.length) { card.append(el("p", { class: "empty" }, "nothing finite")); return card; }
  const low = Math.min(...found.map(r => r.edges[0])), high = Math.max(...found.map(r => r.edges[r.edges.length - 1]));
  const X = scale(low, high === low ? low + 1 : high, 12, width - 52, false);
  const density = r => r.counts.map((c, i) => c / (r.edges[i + 1] - r.edges[i] || 1));
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `distribution of ${name}` });
  const base = k => found.length === 1 ? height - 24 : 70 + k * (height - 94) / (found.length - 1);
  found.forEach((r, k) => {
    const d = density(r), top = Math.max(...d) || 1, y = base(k);
    let path = `M${X(r.edges[0])} ${y}`;
    d.forEach((v, i) => { const h = y - 56 * v / top; path += `L${X(r.edges[i]).toFixed(1)} ${h.toFixed(1)}L${X(r.edges[i + 1]).toFixed(1)} ${h.toFixed(1)}`; });
    path += `L${X(r.edges[r.edges.length - 1])} ${y}Z`;
    const ridge = el("path", { class: "ridge", d: path, fill: color(run) });
    ridge.addEventListener("pointermove", e => tip(e, [el("div", {}, `step ${format(r.step)}: ${format(r.edges[0])} to ${format(r.edges[r.edges.length - 1])}`)]));
    ridge.addEventListener("pointerleave", () => { $("tip").hidden = true; });
    svg.append(ridge);
    if (k === 0 || k === found.length - 1) svg.append(el("text", { x: width - 46, y: y + 3 }, format(r.step)));
  });
  for (const x of ticks(low, high === low ? low + 1 : high, 4, false)) svg.append(el("text", { x: X(x), y: height - 5, "text-anchor": "middle" }, format(x)));
  card.append(svg);
  return card;
}

// Samples

function drawSamples() {
  const filter = wanted(), parts = [];
  for (const run of shown()) {
    const found = Object.entries(content("samples", run.name) || {}).filter(([name]) => filter.test(name));
    if (!found.length) continue;
    const steps = [...new Set(found.flatMap(([, records]) => records.map(r => r.step)))].sort((a, b) => a - b);
    const at = state.record === null ? steps.length - 1 : Math.min(state.record, steps.length - 1);
    const label = el("span", {}, `step ${format(steps[at])}`);
    const slider = el("input", { type: "range", min: 0, max: steps.length - 1, value: at, "aria-label": "step",
      onchange: () => { state.record = Number(slider.value) === steps.length - 1 ? null : Number(slider.value); draw(); } });
    const figures = found.map(([name, records]) => {
      const past = records.filter(r => r.step <= steps[at]);
      if (!past.length) return "";
      const r = past[past.length - 1];
      if (r.text !== undefined) return el("div", { class: "card" }, el("h3", {}, name), el("pre", {}, r.text));
      const source = `/api/image?${new URLSearchParams({ run: run.name, place: r.image })}`;
      return el("figure", {}, el("img", { src: source, alt: r.caption || name }), el("figcaption", {}, r.caption || name));
    });
    parts.push(el("section", {}, el("h2", {}, run.name), el("div", { class: "row" }, slider, label), el("div", { class: "samples" }, ...figures)));
  }
  return parts;
}

// The model's graph: rows from top to bottom

function drawGraph() {
  const parts = [];
  for (const run of shown()) {
    const graph = content("graph", run.name);
    if (graph) parts.push(el("section", {}, el("h2", {}, run.name), drawLayers(graph)));
  }
  return parts;
}

function drawLayers({ layers, edges }) {
  const box = { width: 190, height: 40, across: 220, down: 66 };
  const rows = Math.max(...layers.map(l => l.row)) + 1;
  const counts = Array.from({ length: rows }, (_, r) => layers.filter(l => l.row === r).length);
  const wide = Math.max(...counts), middle = 20 + wide * box.across / 2;
  const x = l => middle + (l.column - counts[l.row] / 2) * box.across, y = l => 14 + l.row * box.down;
  const right = r => middle + counts[r] * box.across / 2, isLast = l => l.column === counts[l.row] - 1;
  const drawn = [], lanes = [];  // lanes: rows from and to of the edges that pass other layers
  for (const { source, target, through } of edges) {
    const a = layers[source], b = layers[target];
    const text = through.length > 26 ? `${through.slice(0, 25)}…` : through;
    if (b.row - a.row === 1) {
      const x0 = x(a) + box.width / 2, y0 = y(a) + box.height, x1 = x(b) + box.width / 2, y1 = y(b), half = (y0 + y1) / 2;
      drawn.push(el("path", { class: "edge", d: `M${x0} ${y0}C${x0} ${half} ${x1} ${half} ${x1} ${y1}` }));
      if (text) drawn.push(el("text", { x: (x0 + x1) / 2 + 6, y: half + 3 }, text));
      continue;
    }
    let lane = 0;
    while (lanes.some(l => l.lane === lane && l.from < b.row && a.row < l.to)) lane++;
    lanes.push({ lane, from: a.row, to: b.row });
    let out = 0;
    for (let r = a.row; r <= b.row; r++) out = Math.max(out, right(r));
    out += 14 + lane * 16;
    // At the right of a box, or below and above it where another stands beside.
    const [x0, y0, start] = isLast(a) ? [x(a) + box.width, y(a) + box.height * 0.6, ""]
      : [x(a) + box.width * 0.8, y(a) + box.height + 7, `V${y(a) + box.height + 7}`];
    const [x1, y1, end] = isLast(b) ? [x(b) + box.width, y(b) + box.height * 0.4, ""]
      : [x(b) + box.width * 0.8, y(b) - 7, `V${y(b)}`];
    const from = start ? `M${x0} ${y(a) + box.height}${start}` : `M${x0} ${y0}`;
    drawn.push(el("path", { class: "edge", d: `${from}H${out - 8}Q${out} ${y0} ${out} ${y0 + 8}V${y1 - 8}Q${out} ${y1} ${out - 8} ${y1}H${x1}${end}` }));
    if (text) drawn.push(el("text", { x: out + 4, y: (y0 + y1) / 2 + 3 }, text));
  }
  const width = 2 * middle + 190 + 16 * Math.max(0, ...lanes.map(l => l.lane)), height = rows * box.down + 20;
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "layers of the model" });
  svg.append(...drawn);
  const short = t => t.length > 26 ? `…${t.slice(-25)}` : t;
  for (const l of layers) svg.append(el("g", {}, el("title", {}, `${l.name} ${l.kind} ${l.shape}`),
    el("rect", { class: l.kind ? "box" : "box end", x: x(l), y: y(l), width: box.width, height: box.height }),
    el("text", { class: "layer", x: x(l) + 8, y: y(l) + 16 }, short(l.kind ? `${l.name}: ${l.kind}` : l.name)),
    el("text", { x: x(l) + 8, y: y(l) + 31 }, `${short(l.shape)}${l.parameters ? ` · ${l.parameters.toLocaleString("en")}` : ""}`)));
  return svg;
}

// Settings: a column for each run; what differs is marked

function drawSettings() {
  const all = (state.data.get("settings") || { content: {} }).content, filter = wanted();
  const runs = shown().map(r => r.name).filter(name => all[name]);
  const names = [...new Set(runs.flatMap(run => Object.keys(all[run])))].filter(n => filter.test(n)).sort();
  if (!names.length) return [];
  const rows = names.map(name => {
    const values = runs.map(run => all[run][name] ?? "");
    return el("tr", { class: new Set(values).size > 1 ? "differs" : "" }, el("th", {}, name), ...values.map(v => el("td", {}, v)));
  });
  return [el("table", {}, el("tr", {}, el("th", {}, ""), ...runs.map(run => el("th", {}, run))), ...rows)];
}

drawTabs();
keepUp();
