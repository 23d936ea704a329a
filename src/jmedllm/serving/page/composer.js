/* The field for the question, and the choices of a multiple-choice question below it. */

const mode = () => document.querySelector("input[name=mode]:checked").value;

function setMode(value) {
  document.querySelector(`input[name=mode][value=${value}]`).checked = true;
  showMode();
}

function showMode() {
  $("question").placeholder = word(mode() === "exam" ? "examPlaceholder" : "chatPlaceholder");
  questionChanged();
}

function questionChanged() {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
  if (!field.value) edited = false;
  if (mode() !== "exam" || !field.value.trim()) { $("choices-found").hidden = true; return; }
  $("choices-found").hidden = false;
  if (!edited) found = findChoices(field.value);
  showChoices();
}

function showChoices() {
  const { choices, rest } = found;
  $("choices-line").textContent = choices.length ? word("found", { count: choices.length }) : word("foundNone");
  $("find-again").hidden = !edited;
  $("left-out").hidden = !rest;
  $("left-out").textContent = rest ? word("leftOut", { text: rest.slice(0, 300) }) : "";
  $("choices").replaceChildren(...choices.map((choice, index) => {
    const change = (name) => (event) => { choice[name] = event.target.value; edited = true; $("find-again").hidden = false; };
    return element("li", {}, element("input", { value: choice.label, maxLength: 10, "aria-label": word("choice", { label: `${index + 1}` }), oninput: change("label") }),
      element("input", { value: choice.text, "aria-label": word("choice", { label: choice.label }), oninput: change("text") }),
      element("button", { type: "button", className: "plain-button", "aria-label": word("removeChoice", { label: choice.label }), onclick: () => changeChoices(() => choices.splice(index, 1)) }, "✕"));
  }));
  $("select").replaceChildren(...Array.from({ length: Math.max(1, Math.min(choices.length - 1, 5)) }, (_, index) => element("option", { value: index + 1 }, String(index + 1))));
  $("select").value = Math.min(found.select, $("select").length);
  $("layout").value = settings.layout ?? (served.template ? "letter" : "plain");
}

function changeChoices(change) {
  edited = true;
  change();
  showChoices();
}

function addChoice() {
  const family = FAMILIES.find((labels) => labels[0] === found.choices[0]?.label) ?? FAMILIES[0];
  if (found.choices.length < family.length) changeChoices(() => found.choices.push({ label: family[found.choices.length], text: "" }));
  $("choices").lastElementChild?.children[1].focus();
}

function examOfForm() {
  const choices = found.choices.map(({ label, text }) => ({ label: label.trim(), text: text.trim() })).filter(({ label, text }) => label && text);
  return { stem: found.stem || $("question").value.trim(), choices, select: Math.min(found.select, Math.max(1, choices.length - 1)), layout: $("layout").value };
}

function startEditing() {
  const question = open.messages.findLast((message) => message.role === "user");
  editing = true;
  edited = false;
  $("editing").hidden = false;
  $("question").value = question.pasted ?? question.content;
  setMode(question.exam ? "exam" : "chat");
  $("question").focus();
}

function stopEditing() {
  if (!editing) return;
  editing = false;
  $("editing").hidden = true;
  $("question").value = "";
  questionChanged();
}
