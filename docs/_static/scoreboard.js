// Sorting and filtering of the scoreboard. Without scripts the whole table is there in the papers' order.
"use strict";

function cells(row) {
  return Array.from(row.cells, (cell) => cell.textContent.trim());
}

function number(text) {
  const value = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
}

// Numbers by size, words by the alphabet, what is empty at the end.
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [number(a), number(b)];
  return x !== null && y !== null ? x - y : a.localeCompare(b);
}

function sortable(table) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = Array.from(body.rows, (row) => [cells(row)[column], row]);
      rows.sort(([a], [b]) => (down && a !== "" && b !== "" ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

function choice(form, title, values, change) {
  const select = document.createElement("select");
  for (const value of ["all", ...new Set(values)]) select.add(new Option(value, value === "all" ? "" : value));
  select.addEventListener("change", change);
  labelled(form, title, select);
  return select;
}

function labelled(form, title, field) {
  const label = document.createElement("label");
  label.append(title, field);
  form.append(label);
}

function filterable(table) {
  const rows = Array.from(table.tBodies[0].rows);
  const form = document.createElement("form");
  form.className = "scoreboard";
  form.addEventListener("submit", (event) => event.preventDefault());
  const said = document.createElement("output");
  const paper = (row) => cells(row)[0].split(",")[0];
  const word = (row) => cells(row)[2].replace(/^[^a-z]+/, "").replace(/ \(.*$/, ""); // without sign and count
  const update = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      const fits = (!papers.value || paper(row) === papers.value) && (!verdicts.value || word(row) === verdicts.value);
      row.hidden = !(fits && words.every((word) => content.includes(word)));
      shown += !row.hidden;
    }
    said.textContent = `${shown} of ${rows.length} rows`;
  };
  const papers = choice(form, "Paper", rows.map(paper), update);
  const verdicts = choice(form, "Verdict", rows.map(word), update);
  const text = document.createElement("input");
  text.type = "search";
  text.addEventListener("input", update);
  labelled(form, "Words", text);
  form.append(said);
  table.before(form);
  update();
}

for (const table of document.querySelectorAll("table.scoreboard")) {
  filterable(table);
  sortable(table);
}
