"use strict";
// The page of a report. All text of tests goes into the page as text, never as markup.
(() => {
  const HINT = "Choose a test: arrow keys or pointer. Keys: / filter, Enter read, Escape back.";
  const ROW = 26, SPARE = 10, BARS_MAX = 5000, ATTEMPTS_MAX = 1000, KINDS_MAX = 50;
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const tests = data.tests, total = tests.name.length;
  let more = null;  // outputs: read when the first one is asked for
  const outputs = () => (more ??= JSON.parse($("more").textContent));

  const make = (tag, kind, text) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const said = (verdict) => verdict.replace("_", " ");
  const seconds = (ms) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);
  const hardwareName = (index) => data.hardware[index] || "unknown";
  const title = (i) => {
    const inside = tests.name[i] ? `::${tests.name[i]}` : "";
    const place = tests.place[i] ? ` #${tests.place[i]}` : "";
    return data.files[tests.file[i]] + inside + place;
  };

  // -- what is shown -----------------------------------------------------------------------------

  const wanted = { text: "", verdicts: new Set(), worker: -1, hardware: -1, group: -1 };
  let asMatrix = false, entries = [], chosen = -1;
  let haystack = null;

  const fits = (i) => {
    if (wanted.verdicts.size && !wanted.verdicts.has(tests.verdict[i])) return false;
    if (wanted.worker >= 0 && tests.worker[i] !== wanted.worker) return false;
    if (wanted.hardware >= 0 && tests.hardware[i] !== wanted.hardware) return false;
    if (wanted.group >= 0 && tests.group[i] !== wanted.group) return false;
    return !wanted.text || haystack[i].includes(wanted.text);
  };

  const choose = () => {
    if (wanted.text && !haystack) {
      haystack = tests.name.map((_, i) => `${title(i)} ${tests.message[i] || ""}`.toLowerCase());
    }
    let found = [];
    for (let i = 0; i < total; i++) if (fits(i)) found.push(i);
    const count = found.length;
    if (asMatrix) {
      const rows = new Map();
      for (const i of found) rows.set(title(i), null);
      for (let i = 0; i < total; i++) {
        const name = title(i);
        if (!rows.has(name)) continue;
        const row = rows.get(name) || new Array(data.hardware.length).fill(-1);
        row[tests.hardware[i]] = i;
        rows.set(name, row);
      }
      found = [...rows.values()];
    }
    entries = found;
    chosen = -1;
    $("heads").hidden = !asMatrix;
    $("detail").replaceChildren(make("p", "faint", HINT));
    $("count").textContent = count === total ? `${total} tests` : `${count} of ${total} tests`;
    $("space").style.height = `${entries.length * ROW}px`;
    $("list").scrollTop = 0;
    $("list").removeAttribute("aria-activedescendant");
    draw();
  };

  // -- the list: only the rows in sight exist ----------------------------------------------------

  const cell = (i) => {
    const kind = i < 0 ? "faint" : data.verdicts[tests.verdict[i]];
    return make("span", `verdict ${kind}`, i < 0 ? "–" : said(kind));
  };

  const row = (position) => {
    const made = make("div", position === chosen ? "row chosen" : "row");
    made.id = `row${position}`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(position === chosen));
    made.setAttribute("aria-posinset", String(position + 1));
    made.setAttribute("aria-setsize", String(entries.length));
    made.style.top = `${position * ROW}px`;
    const entry = entries[position];
    if (asMatrix) {
      entry.forEach((i, hardware) => {
        const shown = cell(i);
        shown.title = hardwareName(hardware);
        made.append(shown);
      });
      made.append(make("span", "name", title(entry.find((i) => i >= 0))));
      return made;
    }
    const name = make("span", "name", title(entry));
    name.title = tests.message[entry] || "";
    made.append(cell(entry), name);
    if (tests.muted[entry]) made.append(make("span", "where", "muted"));
    if (data.several) made.append(make("span", "where", hardwareName(tests.hardware[entry])));
    if (tests.worker[entry] >= 0) made.append(make("span", "where", data.workers[tests.worker[entry]]));
    made.append(make("span", "took", seconds(tests.ms[entry])));
    return made;
  };

  const draw = () => {
    const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(entries.length, first + Math.ceil(list.clientHeight / ROW) + 2 * SPARE);
    const rows = [];
    for (let position = first; position < last; position++) rows.push(row(position));
    $("space").replaceChildren(...rows);
  };

  const pick = (position) => {
    if (!entries.length) return;
    chosen = Math.max(0, Math.min(entries.length - 1, position));
    const list = $("list"), top = chosen * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    draw();
    list.setAttribute("aria-activedescendant", `row${chosen}`);
    tell();
  };

  // -- one test ----------------------------------------------------------------------------------

  const links = (attempt) => {
    const list = make("ul");
    for (const [name, bytes, address] of attempt.artifacts) {
      const item = make("li");
      const link = make(address ? "a" : "span", "", name);
      if (address) link.href = address;
      item.append(link, ` ${bytes.toLocaleString()} bytes`);
      list.append(item);
    }
    return list;
  };

  const describe = (i) => {
    const made = make("div"), verdict = data.verdicts[tests.verdict[i]];
    const line = make("p");
    line.append(make("strong", verdict, said(verdict)));
    if (data.several) line.append(` on ${hardwareName(tests.hardware[i])}`);
    made.append(line);
    if (tests.cause[i]) made.append(make("p", "", tests.cause[i]));
    const muted = tests.muted[i];
    if (muted) {
      const note = make("p", "", `Muted until ${muted[1]}: ${muted[0]} `);
      if (muted[2]) {
        const link = make("a", "", "issue");
        link.href = muted[2];
        note.append(link);
      }
      made.append(note);
    }
    for (const seen of outputs()[i] || []) {
      const [outcome, phase, worker, ms, place, message, output, at] = seen;
      const where = `${worker >= 0 ? `on ${data.workers[worker]}, ` : ""}${seconds(ms)}`;
      const head = make("p");
      head.append(make("strong", outcome, said(outcome)), ` in ${phase} `, make("span", "faint", where));
      made.append(head);
      if (place) made.append(make("p", "name", place));
      if (message) made.append(make("pre", "", message));
      if (output) made.append(make("pre", "", output));
      const attempt = at >= 0 ? data.attempts[at] : null;
      if (attempt && attempt.artifacts.length) made.append(make("p", "faint", "Artefacts of its attempt:"), links(attempt));
    }
    if (!outputs()[i] && tests.worker[i] >= 0) {
      made.append(make("p", "faint", `on ${data.workers[tests.worker[i]]}, ${seconds(tests.ms[i])}`));
    }
    return made;
  };

  const tell = () => {
    const entry = entries[chosen];
    const shown = asMatrix ? entry.filter((i) => i >= 0) : [entry];
    $("detail").replaceChildren(make("h2", "name", title(shown[0])), ...shown.map(describe));
    $("detail").scrollTop = 0;
  };

  // -- filters -----------------------------------------------------------------------------------

  const offer = (select, all, names, key) => {
    select.append(new Option(all, "-1"), ...names.map((name, i) => new Option(name || "unknown", String(i))));
    select.hidden = names.length < 2;
    select.addEventListener("change", () => {
      wanted[key] = Number(select.value);
      choose();
    });
  };

  const buttons = [];
  const press = () => {
    for (const [button, isOn] of buttons) button.setAttribute("aria-pressed", String(isOn()));
    $("matrix").setAttribute("aria-pressed", String(asMatrix));
    choose();
  };
  const toggle = (button, isOn, act) => {
    buttons.push([button, isOn]);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      act();
      press();
    });
    return button;
  };

  data.verdicts.forEach((verdict, v) => {
    if (!data.counts[verdict]) return;
    const button = make("button", verdict, `${data.counts[verdict].toLocaleString()} ${said(verdict)}`);
    const act = () => (wanted.verdicts.has(v) ? wanted.verdicts.delete(v) : wanted.verdicts.add(v));
    $("verdicts").append(toggle(button, () => wanted.verdicts.has(v), act));
  });
  data.groups.slice(0, KINDS_MAX).forEach((group, g) => {
    const where = group.frame ? ` (${group.frame})` : "";
    const button = make("button", "group", `${group.count} × ${group.kind}: ${group.message}${where}`);
    $("groups").lastElementChild.append(
      toggle(button, () => wanted.group === g, () => (wanted.group = wanted.group === g ? -1 : g)));
  });
  $("groups").hidden = !data.groups.length;
  if (data.groups.length > KINDS_MAX) {
    $("groups").append(make("p", "faint", `and ${data.groups.length - KINDS_MAX} more kinds`));
  }
  for (const fault of data.faults) $("faults").lastElementChild.append(make("li", "", fault));
  $("faults").hidden = !data.faults.length;
  offer($("worker"), "all workers", data.workers, "worker");
  offer($("hardware"), "all hardware", data.hardware, "hardware");
  $("matrix").hidden = !data.matrix;
  $("heads").append(...data.hardware.map((_, i) => make("span", "", hardwareName(i))), make("span", "", "test"));
  $("hardware").hidden = !data.several;
  $("matrix").addEventListener("click", () => {
    asMatrix = !asMatrix;
    press();
  });
  $("text").addEventListener("input", () => {
    wanted.text = $("text").value.trim().toLowerCase();
    choose();
  });
  $("clear").addEventListener("click", () => {
    Object.assign(wanted, { text: "", worker: -1, hardware: -1, group: -1 });
    wanted.verdicts.clear();
    $("text").value = "";
    $("worker").value = $("hardware").value = "-1";
    press();
  });

  // -- keys and pointer --------------------------------------------------------------------------

  $("list").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  $("list").addEventListener("click", (event) => {
    const found = event.target.closest(".row");
    if (found) pick(Number(found.id.slice(3)));
  });
  $("list").addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor($("list").clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) pick(chosen + moves[event.key]);
    else if (event.key === "Home") pick(0);
    else if (event.key === "End") pick(entries.length - 1);
    else if (event.key === "Enter" && chosen >= 0) $("detail").focus();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === "/" && !typing) {
      $("text").focus();
      event.preventDefault();
    } else if (event.key === "Escape") $("list").focus();
  });
  addEventListener("resize", draw);

  // -- workers over time -------------------------------------------------------------------------

  const drawn = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const times = () => {
    const timed = data.attempts.filter((item) => item.start !== null && item.end !== null);
    if (!timed.length) return;
    const begin = Math.min(...timed.map((item) => item.start)), LEFT = 160, WIDTH = 1000, LANE = 22;
    const span = Math.max(1, timed.reduce((most, item) => Math.max(most, item.end), begin) - begin);
    // A worker has as many lanes as attempts ran on it at once.
    const lanes = [], laneOf = new Map();
    for (const item of [...timed].sort((a, b) => a.worker - b.worker || a.start - b.start)) {
      let lane = lanes.findIndex((one) => one.worker === item.worker && one.until <= item.start);
      if (lane < 0) lane = lanes.push({ worker: item.worker, until: 0 }) - 1;
      lanes[lane].until = item.end;
      laneOf.set(item, lane);
    }
    const workers = new Set(lanes.map((lane) => lane.worker)).size;
    const svg = drawn("svg", {
      viewBox: `0 0 ${LEFT + WIDTH + 10} ${lanes.length * LANE + 24}`, role: "img",
      "aria-label": `${timed.length} attempts on ${workers} workers in ${seconds(span)}; the table below lists them`,
    });
    lanes.forEach(({ worker }, lane) => {
      const y = lane * LANE, isFirst = lane === 0 || lanes[lane - 1].worker !== worker;
      if (isFirst) svg.append(drawn("text", { x: 0, y: y + 15 }, data.workers[worker].slice(0, 24)));
      svg.append(drawn("line", { x1: LEFT, x2: LEFT + WIDTH, y1: y + LANE - 1, y2: y + LANE - 1 }));
    });
    for (const item of timed.slice(0, BARS_MAX)) {
      const known = ["passed", "failed", "faulted", "cancelled", "running"].includes(item.status);
      const bar = drawn("rect", {
        x: LEFT + ((item.start - begin) / span) * WIDTH, y: laneOf.get(item) * LANE + 3,
        width: Math.max(1, ((item.end - item.start) / span) * WIDTH - 0.5), height: LANE - 7,
        class: known ? item.status : "other",
      });
      const reason = item.reason ? `, ${item.reason}` : "";
      bar.append(drawn("title", {}, `${item.task}, attempt ${item.attempt}: ${item.status}${reason}, ${seconds(item.end - item.start)}`));
      svg.append(bar);
    }
    const foot = lanes.length * LANE + 16;
    svg.append(drawn("text", { x: LEFT, y: foot }, "0"));
    svg.append(drawn("text", { x: LEFT + WIDTH, y: foot, "text-anchor": "end" }, seconds(span)));
    $("times").lastElementChild.append(svg);
    if (timed.length > BARS_MAX) {
      $("times").append(make("p", "faint", `${timed.length - BARS_MAX} more attempts are not drawn`));
    }
    $("times").hidden = false;
  };

  $("attempts").addEventListener("toggle", () => {
    const room = $("attempts").lastElementChild;
    if (room.childElementCount) return;
    const table = make("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    for (const name of ["task", "attempt", "worker", "hardware", "status", "took", "artefacts"]) head.append(make("th", "", name));
    for (const item of data.attempts.slice(0, ATTEMPTS_MAX)) {
      const line = body.insertRow();
      const took = item.start !== null && item.end !== null ? seconds(item.end - item.start) : "unknown";
      const status = item.reason ? `${item.status}, ${item.reason}` : item.status;
      for (const text of [item.task, String(item.attempt), data.workers[item.worker], item.hardware || "unknown", status, took]) line.append(make("td", "", text));
      const last = make("td");
      if (item.artifacts.length) last.append(links(item));
      line.append(last);
    }
    room.append(table);
    if (data.attempts.length > ATTEMPTS_MAX) room.append(make("p", "faint", `and ${data.attempts.length - ATTEMPTS_MAX} more`));
  });

  choose();
  requestAnimationFrame(() => requestAnimationFrame(() => {
    document.documentElement.dataset.shownMs = String(Math.round(performance.now()));
    times();
  }));
})();
