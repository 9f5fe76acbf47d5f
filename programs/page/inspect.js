/* SPDX-License-Identifier: MIT */
/* The page of critiprefill inspect.  Everything shown comes from the JSON element "data"; text is only ever put into
 * text nodes.  State: a layer and a head, what tokens are shaded by, and a cell of the map; layer, head and shade stand
 * in the address behind #. */
"use strict";
(() => {
    const data = JSON.parse(document.getElementById("data").textContent);
    const $ = (id) => document.getElementById(id);
    const make = (tag, text) => {
        const e = document.createElement(tag);
        if (text !== undefined) e.textContent = text;
        return e;
    };
    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    /* Weights are stored as 1 + 254 (log10 w + 6) / 6; 0 is less than a millionth. */
    const weightOf = (code) => (code ? 10 ** (((code - 1) / 254) * 6 - 6) : 0);
    const shown = (w) => (w >= 0.001 ? w.toFixed(3) : w > 0 ? w.toExponential(0) : "0");
    const {tile, blk, nTok, rows, cols, tilePool, blkPool} = data;
    const nTile = Math.ceil(nTok / tile), nBlk = Math.ceil(nTok / blk);
    const state = {layer: data.layers[0], head: data.heads[0], shade: "layer", row: 0, col: 0};

    /* ---- the map ---- */

    const columnsOf = (row) => Math.ceil(Math.min(nBlk, ((row + 1) * tilePool * tile) / blk) / blkPool);
    const rowStart = [0];
    for (let r = 0; r < rows; r++) rowStart.push(rowStart[r] + columnsOf(r));
    const selection = () => data.layers.indexOf(state.layer) * data.heads.length + data.heads.indexOf(state.head);
    let cells = new Uint8Array(0);

    const cellAt = (row, col) => {
        if (col >= columnsOf(row)) return null;
        const at = 2 * (rowStart[row] + col);
        const weight = weightOf(cells[at]), missed = cells[at + 1] & 15;
        return {weight, kept: (cells[at + 1] >> 4) / 15, missed: missed ? weight * 10 ** ((missed - 15) / 5) : 0};
    };

    const colour = (name) => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
        const full = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
        return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16));
    };
    const mix = (a, b, t) => a.map((x, i) => x + (b[i] - x) * t);
    const clamp = (t) => Math.max(0, Math.min(1, t));
    /* As inspect.c draws it: weights from 1e-4 to 0.3 on a log scale, missed ones from 3e-4. */
    const heavy = (w) => (w > 0 ? clamp((Math.log10(w) + 4) / 3.5) : 0);
    const lost = (w) => (w > 0 ? clamp((Math.log10(w) + 3.5) / 3) : 0);

    const drawMap = () => {
        const canvas = $("map");
        canvas.width = cols;
        canvas.height = rows;
        const paint = canvas.getContext("2d"), image = paint.createImageData(cols, rows);
        const [future, unread, light, dark, missed] =
            ["--future", "--unread", "--light", "--heavy", "--missed"].map(colour);
        for (let r = 0, i = 0; r < rows; r++)
            for (let c = 0; c < cols; c++, i += 4) {
                const x = cellAt(r, c);
                let rgb = future;
                if (x) {
                    rgb = mix(mix(unread, light, x.kept), dark, heavy(x.weight - x.missed) * (x.kept > 0 ? 1 : 0));
                    rgb = mix(rgb, missed, lost(x.missed));
                }
                image.data.set([rgb[0], rgb[1], rgb[2], 255], i);
            }
        paint.putImageData(image, 0, 0);
    };

    const tokensOf = (from, to) => `tokens ${from}–${Math.min(to, nTok) - 1}`;
    const rowTokens = (row) => [row * tilePool * tile, (row + 1) * tilePool * tile];

    const showCell = (row, col) => {
        const x = cellAt(row, col);
        const keys = tokensOf(col * blkPool * blk, (col + 1) * blkPool * blk);
        $("cell").textContent = `Queries: ${tokensOf(...rowTokens(row))}. Keys: ${keys}. ` +
            (x ? `Weight ${shown(x.weight)}, ${Math.round(100 * x.kept)} % computed, missed ${shown(x.missed)}.`
               : "In the future of all these queries.");
    };

    const place = (element, from, count, of, start, size) => {
        element.hidden = false;
        element.style[start] = `${(100 * from) / of}%`;
        element.style[size] = `${(100 * count) / of}%`;
    };

    /* Marks a cell; scroll: bring its row's text into view. */
    const chooseCell = (row, col, scroll) => {
        state.row = Math.max(0, Math.min(rows - 1, row));
        state.col = Math.max(0, Math.min(cols - 1, col));
        place($("row"), state.row, 1, rows, "top", "height");
        place($("column"), state.col, 1, cols, "left", "width");
        showCell(state.row, state.col);
        const first = state.row * tilePool, last = Math.min(nTile, first + tilePool) - 1;
        for (const p of $("text").querySelectorAll(".chosen")) p.classList.remove("chosen");
        for (let t = first; t <= last; t++) tileElement[t].classList.add("chosen");
        document.body.dataset.row = state.row;
        if (scroll) tileElement[first].scrollIntoView({block: "nearest"});
    };

    const eventCell = (event) => {
        const box = $("map").getBoundingClientRect();
        const at = (x, size, n) => Math.max(0, Math.min(n - 1, Math.floor((x / size) * n)));
        return [at(event.clientY - box.top, box.height, rows), at(event.clientX - box.left, box.width, cols)];
    };

    /* ---- the text ---- */

    const visible = (token) => token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "·";
    const tileElement = [], span = [];
    const putText = () => {
        for (let t = 0; t < nTile; t++) {
            const p = make("p");
            p.className = "tile";
            p.dataset.from = t * tile;
            for (let i = t * tile; i < Math.min(nTok, (t + 1) * tile); i++) {
                span.push(make("span", data.tokens[i]));
                span[i].dataset.i = i;
                p.append(span[i]);
            }
            tileElement.push(p);
            $("text").append(p);
        }
    };

    let weights = new Map();
    const listOf = (base64) => {
        const raw = bytes(base64), view = new DataView(raw.buffer), map = new Map();
        for (let i = 0; i < raw.length; i += 4) {
            const x = view.getUint32(i, true);
            map.set(x & 0xffffff, weightOf(x >>> 24));
        }
        return map;
    };
    const allOf = (base64) => {
        const map = new Map();
        bytes(base64).forEach((code, i) => code && map.set(i, weightOf(code)));
        return map;
    };

    const showToken = (i) => {
        $("token").textContent = `Token ${i}, ${JSON.stringify(data.tokens[i])}: ` +
            (weights.has(i) ? `weight ${shown(weights.get(i))}` : "next to nothing");
    };

    const shadeText = () => {
        for (const i of weights.keys()) span[i].style.backgroundColor = "";
        const layer = data.layers.indexOf(state.layer);
        weights = state.shade === "head" ? listOf(data.top[selection()])
            : state.shade === "all" ? allOf(data.all) : listOf(data.topLayer[layer]);
        /* The first tokens take what heads have no use for: the scale is that of the others. */
        let top = 0;
        for (const [i, w] of weights) if (i >= blk || nTok <= 2 * blk) top = Math.max(top, w);
        for (const [i, w] of weights) {
            const alpha = clamp(Math.sqrt(w / (top || 1)) * 0.85);
            if (alpha > 0.04) span[i].style.backgroundColor = `rgb(var(--mark) / ${alpha.toFixed(2)})`;
        }
        const most = [...weights].sort((a, b) => b[1] - a[1]).slice(0, 12);
        $("most").replaceChildren(...most.map(([i, w]) => {
            const item = make("li"), button = make("button", `${visible(data.tokens[i])} ${shown(w)}`);
            button.type = "button";
            button.setAttribute("aria-label", `token ${i}, ${data.tokens[i]}, weight ${shown(w)}`);
            button.addEventListener("click", () => {
                chooseCell(Math.floor(i / tile / tilePool), state.col, false);
                span[i].scrollIntoView({block: "center"});
                showToken(i);
            });
            item.append(button);
            return item;
        }));
    };

    /* ---- layers and heads ---- */

    const button = new Map(); /* "layer.head" of the matrix */
    const putMatrix = () => {
        const head = make("tr");
        head.append(make("th"));
        for (let h = 0; h < data.nHead; h++) head.append(make("th", h));
        $("matrix").append(make("caption"), head);
        $("matrix").caption.className = "soft";
        $("matrix").caption.textContent = "Down: layers. Across: heads.";
        for (let l = 0; l < data.nLayer; l++) {
            const row = make("tr");
            row.append(make("th", l));
            for (let h = 0; h < data.nHead; h++) {
                const cell = make("td"), x = data.density[l][h], b = make("button", x.toFixed(2));
                b.type = "button";
                b.style.backgroundColor = `rgb(var(--dense) / ${(0.75 * x).toFixed(2)})`;
                b.tabIndex = -1;
                b.setAttribute("aria-label", `layer ${l}, head ${h}: density ${x.toFixed(2)}`);
                b.disabled = !data.layers.includes(l) || !data.heads.includes(h);
                b.addEventListener("click", () => choose(l, h));
                button.set(`${l}.${h}`, b);
                cell.append(b);
                row.append(cell);
            }
            $("matrix").append(row);
        }
    };

    const writeHash = () => {
        const hash = `#layer=${state.layer}&head=${state.head}` + (state.shade === "layer" ? "" : `&shade=${state.shade}`);
        if (location.hash !== hash) history.replaceState(null, "", hash);
    };

    const choose = (layer, head) => {
        const old = button.get(`${state.layer}.${state.head}`);
        old.removeAttribute("aria-pressed");
        old.tabIndex = -1;
        state.layer = layer;
        state.head = head;
        const now = button.get(`${layer}.${head}`);
        now.setAttribute("aria-pressed", "true");
        now.tabIndex = 0;
        $("layer").value = layer;
        $("head").value = head;
        $("shade").value = state.shade;
        cells = bytes(data.cells[selection()]);
        const mass = data.mass[selection()];
        $("chosen").textContent = `layer ${layer}, head ${head}: density ${data.density[layer][head].toFixed(3)}` +
            (mass === null ? "" : `, weight kept ${mass.toFixed(4)}`);
        document.body.dataset.layer = layer;
        document.body.dataset.head = head;
        drawMap();
        showCell(state.row, state.col);
        shadeText();
        writeHash();
    };

    const readHash = () => {
        const asked = new URLSearchParams(location.hash.slice(1));
        const pick = (name, list, now) => {
            const n = asked.has(name) ? Number(asked.get(name)) : NaN;
            return list.includes(n) ? n : now;
        };
        if (["layer", "head", "all"].includes(asked.get("shade"))) state.shade = asked.get("shade");
        choose(pick("layer", data.layers, state.layer), pick("head", data.heads, state.head));
    };

    /* ---- start ---- */

    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    const listen = () => {
        $("layer").addEventListener("change", () => choose(Number($("layer").value), state.head));
        $("head").addEventListener("change", () => choose(state.layer, Number($("head").value)));
        $("shade").addEventListener("change", () => {
            state.shade = $("shade").value;
            shadeText();
            writeHash();
        });
        addEventListener("hashchange", readHash);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
        $("map").addEventListener("pointermove", (e) => showCell(...eventCell(e)));
        $("map").addEventListener("pointerleave", () => showCell(state.row, state.col));
        $("map").addEventListener("click", (e) => chooseCell(...eventCell(e), true));
        $("map").addEventListener("keydown", (e) => {
            if (!steps[e.key]) return;
            e.preventDefault();
            chooseCell(state.row + steps[e.key][0], state.col + steps[e.key][1], true);
        });
        $("matrix").addEventListener("keydown", (e) => {
            if (!steps[e.key]) return;
            const to = button.get(`${state.layer + steps[e.key][0]}.${state.head + steps[e.key][1]}`);
            if (!to || to.disabled) return;
            e.preventDefault();
            to.click();
            to.focus();
        });
        $("text").addEventListener("pointerover", (e) => {
            if (e.target.dataset.i) showToken(Number(e.target.dataset.i));
        });
        $("text").addEventListener("click", (e) => {
            const p = e.target.closest(".tile");
            if (p) chooseCell(Math.floor(Number(p.dataset.from) / tile / tilePool), state.col, false);
        });
    };

    const putLegend = () => {
        const entries = [["--unread", "not computed"], ["--light", "computed, little weight"],
            ["--heavy", "computed, much weight (log scale)"], ["--missed", "not computed, but weighs"]];
        for (const [name, text] of entries) {
            const item = make("li"), box = make("i");
            box.style.background = `var(${name})`;
            item.append(box, text);
            $("legend").append(item);
        }
    };

    for (const l of data.layers) $("layer").append(new Option(l));
    for (const h of data.heads) $("head").append(new Option(h));
    $("facts").textContent = `${data.model}, ${data.attn}: ${nTok} tokens, density ${data.densityAll.toFixed(3)}` +
        (tilePool * blkPool > 1 ? `; a cell of the map is ${tilePool * tile} queries by ${blkPool * blk} keys` : "");
    putLegend();
    putText();
    putMatrix();
    listen();
    readHash();
    document.body.dataset.ready = "yes";
})();
