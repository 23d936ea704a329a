/* The state of the page, its words and its appearance. */

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const mac = /Mac|iPhone|iPad/.test(navigator.platform);


const DEFAULTS = { language: null, theme: "auto", keep: true, system: "", temperature: "", top_p: "", seed: "", max_tokens: "", think: true, layout: null };
const settings = { ...DEFAULTS, ...readSettings() };
let served = { name: "", fingerprint: "", context: null, template: true, thinking: null };
/* Variables of chat templates that switch the thought on and off. */
const THINKING = ["enable_thinking", "thinking"];
let store = null;
let chats = [];
let open = null; // the chat on the screen
let running = null; // {chat, message, controller} of the answer that is being written
let editing = false;
let edited = false; // whether the user has changed the choices that were found
let found = { stem: "", choices: [], select: 1, rest: "" };

function readSettings() {
  try { return JSON.parse(localStorage.getItem("jmedllm-settings")) ?? {}; } catch { return {}; }
}

function saveSettings() {
  try { localStorage.setItem("jmedllm-settings", JSON.stringify(settings)); } catch { /* without storage they last as long as the page */ }
}

function showWords() {
  root.lang = language;
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = word(each.dataset.word);
  for (const each of document.querySelectorAll("[data-label]")) { each.setAttribute("aria-label", word(each.dataset.label)); if (each.tagName === "BUTTON") each.title = word(each.dataset.label); }
  if (mac) $("keys").textContent = word("keys").replaceAll("Ctrl", "⌘");
  for (const id of ["temperature", "top_p", "seed", "max_tokens"]) $(id).placeholder = word("byServer");
  $("examples").replaceChildren(...[["example1", "chat"], ["example2", "chat"], ["exampleExam", "exam"]].map(([key, mode]) =>
    element("button", { type: "button", onclick: () => { setMode(mode); $("question").value = word(key); questionChanged(); $("question").focus(); } }, word(mode === "exam" ? "exampleExamTitle" : key))));
  $("other-language").textContent = word("other");
  $("other-language").lang = word("otherCode");
  showMode();
  showModel();
  showChats();
  showMessages();
  showChoices();
}

function setLanguage(chosen) {
  language = chosen;
  $("language").value = chosen;
  showWords();
}

function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  $("theme").value = theme;
}

function showModel() {
  $("model").textContent = served.name;
  $("model").title = [served.name, served.fingerprint && `SHA-256 ${served.fingerprint}`, served.context && word("contextOf", { count: served.context.toLocaleString(language) })].filter(Boolean).join(" · ");
  $("model").hidden = !served.name;
  $("think-row").hidden = !served.thinking;
  $("welcome-hint").textContent = served.name && !served.template ? word("noTemplate") : word("helloHint");
}

const announce = (line) => { $("status").textContent = line; };
