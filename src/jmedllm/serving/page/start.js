/* Menu, keyboard, settings, and the start of the page. */

const narrow = matchMedia("(max-width: 48rem)");

function openMenu() {
  $("sidebar").classList.add("opened");
  $("shade").hidden = false;
  $("open-menu").setAttribute("aria-expanded", "true");
  $("close-menu").focus();
}

function closeMenu() {
  if (!$("sidebar").classList.contains("opened")) return;
  $("sidebar").classList.remove("opened");
  $("shade").hidden = true;
  $("open-menu").setAttribute("aria-expanded", "false");
  $("open-menu").focus();
}

function keyPressed(event) {
  if (event.isComposing || event.keyCode === 229) return; // the input method is using this key
  const menu = $("chat-menu");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) submit(event);
  else if (menu && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    const items = [...menu.children], at = items.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    items.at(at % items.length).focus();
  } else if (event.key === "Escape") {
    if (menu) closeChatMenu();
    else if ($("sidebar").classList.contains("opened")) closeMenu();
    else if (document.querySelector("dialog[open]")) return;
    else if (isBusy()) stop();
    else if (editing) stopEditing();
  }
}

function connectSettings() {
  for (const id of ["system", "temperature", "top_p", "seed", "max_tokens"]) {
    $(id).value = settings[id];
    $(id).addEventListener("input", () => { if ($(id).checkValidity()) { settings[id] = $(id).value; saveSettings(); } });
  }
  $("think").checked = settings.think;
  $("think").addEventListener("change", () => { settings.think = $("think").checked; saveSettings(); });
  $("language").addEventListener("change", () => { settings.language = $("language").value; saveSettings(); setLanguage(settings.language); });
  $("other-language").addEventListener("click", () => { settings.language = word("otherCode"); saveSettings(); setLanguage(settings.language); });
  $("theme").addEventListener("change", () => { settings.theme = $("theme").value; saveSettings(); setTheme(settings.theme); });
  $("keep").checked = settings.keep;
  $("keep").addEventListener("change", async () => { settings.keep = $("keep").checked; saveSettings(); if (settings.keep) for (const chat of chats) await keep(chat); showChats(); });
  $("export-all").addEventListener("click", () => download("jmedllm-chats.json", "application/json", exportedJson(chats)));
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", async () => { const [file] = $("import-file").files; if (file) await importFile(file); $("import-file").value = ""; });
  $("erase-all").addEventListener("click", eraseAll);
  $("open-settings").addEventListener("click", () => { $("history-line").textContent = ""; $("settings").showModal(); });
  $("settings").addEventListener("click", (event) => { if (event.target === $("settings")) $("settings").close(); });
}

function connectPage() {
  $("composer").addEventListener("submit", submit);
  $("stop").addEventListener("click", stop);
  $("question").addEventListener("input", questionChanged);
  for (const each of document.querySelectorAll("input[name=mode]")) each.addEventListener("change", () => { showMode(); $("question").focus(); });
  $("cancel-edit").addEventListener("click", stopEditing);
  $("add-choice").addEventListener("click", addChoice);
  $("find-again").addEventListener("click", () => { edited = false; questionChanged(); });
  $("select").addEventListener("change", () => { edited = true; found.select = Number($("select").value); $("find-again").hidden = false; });
  $("layout").addEventListener("change", () => { settings.layout = $("layout").value; saveSettings(); });
  $("new-chat").addEventListener("click", () => { newChat(); closeMenu(); $("question").focus(); });
  $("open-menu").addEventListener("click", openMenu);
  for (const id of ["close-menu", "shade"]) $(id).addEventListener("click", closeMenu);
  document.addEventListener("keydown", keyPressed);
  document.addEventListener("click", (event) => { if (!event.target.closest("#chat-menu, .more")) closeChatMenu(); });
  addEventListener("pagehide", () => { if (running) keep(running.chat); });
}

async function connectServer() {
  try {
    const [model] = (await (await request("/v1/models")).json()).data;
    served = { name: model.id, fingerprint: model.fingerprint ?? "", context: model.max_model_len ?? null, template: model.chat_template !== null, thinking: THINKING.find((name) => model.template_variables?.includes(name)) ?? null };
    showModel();
    showChoices();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    showServerError(error, open, { state: "failed" });
    if (error.kind !== "key") $("problem").querySelector("button").onclick = () => { hideProblem(); connectServer(); };
  }
}

async function start() {
  setTheme(settings.theme);
  connectSettings();
  connectPage();
  store = await openStore();
  if (store) chats = await store.all();
  else $("keep-hint").dataset.word = "noStore";
  for (const message of chats.flatMap((chat) => chat.messages)) if (message.state === "writing") message.state = "interrupted";
  let last = null;
  try { last = sessionStorage.getItem("jmedllm-open"); } catch { /* a new chat then */ }
  open = chats.find((chat) => chat.id === last) ?? { id: crypto.randomUUID(), title: "", created: Date.now(), updated: Date.now(), messages: [] };
  remember();
  setLanguage(settings.language ?? (navigator.language.toLowerCase().startsWith("ja") ? "ja" : "en"));
  $("scroll").scrollTop = $("scroll").scrollHeight;
  await connectServer();
  if (!narrow.matches) $("question").focus();
  root.dataset.ready = "";
}

start();
