# SPDX-License-Identifier: MIT
"""The page of critiprefill inspect as a reader meets it: opened in a headless Chromium, its pickers, map, matrix and
text driven through the debugging pipe, and looked at in a screenshot.  Skipped (77) without Chromium.

usage: inspect.py PROGRAM TINY_TOOL WORKDIR
"""
import base64
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zlib

PROGRAM, TINY, WORK = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
TEXT = "Rivers <script>document.title='owned'</script> & \"quotes\" <img src=x onerror=document.title='owned'> caf\u00e9 \u4e2d\n"
MARKUP = "<img src=x onerror=document.title='owned'><b>"
QUESTION = "Which <b>river</b>?"


def find_browser():
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if shutil.which(name):
            return shutil.which(name)
    return None


class Browser:
    """Chromium on a pair of pipes: NUL-ended JSON, descriptors 3 and 4 on its side."""

    def __init__(self, path, profile):
        to_it, self.write_end = os.pipe()
        self.read_end, from_it = os.pipe()
        # through a shell, which can give descriptors their numbers without a fork hook
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "sh", str(to_it), str(from_it), path,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1300,900", "about:blank"],
            start_new_session=True, pass_fds=(to_it, from_it), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(from_it)
        self.buffer, self.count, self.session, self.requests = b"", 0, None, []

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def receive(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.read_end, 1 << 20)
            assert piece, "the browser is gone"
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")

    def js(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in r, r
        return r["result"].get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.js("""new Promise((done) => {
            const look = () => document.body && document.body.dataset.ready ? done(1) : setTimeout(look, 20);
            look();
        })""")

    def key(self, name):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                      windowsVirtualKeyCode={"ArrowDown": 40, "ArrowRight": 39}[name])

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self):
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # with its helpers, some of which outlive it
        except ProcessLookupError:
            pass

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            pass
        self.kill()
        self.process.wait()


def colours(png):
    """The set of RGB colours of a PNG of 8 bits a channel."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, size = 8, b"", None
    while at < len(png):
        n, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + n]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (2, 6) and not interlace
            size = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            data += body
        at += 12 + n
    raw, stride, before, seen = zlib.decompress(data), width * size, bytes(width * size), {}
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, up = line[i - size] if i >= size else 0, before[i]
            corner = before[i - size] if i >= size else 0
            if kind == 1:
                line[i] = line[i] + left & 255
            elif kind == 2:
                line[i] = line[i] + up & 255
            elif kind == 3:
                line[i] = line[i] + (left + up) // 2 & 255
            elif kind == 4:
                p = left + up - corner
                a, b, c = abs(p - left), abs(p - up), abs(p - corner)
                line[i] = line[i] + (left if a <= b and a <= c else up if b <= c else corner) & 255
        before = line
        for i in range(0, stride, size):
            rgb = bytes(line[i:i + 3])
            seen[rgb] = seen.get(rgb, 0) + 1
    return seen


def make_page():
    model, text, page = WORK / "tiny.gguf", WORK / "text.txt", WORK / "page.html"
    subprocess.run([TINY, "write", str(model), "n_layer=3"], check=True)
    text.write_text(TEXT * 20, encoding="utf-8")
    subprocess.run([PROGRAM, "inspect", "-m", str(model), "-f", str(text), "-p", QUESTION, "-o", str(page),
                    "--attn-opt", "max_tok=128,dense_until=256,last_tok=64", "--no-progress", "-t", "2"], check=True)
    ids = subprocess.run([PROGRAM, "tokenize", "-m", str(model), "-f", str(text), "-p", QUESTION, "--ids"], check=True,
                         stdout=subprocess.PIPE, text=True).stdout.split()
    # Tokens of this model are too short to be markup: one is made longer, escaped as the program would.
    html = page.read_text(encoding="utf-8")
    head, rest = html.split('<script type="application/json" id="data">')
    data, tail = rest.split("</script>", 1)
    assert not set("<>&") & set(data), "the data holds characters that could be taken for markup"
    data = json.loads(data)
    data["tokens"][0] = MARKUP
    data["model"] = MARKUP
    data = json.dumps(data).replace("<", "\\u003c")
    page.write_text(f'{head}<script type="application/json" id="data">{data}</script>{tail}', encoding="utf-8")
    return page.resolve().as_uri(), len(ids)


def check(b, url, n_tok):
    b.open(url)
    js = b.js
    chosen = "document.getElementById('chosen').textContent"
    pixels = "document.getElementById('map').toDataURL()"

    # what stands there at first
    assert js(chosen).startswith("layer 0, head 0: density "), js(chosen)
    assert js("document.querySelectorAll('#text span').length") == n_tok
    shown = js("document.getElementById('text').textContent")
    assert shown == MARKUP + TEXT[1:] + TEXT * 19 + QUESTION, "the text is not the text"
    assert js("document.title").startswith("What was read"), "text became markup"
    assert js("document.querySelectorAll('img, b, main script').length") == 0, "text became elements"
    assert js("document.querySelectorAll('#matrix button').length") == 3 * 4
    assert js("document.querySelectorAll('#text span[style*=background]').length") > 0, "no token is shaded"

    # the pickers
    first = js(pixels)
    js("""{const s = document.getElementById('layer'); s.value = '1'; s.dispatchEvent(new Event('change'));}""")
    assert js(chosen).startswith("layer 1, head 0: density "), js(chosen)
    assert js("location.hash") == "#layer=1&head=0"
    second = js(pixels)
    assert second != first, "the map is the same for another layer"
    js("""{const s = document.getElementById('head'); s.value = '3'; s.dispatchEvent(new Event('change'));}""")
    assert js("document.body.dataset.head") == "3" and js("document.body.dataset.layer") == "1"
    assert js(pixels) != second, "the map is the same for another head"
    js("""{const s = document.getElementById('shade'); s.value = 'all'; s.dispatchEvent(new Event('change'));}""")
    assert js("location.hash") == "#layer=1&head=3&shade=all"
    assert js("document.querySelectorAll('#most button').length") == 12

    # the matrix, by mouse and by keys
    js("document.querySelectorAll('#matrix button')[9].click()")
    assert js(chosen).startswith("layer 2, head 1: "), js(chosen)
    js("document.querySelector('#matrix button[aria-pressed]').focus()")
    b.key("ArrowRight")
    assert js(chosen).startswith("layer 2, head 2: "), js(chosen)

    # the address
    js("location.hash = '#layer=0&head=1&shade=head'; new Promise((d) => setTimeout(d, 100))")
    assert js(chosen).startswith("layer 0, head 1: "), js(chosen)
    js("location.hash = '#layer=99&head=x'; new Promise((d) => setTimeout(d, 100))")
    assert js(chosen).startswith("layer 0, head 1: "), "a wrong address moved it"
    b.call("Page.navigate", url="about:blank")
    b.open(url + "#layer=2&head=3")
    assert js(chosen).startswith("layer 2, head 3: "), js(chosen)

    # the map, by mouse and by keys
    js("document.getElementById('map').scrollIntoView()")
    box = js("(({x, y, width, height}) => [x, y, width, height])(document.getElementById('map').getBoundingClientRect())")
    b.click(box[0] + 2, box[1] + box[3] * 0.55)
    row = int(js("document.body.dataset.row"))
    rows = js("document.getElementById('map').height")
    assert row == int(rows * 0.55), (row, rows)
    marked = "document.querySelector('#text .tile.chosen').dataset.from"
    assert int(js(marked)) == row * 32
    assert js("document.getElementById('cell').textContent").startswith(f"Queries: tokens {row * 32}\u2013")
    js("document.getElementById('map').focus()")
    b.key("ArrowDown")
    assert int(js(marked)) == (row + 1) * 32
    js("document.querySelectorAll('#text .tile')[2].click()")
    assert js("document.body.dataset.row") == "2"

    # what it looks like, in both schemes
    js("document.querySelector('h1').scrollIntoView()")
    for scheme in ("light", "dark"):
        b.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        png = b.screenshot()
        (WORK / f"{scheme}.png").write_bytes(png)
        seen = colours(png)
        most = max(seen.values()) / sum(seen.values())
        assert len(seen) > 100 and most < 0.95, f"{scheme}: {len(seen)} colours, one of them {most:.0%}"
        back = max(seen, key=seen.get)
        assert (sum(back) > 600) == (scheme == "light"), f"{scheme}: the background is {back.hex()}"

    # labels, and no network
    nameless = js("""[...document.querySelectorAll('button, select, canvas, [tabindex]')].filter((e) =>
        !(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-labelledby') || e.labels?.length)).length""")
    assert nameless == 0, f"{nameless} controls have no name"
    asked = [u for u in b.requests if not u.startswith(("file:", "about:", "data:"))]
    assert not asked, f"the page asked the network for {asked}"


def main():
    path = find_browser()
    if not path:
        print("no Chromium here: skipped")
        return 77
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    url, n_tok = make_page()
    b = Browser(path, WORK / "profile")
    guard = threading.Timer(90, b.kill)  # a browser that hangs must not hang the test
    guard.start()
    try:
        b.attach()
        check(b, url, n_tok)
    finally:
        guard.cancel()
        b.close()
        shutil.rmtree(WORK / "profile", ignore_errors=True)
    print("ok")
    return 0


sys.exit(main())
