"use strict";
// Histograms: bars and the two ends of each column, in the order of what one asks first.

const CHARTS = {
  value: "predicted value", value_target: "value target", advantage: "advantage", priority: "priority, log scale",
  num_tokens: "tokens", num_context: "context tokens", version: "weights version", age: "age in versions", draws: "draws",
};

const WHOLE = ["num_tokens", "num_context", "version", "age", "draws"]; // bins end one past the last number

function drawCharts() {
  const { histograms, spreads, by_value } = now.overview;
  const drawn = [];
  if (by_value.length) drawn.push(calibration(by_value));
  const means = Object.fromEntries(spreads.map((spread) => [spread.name, spread]));
  for (const histogram of histograms) drawn.push(chart(histogram, means[histogram.name]));
  $("charts").replaceChildren(...drawn);
}

function chart({ name, edges, counts }, spread) {
  const most = Math.max(...counts, 1), whole = counts.reduce((sum, count) => sum + count, 0);
  const card = element("div", "chart");
  const title = element("h2", "", CHARTS[name] ?? name);
  const bars = element("div", "bars");
  counts.forEach((count, i) => {
    const bar = element("i");
    bar.style.height = count ? `max(1.5px, ${(100 * count) / most}%)` : "0";
    bar.title = `${number(edges[i])} to ${number(edges[i + 1])}: ${number(count)} (${((100 * count) / whole).toFixed(1)} %)`;
    bars.append(bar);
  });
  bars.setAttribute("role", "img");
  bars.setAttribute("aria-label", spread ? `${CHARTS[name]}: least ${number(spread.least)}, median ${number(spread.median)}, most ${number(spread.most)}` : CHARTS[name]);
  const ends = element("div", "ends");
  const middle = spread ? `median ${number(spread.median)}` : "";
  ends.append(element("span", "", number(WHOLE.includes(name) && spread ? spread.least : edges[0])), element("span", "", middle),
    element("span", "", number(WHOLE.includes(name) && spread ? spread.most : edges.at(-1))));
  card.append(title, bars, ends);
  return card;
}

// Predicted values against what they should have been: the closer to the line, the better the rating.
function calibration(groups) {
  const card = element("div", "chart");
  const title = element("h2", "", "target by prediction");
  const svg = drawing("svg", { viewBox: "0 0 100 52", width: "100%", height: 52, preserveAspectRatio: "none", role: "img" });
  svg.append(drawing("line", { x1: 0, y1: 52, x2: 100, y2: 0, stroke: "var(--line)", "vector-effect": "non-scaling-stroke" }));
  const points = groups.map((group) => [100 * group.value, 52 - 52 * Math.min(Math.max(group.value_target, 0), 1)]);
  svg.append(drawing("polyline", { points: points.map((point) => point.join(",")).join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 2, "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" }));
  for (const [i, [x, y]] of points.entries()) {
    // a round end of a line of no length stays round where the drawing is stretched
    const dot = drawing("path", { d: `M${x} ${y}h0`, stroke: "var(--accent)", "stroke-width": 7, "stroke-linecap": "round", "vector-effect": "non-scaling-stroke" });
    const said = drawing("title", {});
    said.textContent = `predicted ${number(groups[i].value)}, target ${number(groups[i].value_target)}, ${number(groups[i].num_nodes)} nodes`;
    dot.append(said);
    svg.append(dot);
  }
  svg.setAttribute("aria-label", groups.map((group) => `predicted ${number(group.value)}, target ${number(group.value_target)}`).join("; "));
  const box = element("div", "bars");
  box.append(svg);
  const ends = element("div", "ends");
  ends.append(element("span", "", "0"), element("span", "", "1"));
  card.append(title, box, ends);
  return card;
}

function drawing(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
