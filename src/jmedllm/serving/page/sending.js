/* Asks the server, and shows what goes wrong. */

const isBusy = () => running !== null;

function sampling() {
  const values = {};
  for (const name of ["temperature", "top_p", "seed", "max_tokens"]) if (settings[name] !== "") values[name] = Number(settings[name]);
  return values;
}

function submit(event) {
  event?.preventDefault();
  if (isBusy()) return;
  const content = $("question").value.trim();
  if (!content) return;
  let exam = null;
  if (mode() === "exam") {
    exam = examOfForm();
    const count = combinations(exam.choices, exam.select).length;
    if (exam.choices.length < 2) return showProblem(word("examNeeds"));
    if (count > MOST_ANSWERS) return showProblem(word("tooMany", { count }));
  }
  if (editing) {
    open.messages.splice(open.messages.findLastIndex((message) => message.role === "user"));
    stopEditing();
  }
  if (!chats.includes(open)) chats.push(open);
  open.title ||= titleOf(exam?.stem || content, 60);
  open.messages.push({ role: "user", content: exam ? examPrompt(exam, exam.layout).prompt : content, pasted: exam ? $("question").value : undefined, thought: "", state: "done", about: {}, exam });
  $("question").value = "";
  questionChanged();
  answer(open);
}

function regenerate() {
  if (isBusy()) return;
  const index = open.messages.findLastIndex((message) => message.role === "user");
  if (index < 0) return;
  answer(open, open.messages.splice(index + 1));
}

function requestFor(chat) {
  const question = chat.messages.at(-1);
  // Templates want questions and answers in turn: a question without an answer is left out.
  const answered = chat.messages.filter((message, index) => (message.role === "user" ? chat.messages[index + 1]?.content : message.content));
  const earlier = question.exam ? [question] : [...answered, question];
  const body = { model: served.name, ...sampling() };
  if (question.exam) Object.assign(body, { structured_outputs: { choice: examPrompt(question.exam, question.exam.layout).texts }, logprobs: true });
  const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  if (served.thinking) body.chat_template_kwargs = { [served.thinking]: settings.think };
  const messages = served.template ? [...system, ...earlier] : [question]; // without a template, the model continues one text
  return { ...body, messages: messages.map(({ role, content }) => ({ role, content })) };
}

/* Asks the last question; `before` are the messages that its answer replaces, which come back if there is none. */
async function answer(chat, before = []) {
  hideProblem();
  const question = chat.messages.at(-1);
  const body = requestFor(chat);
  const controller = new AbortController();
  const sent = Object.entries(sampling()).map(([name, value]) => `${name} ${value}`).join(", ");
  const message = { role: "assistant", content: "", thought: "", state: "writing", exam: question.exam && { ...question.exam, shares: null, picked: [] }, about: { model: served.name, fingerprint: served.fingerprint.slice(0, 12), tokens: null, seconds: null, finish: "", sampling: sent, system: served.template ? settings.system : "" } };
  chat.messages.push(message);
  chat.updated = Date.now();
  running = { chat, message, controller };
  showRunning();
  showChats();
  showMessages();
  $("scroll").scrollTop = $("scroll").scrollHeight;
  announce(word("writing"));
  const started = performance.now();
  const saving = setInterval(() => keep(chat), 400);
  keep(chat);
  let pieces = 0, first = null;
  try {
    await streamAnswer(body, controller.signal, ({ text, thought, logprobs, finish, usage }) => {
      message.content += text;
      message.thought += thought;
      if (text || thought) { pieces++; first ??= performance.now(); }
      if (finish) message.about.finish = finish;
      message.about.tokens = usage?.completion_tokens ?? pieces;
      message.about.seconds = (performance.now() - started) / 1000;
      message.about.writing = first === null ? null : (performance.now() - first) / 1000;
      if (message.exam && logprobs) takeShares(message.exam, logprobs);
      showProgress(message);
    });
    message.state = "done";
    if (message.exam) takePicked(message.exam, message.content);
    announce(word("finished"));
  } catch (error) {
    message.state = message.content || message.thought ? "stopped" : "failed";
    if (error instanceof ServerError) showServerError(error, chat, message);
    else if (error.name !== "AbortError") { showProblem(word("errorOther", { detail: String(error.message).slice(0, 300) })); console.error(error); }
    if (message.state === "failed") chat.messages.splice(-1, 1, ...before); // the question stays, and can be asked again
  } finally {
    clearInterval(saving);
    running = null;
    message.about.seconds ??= (performance.now() - started) / 1000;
    if (chats.includes(chat)) keep(chat);
    showRunning();
    const bottom = isAtBottom();
    if (open === chat) showMessages();
    if (bottom) $("scroll").scrollTop = $("scroll").scrollHeight;
    showChats();
  }
}

function takeShares(exam, logprobs) {
  const { texts, answers } = examPrompt(exam, exam.layout);
  const listed = new Map((logprobs[0]?.top_logprobs ?? []).map(({ token, logprob }) => [token, Math.exp(logprob)]));
  if (!texts.every((each) => listed.has(each))) return;
  const total = texts.reduce((sum, each) => sum + listed.get(each), 0);
  exam.shares = exam.choices.map((_, choice) => answers.reduce((sum, answer, index) => sum + (answer.includes(choice) ? listed.get(texts[index]) / total : 0), 0));
}

function takePicked(exam, content) {
  const { texts, answers } = examPrompt(exam, exam.layout);
  exam.picked = answers[texts.indexOf(content.trim())] ?? [];
}

const isAtBottom = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 80;

/* Shows what is written so far, the less often the longer it takes. */
let nextShow = 0, cost = 0;
function showProgress(message) {
  if (nextShow || running?.message !== message) return;
  nextShow = setTimeout(() => {
    nextShow = 0;
    const shown = $("messages").lastElementChild;
    if (running?.message !== message || open !== running.chat || !shown) return;
    const began = performance.now(), bottom = isAtBottom();
    fillAnswer(shown, message, true);
    if (bottom) $("scroll").scrollTop = $("scroll").scrollHeight;
    cost = performance.now() - began;
  }, Math.max(40, 5 * cost));
}

function showRunning() {
  const hadFocus = [$("send"), $("stop")].includes(document.activeElement);
  $("send").hidden = isBusy();
  $("stop").hidden = !isBusy();
  if (hadFocus) $("question").focus();
}

function stop() { running?.controller.abort(); }

function showProblem(line, key = null, act = null) {
  $("problem").replaceChildren(line);
  if (key) $("problem").append(element("button", { type: "button", className: "link", onclick: () => { hideProblem(); act(); } }, word(key)));
  $("problem").hidden = false;
}

function hideProblem() { $("problem").hidden = true; }

function showServerError(error, chat, message) {
  const retry = () => { if (open !== chat) openChat(chat); regenerate(); };
  const detail = error.detail;
  if (error.kind === "key") showProblem(word("errorKey"), "enterKey", () => location.reload());
  else if (error.kind === "stopped") showProblem(word(message.state === "stopped" ? "errorCut" : "errorStopped"), message.state === "stopped" ? "regenerate" : "retry", retry);
  else if (error.kind === "busy") showProblem(word("errorBusy", { count: Math.max(1, error.seconds), detail }), "retry", retry);
  else if (error.kind === "context") showProblem(word("errorContext", { detail }), "newChat", () => { const { pasted, content } = chat.messages.at(-1); newChat(); $("question").value = pasted ?? content; questionChanged(); $("question").focus(); });
  else showProblem(word("errorOther", { detail }), "retry", retry);
}
