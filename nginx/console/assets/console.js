// Addresses, the frame around the views, and the one place where a failure is shown.
import { call, signedIn, signOut } from "./api.js";
import { documentView } from "./document.js";
import { listView } from "./list.js";
import { forgetActivity, serviceView } from "./service.js";
import { signInView } from "./sign_in.js";
import { stamp } from "./templates.js";

const element = (id) => document.getElementById(id);
let shown = 0;
let shownPath = null;
// Aborted when a view is left, so that what it has going on ends with it.
let view = new AbortController();

async function report(error) {
  // The session ended while a view was open: sign in again, at the same address.
  if (error.status === 401 && !signedIn() && !element("account").hidden) await show();
  element("failure-message").textContent = error.message;
  element("failure-code").textContent = error.code ?? error.name;
  element("failure-request").textContent = error.requestId ?? "none";
  element("failure").hidden = false;
}

function tell(text) {
  element("news").textContent = text;
}

function missingView(root) {
  root.replaceChildren(stamp("missing-view"));
  return "Not found";
}

function failedView(root, { done }) {
  root.replaceChildren(stamp("failed-view"));
  root.querySelector("[data-again]").addEventListener("click", done);
}

function route(path) {
  if (path === "/") return listView;
  if (path === "/service") return serviceView;
  const match = /^\/documents\/([^/]+)$/.exec(path);
  if (match) return (root, tools) => documentView(root, tools, decodeURIComponent(match[1]));
  return missingView;
}

async function showAccount() {
  if (!element("account").hidden) return;
  const me = await call("GET", "/api/v1/users/me");
  element("account-name").textContent = me.username;
  showSections(true);
}

function showSections(visible) {
  element("account").hidden = element("sections").hidden = !visible;
}

function markSection() {
  for (const link of element("sections").querySelectorAll("a")) {
    const here = link.pathname === "/" ? !location.pathname.startsWith("/service") : link.pathname === location.pathname;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function go(path) {
  history.pushState(null, "", path);
  await show();
}

async function show() {
  const turn = ++shown;
  shownPath = location.pathname;
  view.abort();
  view = new AbortController();
  const root = document.createElement("div");
  const tools = { go, report, tell, done: show, signal: view.signal };
  let title = "Sign in";
  let failure = null;
  try {
    if (signedIn()) {
      await showAccount();
      title = await route(location.pathname)(root, tools);
    }
  } catch (error) {
    if (error.status === 404) {
      title = missingView(root);
    } else if (signedIn()) {
      title = "Not loaded";
      failure = error;
      failedView(root, tools);
    }
  }
  // A newer navigation has overtaken this one.
  if (turn !== shown) return;
  element("failure").hidden = true;
  element("view").replaceChildren(root);
  markSection();
  if (signedIn()) {
    if (turn > 1) element("main").focus({ preventScroll: true });
    scrollTo(0, history.state?.scrollY ?? 0);
  } else {
    view.abort();
    title = "Sign in";
    showSections(false);
    root.replaceChildren();
    signInView(root, tools);
  }
  document.title = `${title} · Seawall`;
  if (failure) report(failure);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  go(link.pathname);
});
// Views are filled after the browser would have scrolled them, also at a reload.
history.scrollRestoration = "manual";
addEventListener("scrollend", () => history.replaceState({ scrollY }, ""));
// A link within the page, such as the skip link, is no navigation: a draft stays.
addEventListener("popstate", () => { if (location.pathname !== shownPath) show(); });
// The browser may keep a page that was left, for the way back: meanwhile it must hold no socket and ask nothing.
addEventListener("pagehide", () => view.abort());
addEventListener("pageshow", (event) => { if (event.persisted) show(); });
element("failure-close").addEventListener("click", () => { element("failure").hidden = true; });
element("sign-out").addEventListener("click", () => {
  const ended = signOut();
  showSections(false);
  forgetActivity();
  go("/");
  ended.catch((error) => report(error));
});
show();
