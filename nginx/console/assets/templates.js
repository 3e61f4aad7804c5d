// Filling the templates of index.html.

const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function stamp(id) {
  return document.getElementById(id).content.cloneNode(true);
}

export function fill(root, texts) {
  for (const [name, text] of Object.entries(texts)) root.querySelector(`[data-${name}]`).textContent = text;
}

export function setTime(element, value) {
  element.dateTime = value;
  element.textContent = when.format(new Date(value));
}

export function count(number, word) {
  return `${number} ${number === 1 ? word : word.replace(/y$/, "ie") + "s"}`;
}
