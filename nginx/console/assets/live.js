// A document's live tail: one socket at a time, which comes back by itself with the last position until its view is left.
import { freshToken } from "./api.js";

const PING_MS = 25_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
// Everybody's socket is closed at once when a release begins: not everybody comes back at once.
const SCATTER_MS = 4_000;

const UNAUTHORIZED = 3000;
const SERVICE_RESTART = 1012;
const TRY_AGAIN_LATER = 1013;

function addressOf(id, after) {
  const address = new URL(`/api/v1/documents/${encodeURIComponent(id)}/live?after=${after}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return address;
}

// Until the socket is closed, by whichever side; says how that was.
function listen(address, token, { signal, onReady, onEntry }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(address, ["seawall.v1", `bearer.${token}`]);
    let ready = false;
    let heard = true;
    let reason = null;

    function end(code) {
      clearInterval(pings);
      signal.removeEventListener("abort", leave);
      socket.onmessage = socket.onclose = null;
      resolve({ code, reason, ready });
    }
    function leave() {
      socket.close(1000);
      end(1000);
    }
    // A line may be dead without either end knowing: whoever asks and gets nothing leaves.
    const pings = setInterval(() => {
      if (!heard) return leave();
      heard = false;
      if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"ping"}');
    }, PING_MS);
    signal.addEventListener("abort", leave);
    socket.onclose = ({ code }) => end(code);
    socket.onmessage = ({ data }) => {
      heard = true;
      const message = JSON.parse(data);
      if (message.type === "ready") {
        ready = true;
        onReady();
      } else if (message.type === "entry") {
        onEntry(message);
      } else if (message.type === "error") {
        reason = message.code;
      }
    };
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    function end() {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    }
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}

export function pauseAfter(failures, random = Math.random()) {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  return longest * (0.5 + random / 2);
}

// `pull` reads by requests what the socket has not brought, and fails where there is nothing to follow (any more).
export async function follow(id, { signal, last, pull, onEntry, onState }) {
  let failures = 0;
  let expired = false;
  onState("connecting");
  while (!signal.aborted) {
    let ending = { code: 0, reason: null, ready: false };
    try {
      const token = await freshToken(expired);
      if (signal.aborted) return;
      const onReady = () => { failures = 0; onState("live"); };
      ending = await listen(addressOf(id, last()), token, { signal, onEntry, onReady });
      if (signal.aborted) return;
      expired = ending.code === UNAUTHORIZED || ending.reason === "unauthorized";
      // A token's end is nothing to tell people of.
      if (!expired) onState("reconnecting");
      // Why the edge refuses a socket is not told to pages; a request is, and it refreshes the token where that was it.
      if (!ending.ready) await pull();
    } catch (error) {
      if (signal.aborted) return;
      onState("reconnecting");
      if (error.status === 401 || error.status === 403 || error.status === 404) {
        onState("ended");
        throw error;
      }
    }
    if (ending.reason === "forbidden") return onState("ended");
    const scattered = ending.code === SERVICE_RESTART || ending.code === TRY_AGAIN_LATER;
    await pause(pauseAfter(failures) + (scattered ? Math.random() * SCATTER_MS : 0), signal);
    failures += 1;
  }
}
