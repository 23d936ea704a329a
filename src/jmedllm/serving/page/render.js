/* Renders an answer by DOM calls only, so that nothing in it can run. A link is shown as text. */

/* Answers with more are shown as they are: a browser takes seconds for ten thousand elements. */
const LONGEST_MARKUP = 100000;
const MOST_LINES = 2000;
const LONGEST_LINE = 5000;

const element = (name, properties = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

/* Control characters, marks that change the direction of text, and other invisible ones. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/* Appends text; hidden characters appear as their code. */
function appendText(target, text) {
  let from = 0;
  for (const found of text.matchAll(HIDDEN)) {
    if (found.index > from) target.append(text.slice(from, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    target.append(element("span", { className: "hidden-character" }, `U+${code}`));
    from = found.index + found[0].length;
  }
  if (from < text.length) target.append(text.slice(from));
}

/* Appends one line with `code` and **bold**. */
function appendInline(target, text) {
  if (text.length > LONGEST_LINE) return appendText(target, text);
  for (const part of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    const tag = part.length > 2 && part[0] === "`" && part.at(-1) === "`" ? "code" : part.length > 4 && part.startsWith("**") && part.endsWith("**") ? "strong" : null;
    if (!tag) { appendText(target, part); continue; }
    const inner = element(tag);
    appendText(inner, tag === "code" ? part.slice(1, -1) : part.slice(2, -2));
    target.append(inner);
  }
}

const inline = (name, text) => { const made = element(name); appendInline(made, text); return made; };
const ITEM = /^(\s*)(?:[-*+•]|(\d{1,9})[.)])\s+(.*)$/;
const RULE = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function listFrom(lines, start, target) {
  const stack = [];
  let index = start;
  for (; index < lines.length; index++) {
    const found = lines[index].length <= LONGEST_LINE && ITEM.exec(lines[index]);
    if (!found) {
      if (!/^\s{2,}\S/.test(lines[index]) || !stack.length) break;
      stack.at(-1).list.lastElementChild.append(element("br"));
      appendInline(stack.at(-1).list.lastElementChild, lines[index].trim());
      continue;
    }
    const depth = found[1].length;
    while (stack.length > 1 && depth < stack.at(-1).depth) stack.pop();
    if (!stack.length || (depth > stack.at(-1).depth + 1 && stack.length < 6)) {
      const list = element(found[2] ? "ol" : "ul");
      if (found[2] && found[2] !== "1") list.start = Number(found[2]);
      (stack.length ? stack.at(-1).list.lastElementChild : target).append(list);
      stack.push({ depth, list });
    }
    stack.at(-1).list.append(inline("li", found[3]));
  }
  return index;
}

function tableFrom(lines, start, target) {
  const row = (line, name) => element("tr", {}, ...cells(line).map((cell) => inline(name, cell)));
  const body = element("tbody");
  let index = start + 2;
  for (; index < lines.length && lines[index].includes("|"); index++) body.append(row(lines[index], "td"));
  target.append(element("div", { className: "wide", tabIndex: 0 }, element("table", {}, element("thead", {}, row(lines[start], "th")), body)));
  return index;
}

function renderAnswer(text) {
  const target = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  if (text.length > LONGEST_MARKUP || lines.length > MOST_LINES) {
    const plain = element("div", { className: "plain" });
    appendText(plain, text);
    target.append(plain);
    return target;
  }
  let paragraph = null;
  for (let index = 0; index < lines.length; ) {
    const line = lines[index];
    const fence = /^\s*(```+|~~~+)/.exec(line);
    if (fence) {
      const code = [];
      for (index++; index < lines.length && !lines[index].trim().startsWith(fence[1]); index++) code.push(lines[index]);
      index++;
      const inner = element("code");
      appendText(inner, code.join("\n"));
      target.append(element("pre", { tabIndex: 0 }, inner));
      paragraph = null;
    } else if (line.length <= LONGEST_LINE && ITEM.test(line)) {
      index = listFrom(lines, index, target);
      paragraph = null;
    } else if (line.includes("|") && index + 1 < lines.length && lines[index + 1].length <= LONGEST_LINE && lines[index + 1].includes("|") && RULE.test(lines[index + 1])) {
      index = tableFrom(lines, index, target);
      paragraph = null;
    } else if (/^#{1,6}\s/.test(line)) {
      target.append(inline("h3", line.replace(/^#+\s+/, "")));
      index++;
      paragraph = null;
    } else if (!line.trim()) {
      index++;
      paragraph = null;
    } else {
      if (paragraph) { paragraph.append(element("br")); appendInline(paragraph, line); }
      else target.append((paragraph = inline("p", line)));
      index++;
    }
  }
  return target;
}
