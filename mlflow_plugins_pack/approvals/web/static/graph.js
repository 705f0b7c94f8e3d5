// Lets the reader move, enlarge and fold the graph of lineage; without it the graph scrolls.
const graph = document.querySelector("svg.graph");
const frame = graph.parentElement;
const whole = { x: 0, y: 0, width: graph.width.baseVal.value, height: graph.height.baseVal.value };
const view = { ...whole };

function show() {
  graph.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
}

// Enlarges around a point, given in the graph's own units.
function zoom(factor, x = view.x + view.width / 2, y = view.y + view.height / 2) {
  const width = Math.min(Math.max(view.width / factor, 150), whole.width * 4);
  const scale = width / view.width;
  view.x = x - (x - view.x) * scale;
  view.y = y - (y - view.y) * scale;
  view.width = width;
  view.height *= scale;
  show();
}

function move(right, down) {
  view.x += right * view.width;
  view.y += down * view.height;
  show();
}

const shownHeight = Math.min(whole.height, 640);
graph.setAttribute("width", "100%");
graph.setAttribute("height", String(shownHeight));

// At a scale that can be read, around the focus.
function start() {
  const scale = Math.min(Math.max(1, whole.width / frame.clientWidth), 1.4);
  const focus = graph.querySelector("a.focus rect");
  const width = frame.clientWidth * scale;
  const height = shownHeight * scale;
  const x = focus.x.baseVal.value + focus.width.baseVal.value / 2 - width / 2;
  const y = focus.y.baseVal.value + focus.height.baseVal.value / 2 - height / 2;
  // No emptiness where there is something to show.
  const inside = (start, size, all) => (size >= all ? (all - size) / 2 : Math.min(Math.max(start, 0), all - size));
  Object.assign(view, { x: width >= whole.width ? 0 : inside(x, width, whole.width), y: inside(y, height, whole.height), width, height });
  show();
}

function all() {
  const scale = Math.max(1, whole.width / frame.clientWidth, whole.height / shownHeight);
  Object.assign(view, { x: 0, y: (whole.height - shownHeight * scale) / 2, width: frame.clientWidth * scale, height: shownHeight * scale });
  show();
}

function inGraph(event) {
  const point = new DOMPoint(event.clientX, event.clientY);
  return point.matrixTransform(graph.getScreenCTM().inverse());
}

const bar = document.createElement("div");
bar.className = "buttons graph-bar";
for (const [label, sign, act] of [
  ["Enlarge", "+", () => zoom(1.25)],
  ["Reduce", "\u2212", () => zoom(0.8)],
  ["Left", "\u2190", () => move(-0.2, 0)],
  ["Right", "\u2192", () => move(0.2, 0)],
  ["Up", "\u2191", () => move(0, -0.2)],
  ["Down", "\u2193", () => move(0, 0.2)],
  ["Whole graph", "Whole graph", all],
]) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = sign;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  bar.append(button);
}
frame.before(bar);
frame.classList.replace("scroll", "moves");
frame.removeAttribute("tabindex");

let held = null;
let moved = false;
graph.addEventListener("pointerdown", (event) => {
  held = inGraph(event);
  moved = false;
});
addEventListener("pointermove", (event) => {
  if (held === null) return;
  const now = inGraph(event);
  if (Math.abs(now.x - held.x) + Math.abs(now.y - held.y) > 3) moved = true;
  view.x -= now.x - held.x;
  view.y -= now.y - held.y;
  show();
});
addEventListener("pointerup", () => { held = null; });
addEventListener("pointercancel", () => { held = null; });
graph.addEventListener("click", (event) => { if (moved) event.preventDefault(); }, true);
graph.addEventListener("dragstart", (event) => event.preventDefault());
// The wheel alone scrolls the page, as everywhere; with Ctrl, or two fingers, it enlarges.
graph.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const point = inGraph(event);
  zoom(event.deltaY < 0 ? 1.15 : 0.87, point.x, point.y);
}, { passive: false });

// --- folding: a sign on a node hides what is behind it, seen from the focus -----------------------
const nodes = new Map([...graph.querySelectorAll("a[data-node]")].map((a) => [a.dataset.node, a]));
const lines = [...graph.querySelectorAll("path[data-from]")];
const folded = new Set();

// The nodes behind a node: downstream of what is right of the focus, upstream of what is left.
function behind(key) {
  return lines.flatMap(({ dataset: { from, to } }) => {
    if (from === key && Number(nodes.get(to).dataset.depth) > 0) return [to];
    if (to === key && Number(nodes.get(from).dataset.depth) < 0) return [from];
    return [];
  });
}

function update() {
  const seen = new Set([...nodes].filter(([, a]) => a.dataset.depth === "0").map(([key]) => key));
  for (const key of seen) {
    if (!folded.has(key)) behind(key).forEach((other) => seen.add(other));
  }
  const isHidden = (key) => folded.size > 0 && !seen.has(key);
  nodes.forEach((a, key) => a.classList.toggle("folded", isHidden(key)));
  for (const line of lines) {
    line.classList.toggle("folded", isHidden(line.dataset.from) || isHidden(line.dataset.to));
  }
  graph.querySelectorAll("g.fold").forEach((sign) => {
    const key = sign.dataset.of;
    sign.classList.toggle("folded", isHidden(key));
    sign.lastChild.textContent = folded.has(key) ? "+" : "\u2212";
    sign.setAttribute("aria-expanded", String(!folded.has(key)));
  });
}

const SVG = "http://www.w3.org/2000/svg";
nodes.forEach((a, key) => {
  const hidden = behind(key).map((other) => Number(nodes.get(other).dataset.depth));
  if (hidden.length === 0) return;
  const box = a.querySelector("rect");
  const isLeft = Math.max(...hidden) < 0;
  const x = box.x.baseVal.value + (isLeft ? 0 : box.width.baseVal.value);
  const y = box.y.baseVal.value + box.height.baseVal.value / 2;
  const sign = document.createElementNS(SVG, "g");
  sign.setAttribute("class", "fold");
  sign.setAttribute("role", "button");
  sign.setAttribute("tabindex", "0");
  sign.setAttribute("aria-label", `What is behind ${a.querySelector("text").textContent}`);
  sign.dataset.of = key;
  const circle = document.createElementNS(SVG, "circle");
  circle.setAttribute("cx", x);
  circle.setAttribute("cy", y);
  circle.setAttribute("r", 8);
  const text = document.createElementNS(SVG, "text");
  text.setAttribute("x", x);
  text.setAttribute("y", y + 4);
  text.setAttribute("text-anchor", "middle");
  sign.append(circle, text);
  const toggle = () => {
    if (!folded.delete(key)) folded.add(key);
    update();
  };
  sign.addEventListener("click", toggle);
  sign.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  graph.append(sign);
});
update();
start();
