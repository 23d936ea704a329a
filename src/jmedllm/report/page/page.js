"use strict";
(() => {
  const ROW = 46;
  const COLUMN = 96; // pixels of a column of probabilities
  const LEAST_TEXT = 320; // pixels that the text of the choices keeps beside such columns
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const byId = (id) => document.getElementById(id);
  const [list, sheet, detail, count] = ["list", "sheet", "detail", "count"].map(byId);
  const FILTERS = ["q", "benchmark", "language", "subject", "scorer", "model", "outcome"];
  const OUTCOMES = {
    "": "any", right: "right", partial: "partly right", wrong: "wrong", none: "no answer",
    counted: "no answer, but counted as right",
    disagree: "models disagree", prohibited: "prohibited choice picked",
  };
  const isOneBenchmark = new Set(settings.tasks.map((task) => task.benchmark)).size === 1;
  const entries = []; // {task, item, key, text}
  let shown = [];
  let current = null;

  document.documentElement.classList.add("js");

  // The measures' tabs.
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).classList.toggle("other", tab !== chosen);
    }
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  });
  if (tabs.length) choose(tabs[0]);

  // Tables that are wider than the screen say so until they were scrolled to their end.
  const mark = (wide) => wide.classList.toggle("cut", wide.scrollLeft + wide.clientWidth < wide.scrollWidth - 8);
  const resized = new ResizeObserver((changed) => changed.forEach(({ target }) => mark(target)));
  for (const wide of document.querySelectorAll(".wide")) {
    resized.observe(wide);
    wide.addEventListener("scroll", () => mark(wide), { passive: true });
  }

  // Text stays text: nothing that a model wrote is parsed as HTML.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  const letters = (choices) => choices.map((index) => String.fromCharCode(97 + index)).join(", ");
  const series = (model) => `s${settings.models.indexOf(model) % 8}`;
  const goldOf = (item) => item.number ?? ([item.gold ?? [], ...(item.also ?? [])].map(letters).join(" or ") || "–");

  // No answer is neither right nor wrong, even where the published protocol counts it as right.
  const isAnswered = (score) => !["none", "counted"].includes(score.outcome);
  const answerOf = (score) =>
    isAnswered(score) ? (score.number ?? (letters(score.chosen ?? []) || `${(100 * score.value).toFixed(0)} %`)) : "–";
  const SIGNS = { right: ["✓", "right"], partial: ["◐", "partly right"], wrong: ["✗", "wrong"], none: ["–", "no answer"], counted: ["○", "no answer, counted as right"] };
  const scoresOf = (entry, scorer, model) =>
    entry.item.answers
      .filter((answer, index) => answer && (!model || entry.task.models[index] === model))
      .map((answer) => answer.scores[scorer])
      .filter(Boolean);

  const matchesOutcome = (entry, outcome, scorer, model) => {
    const scores = scoresOf(entry, scorer, outcome === "disagree" ? "" : model);
    if (outcome === "disagree") {
      return new Set(scores.map((score) => answerOf(score))).size > 1;
    }
    if (outcome === "prohibited") {
      const bad = entry.item.prohibited ?? [];
      return scores.some((score) => (score.chosen ?? []).some((choice) => bad.includes(choice)));
    }
    return scores.some((score) => score.outcome === outcome);
  };

  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const searchable = (entry) => {
    const { id, stem, choices, answers } = entry.item;
    entry.text ??= fold([id, stem, ...choices, ...answers.map((answer) => answer?.response ?? "")].join("\n"));
    return entry.text;
  };

  const filters = () => Object.fromEntries(FILTERS.map((name) => [name, byId(name).value]));

  const filter = () => {
    const now = filters();
    const words = fold(now.q).split(/\s+/).filter(Boolean);
    shown = entries.filter(
      (entry) =>
        (!now.benchmark || entry.task.benchmark === now.benchmark) &&
        (!now.language || entry.task.language === now.language) &&
        (!now.subject || entry.item.subject === now.subject) &&
        (!now.model || entry.task.models.includes(now.model)) &&
        (!now.outcome || matchesOutcome(entry, now.outcome, now.scorer, now.model)) &&
        words.every((word) => searchable(entry).includes(word)),
    );
    count.textContent = `${shown.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} items`;
    sheet.style.height = `${shown.length * ROW}px`;
    list.scrollTop = 0;
    if (!shown.includes(current)) current = shown[0] ?? null;
    show();
  };

  const remember = () => {
    const kept = Object.entries({ ...filters(), item: current?.key ?? "" });
    const state = new URLSearchParams(kept.filter(([name, value]) => value && (name !== "scorer" || value !== scorers()[0])));
    history.replaceState(null, "", `#items?${state}`.replaceAll("%2F", "/"));
  };

  // Only visible rows exist, so that 20,000 items scroll as fast as 20.
  const paint = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 10);
    const scorer = byId("scorer").value;
    sheet.replaceChildren(
      ...shown.slice(first, last).map((entry, offset) => {
        const signs = make("span", { class: "signs" });
        entry.item.answers.forEach((answer) => {
          const score = answer?.scores[scorer];
          const outcome = score?.outcome ?? null;
          signs.append(make("span", { class: `sign ${outcome ?? "muted"}` }, outcome ? SIGNS[outcome][0] : "·"));
        });
        const row = make(
          "div",
          {
            class: "row", role: "option", id: `row-${first + offset}`, "aria-selected": entry === current,
            "aria-posinset": first + offset + 1, "aria-setsize": shown.length,
          },
          make(
            "div", { class: "top" }, make("b", { title: entry.item.id }, entry.item.id),
            isOneBenchmark ? null : make("span", { class: "muted", title: entry.task.benchmark }, entry.task.benchmark),
            make("span", { class: "lang" }, entry.task.language), signs,
          ),
          make("div", { class: "stem" }, entry.item.stem.slice(0, 120)),
        );
        row.style.top = `${(first + offset) * ROW}px`;
        row.addEventListener("click", () => select(entry));
        return row;
      }),
    );
    const at = shown.indexOf(current);
    if (at < 0) list.removeAttribute("aria-activedescendant");
    else list.setAttribute("aria-activedescendant", `row-${at}`);
  };

  const reveal = () => {
    const top = shown.indexOf(current) * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  };

  const show = () => {
    reveal();
    paint();
    detail.replaceChildren(...(current ? describe(current) : [make("p", { class: "muted" }, "No item matches these filters.")]));
    stack();
    detail.scrollTop = 0;
  };

  const select = (entry) => {
    current = entry;
    show();
    remember();
  };

  const chips = (entry) => {
    const { item } = entry;
    const FLAGS = {
      image: "refers to a picture that is not in the data", required: "required part", every_answer_right: "every answer accepted",
    };
    return [
      item.subject ?? null,
      item.points === 0 ? "excluded from grading" : item.points > 1 ? `${item.points} points` : null,
      ...(item.flags ?? []).map((flag) => FLAGS[flag] ?? flag),
      item.images ? `shows ${item.images} ${item.images > 1 ? "pictures" : "picture"}, not on this page` : null,
      item.examineesRight === undefined ? null : `${item.examineesRight} % of the examinees were right`,
      item.number ? `answer ${item.number}` : null,
      (item.also ?? []).length ? `right: ${goldOf(item)}` : null,
    ].filter(Boolean).map((text) => make("span", {}, text));
  };

  const share = (who, percent, css, picked = false) => {
    // On a narrow screen the cell is below the choice, with its model's name.
    const cell = make("td", { class: `share ${css}` }, make("span", { class: "who", title: who }, who));
    if (percent === undefined) {
      cell.append(make("span", { class: picked ? "picked" : "muted" }, picked ? "" : "·"));
      return cell;
    }
    const bar = make("span", { class: "bar" });
    bar.style.setProperty("--w", percent);
    cell.append(make("span", { class: picked ? "picked" : "" }, `${percent.toFixed(1)} %`), bar);
    return cell;
  };

  const choicesOf = (entry) => {
    const { item, task } = entry;
    const scorer = byId("scorer").value;
    const evaluated = item.answers.map((answer, index) => ({ answer, model: task.models[index] })).filter(({ answer }) => answer);
    const head = make("tr", {}, make("th", { colspan: 2 }, ""));
    if (item.examinees) head.append(make("th", { scope: "col" }, "examinees"));
    for (const { model } of evaluated) head.append(make("th", { scope: "col" }, make("span", { class: `model ${series(model)}` }, model)));
    const body = item.choices.map((text, index) => {
      const right = (item.gold ?? []).includes(index);
      const row = make(
        "tr", { class: right ? "gold" : "" }, make("td", {}, letters([index])),
        make(
          "td", {}, text, right ? make("span", { class: "tag right" }, "✓ right") : null,
          (item.prohibited ?? []).includes(index) ? make("span", { class: "tag wrong" }, "⚠ prohibited") : null,
        ),
      );
      if (item.examinees) row.append(share("examinees", item.examinees[index], ""));
      for (const { answer, model } of evaluated) {
        const probability = answer.probabilities?.[index];
        const score = answer.scores[scorer];
        const picked = Boolean(score && isAnswered(score) && score.chosen?.includes(index));
        row.append(share(model, probability === undefined ? undefined : 100 * probability, series(model), picked));
      }
      return row;
    });
    const columns = evaluated.length + (item.examinees ? 1 : 0);
    const widths = ["letter", "text", ...Array(columns).fill("column")].map((name) => make("col", { class: name }));
    return make("table", { class: "choices", "data-columns": columns }, make("colgroup", {}, ...widths), make("thead", {}, head), make("tbody", {}, ...body));
  };

  const plain = (value) => (typeof value === "number" ? Math.round(value * 1000) / 1000 : { true: "yes", false: "no" }[value] ?? value);
  const describeField = (name, value) => {
    if (name === "how") return settings.reasons[value] ?? value;
    if (name.startsWith("correct_")) return `${name.slice("correct_".length).replaceAll("_", " ")}: ${value ? "right" : "wrong"}`;
    return `${name.replaceAll("_", " ")} ${plain(value)}`;
  };
  const reasonOf = (score) => {
    const { chosen, number, correct, value, outcome, response, ...rest } = score;
    return Object.entries(rest)
      .filter(([, value]) => value !== null && value !== "" && !Array.isArray(value))
      .map(([name, value]) => describeField(name, value))
      .join(" · ");
  };

  const thoughtOf = ({ reasoning, reasoningTokens, forced }) => {
    const length = reasoningTokens === undefined ? [reasoning.length, "characters"] : [reasoningTokens, "tokens"];
    const about = `${length[0].toLocaleString("en")} ${length[1]}${forced ? ", closed at the thinking budget" : ""}`;
    const title = make("summary", {}, "Thought ", make("span", { class: "muted" }, about));
    return make("details", { class: "thought" }, title, make("pre", { tabindex: 0 }, reasoning));
  };

  const modelPart = (answer, model) => {
    const rows = Object.entries(answer.scores).map(([scorer, score]) => {
      const { outcome } = score;
      return make(
        "tr", {}, make("th", { scope: "row" }, scorer), make("td", { class: outcome }, `${SIGNS[outcome][0]} ${SIGNS[outcome][1]}`),
        make("td", {}, answerOf(score)), make("td", { class: "muted" }, reasonOf(score)),
      );
    });
    const parts = [make("h4", {}, make("span", { class: `model ${series(model)}` }, model)), make("table", { class: "scores" }, make("tbody", {}, ...rows))];
    if (answer.order) parts.push(make("p", { class: "muted" }, `choices presented in the order ${letters(answer.order)}`));
    if (answer.reasoning !== undefined) parts.push(thoughtOf(answer));
    if (answer.response !== undefined) {
      if (answer.response || !answer.thoughtCut) parts.push(make("pre", { tabindex: 0 }, answer.response || "(empty)"));
      if (answer.thoughtCut) parts.push(make("p", { class: "none" }, "ended inside its thought"));
      else if (answer.truncated) parts.push(make("p", { class: "none" }, "cut off at the token limit"));
    }
    for (const rotation of answer.rotations ?? []) {
      const answers = Object.entries(rotation.scores).map(([scorer, score]) => `${scorer} ${answerOf(score)} ${SIGNS[score.outcome][0]}`);
      parts.push(make("p", { class: "muted" }, `rotated, presented as ${letters(rotation.order)}: ${answers.join(" · ")}`));
    }
    for (const [index, sample] of (answer.samples ?? []).entries()) {
      const answers = Object.entries(sample.scores).map(([scorer, score]) => `${scorer} ${answerOf(score)} ${SIGNS[score.outcome][0]}`);
      parts.push(make("p", { class: "muted" }, `sample ${index + 2}: ${answers.join(" · ")}${sample.truncated ? " · cut off" : ""}`));
    }
    return parts;
  };

  // Where columns leave too little room for the choices or break a name, probabilities are below their choice.
  const stack = () => {
    for (const table of detail.querySelectorAll(".choices")) {
      table.classList.remove("stacked");
      const names = [...table.tHead.querySelectorAll("th")];
      const isNarrow = detail.clientWidth < LEAST_TEXT + COLUMN * table.dataset.columns;
      table.classList.toggle("stacked", isNarrow || names.some((name) => name.scrollWidth > name.clientWidth));
    }
  };

  const describe = (entry) => {
    const { item, task } = entry;
    const other = entries.find((each) => each.item.id === item.id && each.task.benchmark === task.benchmark && each.task !== task);
    const link = other ? make("a", { href: `#items?item=${other.key}` }, `in ${other.task.language === "ja" ? "Japanese" : "English"}`) : null;
    return [
      make("h3", {}, item.id, " ", make("span", { class: "muted" }, task.benchmark), " ", make("span", { class: "lang" }, task.language)),
      make("p", { class: "chips" }, ...chips(entry), link),
      make("p", { class: "stemtext", lang: task.language }, item.stem),
      item.choices.length ? choicesOf(entry) : null,
      ...["reference", "rubric"].flatMap((name) => (item[name] ? [make("h4", {}, name), make("p", { class: "stemtext", lang: task.language }, item[name])] : [])),
      ...item.answers.flatMap((answer, index) => (answer ? modelPart(answer, task.models[index]) : [])),
    ].filter(Boolean);
  };

  // The filters' choices, and the state in the address.
  const distinct = (values) => [...new Set(values)];
  const scorers = () => distinct(settings.tasks.flatMap((task) => task.scorers));
  const fill = (id, values, any = "any") => {
    const options = values.map((value) => (Array.isArray(value) ? value : [value, value]));
    byId(id).parentElement.hidden = options.length < 2; // nothing to choose
    byId(id).replaceChildren(...(any === null ? [] : [make("option", { value: "" }, any)]), ...options.map(([value, name]) => make("option", { value }, name)));
  };
  const fillAll = () => {
    fill("benchmark", distinct(settings.tasks.map((task) => task.benchmark)));
    fill("language", distinct(settings.tasks.map((task) => task.language)));
    fill("scorer", scorers(), null);
    fill("model", settings.models);
    fill("outcome", Object.entries(OUTCOMES), null);
    fill("subject", []);
  };
  const fillSubjects = () => {
    const kept = byId("subject").value;
    const { benchmark, language } = filters();
    const here = entries.filter(({ task }) => (!benchmark || task.benchmark === benchmark) && (!language || task.language === language));
    const subjects = distinct(here.map(({ item }) => item.subject).filter(Boolean)).sort((a, b) => a.localeCompare(b));
    fill("subject", subjects);
    byId("subject").value = subjects.includes(kept) ? kept : "";
  };

  const restore = () => {
    if (!location.hash.startsWith("#items?")) return false;
    const state = new URLSearchParams(location.hash.slice("#items?".length));
    for (const name of FILTERS) {
      const known = name === "q" || [...byId(name).options].some((option) => option.value === state.get(name));
      byId(name).value = known && state.has(name) ? state.get(name) : name === "scorer" ? scorers()[0] : "";
      if (name === "language") fillSubjects();
    }
    const wanted = state.get("item");
    current = entries.find((entry) => entry.key === wanted) ?? null;
    filter();
    if (wanted && current?.key !== wanted) {
      detail.prepend(make("p", { class: "none" }, `No item ${wanted} on this page.`));
    }
    byId("items").scrollIntoView();
    return true;
  };

  const unpack = async (text) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  const move = (step) => {
    if (!shown.length) return;
    const at = shown.indexOf(current);
    select(shown[Math.max(0, Math.min(shown.length - 1, at + step))]);
  };

  const listen = () => {
    for (const name of FILTERS) {
      byId(name).addEventListener("input", () => {
        if (name === "benchmark" || name === "language") fillSubjects();
        filter();
        remember();
      });
    }
    byId("q").form.addEventListener("submit", (event) => {
      event.preventDefault();
      list.focus();
    });
    list.addEventListener("scroll", () => requestAnimationFrame(paint), { passive: true });
    new ResizeObserver(paint).observe(list);
    new ResizeObserver(stack).observe(detail);
    list.addEventListener("keydown", (event) => {
      const page = Math.floor(list.clientHeight / ROW) - 1;
      const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move(step);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
      event.preventDefault();
      byId("q").focus();
      byId("items").scrollIntoView();
    });
    window.addEventListener("hashchange", restore);
  };

  const start = async () => {
    fillAll();
    for (const [index, task] of settings.tasks.entries()) {
      count.textContent = `loading items … ${task.name}`;
      const script = byId(`packed-${index}`);
      for (const item of await unpack(script.textContent)) entries.push({ task, item, key: `${task.name}/${item.id}` });
      script.remove();
    }
    fillSubjects();
    listen();
    if (!restore()) filter();
    document.documentElement.dataset.ready = "true";
  };

  // After the first paint, so that the scores above appear at once.
  requestAnimationFrame(() => setTimeout(start));
})();
