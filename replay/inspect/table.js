// The table: only the rows in sight are in the document. Sorting, moving, choosing.

const ROW_PX = 30, HEAD_PX = 32, SPARE = 8, SNIPPET = 300;
const COLUMNS = {
  id: "id", action: "action", text: "thought", priority: "priority", draws: "draws", advantage: "advantage", value: "value",
  value_target: "target", outcome: "graded", version: "version", num_tokens: "tokens",
};
const WORDS = ["id", "action", "text"];
let frame = 0;

function listenToTable() {
  $("table").addEventListener("scroll", () => { frame ||= requestAnimationFrame(() => { frame = 0; drawRows(); }); });
  $("table").addEventListener("keydown", (event) => {
    const page = Math.max(Math.floor(($("table").clientHeight - HEAD_PX) / ROW_PX) - 1, 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(step);
  });
}

function buildColumns() {
  $("columns").replaceChildren(...Object.entries(COLUMNS).map(([name, words]) => {
    const cell = element("span", WORDS.includes(name) ? "" : "number");
    cell.setAttribute("role", "columnheader");
    if (name === "text") {
      cell.append(element("button", "", words));
      cell.firstChild.disabled = true;
      return cell;
    }
    const button = element("button", "", words);
    button.type = "button";
    if (wish.sort === name) cell.setAttribute("aria-sort", wish.descending ? "descending" : "ascending");
    button.addEventListener("click", () => sortBy(name));
    cell.append(button);
    return cell;
  }));
}

function sortBy(name) {
  wish.descending = wish.sort === name ? !wish.descending : true;
  wish.sort = name;
  buildColumns();
  $("columns").querySelector("[aria-sort] button").focus();
  $("table").scrollTop = 0;
  refine();
}

function move(step) {
  const last = now.places.length - 1;
  if (last < 0) return;
  const at = Math.max(now.places.indexOf(now.chosen), 0);
  const to = Math.min(Math.max(at + step, 0), last);
  const table = $("table"), top = to * ROW_PX;
  if (top < table.scrollTop) table.scrollTop = top;
  else if (top + ROW_PX + HEAD_PX > table.scrollTop + table.clientHeight) table.scrollTop = top + ROW_PX + HEAD_PX - table.clientHeight;
  choose(now.places[to]);
}

function drawTable() {
  if (!$("columns").childElementCount) buildColumns();
  $("table").setAttribute("aria-rowcount", now.places.length);
  $("canvas").style.height = `${now.places.length * ROW_PX}px`;
  drawRows();
}

function drawRows() {
  const table = $("table");
  const first = Math.max(Math.floor(table.scrollTop / ROW_PX) - SPARE, 0);
  const end = Math.min(first + Math.ceil(table.clientHeight / ROW_PX) + 2 * SPARE, now.places.length);
  const rows = [];
  for (let i = first; i < end; i++) rows.push(row(now.places[i], i));
  if (!rows.length) rows.push(element("p", "empty", now.count ? "No node fits." : "The buffer holds no node."));
  $("canvas").replaceChildren(...rows);
}

function row(place, i) {
  const { nodes } = now;
  const line = element("div", place === now.chosen ? "line chosen" : "line");
  line.style.top = `${i * ROW_PX}px`;
  line.setAttribute("role", "row");
  line.setAttribute("aria-rowindex", i + 1);
  line.setAttribute("aria-selected", place === now.chosen);
  const action = text("action", place), outcome = outcomeOf(place);
  const cells = Object.keys(COLUMNS).map((name) => {
    if (name === "id") return element("span", "id", nodes.id[place]);
    if (name === "action") return element("span", ACTIONS.includes(action) ? `action ${action}` : "action", action);
    if (name === "text") return words(place);
    if (name === "outcome") return element("span", `number ${outcome}`, { right: "✓", wrong: "✗", none: "" }[outcome] ?? number(nodes.outcome[place]));
    return element("span", "number", name === "version" ? nodes.version[place] : number(nodes[name][place]));
  });
  cells.forEach((cell) => cell.setAttribute("role", "gridcell"));
  line.append(...cells);
  line.addEventListener("click", () => { choose(place); $("table").focus({ preventScroll: true }); });
  return line;
}

function words(place) {
  const cell = element("span", "words");
  cell.dir = "auto";
  if (!now.nodes.text) {
    cell.textContent = `${text("problem", place)}, tree ${text("tree", place)}, node ${now.nodes.node[place]}`;
    return cell;
  }
  const said = plain(now.nodes.text[place]).slice(0, SNIPPET);
  if (said) marked(cell, said);
  else cell.append(element("span", "id", "ended at once"));
  return cell;
}

// Without the marks that every thought has; they are in the tokens of the node.
function plain(thought) {
  return thought.replace(/<end_of_thought>$/, "").replace(/^<(problem|critic|refine|conclusion)>/, "").replace(/<remaining>(\d+\/\d+)<\/remaining>/g, "⟨$1⟩").replace(/\s+/g, " ");
}

function marked(cell, shown) {
  const query = wish.query.toLowerCase(), lower = shown.toLowerCase();
  if (!query || lower.length !== shown.length) { cell.textContent = shown; return; }
  let from = 0;
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
    cell.append(shown.slice(from, at), element("mark", "", shown.slice(at, at + query.length)));
    from = at + query.length;
  }
  cell.append(shown.slice(from));
}
