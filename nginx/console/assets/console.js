// Addresses, the frame around the views, and the one place where a failure is shown.
import { call, signedIn, signOut } from "./api.js";
import { documentView, failedView, listView, missingView, signInView } from "./views.js";

const element = (id) => document.getElementById(id);
let shown = 0;
let shownPath = null;

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

function route(path) {
  if (path === "/") return listView;
  const match = /^\/documents\/([^/]+)$/.exec(path);
  if (match) return (root, tools) => documentView(root, tools, decodeURIComponent(match[1]));
  return missingView;
}

async function showAccount() {
  if (!element("account").hidden) return;
  const me = await call("GET", "/api/v1/users/me");
  element("account-name").textContent = me.username;
  element("account").hidden = false;
}

async function go(path) {
  history.pushState(null, "", path);
  await show();
}

async function show() {
  const turn = ++shown;
  shownPath = location.pathname;
  const root = document.createElement("div");
  const tools = { go, report, tell, done: show };
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
  if (signedIn()) {
    if (turn > 1) element("main").focus({ preventScroll: true });
  } else {
    title = "Sign in";
    element("account").hidden = true;
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
  scrollTo(0, 0);
  go(link.pathname);
});
// A link within the page, such as the skip link, is no navigation: a draft stays.
addEventListener("popstate", () => { if (location.pathname !== shownPath) show(); });
element("failure-close").addEventListener("click", () => { element("failure").hidden = true; });
element("sign-out").addEventListener("click", () => {
  signOut();
  element("account").hidden = true;
  go("/");
});
show();
