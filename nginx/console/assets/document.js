// One document: its entries, the form for the next one, and what others append meanwhile.
import { call } from "./api.js";
import { onceEach, onSubmit } from "./forms.js";
import { follow } from "./live.js";
import { fill, setTime, stamp } from "./templates.js";

const SPOKEN = 200;
const STATES = { connecting: "Connecting…", live: "Live", reconnecting: "Reconnecting…", ended: "Not live any more" };

export async function documentView(root, { report, tell, signal }, id) {
  const path = `/api/v1/documents/${encodeURIComponent(id)}`;
  const found = await call("GET", path);
  root.append(stamp("document-view"));
  const list = root.querySelector("[data-list]");
  const form = root.querySelector("form");
  const state = root.querySelector("[data-state]");
  let last = 0;
  let version = 0;
  let pulling = null;
  let appending = false;

  // An entry may come twice, by the socket and by a page, and is taken only as the successor of the last one.
  function add(entry, fresh) {
    if (entry.position !== last + 1) return;
    const row = stamp("entry-item");
    fill(row, { content: entry.content, position: `#${entry.position}` });
    setTime(row.querySelector("[data-time]"), entry.created_at);
    row.querySelector("li").classList.toggle("fresh", fresh);
    list.append(row);
    last = entry.position;
    root.querySelector("[data-empty]").hidden = true;
  }

  function setVersion(number) {
    version = Math.max(version, number);
    fill(root, { version: `Version ${version}` });
  }

  // Whoever looks at the end of the document goes on looking at the end.
  function keepingTheEnd(change) {
    const atEnd = root.isConnected && form.getBoundingClientRect().top < innerHeight;
    change();
    if (atEnd) form.scrollIntoView({ block: "nearest" });
  }

  async function addPages(page, fresh) {
    for (;;) {
      const { entries } = page;
      keepingTheEnd(() => entries.forEach((entry) => add(entry, fresh)));
      setVersion(page.version);
      if (page.next_entry === null) return;
      page = await call("GET", `${path}?after=${last}`);
    }
  }

  function pull() {
    pulling ??= call("GET", `${path}?after=${last}`)
      .then((page) => addPages(page, true))
      .finally(() => { pulling = null; });
    return pulling;
  }

  fill(root, { title: found.title });
  setTime(root.querySelector("[data-time]"), found.created_at);
  root.querySelector("[data-empty]").hidden = found.entries.length > 0;
  await addPages(found, false);

  const append = onceEach((content, headers) => call("POST", `${path}/entries`, { content }, headers));
  onSubmit(form, report, async ({ content }) => {
    appending = true;
    try {
      const appended = await append(content);
      // What was typed meanwhile stays.
      if (form.content.value === content) form.reset();
      tell("Entry appended");
      while (last < appended.position) await pull();
    } finally {
      appending = false;
    }
    // Whoever has gone elsewhere meanwhile stays there.
    if (document.activeElement === document.body || form.contains(document.activeElement)) form.content.focus();
  });
  form.content.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  follow(id, {
    signal,
    pull,
    last: () => last,
    onState(name) {
      state.dataset.state = name;
      state.textContent = STATES[name];
    },
    onEntry(message) {
      const { position } = message.entry;
      if (position > last + 1) return pull().catch(report);
      if (position === last + 1 && !appending) tell(`Entry ${position}: ${message.entry.content.slice(0, SPOKEN)}`);
      keepingTheEnd(() => add(message.entry, true));
      setVersion(message.version);
    },
  }).catch(report);
  return found.title;
}
