/* The list of chats, and what can be done with one. */

const isKept = () => settings.keep && store !== null;

async function keep(chat) {
  if (!isKept() || !chat.messages.length) return;
  try { await store.put(chat); } catch { showProblem(word("errorStore")); }
}

function newChat() {
  open = { id: crypto.randomUUID(), title: "", created: Date.now(), updated: Date.now(), messages: [] };
  remember();
  stopEditing();
  hideProblem();
  showChats();
  showMessages();
}

function openChat(chat) {
  open = chat;
  remember();
  stopEditing();
  hideProblem();
  showChats();
  showMessages();
  closeMenu();
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function remember() {
  try { sessionStorage.setItem("jmedllm-open", open.id); } catch { /* a reload then begins a new chat */ }
}

function showChats() {
  $("kept").textContent = isKept() ? word("here") : word("notKept");
  $("title").textContent = open?.title || word("newChat");
  document.title = open?.title ? `${open.title} – jmedllm` : "jmedllm";
  chats.sort((first, second) => second.updated - first.updated);
  if (!chats.length) { $("chats").replaceChildren(element("li", { className: "none" }, word("noChats"))); return; }
  $("chats").replaceChildren(...chats.map((chat) => {
    const title = chat.title || word("untitled");
    const more = element("button", { className: "more", type: "button", "aria-label": word("more", { title }), "aria-haspopup": "menu", "aria-expanded": "false", onclick: (event) => { event.stopPropagation(); showChatMenu(chat, more); } }, "⋯");
    const item = element("li", {}, element("button", { className: "open", type: "button", title, onclick: () => openChat(chat) }, title), more);
    if (chat === open) item.setAttribute("aria-current", "true");
    return item;
  }));
}

function showChatMenu(chat, button) {
  closeChatMenu();
  const choice = (key, act, danger = "") => element("button", { type: "button", role: "menuitem", className: danger, onclick: () => { closeChatMenu(); act(); } }, word(key));
  const menu = element("div", { id: "chat-menu", role: "menu" },
    choice("rename", () => rename(chat)), choice("exportMarkdown", () => download(`${fileName(chat)}.md`, "text/markdown", exportedMarkdown(chat, word))),
    choice("exportOneJson", () => download(`${fileName(chat)}.json`, "application/json", exportedJson([chat]))), choice("remove", () => remove(chat), "danger"));
  button.setAttribute("aria-expanded", "true");
  document.body.append(menu);
  const place = button.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(place.left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${Math.min(place.bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
  menu.opener = button;
  menu.firstElementChild.focus();
}

function closeChatMenu() {
  const menu = $("chat-menu");
  if (!menu) return;
  menu.opener.setAttribute("aria-expanded", "false");
  if (menu.contains(document.activeElement)) menu.opener.focus();
  menu.remove();
}

/* Asks in a dialog; returns the text of the field, "yes", or null. */
function ask(line, { value = null, yes = "confirm" } = {}) {
  $("ask-text").textContent = line;
  $("ask-yes").textContent = word(yes);
  $("ask-input").hidden = value === null;
  $("ask-input").value = value ?? "";
  $("ask").returnValue = "";
  $("ask").showModal();
  (value === null ? $("ask-yes") : $("ask-input")).focus();
  return new Promise((resolve) => $("ask").addEventListener("close", () => resolve($("ask").returnValue === "yes" ? (value === null ? "yes" : $("ask-input").value.trim()) : null), { once: true }));
}

async function rename(chat) {
  const title = await ask(word("title"), { value: chat.title, yes: "save" });
  if (!title) return;
  chat.title = title;
  await keep(chat);
  showChats();
}

async function remove(chat) {
  if (!(await ask(word("confirmRemove", { title: chat.title || word("untitled") })))) return;
  if (running?.chat === chat) running.controller.abort();
  chats = chats.filter((each) => each !== chat);
  if (store) await store.remove(chat.id);
  if (chat === open) newChat(); else showChats();
}

async function eraseAll() {
  if (!(await ask(word("confirmErase", { count: chats.length })))) return;
  running?.controller.abort();
  chats = [];
  if (store) await store.clear();
  newChat();
  $("history-line").textContent = word("erased");
}

async function importFile(file) {
  try {
    const imported = importedChats(await file.text());
    chats.push(...imported);
    for (const chat of imported) await keep(chat);
    $("history-line").textContent = word("imported", { count: imported.length });
    showChats();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    $("history-line").textContent = word("importFailed");
  }
}

const fileName = (chat) => (chat.title || "chat").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "chat";

function download(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
