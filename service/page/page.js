// The page of MiniGPT: conversations over POST /v1/chat/completions, kept in this browser (IndexedDB).
// Every text from outside (model, documents, tools, server) becomes a text node: no markup is ever made from text, and the
// content-security policy requires trusted types without allowing any.

// ---- Elements
const $ = (id) => document.getElementById(id), panel = $("panel"), field = $("message"), log = $("log"), desk = $("desk");
function fill(node, attributes, children) {
	for (const [key, value] of Object.entries(attributes)) {
		if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
		else if (value != null && value !== false) node.setAttribute(key === "label" ? "aria-label" : key, value === true ? "" : value);
	}
	node.append(...children.flat(2).filter((child) => child || child === 0));
	return node;
}
// h("p.soft", {attribute, onevent, label}, children): an element; strings become text; `label` is what screen readers say.
function h(name, ...children) {
	const [tag, ...classes] = name.split("."), attributes = children[0]?.constructor === Object ? children.shift() : {};
	return fill(document.createElement(tag), {class: classes.join(" ") || null, ...attributes}, children);
}
const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
// Makes the content of a box anew, only if its key has changed: focus and selection stay.
function refresh(box, key, make) {
	const text = JSON.stringify(key);
	if (box.key === text) return;
	box.key = text;
	box.replaceChildren(...make().filter(Boolean));
}
const GLYPHS = {
	menu: "M4 6h16M4 12h16M4 18h16", close: "M6 6l12 12M18 6L6 18", plus: "M12 5v14M5 12h14", send: "M12 19V5M6 11l6-6 6 6",
	stop: "M7 7h10v10H7z", copy: "M9 9h11v11H9zM5 15H4V4h11v1", again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
	edit: "M4 20l1-5L16 4l4 4L9 19z", left: "M14 6l-6 6 6 6", right: "M10 6l6 6-6 6", theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
	up: "M7 11l4-8c2 0 3 1 2 3l-1 3h7c1 0 2 1 2 2l-2 8c0 1-1 1-2 1H7zM7 11H4v9h3", memory: "M6 3h12v18l-6-4-6 4z",
	help: "M9 9a3 3 0 1 1 4 3c-1 0-1 1-1 2M12 17v.1M12 3a9 9 0 1 0 .1 0", out: "M14 4H5v16h9M10 12h10M17 8l4 4-4 4",
};
const glyph = (name) => svg("svg", {class: "glyph", viewBox: "0 0 24 24", "aria-hidden": "true"}, svg("path", {d: GLYPHS[name]}));
const button = (text, onclick, more) => h("button", {type: "button", onclick, ...more}, text);
const icon = (name, label, act, more) => button(glyph(name), act, {class: "icon", label, title: label, ...more});
const soft = (...text) => h("p.soft", ...text);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const when = (time) => new Date(time).toLocaleString("en-US", {dateStyle: "medium", timeStyle: "short"});
const makeId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(36).padStart(2, "0")).join("");
const shorten = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);

let toastTimer;
function toast(text) {
	$("toast").textContent = text;
	clearTimeout(toastTimer);
	toastTimer = setTimeout(toast, 4000, "");
}
const explain = (error) => [error.what || "The page made an error.", error.advice, error.detail && `(${error.detail})`].filter(Boolean).join(" ");
const fail = (error) => toast(explain(error));
async function copy(text) {
	try {
		await navigator.clipboard.writeText(text);
		toast("Copied");
	} catch {
		toast("The browser does not allow copying here. Select the text instead.");
	}
}

// ---- Markdown: text → nodes. Time: O(characters)
const MAX_DEPTH = 8, MAX_RENDERED = 200_000;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,30})[^`]*$/, HEADING = /^ {0,3}(#{1,6})\s+/, QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)]) +(?=\S)/, RULE = /^ {0,3}([-*_])( *\1){2,} *$/, DELIMITER = /^ *\|?( *:?-+:? *\|)+( *:?-+:? *)?$/;
const startsBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((kind) => kind.test(line));
const goesOn = (line = "") => ITEM.test(line) || /^ {2,}\S/.test(line);  // a list

function link(address, ...label) {
	const url = URL.canParse(address) && new URL(address);
	if (!url || !["http:", "https:", "mailto:"].includes(url.protocol)) return h("span", ...label);
	return h("a", {href: url.href, target: "_blank", rel: "noopener noreferrer"}, ...label);
}

function listBlocks(lines) {
	const blocks = [];
	for (let at = 0; at < lines.length; ) {
		const first = at++, line = lines[first], fence = FENCE.exec(line), take = (test) => {
			while (at < lines.length && test(lines[at])) at++;
		};
		let kind = "p";
		if (!line.trim()) continue;
		if (fence) {
			kind = "code";
			const end = new RegExp(`^ {0,3}\\${fence[1][0]}{${fence[1].length},} *$`);
			take((text) => !end.test(text));
			at++;
		} else if (HEADING.test(line)) kind = "heading";
		else if (RULE.test(line)) kind = "hr";
		else if (QUOTE.test(line)) take((text) => QUOTE.test(text), (kind = "quote"));
		else if (ITEM.test(line)) take((text) => goesOn(text) || (text.trim() ? !startsBlock(text) : goesOn(lines[at + 1])), (kind = "list"));
		else if (line.includes("|") && DELIMITER.test(lines[at] || "")) take((text) => text.includes("|"), (kind = "table"));
		else take((text) => text.trim() && !startsBlock(text));
		blocks.push({kind, language: fence?.[2], lines: lines.slice(first, at)});
	}
	return blocks;
}
const scrollable = (kind, label, child) => h(kind, {tabindex: 0, role: "region", label}, child);
const table = (label, names, rows) => scrollable("div.scroll", label, h("table", h("thead", h("tr", names.map((name) => h("th", name)))),
	h("tbody", rows.map((row) => h("tr", row.map((cell) => h("td", cell ?? "–")))))));

function renderBlock({kind, language, lines}, cite, depth = 0) {
	const inline = (text) => renderInline(text, cite);
	if (depth >= MAX_DEPTH) return h("p", lines.join("\n"));
	if (kind === "code") {
		const code = lines.slice(1, lines.length > 1 && FENCE.test(lines.at(-1)) ? -1 : undefined).join("\n");
		return h("div.code", h("div", h("span", language || "text"), button("Copy", () => copy(code))), scrollable("pre", "Code", h("code", code)));
	}
	if (kind === "heading") return h(`h${Math.min(HEADING.exec(lines[0])[1].length + 1, 4)}`, inline(lines[0].replace(HEADING, "")));
	if (kind === "hr") return h("hr");
	if (kind === "quote") return h("blockquote", renderBlocks(lines.map((line) => line.replace(QUOTE, "")), cite, depth + 1));
	if (kind === "table") {
		const [names, , ...rows] = lines.map((line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => inline(cell.trim())));
		return table("Table", names, rows);
	}
	if (kind === "list") {
		const [, indent, mark] = ITEM.exec(lines[0]), items = [];
		for (const line of lines) {
			const match = ITEM.exec(line);
			if (match && match[1].length <= indent.length + 1) items.push([line.slice(match[0].length)]);
			else items.at(-1).push(line.replace(/^ {1,4}/, ""));
		}
		return h(/\d/.test(mark) ? "ol" : "ul", {start: parseInt(mark) || null}, items.map((item) => {
			const parts = renderBlocks(item, cite, depth + 1);
			return h("li", parts[0]?.tagName === "P" ? [...parts[0].childNodes] : parts[0], parts.slice(1));
		}));
	}
	return h("p", inline(lines.join("\n")));
}
const renderBlocks = (lines, cite, depth) => listBlocks(lines).map((block) => renderBlock(block, cite, depth));
const match = (pattern, text, at) => ((pattern.lastIndex = at), pattern.exec(text));  // of a sticky pattern
const isWord = (character = "") => /[\p{L}\p{N}_]/u.test(character);

function renderInline(text, cite, depth = 0) {
	const nodes = [], dead = {};  // marks that nothing closes any more
	let plain = "", close = -1, at = 0;
	const add = (node, end) => {
		nodes.push(plain, node);
		plain = "";
		at = end;
	};
	const keep = (part) => {
		plain += part;
		at += part.length;
	};
	while (at < text.length) {
		const character = text[at], two = text.slice(at, at + 2), quoted = character === '"' && cite(text, at);
		if (quoted) add(quoted.node, quoted.end);
		else if (character === "\\" && /[!-/:-@[-`{-~]/.test(two[1])) {
			at++;
			keep(text[at]);
		} else if (character === "\n") add(h("br"), at + 1);
		else if (character === "`") {
			const [ticks] = match(/`+/y, text, at), from = at + ticks.length;
			let end = dead[ticks] ? -1 : text.indexOf(ticks, from);
			while (end > 0 && text[end + ticks.length] === "`") {
				while (text[end] === "`") end++;
				end = text.indexOf(ticks, end);
			}
			dead[ticks] ||= end < 0;
			if (end < 0) keep(ticks);
			else add(h("code", text.slice(from, end).replace(/^ (.+) $/, "$1")), end + ticks.length);
		} else if ("*_".includes(character)) {
			const mark = two === character.repeat(2) ? two : character, n = mark.length;
			const opens = /\S/.test(text[at + n] || "") && depth < MAX_DEPTH && !(character === "_" && isWord(text[at - 1]));
			let end = opens && !dead[mark] ? text.indexOf(mark, at + n + 1) : -1;
			while (end > 0 && (/\s/.test(text[end - 1]) || (n < 2 && (text[end + 1] === mark || text[end - 1] === mark))
				|| (character === "_" && isWord(text[end + n])))) end = text.indexOf(mark, end + 1);
			while (end > 0 && n > 1 && text[end + n] === character) end++;
			dead[mark] ||= opens && end < 0;
			if (end < 0) keep(mark);
			else add(h(n > 1 ? "strong" : "em", renderInline(text.slice(at + n, end), cite, depth + 1)), end + n);
		} else if (character === "[" || two === "![") {  // pictures are not loaded: a request would tell others about the conversation
			const start = at + (character === "!" ? 2 : 1);
			if (close < start) close = text.indexOf("]", start) < 0 ? Infinity : text.indexOf("]", start);
			const target = /\(<?([^\s()<>]*(?:\([^\s()<>]*\))?[^\s()<>]*)>?(?: +"[^"\n]{0,200}")?\)/y;
			const found = close < Infinity && text.lastIndexOf("[", close) === start - 1 && match(target, text, close + 1);
			const label = found && text.slice(start, close);
			if (!found) keep(character);
			else add(link(found[1], start - at > 1 ? `Picture: ${label || found[1]}` : renderInline(label, cite, depth + 1)), target.lastIndex);
		} else if (character === "h" && /^https?:\/\/./.test(text.slice(at, at + 9)) && !isWord(text[at - 1])) {
			const url = match(/[^\s<>"'`\])]+/y, text, at)[0].replace(/[.,;:!?*_]+$/, "");
			add(link(url, url), at + url.length);
		} else keep(character);
	}
	return [...nodes, plain];
}

// Renders into `box` and keeps the nodes of blocks that have not changed, so that a stream does not disturb a selection.
function renderMarkdown(box, text, cite) {
	const blocks = listBlocks(text.slice(0, MAX_RENDERED).split(/\r?\n/)), before = box.sources || [];
	box.sources = blocks.map((block) => block.lines.join("\n") + cite.version);
	if (text.length > MAX_RENDERED) box.sources.push("long");
	box.sources.forEach((source, number) => {
		if (source === before[number]) return;
		const node = blocks[number] ? renderBlock(blocks[number], cite) : soft("The rest is too long to be shown. Copy gives all of it.");
		if (box.children[number]) box.children[number].replaceWith(node);
		else box.append(node);
	});
	while (box.children.length > box.sources.length) box.lastChild.remove();
}

// ---- The service
const getKey = () => sessionStorage.getItem("minigpt-key");
// An error that says what happened, what to do, and when it may be tried again.
const makeProblem = (what, advice, more) => Object.assign(new Error(what), {what, advice, ...more});
const AGAIN = "Try again, or tell the operator.";
const ADVICE = {
	401: ["The service needs a key.", "Enter your key, then try again."], 403: ["Your key does not allow this.", "Ask the operator of the service."],
	429: ["Too many requests for now.", "Wait for the countdown, then try again."], 503: ["The service is busy.", "Wait a moment, then try again."],
};
const unreadable = () => makeProblem("The service sent something that can't be read.", AGAIN);
const unreachable = () => (navigator.onLine ? makeProblem("The service can't be reached.", "Check that it is running, then try again.")
	: makeProblem("You are offline.", "Check your connection, then try again."));

function describe(status, error, retryAfter) {
	const seconds = Number(retryAfter) || (status === 429 || status === 503 ? 5 : 0);
	const detail = shorten(`${error?.message ?? ""}`, 500);
	const advice = ADVICE[status]
		|| (status < 500 ? ["The service can't answer this.", "Change the message or the profile."] : ["The service made an error.", AGAIN]);
	return makeProblem(...advice, {status, detail, retryAt: seconds > 0 && Date.now() + seconds * 1000});
}

async function request(path, {body, ...options} = {}) {
	const headers = {"Content-Type": "application/json", ...(getKey() && {Authorization: `Bearer ${getKey()}`})};
	let response;
	try {
		response = await fetch(path, {...options, headers, body: body && JSON.stringify(body), credentials: "omit", redirect: "error"});
	} catch (error) {
		throw error.name === "AbortError" ? error : unreachable();
	}
	if (response.ok) return response;
	if (response.status === 401) askForKey();
	throw describe(response.status, (await response.json().catch(() => null))?.error, response.headers.get("Retry-After"));
}
async function readJson(path, options) {
	const response = await request(path, options);
	return response.status === 204 ? null : response.json().catch(() => {
		throw unreadable();
	});
}
const post = (path, body) => readJson(path, {method: "POST", body});

// Yields the data of server-sent events, wherever the network cuts them.
async function* readEvents(stream) {
	const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "", data = [];
	for (let done, value; !done; ) {
		({value, done} = await reader.read());
		rest += done ? "\n\n" : value;
		const whole = rest.replace(/\r$/, ""), lines = whole.split(/\r\n|\n|\r/);  // \r\n may be cut in two
		rest = lines.pop() + rest.slice(whole.length);
		for (const line of lines) {
			if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
			else if (!line && data.length) yield data.splice(0).join("\n");
		}
	}
}

// ---- State. All tabs have the same conversations: what one writes to the database it also sends to the others.
const chats = new Map(), messages = new Map(), running = new Map(), views = new Map();
let me = {desks: []}, models = [], profile = "", current = null, database = null, channel;
const settle = (operation) => new Promise((resolve, reject) => {
	operation.onsuccess = () => resolve(operation.result);
	operation.onerror = operation.onblocked = () => reject(operation.error);
});
const TABLES = {chats, messages};

async function openStore(name) {
	channel?.close();
	database?.close();
	channel = new BroadcastChannel(name);
	channel.onmessage = hear;
	try {
		const opening = indexedDB.open(name);
		opening.onupgradeneeded = () => Object.keys(TABLES).forEach((table) => opening.result.createObjectStore(table, {keyPath: "id"}));
		database = await settle(opening);
		for (const [table, rows] of Object.entries(TABLES)) {
			rows.clear();
			for (const row of await settle(database.transaction(table).objectStore(table).getAll())) rows.set(row.id, row);
		}
	} catch {
		$("kept").textContent = "This browser keeps nothing: conversations are lost when the page is closed.";
	}
}
// Writes all or nothing: `act` gets the two tables.
const write = (act) => new Promise((resolve, reject) => {
	if (!database) return resolve();
	const work = database.transaction(Object.keys(TABLES), "readwrite");
	work.oncomplete = resolve;
	work.onabort = work.onerror = reject;
	act(...Object.keys(TABLES).map((table) => work.objectStore(table)));
}).catch(() => toast("This browser can't store more. Delete old conversations."));

async function save(chat, message) {
	if (!chats.has(chat.id)) return;  // deleted in another tab
	await write((table, texts) => {
		table.put(chat);
		if (message) texts.put(message);
	});
	channel?.postMessage({type: "saved", chat, message});
	listHistory();
}
async function remove(id, isHere = true) {
	for (const each of running.values()) if (each.chat.id === id) each.controller.abort();
	const ids = [...messages.values()].filter((each) => each.chat === id).map((each) => each.id);
	chats.delete(id);
	ids.forEach((each) => messages.delete(each));
	await write((table, texts) => {
		table.delete(id);
		ids.forEach((each) => texts.delete(each));
	});
	if (isHere) channel?.postMessage({type: "removed", id});
	if (id === current?.id) location.hash = "#/";
	listHistory();
}
async function hear({data: {type, id, chat, message}}) {
	if (type === "removed") await remove(id, false);
	if (type !== "saved") return;
	const known = chats.get(chat.id), leaf = findRunning() && known === current && known?.leaf;
	chats.set(chat.id, Object.assign(known || {}, chat, leaf && {leaf}));
	if (message && !running.has(message.id)) messages.set(message.id, message);
	listHistory();
	if (chat.id === current?.id) renderLog();
}

const childrenOf = ({chat, parent}) => [...messages.values()].filter((each) => each.chat === chat && each.parent === parent)
	.sort((a, b) => a.time - b.time || (a.id < b.id ? -1 : 1));
function listBranch(leaf = current?.leaf) {
	const branch = [];
	for (let at = messages.get(leaf); at; at = messages.get(at.parent)) branch.unshift(at);
	return branch;
}
function openChat(id) {
	current = chats.get(id) || null;
	if (id && !current) {
		toast("This conversation is not in this browser.");
		location.hash = "#/";
	}
	if (models.some((each) => each.id === current?.model)) profile = $("profile").value = current.model;
	views.clear();
	renderLog(true);
	listHistory();
	for (const each of messages.values()) if (each.chat === id && each.state === "running" && !running.has(each.id)) findOwner(each);
}
// A tab holds a lock while it receives an answer: one that nobody holds was interrupted by a reload.
const hold = (id, act) => navigator.locks?.request(id, {ifAvailable: true}, act) ?? act(true);
async function findOwner({id}) {
	const isLost = await hold(id, Boolean), message = messages.get(id);
	if (!isLost || message?.state !== "running") return;
	message.state = "interrupted";
	renderLog();
	save(chats.get(message.chat), message);
}

// ---- Asking
function send(text, parent = listBranch().at(-1)?.id || null) {
	const time = Date.now();
	if (!current) {
		current = {id: makeId(), title: shorten(text.trim().split("\n")[0], 80)};
		chats.set(current.id, current);
		history.replaceState(null, "", `#/c/${current.id}`);
	}
	const message = {id: makeId(), chat: current.id, parent, role: "user", text, time};
	messages.set(message.id, message);
	save(Object.assign(current, {leaf: message.id, updated: time, model: profile}), message);
	answer(message);
}
// The messages before an answer, as the service reads them; questions without an answer are left out.
function listPrompt(question) {
	const branch = listBranch(question.id);
	return branch.filter((each, at) => each === question || (each.role === "user" ? branch[at + 1].text : each.text))
		.map(({role, text}) => ({role, content: text}));
}

const SLOW_MS = 8_000, SAVE_MS = 250;
async function answer(question) {
	const chat = current, controller = new AbortController(), time = Date.now();
	const message = {id: makeId(), chat: chat.id, parent: question.id, role: "assistant", text: "", time, state: "running",
		steps: [], citations: [], notices: [], recalled: []};
	const body = {model: profile, messages: listPrompt(question), stream: true, stream_options: {include_usage: true}, metadata: {conversation: chat.id}};
	let isEnded = false, saving, silence, release;
	const wait = () => {
		clearTimeout(silence);
		message.isSlow = false;
		silence = setTimeout(() => update(Object.assign(message, {isSlow: true})), SLOW_MS);
	};
	running.set(message.id, {chat, controller});
	messages.set(message.id, message);
	Object.assign(chat, {leaf: message.id, updated: time});
	renderLog(true);
	wait();
	hold(message.id, () => new Promise((resolve) => (release = resolve)));
	await save(chat, message);
	try {
		const response = await request("/v1/chat/completions", {method: "POST", body, signal: controller.signal});
		for await (const data of readEvents(response.body)) {
			wait();
			if ((isEnded = data === "[DONE]")) break;
			addChunk(message, data);
			update(message);
			announce(message);
			saving ||= setTimeout(() => save(chat, message, (saving = 0)), SAVE_MS);
		}
		message.state = isEnded || message.reason ? "done" : "cut";
	} catch (error) {
		message.state = error.name === "AbortError" ? "stopped" : message.text ? "cut" : "error";
		if (message.state !== "stopped") message.problem = {...(error.what ? error : unreachable())};
	}
	controller.abort();
	clearTimeout(silence);
	clearTimeout(saving);
	message.isSlow = false;
	running.delete(message.id);
	release?.();
	announce(message, true);
	if (chat === current) renderLog();
	await save(chat, message);
}

function addChunk(message, data) {
	let chunk;
	try {
		chunk = JSON.parse(data);
	} catch {
		throw unreadable();
	}
	if (chunk.error) throw describe(chunk.error.status, chunk.error, chunk.error.retry_after);
	const choice = chunk.choices?.[0], {type, ...event} = chunk.minigpt || {}, text = choice?.delta?.content ?? choice?.delta?.refusal;
	if (typeof text === "string") message.text += text;
	message.reason ||= choice?.finish_reason;
	if (type === "start") Object.assign(message, {answer: event.answer, version: event.version, mode: event.mode});
	if (type === "tool_call") message.steps.push(event);
	if (type === "tool_result") Object.assign(message.steps.find((step) => step.number === event.number) || {}, {result: event});
	if (type === "citation") message.citations.push(event);
	if (type === "notice") message.notices.push(String(event.text));
	if (type === "recalled") message.recalled.push(event);
	if (type === "done") Object.assign(message, {reason: event.reason, seconds: event.seconds, left_out: event.left_out});
}
const findRunning = () => [...running.values()].find((each) => each.chat === current);

// Screen readers hear whole sentences.
const announced = new Map();
function announce({id, chat, text}, isEnd) {
	if (chat !== current?.id) return;
	const from = announced.get(id) || 0, rest = text.slice(from);
	const end = isEnd ? rest.length : /^(?:[^]*(?:[.!?:](?=\s)|\n))?/.exec(rest)[0].length;
	if (end) $("announcer").append(h("p", rest.slice(0, end).replace(/[*_`#|]/g, "")));
	announced.set(id, from + end);
	while ($("announcer").childElementCount > 9) $("announcer").firstChild.remove();
}

// ---- The conversation on the screen
const waiting = new Set();
const isNear = () => log.scrollHeight - log.scrollTop - log.clientHeight < 90;

function renderLog(isJump) {
	const near = isJump || isNear(), mark = findRunning() ? "stop" : "send";
	const nodes = listBranch().map((message) => {
		if (!views.has(message.id)) views.set(message.id, (message.role === "user" ? showQuestion : showAnswer)(message));
		views.get(message.id).update(message);
		return views.get(message.id).node;
	});
	if (!nodes.length) nodes.push(showWelcome());
	if (nodes.length !== log.children.length || nodes.some((node, at) => node !== log.children[at])) log.replaceChildren(...nodes);
	$("send").replaceChildren(glyph(mark));
	$("send").setAttribute("aria-label", mark === "stop" ? "Stop" : "Send");
	document.title = `${current?.title || "New conversation"} – MiniGPT`;
	if (near) log.scrollTop = log.scrollHeight;
}
function update(message) {  // at most once per frame
	if (!waiting.size) requestAnimationFrame(() => {
		const near = isNear();
		for (const each of waiting) if (each.chat === current?.id) views.get(each.id)?.update(each);
		waiting.clear();
		if (near) log.scrollTop = log.scrollHeight;
	});
	waiting.add(message);
}
function showWelcome() {
	const about = models.find((each) => each.id === profile)?.minigpt || {};
	return h("div.empty", h("h1", about.name || "What would you like to know?"),
		soft(about.greeting || "Answers quote their sources word for word. Open a source to see the exact passage."),
		h("div.try", (about.examples || []).slice(0, 6).map((text) => button(text, () => isFree() && send(text)))));
}
function showBranches(message) {
	const all = childrenOf(message), at = all.indexOf(message);
	const go = (name, label, to) => icon(name, label, () => {
		let leaf = all[to];  // then to the newest message below
		for (let below; (below = childrenOf({...leaf, parent: leaf.id})).length; ) leaf = below.at(-1);
		save(Object.assign(current, {leaf: leaf.id}));
		renderLog();
		views.get(all[to].id).node.querySelector(".branch button:enabled").focus();
	}, {disabled: !all[to]});
	return all.length > 1 && h("span.branch", {role: "group", label: "Versions"}, go("left", "Previous version", at - 1), `${at + 1}/${all.length}`,
		go("right", "Next version", at + 1));
}
function stop() {
	const run = findRunning();
	run?.controller.abort();
	return run;
}
const isFree = () => !findRunning() || toast("Stop the answer first.");

function showQuestion(message) {
	const node = h("article.user", {label: "You"});
	const show = (again) => refresh(node, again || childrenOf(message).map((each) => each.id), () => [h("div.said", message.text), h("div.actions",
		showBranches(message), icon("copy", "Copy the question", () => copy(message.text)), icon("edit", "Edit the question", () => isFree() && edit(), {"data-edit": ""}))]);
	const edit = () => {
		const form = makeForm("Ask again", (given) => {
			if (!given.get("text").trim() || !isFree()) return;
			show("again");
			send(given.get("text"), message.parent);
		}, h("textarea", {name: "text", rows: 3, label: "Edited question", onkeydown: onEnter(() => form.requestSubmit())}), button("Cancel", cancel));
		form.addEventListener("keydown", (event) => event.key === "Escape" && cancel(event.stopPropagation()));
		form.elements.text.value = message.text;
		node.replaceChildren(form);
		form.elements.text.focus();
	};
	const cancel = () => {
		show("again");
		node.querySelector("[data-edit]").focus();
	};
	return {node, update: () => node.querySelector("form") || show()};
}

const STEPS = {search_docs: "Searched", calculator: "Calculated", convert_units: "Converted", calculate_date: "Calculated",
	count_text: "Counted", spell_text: "Spelled"};
function showStep({name, arguments: given, result}, open) {
	const about = typeof given === "string" ? given : Object.values(given || {}).join(", "), found = result?.search?.results;
	const outcome = found ? ` – ${plural(found.length, "passage")}` : result?.is_error ? " – failed" : result ? "" : " …";
	return h("details", {open}, h("summary", `${STEPS[name] || `Used ${shorten(String(name), 60)}`}: ${shorten(about, 90)}${outcome}`),
		h("div.inside", (result?.search?.notes || []).map((text) => soft(text)), result?.decision && h("p.bad", result.decision),
			found ? h("ol", found.map((each) => h("li", each.line || each.title))) : h("pre", result?.text || "No result yet.")));
}
const note = (text, ...more) => h("div.note", h("p", text), ...more);
const NOTES = {
	stopped: "You stopped this answer.", cut: "The connection ended before the answer was complete.",
	interrupted: "The page was closed or reloaded before this answer was complete.", length: "The answer reached its length limit.",
	window: "The conversation is too long for the model. Start a new one.", content_filter: "A policy withheld part of this answer.",
};

function showAnswer({id, parent}) {
	const steps = h("div"), text = h("div.text"), end = h("div"), actions = h("div.actions"), node = h("article", {label: "MiniGPT"}, steps, text, end, actions);
	const retry = () => isFree() && answer(messages.get(parent));
	const update = (message) => {
		const {problem, citations, state, left_out: n, isSlow, notices, rating} = message, isRunning = state === "running";
		const reason = NOTES[state] || NOTES[message.reason];
		const slow = isSlow ? "Still waiting: the connection or the service is slow. You can stop." : message.text ? "" : "Waiting for the answer";
		node.setAttribute("aria-busy", isRunning);
		refresh(steps, [message.steps, message.recalled], () => [...message.recalled.map((each) => note(`Remembered: ${each.text} (${each.source})`)),
			...message.steps.map((step, at) => showStep(step, steps.querySelectorAll("details")[at]?.open))]);
		renderMarkdown(text, message.text, makeCiter(citations));
		refresh(end, [problem, citations.length, state, n, slow, notices, reason], () => {
			const again = button("Try again", retry);
			if (problem?.retryAt > Date.now()) countDown(again, problem.retryAt);
			return [...notices.map((each) => note(each)),
				citations.length > 0 && h("ul.sources", {label: "Sources"}, citations.map((each, at) =>
					h("li", button([h("b", `${at + 1}`), nameCitation(each)], () => openCitation(each, at + 1))))),
				isRunning && slow && h("p.waiting", slow), n > 0 && note(`${plural(n, "earlier message")} did not fit and were not read.`),
				problem && h("div.note.bad", {role: "alert"}, h("p", h("b", problem.what), ` ${problem.advice}`, problem.detail && h("small", ` (${problem.detail})`)), again),
				!isRunning && !problem && reason && note(reason, state !== "done" && again)];
		});
		refresh(actions, [state, rating, childrenOf(message).map((each) => each.id)], () => isRunning ? [] : [showBranches(message),
			icon("copy", "Copy the answer", () => copy(message.text)), icon("again", "Answer again", retry), ...(message.answer ? [
				icon("up", "Good answer", () => sendFeedback(messages.get(id), {rating: "up"}), {"aria-pressed": `${rating === "up"}`}),
				icon("up", "Bad answer", () => askWhy(messages.get(id)), {"aria-pressed": `${rating === "down"}`, "data-down": ""})] : []),
			h("span.meta", [message.version && `version ${message.version}`, message.mode === "direct" && "direct",
				message.seconds && (message.seconds < 1 ? `${Math.ceil(message.seconds * 1000)} ms` : `${message.seconds.toFixed(1)} s`)].filter(Boolean).join(" · "))]);
	};
	return {node, update};
}
function countDown(target, until) {
	const label = target.textContent, tick = () => {
		const seconds = Math.ceil((until - Date.now()) / 1000);
		target.disabled = seconds > 0;
		target.textContent = seconds > 0 ? `${label} in ${seconds} s` : label;
		if (seconds > 0) setTimeout(tick, 250);
	};
	tick();
}

// ---- Citations
const nameCitation = ({title, heading}) => [...new Set([heading?.length ? title.split(": ")[0] : title, ...(heading || [])])].join(" › ");
function makeCiter(citations) {
	const citer = (text, at) => {
		const number = citations.findIndex((each) => text.startsWith(`"${each.text}" [${each.title}]`, at)), each = citations[number];
		if (!each) return null;
		const cite = h("button.cite", {type: "button", label: `Source ${number + 1}: ${nameCitation(each)}`,
			onclick: () => openCitation(each, number + 1)}, `${number + 1}`);
		return {node: h("span", h("q", `"${each.text}"`), cite), end: at + each.text.length + each.title.length + 5};
	};
	citer.version = citations.length;
	return citer;
}
const list = (rows) => h("dl", rows.filter(([, value]) => value).map(([name, value]) => [h("dt", name), h("dd", value)]));

async function openCitation(each, number) {
	const {passage, start, end} = each, range = (a, b) => (a === b ? `${a}` : `${a}–${b}`), check = h("span", shorten(each.sha256 || "", 17));
	const characters = Array.from(passage?.text || ""), part = (a, b) => characters.slice(Math.max(a, 0), b).join("");  // code points, as in Python
	const from = start - passage?.start, to = end - passage?.start;
	openPanel(`Source ${number}`, "sheet",
		passage ? h("div.passage", {tabindex: 0}, part(0, from), h("mark", part(from, to)), part(to))
			: [h("div.passage", each.text), soft("The service sent no passage around this quotation.")],
		list([["Document", each.title.split(": ")[0]], ["Section", (each.heading || []).join(" › ")], ["Page", each.page],
			["Lines", each.line_start && range(each.line_start, each.line_end)], ["Characters", range(start, end)], ["License", each.license],
			["Source", each.url && link(each.url, each.url)], ["SHA-256", check]]));
	panel.querySelector("mark")?.scrollIntoView({block: "center"});
	if (!passage || !crypto.subtle) return;
	const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(passage.text)))];
	const isSame = digest.map((byte) => byte.toString(16).padStart(2, "0")).join("") === each.sha256;
	check.textContent = isSame ? `${check.textContent} – matches this passage` : "does not match this passage";
	check.className = isSame ? "" : "bad";
}

// ---- The panel
let opener;
function openPanel(title, kind, ...content) {
	if (!panel.open) opener = document.activeElement;
	$("panel-title").textContent = title;
	panel.className = kind;
	$("panel-body").replaceChildren(...content.flat().filter(Boolean));
	if (!panel.open) panel.showModal();
}
const closePanel = () => panel.close();
const makeForm = (label, act, ...fields) => h("form", {onsubmit: (event) => {
	event.preventDefault();
	act(new FormData(event.target));
}}, ...fields, h("button.main", label));
const onEnter = (act) => (event) => {
	if (event.key === "Enter" && !event.shiftKey && !event.isComposing) act(event.preventDefault());
};

function askForKey() {
	const problem = h("p.bad", {role: "alert"}, getKey() && "This key is not accepted. Check it, or ask for a new one.");
	openPanel("Enter your key", "", makeForm("Continue", (given) => {
		const value = given.get("key").trim();
		if (!/^[\x21-\x7e]+$/.test(value)) return (problem.textContent = "A key has letters, digits and signs, and no spaces.");
		sessionStorage.setItem("minigpt-key", value);
		closePanel();
		start();
	}, soft("This service needs a key. It is kept in this tab only, until the tab is closed."), problem,
	h("label", h("span", "Key"), h("input", {name: "key", type: "password", autocomplete: "off", maxlength: 200}))));
	panel.querySelector("input").focus();
}

const REASONS = {wrong: "It is wrong", no_source: "The source is missing or does not fit", incomplete: "It is incomplete",
	refused: "It should have answered", unsafe: "It is harmful", other: "Something else"};
function askWhy(message) {
	const choice = (label, given) => h("label.choice", h("input", given), label);
	const field = (name, label) => h("label", h("span", label), h("textarea", {name, rows: 2, maxlength: 4000}));
	openPanel("What was wrong?", "", makeForm("Send", (given) => {
		closePanel();
		sendFeedback(message, {rating: "down", ...Object.fromEntries(given), consent: given.has("consent")});
	}, h("fieldset", h("legend.sr", "Reason"), Object.entries(REASONS).map(([value, label], at) => choice(label, {type: "radio", name: "reason", value, checked: !at}))),
	field("comment", "Comment (optional)"), field("correction", "What would be right? (optional)"),
	choice("May be used, without names, to improve the assistant", {type: "checkbox", name: "consent"})));
}
async function sendFeedback(message, feedback) {
	try {
		await post("/v1/feedback", {answer: message.answer, ...feedback});
		message.rating = feedback.rating;
		save(current, message);
		renderLog();
		toast("Thank you. Your feedback was sent.");
	} catch (error) {
		fail(error);
	}
}
// A button that asks once more before it deletes.
function makeSure(target, label, act) {
	target.addEventListener("click", () => {
		if (target.classList.contains("sure")) return act();
		target.classList.add("sure");
		target.append(label);
	});
	target.addEventListener("blur", () => {
		if (target.classList.contains("sure")) target.lastChild.remove(target.classList.remove("sure"));
	});
	return target;
}
async function showMemories() {
	const {data} = await readJson("/v1/memories"), forget = (path) => readJson(`/v1/memories${path}`, {method: "DELETE"}).then(showMemories).catch(fail);
	openPanel("What is remembered", "sheet", soft(data.length ? "You asked to remember this. What you forget here is deleted from every file of the service."
		: "Nothing is remembered. Say “Remember that …” in a conversation."),
	h("ul.list", data.map((each) => h("li", h("div", each.text, h("small", each.source)),
		button("Forget", () => forget(`/${each.number}`), {label: `Forget: ${each.text}`})))),
	data.length > 1 && makeSure(button("Forget all"), " – really?", () => forget("")));
}
const KEYS = [["Enter", "send"], ["Shift Enter", "new line"], ["Esc", "stop the answer, close a panel"], ["Ctrl K", "search conversations"],
	["↑", "edit your last question (in an empty field)"], ["?", "this help"]];
const showHelp = () => openPanel("Help", "", list(KEYS.map(([keys, what]) => [keys.split(" ").map((each) => h("kbd", each)), what])),
	soft("On a Mac, ⌘ is Ctrl. The number behind a quotation opens the exact passage. Pictures in answers are never loaded."));

// ---- History
function listHistory() {
	const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), texts = new Map();
	if (words.length) for (const {chat, text} of messages.values()) texts.set(chat, `${texts.get(chat) || ""} ${text}`);
	const rows = [...chats.values()].sort((a, b) => b.updated - a.updated).map(({id, title, updated}) => {
		const text = `${title} ${texts.get(id) || ""}`.replace(/\s+/g, " "), low = text.toLowerCase(), at = low.indexOf(words[0], title.length);
		return words.every((word) => low.includes(word)) && {id, title, updated, line: words.length > 0 && at >= 0 && text.slice(Math.max(at - 20, 0), at + 70)};
	}).filter(Boolean);
	const today = new Date().setHours(0, 0, 0, 0), times = [Infinity, today, today - 6048e5, 0];
	refresh($("history"), [rows.map(({id, title, line}) => [id, title, line]), current?.id, words, today], () => ["Today", "Last 7 days", "Earlier"].flatMap((name, at) => {
		const own = rows.filter((each) => each.updated < times[at] && each.updated >= times[at + 1]);
		return own.length ? [h("h2", name), h("ul", own.map(({id, title, line}) => {
			const isHere = id === current?.id;
			return h(isHere ? "li.here" : "li", h("a", {href: `#/c/${id}`, "aria-current": isHere && "page"}, h("b", title), line && h("small", line)),
				makeSure(icon("close", `Delete: ${title}`), " Delete?", () => remove(id)));
		}))] : [];
	}).concat(rows.length ? [] : h("p.fine", words.length ? "No conversation has these words." : "No conversations yet.")));
}

// ---- The educator's and the operator's views: tiles, charts and tables that the service makes (service/page/desks)
function showCell(cell) {
	if (cell?.time) return when(cell.time);
	if (cell?.open) return button(cell.text, () => readJson(cell.open).then(openDetail).catch(fail));
	if (cell?.post) return button(cell.text, () => post(cell.post, cell.body).then(route).catch(fail));
	return cell?.of ? h("progress", {max: cell.of, value: cell.n, label: cell.text}) : cell;
}
function openDetail({title, text, rows = []}) {
	const box = h("div.text");
	renderMarkdown(box, text || "", makeCiter([]));
	openPanel(title, "sheet", box, h("ul.list", rows.map(([head, line, small]) => h("li", h("div", h("b", head), ` ${line}`, h("small", small))))));
}
function showChart({label, series, top, from}) {
	const y = (value) => (100 - (100 * value) / top).toFixed(1), paths = series.map(({kind, values}) => {
		const step = 600 / values.length, draw = (value, at) => (kind.startsWith("bar") ? `M${at * step} 100V${y(value)}h${step * 0.8}V100z`
			: `${at ? "L" : "M"}${(at + 0.5) * step} ${y(value)}`);
		return svg("path", {class: kind, d: values.map(draw).join("")});
	});
	return h("figure", h("figcaption", label), svg("svg", {viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", label}, ...paths), h("p.fine", `from ${when(from)}`));
}
const showDesk = ({about, choices = [], tiles = [], charts = [], sections}) => [
	soft(about), h("div.try", choices.map(([text, choice, isChosen]) => button(text, () => route((query = choice)), {"aria-pressed": `${isChosen}`}))),
	h("div.tiles", tiles.map(([name, value]) => h("div.tile", h("b", value), name))), h("div.charts", charts.map(showChart)),
	...sections.flatMap(({title, names, rows}) => [h("h2", title), rows.length ? table(title, names, rows.map((row) => row.map(showCell))) : soft("Nothing yet.")]),
];

// ---- The address: #/ a new chat, #/c/ID, #/d/NAME a view
let ticket = 0, query = "";
async function route() {
	const [, kind, id] = location.hash.split("/"), view = me.desks.find((each) => kind === "d" && each.name === id), mine = ++ticket;
	if (isNarrow()) flips.remove("flipped");
	$("main").inert = false;
	for (const each of [log, $("composer"), $("foot")]) each.hidden = Boolean(view);
	desk.hidden = !view;
	$("views").replaceChildren(...me.desks.map((each) => h("a", {href: `#/d/${each.name}`, "aria-current": each === view && "page"}, each.title)));
	listHistory();
	if (!view) return openChat(kind === "c" ? id : null);
	document.title = `${view.title} – MiniGPT`;
	if (desk.dataset.name !== id) desk.replaceChildren(h("p.waiting", "Reading"));
	desk.dataset.name = id;
	const content = await readJson(view.url + query).then(showDesk).catch((error) => [note(explain(error), button("Try again", route))]);
	if (mine === ticket) desk.replaceChildren(h("h1", view.title), ...content);
}
setInterval(() => desk.hidden || document.hidden || panel.open || desk.contains(document.activeElement) || route(), 60_000);

// ---- Keyboard and controls
const isNarrow = () => matchMedia("(max-width: 52rem)").matches;
const flips = document.body.classList;  // "flipped": without the list on a wide screen, with it on a narrow one
const isSideShown = () => flips.contains("flipped") === isNarrow();
function showSide(isShown) {
	flips.toggle("flipped", isShown === isNarrow());
	$("main").inert = isNarrow() && isShown;
	$("open-side").setAttribute("aria-expanded", isShown);
	$(isShown ? "search" : "open-side").focus();
}
function fit() {
	field.style.height = "auto";
	field.style.height = `${field.scrollHeight}px`;
	sessionStorage.setItem("minigpt-draft", field.value);
}
function submit() {
	const text = field.value;
	if (!text.trim()) return;
	field.value = "";
	fit();
	send(text);
}
function setTheme(name) {
	document.documentElement.dataset.theme = name;
	$("theme").title = `Theme: ${name || "as the system"}`;
	$("theme").setAttribute("aria-label", $("theme").title);
	localStorage.setItem("minigpt-theme", name);
}
function press(event) {
	const name = event.key.toLowerCase(), isPanel = panel.open;
	if (event.isComposing) return;
	if ((event.ctrlKey || event.metaKey) && name === "k") {
		event.preventDefault();
		closePanel();
		showSide(true);
		$("search").select();
	} else if (name === "escape" && !isPanel) isNarrow() && isSideShown() ? showSide(false) : stop();
	else if (name === "?" && !isPanel && !event.target.matches("input, textarea, select")) showHelp();
}
function editLast(event) {
	const edits = document.querySelectorAll("[data-edit]");
	if (event.key === "ArrowUp" && !field.value && edits.length) edits[edits.length - 1].click(event.preventDefault());
}
const tellNetwork = () => ($("banner").textContent = navigator.onLine ? "" : "You are offline.");
function control() {
	for (const target of document.querySelectorAll("[data-glyph]")) {
		target.prepend(glyph(target.dataset.glyph));
		target.title = target.getAttribute("aria-label") || "";
	}
	const on = (id, act, name = "click") => $(id).addEventListener(name, act);
	setTheme(localStorage.getItem("minigpt-theme") || "");
	on("theme", () => setTheme({"": "light", light: "dark", dark: ""}[document.documentElement.dataset.theme]));
	on("open-side", () => showSide(!isSideShown()));
	on("close-side", () => showSide(false));
	on("close-panel", closePanel);
	on("panel", () => opener?.isConnected && opener.focus(), "close");
	on("panel", (event) => event.target === panel && closePanel());
	on("help", showHelp);
	on("memories", () => showMemories().catch(fail));
	on("sign-out", () => location.reload(sessionStorage.clear()));
	on("new", () => {
		location.hash = `#/${location.hash === "#/" ? "new" : ""}`;
		field.focus();
	});
	on("search", listHistory, "input");
	on("profile", () => {
		profile = $("profile").value;
		if (!current) renderLog();
	}, "change");
	on("message", fit, "input");
	on("message", onEnter(() => isFree() && submit()), "keydown");
	on("message", editLast, "keydown");
	on("composer", (event) => {
		event.preventDefault();
		if (!stop()) submit();
	}, "submit");
	addEventListener("keydown", press);
	addEventListener("hashchange", route);
	addEventListener("pageshow", (event) => event.persisted && location.reload());
	for (const each of ["online", "offline"]) addEventListener(each, tellNetwork);
	tellNetwork();
	$("open-side").setAttribute("aria-expanded", isSideShown());
	field.value = sessionStorage.getItem("minigpt-draft") || "";
	fit();
}

// Reads who the caller is and what there is. Each person has an own history, also in the same browser.
async function start() {
	try {
		[me, {data: models}] = await Promise.all(["/v1/me", "/v1/models"].map((path) => readJson(path)));
		await openStore(`minigpt/${me.tenant}/${me.user}`);
		$("profile").replaceChildren(...models.map((each) => h("option", {value: each.id}, each.minigpt?.name || each.id)));
		profile = $("profile").value;
		$("memories").hidden = !me.has_memory;
		$("sign-out").hidden = !getKey();
		await route();
		if (!panel.open && !isNarrow()) field.focus();
	} catch (error) {
		if (error.status !== 401) log.replaceChildren(h("div.empty", note(explain(error), button("Try again", start))));
	}
}
control();
start();
