// What each address shows. A view gets its element and a `go` function, and returns when it has been filled.
import { call, signIn } from "./api.js";

const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function stamp(id) {
  return document.getElementById(id).content.cloneNode(true);
}

function fill(root, texts) {
  for (const [name, text] of Object.entries(texts)) root.querySelector(`[data-${name}]`).textContent = text;
}

function setTime(element, value) {
  element.dateTime = value;
  element.textContent = when.format(new Date(value));
}

function count(number, word) {
  return `${number} ${number === 1 ? word : word.replace(/y$/, "ie") + "s"}`;
}

// One submission at a time, and its failure is shown where all failures are.
function onSubmit(form, report, action) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button:not([type])");
    if (button.disabled) return;
    button.disabled = true;
    try {
      await action(Object.fromEntries(new FormData(form)));
    } catch (error) {
      report(error);
    } finally {
      button.disabled = false;
    }
  });
}

export function signInView(root, { report, done }) {
  root.append(stamp("sign-in-view"));
  const form = root.querySelector("form");
  onSubmit(form, report, async ({ username, password }) => {
    await signIn(username, password);
    await done();
  });
  form.username.focus();
}

export async function listView(root, { go, report, tell }) {
  const page = await call("GET", "/api/v1/documents");
  root.append(stamp("list-view"));
  const list = root.querySelector("[data-list]");
  const more = root.querySelector("[data-more]");
  let cursor = null;

  function add({ items, next_cursor: next }) {
    for (const item of items) {
      const row = stamp("list-item");
      fill(row, { title: item.title, count: count(item.entry_count, "entry") });
      setTime(row.querySelector("[data-time]"), item.updated_at);
      row.querySelector("[data-link]").href = `/documents/${encodeURIComponent(item.id)}`;
      list.append(row);
    }
    cursor = next;
    more.hidden = !cursor;
    root.querySelector("[data-empty]").hidden = list.childElementCount > 0;
  }

  add(page);
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const shown = list.childElementCount;
      add(await call("GET", `/api/v1/documents?cursor=${encodeURIComponent(cursor)}`));
      list.children[shown]?.querySelector("a").focus();
    } catch (error) {
      report(error);
    } finally {
      more.disabled = false;
    }
  });
  // As below: the same title again after a failure must not make a second document.
  let attempt = { title: null, key: null };
  onSubmit(root.querySelector("form"), report, async ({ title }) => {
    if (attempt.title !== title) attempt = { title, key: crypto.randomUUID() };
    const created = await call("POST", "/api/v1/documents", { title }, { "Idempotency-Key": attempt.key });
    attempt = { title: null, key: null };
    tell(`Document ${created.title} created`);
    await go(`/documents/${encodeURIComponent(created.id)}`);
  });
  return "Documents";
}

export async function documentView(root, { report, tell }, id) {
  const path = `/api/v1/documents/${encodeURIComponent(id)}`;
  const found = await call("GET", path);
  root.append(stamp("document-view"));
  const list = root.querySelector("[data-list]");
  const form = root.querySelector("form");
  setTime(root.querySelector("[data-time]"), found.created_at);

  let last = 0;
  // Entries come in pages. What is on the screen already is not read again.
  async function show(page) {
    fill(root, { title: page.title, version: `Version ${page.version}` });
    for (;;) {
      list.append(...page.entries.map((entry) => {
        const row = stamp("entry-item");
        fill(row, { content: entry.content, position: `#${entry.position}` });
        setTime(row.querySelector("[data-time]"), entry.created_at);
        return row;
      }));
      last = page.entries.at(-1)?.position ?? last;
      if (page.next_entry === null) break;
      page = await call("GET", `${path}?after=${last}`);
    }
    root.querySelector("[data-empty]").hidden = list.childElementCount > 0;
  }

  await show(found);
  // Sending the same text again after a failure keeps its key, so that it cannot be appended twice.
  let attempt = { content: null, key: null };
  onSubmit(form, report, async ({ content }) => {
    if (attempt.content !== content) attempt = { content, key: crypto.randomUUID() };
    await call("POST", `${path}/entries`, { content }, { "Idempotency-Key": attempt.key });
    attempt = { content: null, key: null };
    // What was typed meanwhile stays.
    if (form.content.value === content) form.reset();
    tell("Entry appended");
    await show(await call("GET", `${path}?after=${last}`));
    form.content.focus();
  });
  form.content.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return found.title;
}

export function missingView(root) {
  root.append(stamp("missing-view"));
  return "Not found";
}

export function failedView(root, { done }) {
  root.replaceChildren(stamp("failed-view"));
  root.querySelector("[data-again]").addEventListener("click", done);
}
