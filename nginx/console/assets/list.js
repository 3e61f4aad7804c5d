// All documents, the one that changed last first, and the form for a new one.
import { call } from "./api.js";
import { onceEach, onSubmit } from "./forms.js";
import { count, fill, setTime, stamp } from "./templates.js";

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
  const create = onceEach((title, headers) => call("POST", "/api/v1/documents", { title }, headers));
  onSubmit(root.querySelector("form"), report, async ({ title }) => {
    const created = await create(title);
    tell(`Document ${created.title} created`);
    await go(`/documents/${encodeURIComponent(created.id)}`);
  });
  return "Documents";
}
