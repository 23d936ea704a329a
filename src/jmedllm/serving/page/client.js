/* Requests to the server that sent this page, and to no other. */

class ServerError extends Error {
  constructor(kind, detail = "", seconds = 0) {
    super(detail);
    Object.assign(this, { kind, detail, seconds });
  }
}

async function request(path, body, signal) {
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body), signal, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("stopped");
  }
  if (response.ok) return response;
  let detail = "";
  try { const answer = await response.json(); detail = answer.error?.message ?? answer.message ?? ""; } catch { /* not JSON: the status says enough */ }
  detail = String(detail || `HTTP ${response.status}`).slice(0, 500);
  const seconds = Math.min(Number(response.headers.get("Retry-After")) || 0, 600);
  if (response.status === 401 || response.status === 403) throw new ServerError("key", detail);
  if (response.status === 429 || response.status === 503) throw new ServerError("busy", detail, seconds);
  if ((response.status === 400 || response.status === 413) && /context|too (?:long|large)/i.test(detail)) throw new ServerError("context", detail);
  throw new ServerError("other", detail);
}

/* Yields the objects of a stream of server-sent events. The end without [DONE] is an error: the answer is not whole. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    while (true) {
      let piece;
      try { piece = await reader.read(); }
      catch (error) { throw error.name === "AbortError" ? error : new ServerError("stopped"); }
      if (piece.done) throw new ServerError("stopped");
      const lines = (waiting + piece.value).split("\n");
      waiting = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ServerError("other", String(event.error.message ?? event.error).slice(0, 500));
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* Asks for an answer; calls `onPiece({text, thought, logprobs, finish, usage})` for each event. */
async function streamAnswer(body, signal, onPiece) {
  const response = await request("/v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  for await (const event of events(response)) {
    const choice = event.choices?.[0] ?? {};
    onPiece({
      text: choice.delta?.content ?? "",
      thought: choice.delta?.reasoning_content ?? "",
      logprobs: choice.logprobs?.content ?? null,
      finish: choice.finish_reason ?? null,
      usage: event.usage ?? null,
    });
  }
}
