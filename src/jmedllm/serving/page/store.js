/* Chats in IndexedDB of this browser. Without it (private windows of some browsers) nothing is kept, and the page says so. */

const STORE = "chats";
const settle = (operation) => new Promise((resolve, reject) => { operation.onsuccess = () => resolve(operation.result); operation.onerror = () => reject(operation.error); });

async function openStore() {
  try {
    const opening = indexedDB.open("jmedllm", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
    const database = await settle(opening);
    const change = (act) => settle(act(database.transaction(STORE, "readwrite").objectStore(STORE)));
    return {
      all: () => settle(database.transaction(STORE).objectStore(STORE).getAll()),
      put: (chat) => change((store) => store.put(structuredClone(chat))),
      remove: (id) => change((store) => store.delete(id)),
      clear: () => change((store) => store.clear()),
    };
  } catch {
    return null;
  }
}

const stringOf = (value, most = 5000000) => (typeof value === "string" ? value.slice(0, most) : "");
const numberOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/* Returns a title on one line, without characters that could hide something in it. */
const titleOf = (value, most) => stringOf(value).replace(HIDDEN, "").replace(/\s+/g, " ").trim().slice(0, most);

function checkedExam(exam) {
  if (!exam || typeof exam !== "object" || !Array.isArray(exam.choices)) return null;
  const choices = exam.choices.slice(0, 10).map((choice) => ({ label: stringOf(choice?.label, 10), text: stringOf(choice?.text, 10000) }));
  const shares = Array.isArray(exam.shares) ? exam.shares.slice(0, choices.length).map((share) => numberOf(share) ?? 0) : null;
  const picked = Array.isArray(exam.picked) ? exam.picked.filter((index) => Number.isInteger(index) && index >= 0 && index < choices.length) : [];
  return { stem: stringOf(exam.stem), choices, select: Math.max(1, Math.min(numberOf(exam.select) ?? 1, choices.length)), layout: exam.layout in LAYOUTS ? exam.layout : "letter", shares, picked };
}

function checkedMessage(message) {
  if (!["user", "assistant"].includes(message?.role)) throw new TypeError("role");
  const about = message.about && typeof message.about === "object" ? message.about : {};
  return {
    role: message.role, content: stringOf(message.content), thought: stringOf(message.thought), state: message.state === "done" ? "done" : "stopped", exam: checkedExam(message.exam),
    about: { model: stringOf(about.model, 300), fingerprint: stringOf(about.fingerprint, 100), tokens: numberOf(about.tokens), seconds: numberOf(about.seconds), writing: numberOf(about.writing), finish: stringOf(about.finish, 30), sampling: stringOf(about.sampling, 1000), system: stringOf(about.system, 100000) },
  };
}

/* Returns the chats of an exported file. Throws TypeError or SyntaxError for any other file. */
function importedChats(json) {
  const file = JSON.parse(json);
  if (file?.format !== "jmedllm-chats" || !Array.isArray(file.chats)) throw new TypeError("format");
  return file.chats.map((chat) => {
    if (!Array.isArray(chat?.messages)) throw new TypeError("messages");
    return { id: crypto.randomUUID(), title: titleOf(chat.title, 200), created: numberOf(chat.created) ?? Date.now(), updated: numberOf(chat.updated) ?? Date.now(), messages: chat.messages.map(checkedMessage) };
  });
}

const exportedJson = (chats) => JSON.stringify({ format: "jmedllm-chats", version: 1, exported: new Date().toISOString(), chats }, null, 1);

function exportedMarkdown(chat, word) {
  const parts = [`# ${chat.title}`, `*${word("device")}*`];
  for (const message of chat.messages) {
    parts.push(`## ${word(message.role === "user" ? "you" : "model")}`, message.content);
    if (message.thought) parts.push(`<details><summary>${word("thought")}</summary>\n\n${message.thought}\n\n</details>`);
    if (message.exam?.shares) parts.push(message.exam.choices.map((choice, index) => `* ${choice.label}. ${choice.text}: ${percent(message.exam.shares[index])}`).join("\n"), `*${word("uncalibrated")}*`);
    if (message.role === "assistant") parts.push(`*${aboutLine(message, word)}*`);
  }
  return parts.join("\n\n") + "\n";
}
