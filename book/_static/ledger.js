// Filters for the tables of the claims page: by lecture, chapter and verdict. Without this script every row shows.
"use strict"

const rows = Array.from(document.querySelectorAll("table.ledger tbody tr"), row => ({
  row,
  lecture: row.querySelector("em").textContent.replace(/[()]/g, ""),
  chapter: row.className.match(/chapter-(\w+)/)[1].replaceAll("_", " "),
  verdict: row.lastElementChild.textContent.trim(),
}))

const form = document.createElement("form")
form.className = "ledger-filters"
form.setAttribute("aria-label", "Filter the rows")
for (const what of ["lecture", "chapter", "verdict"]) {
  const select = form.appendChild(document.createElement("label")).appendChild(document.createElement("select"))
  select.name = what
  select.before(`${what[0].toUpperCase()}${what.slice(1)} `)
  select.append(new Option("all", ""))
  for (const value of Array.from(new Set(rows.map(row => row[what]))).sort()) select.append(new Option(value, value))
}
const said = form.appendChild(document.createElement("output"))

function filter() {
  let shown = 0
  for (const entry of rows) {
    entry.row.hidden = ["lecture", "chapter", "verdict"].some(what => !["", entry[what]].includes(form[what].value))
    shown += !entry.row.hidden
  }
  for (const table of document.querySelectorAll("table.ledger")) {
    const empty = !table.querySelector("tbody tr:not([hidden])")
    const whole = table.closest(".pst-scrollable-table-container") || table
    whole.hidden = empty
    if (whole.previousElementSibling?.matches("p.rubric")) whole.previousElementSibling.hidden = empty
  }
  said.textContent = `${shown} of ${rows.length} rows`
}

form.addEventListener("input", filter)
form.addEventListener("submit", event => event.preventDefault())
document.querySelector("table.ledger").closest("section").querySelector("h2").after(form)
filter()
