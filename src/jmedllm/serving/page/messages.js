/* Questions and answers on the screen. */

function showMessages() {
  const messages = open?.messages ?? [];
  $("welcome").hidden = messages.length > 0;
  $("messages").replaceChildren(...messages.map((message) => messageElement(message, messages)));
}

function messageElement(message, messages) {
  const last = messages.findLastIndex((each) => each.role === message.role) === messages.indexOf(message);
  const made = element("article", { className: `message from-${message.role}` }, element("span", { className: "who" }, word(message.role === "user" ? "you" : "model")));
  if (message.role === "user") {
    made.append(message.exam ? examAsked(message.exam, messages.indexOf(message)) : plainText(message.content));
    const unanswered = message === messages.at(-1);
    if (last && !isBusy()) made.append(element("div", { className: "under" }, button("edit", startEditing), unanswered ? button("retry", regenerate) : null));
    return made;
  }
  fillAnswer(made, message, last);
  return made;
}

const button = (key, act) => element("button", { type: "button", onclick: act }, word(key));

function plainText(content) {
  const made = element("div", { className: "text", dir: "auto" });
  appendText(made, content);
  return made;
}

function examAsked(exam, index) {
  const made = plainText(exam.stem);
  const list = element("ol", { className: "choices-asked" });
  for (const { label, text } of exam.choices) { const words = element("span"); appendText(words, text); list.append(element("li", {}, element("span", { className: "label" }, label), words)); }
  made.append(list);
  if (index > 0) made.append(element("p", { className: "small muted" }, word("alone")));
  return made;
}

function fillAnswer(made, message, last) {
  const writing = message.state === "writing";
  made.classList.toggle("writing", writing);
  made.setAttribute("aria-busy", String(writing));
  const wasOpen = made.querySelector("details")?.open ?? false;
  made.replaceChildren(made.firstElementChild);
  if (message.thought) {
    const thought = element("div", { className: "text" });
    appendText(thought, message.thought);
    made.append(element("details", { className: "thought", open: wasOpen }, element("summary", {}, word(writing && !message.content ? "thinking" : "thought")), thought));
  }
  const body = element("div", { className: "text", dir: "auto" });
  if (message.exam && !writing && (message.exam.shares || message.exam.picked.length)) body.append(sharesOf(message.exam));
  else if (message.content) body.append(renderAnswer(message.content));
  else if (writing) body.append(element("span", { className: "muted" }, message.thought ? "" : word("waiting")));
  else if (message.state === "done") body.append(element("span", { className: "muted" }, word("empty")));
  made.append(body);
  if (writing) return;
  const note = message.state === "stopped" ? word("stopped") : message.state === "interrupted" ? word("interrupted") : message.about.finish === "length" ? word("length") : null;
  if (note) made.append(element("p", { className: "note" }, note));
  const under = element("div", { className: "under" });
  const copy = button("copy", async () => {
    try { await navigator.clipboard.writeText(message.content); } catch { return showProblem(word("errorCopy")); }
    copy.textContent = word("copied"); announce(word("copied")); setTimeout(() => { copy.textContent = word("copy"); }, 1500);
  });
  under.append(copy);
  if (last && !isBusy()) under.append(button("regenerate", regenerate));
  under.append(element("span", { className: "about" }, aboutLine(message, word)));
  made.append(under);
}

function sharesOf(exam) {
  const made = document.createDocumentFragment();
  const names = exam.picked.map((index) => exam.choices[index]);
  const chosen = element("p", { className: "chosen" }, word("chosen"));
  const strong = element("strong");
  appendText(strong, names.map(({ label, text }) => `${label}. ${text}`).join(" / "));
  chosen.append(strong);
  made.append(chosen);
  if (!exam.shares) { made.append(element("p", { className: "small muted" }, word("noShares"))); return made; }
  made.append(element("ol", { className: "shares" }, ...exam.choices.map(({ label, text }, index) => {
    const words = element("span");
    appendText(words, text);
    const fill = element("span", { className: "fill" });
    fill.style.width = `${100 * exam.shares[index]}%`;
    return element("li", { className: `share${exam.picked.includes(index) ? " picked" : ""}` }, element("span", { className: "label" }, label), words, element("span", { className: "number" }, percent(exam.shares[index])), element("span", { className: "scale", "aria-hidden": "true" }, fill));
  })));
  made.append(element("p", { className: "small muted" }, word("uncalibrated")));
  return made;
}
