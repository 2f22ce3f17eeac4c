"use strict";
// A head's button sorts the table by its column; what is empty stays last, and equal rows keep the study's order.
for (const table of document.querySelectorAll("table.results")) {
  const body = table.tBodies[0];
  const study = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[place].dataset.order;
    const numeric = study.every((row) => !Number.isNaN(Number(key(row))));
    const compare = (a, b) => numeric ? Number(a) - Number(b) : a.localeCompare(b, "en");
    const sorted = [...study].sort((a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      return descending ? compare(key(b), key(a)) : compare(key(a), key(b));
    });
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...sorted);
  }));
}
