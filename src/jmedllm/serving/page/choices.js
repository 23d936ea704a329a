/* Finds the choices of a pasted question. serving/choices.py does the same in the terminal; a test compares both. */

const FAMILIES = ["abcdefghij", "ABCDEFGHIJ", ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], "アイウエオカキクケコ", "あいうえおかきくけこ", "イロハニホヘト"].map((labels) => [...labels]);
const LABEL = "([A-Ja-jＡ-Ｊａ-ｊ]|10|１０|[1-9１-９]|[アイウエオカキクケコｱｲｳｴｵｶｷｸｹｺロハニホヘト]|[あいうえおかきくけこ])";
const OPEN = "[(（\\[［【〔]", CLOSE = "[)）\\]］】〕]", SPACE = "[ \\t\\u00a0\\u2000-\\u200a\\u3000]";
const ENCLOSED = "([①-⑩⑴-⑽⒜-⒥ⓐ-ⓙⒶ-Ⓙ㋐-㋙])";
const NOT_A_NUMBER = "(?:(?<![0-9０-９][.．:：、,，])|(?![0-9０-９]))";
const FORMS = {
  paren: `${OPEN}${SPACE}?${LABEL}${SPACE}?${CLOSE}${SPACE}*[.．:：、]?`,
  close: `${LABEL}${SPACE}?${CLOSE}[.．:：]?`,
  point: `${LABEL}${SPACE}?[.．:：、,，]${NOT_A_NUMBER}`,
  enclosed: `${ENCLOSED}[.．:：、]?`,
  space: `${LABEL}${SPACE}+(?=\\S)`,
  bare: "([a-jａ-ｊ])(?=[\\u3040-\\u30ff\\u3400-\\u9fff])",
};
/* Within a line, a comma ends no label ("vitamins a, b, c"), and a label after a letter is a part of a word. */
const INLINE = {
  paren: FORMS.paren,
  close: `(?<![^\\s、。，．：？?])${FORMS.close}`,
  point: `(?<![^\\s、。，：？?])${LABEL}${SPACE}?[.．:：]${NOT_A_NUMBER}`,
  enclosed: FORMS.enclosed,
  space: `(?<![^\\s、。？?])${FORMS.space}`,
};
const ANSWER = /^[ \t\u3000]*(?:[【\[(（*]*)(?:正解|正答|解答|答え|答[:：]|解説|answer|correct|explanation|rationale)/i;
const LONGEST_QUESTION = 50000;

const labelOf = (raw) => raw.normalize("NFKC").replace(/[()]/g, "");

function marksOfLines(text) {
  const marks = [];
  const forms = Object.entries(FORMS).map(([form, pattern]) => [form, new RegExp(`^${SPACE}*(?:[-*・•]${SPACE}*)?${pattern}`)]);
  let start = 0;
  for (const line of text.split("\n")) {
    for (const [form, pattern] of forms) {
      const found = pattern.exec(line);
      if (found) { marks.push({ form, label: labelOf(found[1]), start, end: start + found[0].length }); break; }
    }
    start += line.length + 1;
  }
  return marks;
}

function marksInLines(text) {
  const marks = [];
  for (const [form, pattern] of Object.entries(INLINE))
    for (const found of text.matchAll(new RegExp(pattern, "g"))) marks.push({ form, label: labelOf(found[1]), start: found.index, end: found.index + found[0].length });
  return marks.sort((first, second) => first.start - second.start);
}

/* Returns the last run of consecutive labels of one family in one form. */
function lastRun(marks, shortest) {
  let best = [];
  for (const family of FAMILIES)
    for (const form of Object.keys(FORMS)) {
      let run = [];
      const close = () => { if (run.length >= shortest(form) && (!best.length || run[0].start > best[0].start)) best = run; };
      for (const mark of marks) {
        if (mark.form !== form) continue;
        if (mark.label === family[0]) { close(); run = [mark]; }
        else if (run.length && mark.label === family[run.length]) run.push(mark);
      }
      close();
    }
  return best;
}

/* Returns where the last choice ends: at an empty line, or at a line with the answer. */
function endOf(text, from) {
  let position = from;
  for (const [index, line] of text.slice(from).split("\n").entries()) {
    if (index && (!line.trim() || ANSWER.test(line))) return position;
    position += line.length + 1;
  }
  return text.length;
}

const joined = (text) => text.trim().split(/\s*\n\s*/).reduce((before, line) => before + (/[ -~]$/.test(before) && /^[ -~]/.test(line) ? " " : "") + line);

/* Returns {stem, choices: [{label, text}], select, rest}; without choices, all text is the stem. */
function findChoices(pasted) {
  const text = pasted.replace(/\r\n?/g, "\n").slice(0, LONGEST_QUESTION);
  const lines = lastRun(marksOfLines(text), () => 2);
  const within = lastRun(marksInLines(text), (form) => (form === "space" ? 3 : 2));
  const after = lines.length ? endOf(text, lines.at(-1).end) : 0;
  const run = lines.length && !(within.length && within[0].start >= after) ? lines : within;
  if (!run.length) return { stem: text.trim(), choices: [], select: selected(text), rest: "" };
  const end = endOf(text, run.at(-1).end);
  const choices = run.map((mark, index) => ({ label: mark.label, text: joined(text.slice(mark.end, index + 1 < run.length ? run[index + 1].start : end)) }));
  const stem = text.slice(0, run[0].start).trim();
  return { stem, choices, select: Math.min(selected(stem), choices.length), rest: text.slice(end).trim() };
}

const NUMBERS = { "1": 1, "2": 2, "3": 3, "4": 4, "一": 1, "二": 2, "三": 3, "四": 4, two: 2, three: 3, four: 4 };

/* Returns how many choices a question asks for. */
function selected(stem) {
  const text = stem.normalize("NFKC").toLowerCase();
  const japanese = [...text.matchAll(/([1-4一二三四]) ?つ(?:だけ)?を?(?:選|えら)/g)];
  const found = japanese.length ? japanese : [...text.matchAll(/\b(?:choose|select|pick|which) (?:the )?(two|three|four|[234])\b/g)];
  return found.length ? NUMBERS[found.at(-1)[1]] : 1;
}

/* Returns all selections of `size` of `items`, in order. */
function combinations(items, size) {
  if (!size) return [[]];
  return items.flatMap((item, index) => combinations(items.slice(index + 1), size - 1).map((rest) => [item, ...rest]));
}

const MOST_ANSWERS = 60;
const SEPARATOR = { en: ", ", ja: "、" };

/* Returns the prompt of a multiple-choice question, and the answers that the model may give: {prompt, answers: [[index, ...]], texts}. */
function examPrompt({ stem, choices, select }, layout) {
  const language = /[\u3040-\u30ff\u4e00-\u9fff]/.test(stem) ? "ja" : "en";
  const separator = SEPARATOR[language];
  const answers = combinations([...choices.keys()], select);
  const name = (index) => (layout === "letter" ? choices[index].label : choices[index].text);
  return { prompt: LAYOUTS[layout](language, stem, choices, select, separator), answers, texts: answers.map((each) => each.map(name).join(separator)) };
}

const asked = (language, stem, select) => (select === 1 || selected(stem) === select ? stem : language === "ja" ? `${stem}（${select}つ選べ）` : `${stem} (choose ${select})`);
const LAYOUTS = {
  letter: (language, stem, choices, select) =>
    (language === "ja" ? `次は医学の試験問題です。答えとなる選択肢を${select}つ選び、記号だけを${select > 1 ? "「、」で区切って" : ""}書いてください。` : `This is a multiple-choice question about medicine. Choose ${select} of the choices and write only ${select > 1 ? "their labels, separated by commas" : "its label"}.`) +
    `\n\n${asked(language, stem, select)}\n${choices.map(({ label, text }) => `${label}. ${text}`).join("\n")}`,
  text: (language, stem, choices, select) =>
    (language === "ja" ? `次は医学の試験問題です。答えとなる選択肢を${select}つ選び、その文をそのまま${select > 1 ? "「、」で区切って" : ""}書いてください。` : `This is a multiple-choice question about medicine. Choose ${select} of the choices and copy ${select > 1 ? "them, separated by commas" : "it"}.`) +
    `\n\n${asked(language, stem, select)}\n${choices.map(({ text }) => text).join("\n")}`,
  plain: (language, stem, choices, select, separator) =>
    choices.map(({ text }) => text).join(separator) + (language === "ja" ? "。" : ". ") + asked(language, stem, select) + (language === "ja" ? "" : " "),
};
