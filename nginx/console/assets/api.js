// The one way to the API: every request, its tokens and its failures go through `call`.

const LOGOUT = "/api/auth/logout";
const REFRESH_TOKEN = "seawall.refresh_token";
// A socket lives longer than the moment in which its token is looked at, so that one must not be about to expire.
const SPARE_MS = 30_000;
// The access token lives in memory only; the refresh token survives a reload of this tab and dies with it.
let accessToken = null;
let expiresAt = 0;
let refreshing = null;
let signOuts = 0;

export class ApiError extends Error {
  constructor(status, code, message, requestId) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

async function send(method, path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...headers },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      // A sign-out reaches the server also when it is the last thing that the page does.
      keepalive: path === LOGOUT,
    });
  } catch {
    throw new ApiError(0, "network_error", "The server could not be reached", null);
  }
  if (response.status === 204) return null;
  const requestId = response.headers.get("X-Request-ID");
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    const error = answer?.error ?? {};
    throw new ApiError(response.status, error.code ?? `http_${response.status}`, error.message ?? response.statusText, error.request_id ?? requestId);
  }
  if (answer === null) {
    throw new ApiError(response.status, "unreadable_answer", "The server's answer could not be read", requestId);
  }
  return answer;
}

function keep(tokens) {
  accessToken = tokens.access_token;
  expiresAt = Date.now() + tokens.expires_in * 1000;
  sessionStorage.setItem(REFRESH_TOKEN, tokens.refresh_token);
}

export function signedIn() {
  return accessToken !== null || sessionStorage.getItem(REFRESH_TOKEN) !== null;
}

function forget() {
  signOuts += 1;
  accessToken = null;
  sessionStorage.removeItem(REFRESH_TOKEN);
}

// At once here, whatever the server says; it ends the session, with all tokens that came from it.
export async function signOut() {
  const token = sessionStorage.getItem(REFRESH_TOKEN);
  forget();
  if (token !== null) await send("POST", LOGOUT, { refresh_token: token });
}

export async function signIn(username, password) {
  keep(await send("POST", "/api/auth/login", { username, password }));
}

// A refresh token works once, so requests that find the access token expired wait for the same refresh.
function refresh() {
  const begun = signOuts;
  refreshing ??= send("POST", "/api/auth/refresh", { refresh_token: sessionStorage.getItem(REFRESH_TOKEN) })
    .then((tokens) => {
      // Whoever signed out meanwhile stays signed out.
      if (signOuts !== begun) throw new ApiError(401, "unauthorized", "Sign in first", null);
      keep(tokens);
    })
    .catch((error) => {
      if (error.status === 401 || error.status === 422) forget();
      throw error;
    })
    .finally(() => { refreshing = null; });
  return refreshing;
}

function requireSession() {
  if (!signedIn()) throw new ApiError(401, "unauthorized", "Sign in first", null);
}

// For what cannot be tried again when it turns out that the token has expired.
export async function freshToken(replace = false) {
  requireSession();
  if (replace || accessToken === null || Date.now() > expiresAt - SPARE_MS) await refresh();
  return accessToken;
}

// Whether the service answers at all; needs no session.
export async function probe() {
  await send("GET", "/healthz");
}

export async function call(method, path, body, headers = {}) {
  requireSession();
  if (accessToken === null) await refresh();
  const used = accessToken;
  try {
    return await send(method, path, body, { ...headers, Authorization: `Bearer ${used}` });
  } catch (error) {
    if (error.status !== 401 || !signedIn()) throw error;
    if (accessToken === used) await refresh();
    return send(method, path, body, { ...headers, Authorization: `Bearer ${accessToken}` });
  }
}
