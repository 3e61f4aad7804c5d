// The one way to the API: every request, its tokens and its failures go through `call`.

const REFRESH_TOKEN = "seawall.refresh_token";
// The access token lives in memory only; the refresh token survives a reload of this tab and dies with it.
let accessToken = null;
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
    });
  } catch {
    throw new ApiError(0, "network_error", "The server could not be reached", null);
  }
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
  sessionStorage.setItem(REFRESH_TOKEN, tokens.refresh_token);
}

export function signedIn() {
  return accessToken !== null || sessionStorage.getItem(REFRESH_TOKEN) !== null;
}

export function signOut() {
  signOuts += 1;
  accessToken = null;
  sessionStorage.removeItem(REFRESH_TOKEN);
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
      if (error.status === 401 || error.status === 422) signOut();
      throw error;
    })
    .finally(() => { refreshing = null; });
  return refreshing;
}

export async function call(method, path, body, headers = {}) {
  if (accessToken === null) {
    if (!signedIn()) throw new ApiError(401, "unauthorized", "Sign in first", null);
    await refresh();
  }
  const used = accessToken;
  try {
    return await send(method, path, body, { ...headers, Authorization: `Bearer ${used}` });
  } catch (error) {
    if (error.status !== 401 || !signedIn()) throw error;
    if (accessToken === used) await refresh();
    return send(method, path, body, { ...headers, Authorization: `Bearer ${accessToken}` });
  }
}
