// A play-acted desk for building the console: the JSON API and the session, in memory, with a cast.
// It is no second server: it keeps just enough of the rules for the console to be looked at and checked.
import { createHash, randomBytes } from "node:crypto";
import { WebSocketServer } from "ws";
import { cast } from "./cast.mjs";
import { codec } from "./codec.mjs";
import { photograph } from "./paint.mjs";

const MINUTE = 60_000;
const id = (text) => createHash("sha256").update(text).digest("base64url").slice(0, 21) + "A";
const LANES = { public: "spoken", staff: "staff" };
const PASSWORD = "correct horse";

export async function stage({ language = process.env.LODGE_STAGE ?? "en", alive = true, fresh = false, long = 0 } = {}) {
  const { decodeUp, encodeDown } = await codec();
  const play = cast[language];
  const epoch = randomBytes(8).toString("base64url");
  const people = new Map();
  const talks = new Map();
  const bytes = new Map();
  const uploads = new Map();
  const connections = new Set();
  const settledBy = new Map();
  const sessions = new Set();
  let setUp = !fresh;
  let position = 0;

  const person = (key, kind, name, online) => {
    const one = { id: id(`${kind}/${key}`), kind, name, online };
    people.set(one.id, one);
    return one;
  };
  const me = person("m", "agent", play.me.name, true);
  const agents = [
    { id: me.id, login: play.me.login, name: play.me.name, role: "operator", disabled: false },
    ...Object.entries(play.colleagues).map(([key, name]) => {
      const one = person(key, "agent", name, key === "b");
      return { id: one.id, login: key === "b" ? "wang.fang" : "li", name, role: "agent", disabled: false };
    }),
  ];
  const sites = play.sites.map((site, n) => ({
    ...site, allow_null_origin: false, allow_absent_origin: false, presence: n === 0, bubble: "right",
    texts: { en: wording(), zh: wording() },
  }));

  function wording() { return { title: "", greeting: "", away: "", placeholder: "" }; }
  const who = (key, visitor) => (key === "v" ? visitor : people.get(id(`agent/${key}`)));

  function entry(talk, lane, author, body, time_ms = Date.now()) {
    const list = talk[LANES[lane]];
    position += 64;
    const one = { lane, seq: list.length + 1, position, time_ms, author, body };
    list.push(one);
    return one;
  }

  const order = [];
  for (const talk of play.talks) {
    const visitor = person(talk.key, "visitor", talk.visitor, talk.online);
    const made = {
      id: id(`talk/${talk.key}`), key: talk.key, site: sites[talk.site].app, visitor, vouched: talk.vouched ?? false, device: talk.device,
      assignee: talk.to ? who(talk.to) : null, state: talk.closed ? "closed" : "open", spoken: [], staff: [], marks: new Map(), opened_ms: 0,
    };
    talks.set(made.id, made);
    const [, first] = talk.lines[0];
    order.push({ at: first + 0.2, run: (t) => { made.opened_ms = t; entry(made, "public", visitor, { kind: "opened", visitor, page: talk.page }, t); } });
    for (let n = 0; talk.key === "anna" && n < long; n++) {
      const text = language === "zh" ? `${n + 1}. 之前的记录：复诊时间已确认。` : `${n + 1}. From an earlier day: the follow-up is confirmed.`;
      order.push({ at: 8000 + (long - n) * 7, run: (t) => entry(made, "public", n % 3 ? visitor : me, { kind: "text", text }, t) });
    }
    if (made.assignee) {
      const agent = made.assignee;
      order.push({ at: first + 0.1, run: (t) => entry(made, "staff", null, { kind: "assigned", agent, why: "fewest conversations" }, t) });
      order.push({ at: first - 0.5, run: (t) => entry(made, "public", null, { kind: "joined", agent }, t) });
    }
    talk.lines.forEach(([by, ago, said], n) => order.push({ at: ago - n / 100, run: (t) => {
      const author = who(by, visitor);
      if (typeof said === "string") return entry(made, "public", author, { kind: "text", text: said }, t);
      const picture = said.image ? photograph[said.image]() : Buffer.alloc(said.size, "%PDF-1.7 ");
      const one = entry(made, "public", author, {
        kind: "file", name: said.name ?? said.file, mime: said.image ? "image/png" : said.mime, size: picture.length,
        width: said.width ?? 0, height: said.height ?? 0, caption: "",
      }, t);
      bytes.set(`${made.id}/public/${one.seq}`, { mime: one.body.mime, picture, name: one.body.name });
    } }));
    if (talk.closed) order.push({ at: talk.lines.at(-1)[1] - 1, run: (t) => entry(made, "public", who(talk.to), { kind: "closed" }, t) });
  }
  order.sort((a, b) => b.at - a.at);
  for (const one of order) one.run(Math.round(Date.now() - one.at * MINUTE));
  for (const talk of talks.values()) {
    const unread = play.talks.find((one) => one.key === talk.key).unread ?? 0;
    talk.marks.set(me.id, { delivered: talk.spoken.length, read: talk.spoken.length - unread });
    const answered = talk.spoken.findLast((one) => one.author === talk.visitor)?.seq ?? 0;
    talk.marks.set(talk.visitor.id, { delivered: talk.visitor.online ? talk.spoken.length : answered, read: answered });
  }

  // ---- the session ----

  const server = new WebSocketServer({ noServer: true, handleProtocols: () => "lodge.v1" });

  function connect(request, socket, head) {
    if (!request.url.startsWith("/api/v1/session")) return;
    if (!signedIn(request)) return socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    server.handleUpgrade(request, socket, head, (ws) => hold(ws));
  }

  function hold(ws) {
    const line = { ws, handles: new Map(), device: "" };
    const say = (...frames) => ws.readyState === 1 && ws.send(encodeDown(frames));
    const handle = (thing, frames) => {
      if (!thing) return 0;
      let found = line.handles.get(thing.id);
      if (!found) {
        found = line.handles.size + 2;
        line.handles.set(thing.id, found);
        if (thing.kind) frames.push({ op: "person", handle: found, id: thing.id, kind: thing.kind, name: thing.name, online: thing.online });
        else frames.push(head(thing, found, frames));
      }
      return found;
    };
    const head = (talk, found, frames) => ({
      op: "conversation", handle: found, id: talk.id, site: talk.site, visitor: handle(talk.visitor, frames), assignee: handle(talk.assignee, frames),
      state: talk.state, public_head: talk.spoken.length, staff_head: talk.staff.length, public_time_ms: talk.spoken.at(-1)?.time_ms ?? 0,
      marks: [...talk.marks].map(([who_, mark]) => ({ person: handle(people.get(who_), frames), ...mark })),
    });
    const show = (talk, one, frames) => {
      const body = { ...one.body };
      const conversation = handle(talk, frames);
      if (body.agent !== undefined) body.agent = handle(body.agent, frames);
      if (body.visitor !== undefined) body.visitor = handle(body.visitor, frames);
      frames.push({ op: "entry", conversation, lane: one.lane, seq: one.seq, position: one.position, time_ms: one.time_ms, author: handle(one.author, frames), body });
    };
    line.entry = (talk, one) => { const frames = []; show(talk, one, frames); frames.push({ op: "synced", cursor: position }); say(...frames); };
    line.typing = (talk, on) => { const frames = []; frames.push({ op: "typing", conversation: handle(talk, frames), person: handle(talk.visitor, frames), on }); frames.sort(first); say(...frames); };
    line.mark = (talk) => { const frames = []; const conversation = handle(talk, frames), one = handle(talk.visitor, frames); say(...frames, { op: "mark", conversation, person: one, ...talk.marks.get(talk.visitor.id) }); };
    line.presence = (one) => { const known = line.handles.get(one.id); if (known) say({ op: "presence", person: known, online: one.online }); };
    const first = (a, b) => (a.op === "typing") - (b.op === "typing");
    const find = (ref) => talks.get(ref) ?? [...talks.values()].find((talk) => line.handles.get(talk.id) === ref);

    ws.on("close", () => connections.delete(line));
    ws.on("message", (raw) => {
      for (const frame of decodeUp(new Uint8Array(raw))) {
        const talk = frame.conversation === undefined ? undefined : find(frame.conversation);
        if (frame.op === "hello") {
          line.device = frame.device;
          const frames = [];
          const self = handle(me, frames);
          frames.push({ op: "hello_ok", version: 1, caps: 0, epoch, person: self, counter: settledBy.get(frame.device)?.size ?? 0, heartbeat_ms: 30_000, text_max: 16_384, batch_max: 65_536, upload_max: 25 * 1024 * 1024, unsettled_max: 64, now_ms: Date.now(), watermark: position });
          for (const one of talks.values()) {
            if (one.state !== "open") continue;
            handle(one, frames);
            for (const lane of ["spoken", "staff"]) for (const said of one[lane]) if (frame.cursor > 0 && said.position > frame.cursor) show(one, said, frames);
          }
          frames.push({ op: "synced", cursor: position });
          say(...frames);
          connections.add(line);
        } else if (frame.op === "ping") say({ op: "pong", nonce: frame.nonce });
        else if (frame.op === "page" && talk) {
          const all = talk[LANES[frame.lane]];
          const end = frame.before === 0 ? all.length : Math.min(all.length, frame.before - 1);
          const start = Math.max(0, end - frame.limit);
          const frames = [];
          const conversation = handle(talk, frames);
          for (const one of all.slice(start, end)) show(talk, one, frames);
          frames.push({ op: "page_end", request: frame.request, conversation, lane: frame.lane, first: all[start]?.seq ?? 0, more: start > 0 });
          setTimeout(() => say(...frames), 60);
        } else if (frame.op === "draft" && talk) setTimeout(() => take(line, say, handle, frame, talk), 140);
        else if (frame.op === "mark" && talk) talk.marks.set(me.id, { delivered: frame.delivered, read: frame.read });
      }
    });
    const beat = setInterval(() => (ws.readyState > 1 ? clearInterval(beat) : say({ op: "ping", nonce: 1 })), 20_000);
    beat.unref();
  }

  function take(line, say, handle, frame, talk) {
    const answers = settledBy.get(line.device) ?? settledBy.set(line.device, new Map()).get(line.device);
    let answer = answers.get(frame.counter);
    if (!answer) {
      const { body } = frame;
      if (body.kind === "text" && body.text.includes("/refuse")) {
        return say({ op: "settled", counter: frame.counter, outcome: { kind: "refused", code: 4004, text: "You may not do this.", retry_after_ms: 0 } });
      }
      if (!talk.assignee && body.kind !== "close") {
        talk.assignee = me;
        tell(talk, entry(talk, "staff", null, { kind: "assigned", agent: me, why: "answered first" }));
        tell(talk, entry(talk, "public", null, { kind: "joined", agent: me }));
      }
      if (talk.state === "closed") { talk.state = "open"; tell(talk, entry(talk, "public", me, { kind: "reopened" })); }
      let made = body.kind === "close" ? { kind: "closed" } : body;
      if (body.kind === "file") {
        const found = uploads.get(body.upload);
        made = { kind: "file", name: body.name, mime: found.mime, size: found.picture.length, width: found.width, height: found.height, caption: body.caption };
      }
      const one = entry(talk, "public", me, made);
      if (body.kind === "file") bytes.set(`${talk.id}/public/${one.seq}`, { ...uploads.get(body.upload), name: body.name });
      if (body.kind === "close") talk.state = "closed";
      const frames = [];
      answer = { lane: "public", seq: one.seq, position: one.position, time_ms: one.time_ms };
      answers.set(frame.counter, answer);
      const conversation = handle(talk, frames);
      say(...frames, { op: "settled", counter: frame.counter, outcome: { kind: "accepted", conversation, ...answer } });
      tell(talk, one);
      if (talk.visitor.online && body.kind !== "close") {
        setTimeout(() => mark(talk, one.seq, talk.marks.get(talk.visitor.id).read), 500).unref();
        setTimeout(() => mark(talk, one.seq, one.seq), 1400).unref();
        if (alive) answerLater(talk);
      }
      return;
    }
    const frames = [];
    const conversation = handle(talk, frames);
    say(...frames, { op: "settled", counter: frame.counter, outcome: { kind: "accepted", conversation, ...answer } });
  }

  const tell = (talk, one) => { for (const line of connections) line.entry(talk, one); };
  const mark = (talk, delivered, read) => { talk.marks.set(talk.visitor.id, { delivered, read }); for (const line of connections) line.mark(talk); };
  function says(key, text) {
    const talk = talks.get(id(`talk/${key}`));
    const one = entry(talk, "public", talk.visitor, { kind: "text", text });
    tell(talk, one);
  }
  function types(key, on = true) { for (const line of connections) line.typing(talks.get(id(`talk/${key}`)), on); }
  function answerLater(talk) {
    setTimeout(() => types(talk.key), 2200).unref();
    setTimeout(() => says(talk.key, play.answers[Math.floor(Math.random() * play.answers.length)]), 5200).unref();
  }

  // ---- the JSON API ----

  const signedIn = (request) => sessions.has(/(?:^|;\s*)lodge=([^;]+)/.exec(request.headers.cookie ?? "")?.[1]);

  function answer(request, response, next) {
    const url = new URL(request.url, "http://stage");
    if (!url.pathname.startsWith("/api/v1/")) return next?.();
    const parts = url.pathname.slice(8).split("/").map(decodeURIComponent);
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const raw = Buffer.concat(chunks);
      const send = (status, body, headers = {}) => { response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", ...headers }); response.end(body === undefined ? "" : JSON.stringify(body)); };
      const refuse = (status, code, text) => send(status, { error: { code, name: "", text } });
      try {
        if (request.method !== "GET" && request.headers["x-lodge"] !== "1") return refuse(403, 4004, "X-Lodge is missing");
        const json = request.headers["content-type"] === "application/json" && raw.length ? JSON.parse(raw) : {};
        noun({ request, response, url, parts, raw, json, send, refuse });
      } catch (error) { refuse(500, 4000, String(error)); }
    });
  }

  function noun({ request, response, url, parts, raw, json, send, refuse }) {
    const [name, second, third, fourth] = parts;
    const key = `${request.method} ${name}`;
    const welcome = () => { const s = randomBytes(12).toString("base64url"); sessions.add(s); return { "set-cookie": `lodge=${s}; HttpOnly; SameSite=Strict; Path=/` }; };
    const site = () => sites.find((one) => one.app === second);
    const shown = (one) => ({ ...one, snippet: `<script async src="https://chat.example.org:8443/widget.js" data-app="${one.app}"></script>` });
    const secrets = (one) => ({ app: one.app, app_secret: randomBytes(24).toString("base64url"), identity_secret: randomBytes(32).toString("base64url"), identity_key_id: "k1", snippet: shown(one).snippet });
    const two = (en, zh) => ({ en, zh });
    if (key === "GET setup") {
      return send(200, { open: !setUp, tls: { address: "https://chat.example.org:8443", trusted: "no",
        says: two("Lodge made this certificate itself. A stranger's browser does not know it, and the widget will silently not appear on an HTTPS page.", "此证书由 Lodge 自行生成，陌生人的浏览器不认识它；HTTPS 网页上的聊天组件将不会出现，也不会有任何提示。"),
        steps: [two("Get a certificate for your domain and name its files in tls.certificate and tls.key; they are read again when they change.", "为您的域名申请证书，并在 tls.certificate 和 tls.key 中填写文件路径；文件更新后会自动重新读取。"),
          two("Or let a web server that already has a certificate pass the connection on: listen.mode = \"proxy\" and listen.trusted_proxies.", "或由已有证书的网站服务器转发：设置 listen.mode = \"proxy\" 与 listen.trusted_proxies。"),
          two("Inside one organisation: install this certificate as trusted on its machines, after comparing the fingerprint.", "仅供单位内部使用时：核对指纹后，在内部电脑上将此证书设为受信任。")] } });
    }
    if (key === "POST setup") {
      if (json.password.length < 10) return refuse(400, 4000, "The password needs at least 10 characters.");
      setUp = true;
      agents[0].name = me.name = json.name;
      agents[0].login = json.login;
      return send(200, secrets(sites[0]), welcome());
    }
    if (key === "POST login") {
      if (json.login !== agents[0].login || json.password !== PASSWORD) return refuse(401, 3001, "Login and password do not fit together.");
      return send(200, { agent: agents[0] }, welcome());
    }
    if (!signedIn(request)) return refuse(401, 3002, "You were signed out. Please sign in again.");
    switch (key) {
      case "POST logout": sessions.clear(); return send(204);
      case "GET me": return send(200, { agent: agents[0], sites: sites.map(({ app, name: n }) => ({ app, name: n })), language });
      case "GET agents": return send(200, { agents });
      case "POST agents": {
        const one = { id: id(`agent/${json.login}`), login: json.login, name: json.name, role: json.role, disabled: false };
        agents.push(one);
        return send(200, one);
      }
      case "PATCH agents": {
        const one = agents.find((agent) => agent.id === second);
        delete json.password;
        return send(200, Object.assign(one, json));
      }
      case "GET sites": return second ? send(200, shown(site())) : send(200, { sites: sites.map(shown) });
      case "POST sites": {
        if (third === "secrets") return send(200, fourth === "app" ? { app_secret: secrets(site()).app_secret } : { identity_secret: secrets(site()).identity_secret, identity_key_id: "k2" });
        const one = { app: randomBytes(6).toString("hex"), name: json.name, origins: json.origins, allow_null_origin: false, allow_absent_origin: false, presence: false, colour: "#1f6b5a", bubble: "right", texts: { en: wording(), zh: wording() } };
        sites.push(one);
        return send(200, secrets(one));
      }
      case "PATCH sites": return send(200, shown(Object.assign(site(), json)));
      case "GET people": return send(200, { agents: agents.filter((one) => people.get(one.id)?.online).map(({ id: i, name: n }) => ({ id: i, name: n })), visitors: [...people.values()].filter((one) => one.kind === "visitor" && one.online).length });
      case "GET conversations": {
        const list = url.searchParams.get("list");
        const fits = { mine: (t) => t.state === "open" && t.assignee === me, unassigned: (t) => t.state === "open" && !t.assignee, open: (t) => t.state === "open", closed: (t) => t.state === "closed" }[list];
        return send(200, { conversations: [...talks.values()].filter(fits).map(row).sort((a, b) => b.last.time_ms - a.last.time_ms), next: null });
      }
      case "POST uploads": {
        const upload = randomBytes(9).toString("base64url");
        const mime = request.headers["content-type"];
        const isPng = raw.readUInt32BE?.(0) === 0x89504e47;
        uploads.set(upload, { mime, picture: raw, width: isPng ? raw.readUInt32BE(16) : 0, height: isPng ? raw.readUInt32BE(20) : 0 });
        return setTimeout(() => send(200, { upload, mime, size: raw.length, width: uploads.get(upload).width, height: uploads.get(upload).height }), 400);
      }
      case "GET files": {
        const found = bytes.get(`${second}/${third}/${fourth}`);
        if (!found) return refuse(404, 4003, "There is no such file.");
        response.writeHead(200, { "content-type": found.mime, "x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'", "content-disposition": found.mime.startsWith("image/") ? "inline" : `attachment; filename*=UTF-8''${encodeURIComponent(found.name)}` });
        return response.end(found.picture);
      }
    }
    refuse(404, 4003, "There is no such noun.");
  }

  function row(talk) {
    const last = talk.spoken.findLast((one) => ["text", "file"].includes(one.body.kind));
    const read = talk.marks.get(me.id).read;
    return {
      id: talk.id, site: talk.site, visitor: { id: talk.visitor.id, name: talk.visitor.name, online: talk.visitor.online, vouched: talk.vouched, device: talk.device },
      assignee: talk.assignee && { id: talk.assignee.id, name: talk.assignee.name }, state: talk.state, public_head: talk.spoken.length,
      last: { seq: last.seq, time_ms: last.time_ms, author_kind: last.author?.kind ?? "system", kind: last.body.kind, preview: (last.body.text ?? last.body.caption ?? last.body.name ?? "").slice(0, 120) },
      opened_ms: talk.opened_ms, unread: talk.spoken.length - read,
    };
  }

  return {
    answer, connect, says, types, language,
    login: () => agents[0].login, password: PASSWORD,
    cut: () => { for (const line of connections) line.ws.terminate(); },
    talk: (key) => talks.get(id(`talk/${key}`)),
  };
}
