#!/usr/bin/env python3
"""Tests of the live page of `serve`, in a real browser without a window: with tracers that are none
(counting_tracer.py) behind the real server, and with streams that are made up (documents.py) in the page.

axe-core, which scripts/fetch-axe.sh fetches, finds what keeps people from using it.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("EXPERT_TRACER_BUILD", HERE.parents[1] / "build"))
os.environ["EXPERT_TRACER_CLI"] = str(BUILD / "llama-expert-tracer")
sys.path[:0] = [str(HERE.parent / "cli")]

import documents                                  # noqa: E402
from browser import CHROMIUM, Browser, Tab        # noqa: E402
from counting_tracer import CountingTracer, FakeModel # noqa: E402
from test_page import HOSTILE, PHONE              # noqa: E402
from test_serve import API, NAME, Server          # noqa: E402
from untraced import untraced_process             # noqa: E402

AXE = HERE.parents[1] / "build" / "axe"
PICTURES = os.environ.get("EXPERT_TRACER_PICTURES") # a folder, where pictures are kept of what was tested

# Streams that say what a test says, in place of the browser's.
FAKE_STREAMS = """
window.streams = [];
window.EventSource = class {
    constructor(url) {
        Object.assign(this, { url, heard: {}, isOpen: true });
        window.streams = [...window.streams.filter(({ isOpen }) => isOpen), this];
    }
    addEventListener(event, react) { this.heard[event] = react; }
    close() { this.isOpen = false; }
    send(event, data) { this.heard[event]({ data: JSON.stringify(data) }); }
};
window.send = (event, data) => window.streams.at(-1).send(event, data);
"""


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert CHROMIUM, "no Chromium here: scripts/install-deps.sh test"
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o700)

    def serve(self, *models, program=f"/usr/bin/{NAME}"):
        """A server, and a tracer where there are models."""
        tracer = self.tracer(*models, program=program) if models else None
        server = Server(self.folder)
        self.addCleanup(server.stop)
        return server, tracer

    def tracer(self, *models, program=f"/usr/bin/{NAME}"):
        tracer = CountingTracer(self.folder, list(models), program=program)
        self.addCleanup(tracer.close)
        return tracer

    def open(self, server, target=f"#{NAME}", quiet=True, **options):
        tab = Tab(self.browser, f"{server.address}/{target}", **options)
        self.addCleanup(tab.close)
        if quiet:
            self.addCleanup(self.check_quiet, tab, server)
        self.assertTrue(tab.run("'ready' in document.getElementById('page').dataset"), tab.complaints())
        return tab

    def check_quiet(self, tab, server):
        """Nothing was complained of, and nothing but this server was asked."""
        self.assertEqual(tab.complaints(), [])
        self.assertEqual([url for url in tab.requests() if not url.startswith((server.address + "/", "data:"))], [])

    def until(self, tab, script, seconds=10):
        end = time.monotonic() + seconds
        while not (found := tab.run(script)):
            self.assertLess(time.monotonic(), end, f"it did not happen: {script}; {self.status(tab)}")
            time.sleep(0.05)
        return found

    def until_watched(self, tracer, n, seconds=10):
        end = time.monotonic() + seconds
        while len(tracer.watchers) != n:
            self.assertLess(time.monotonic(), end, f"{len(tracer.watchers)} watch")
            time.sleep(0.05)

    def status(self, tab):
        return tab.run("document.querySelector('.status').textContent")

    def facts(self, tab):
        return dict(tab.run("Array.from(document.querySelectorAll('.facts > div'), (one) => "
                            "[one.querySelector('dt').textContent, one.querySelector('dd').textContent])"))

    def table(self, tab, caption):
        return tab.run(f"""Array.from(document.querySelector(`table[aria-label={json.dumps(caption)}]`).tBodies[0].rows,
            (row) => Array.from(row.cells, (cell) => cell.textContent))""")

    def press(self, tab, label):
        tab.run(f"""[...document.querySelectorAll(".choice label"), ...document.querySelectorAll("button")]
            .find((one) => one.textContent === {json.dumps(label)}).click()""")
        tab.settle()

    def picture(self, tab, name):
        if PICTURES:
            tab.screenshot(Path(PICTURES) / f"{name}.png")


class Driven:
    """Routes tokens until it is closed: 50 a second."""

    def __init__(self, tracer, seed=1):
        self.tracer, self.ends = tracer, threading.Event()
        self.thread = threading.Thread(target=self.drive, args=(random.Random(seed),))
        self.thread.start()

    def drive(self, chance):
        position = 0
        while not self.ends.wait(0.02):
            for model in self.tracer.models:
                layers = [chance.sample(range(model.n_expert), model.n_used) for _ in range(model.n_layer)]
                self.tracer.route([(position, layers)], model=model)
            position += 1

    def close(self):
        self.ends.set()
        self.thread.join()


class Real(Case):
    """With a tracer that counts, and the real stream of the real server."""

    def test_numbers(self):
        server, tracer = self.serve(FakeModel(n_layer=3, n_expert=8))
        tab = self.open(server)
        self.until(tab, "document.querySelector('.status').dataset.state === 'connected'")
        driven = Driven(tracer)
        time.sleep(3)
        driven.close()
        self.press(tab, "Since the start")
        model = tracer.models[0]
        total = f"{model.totals['tokens']:,}"
        self.until(tab, f"document.querySelector('.facts').textContent.includes('Tokens{total}')")
        self.until(tab, "document.querySelector('.note').textContent.includes('since counting began')")
        rows = self.table(tab, "Each layer")
        self.assertEqual([row[:2] for row in rows], [[str(i), f"{sum(counts):,}"]
                                                     for i, counts in enumerate(model.activations)])
        self.assertEqual([int(row[3].split()[0]) for row in rows],
                         [counts.index(max(counts)) for counts in model.activations])
        hottest = self.table(tab, "The hottest experts")[0]
        most = max(max(counts) for counts in model.activations)
        self.assertEqual(hottest[2], f"{most:,}")
        self.assertEqual(self.table(tab, "Conversations")[0][6], total)
        self.picture(tab, "real")

    def test_hidden(self):
        """Nobody is watched for a page that nobody sees, and it goes on when it is seen again."""
        server, tracer = self.serve(FakeModel())
        tab = self.open(server)
        self.until(tab, "document.querySelector('.status').dataset.state === 'connected'")
        self.until_watched(tracer, 1)
        other = Tab(self.browser, BUILD / "CMakeCache.txt")
        self.assertTrue(tab.run("document.hidden"))
        self.until_watched(tracer, 0)
        asked = len(tab.requests())
        time.sleep(4)
        tab.run("0")
        self.assertEqual(tab.requests()[asked:], [])
        self.assertFalse(tracer.watchers)
        other.close()
        tab.call("Page.bringToFront")
        self.until(tab, "document.querySelector('.status').dataset.state === 'connected'")
        self.until_watched(tracer, 1)

    def test_end_and_beginning(self):
        """A program that ends, and one of its name that begins."""
        server, tracer = self.serve(FakeModel())
        tab = self.open(server)
        self.until(tab, "document.querySelector('.status').dataset.state === 'connected'")
        tracer.close()
        self.until(tab, "document.querySelector('.status').dataset.state === 'ended'")
        self.tracer(FakeModel("Another"))
        self.until(tab, "document.querySelector('.facts').textContent.includes('Another')", 15)
        self.assertEqual(tab.run("document.querySelector('.status').dataset.state"), "connected")

    def test_waiting(self):
        """For a first program, which is chosen then."""
        server, _ = self.serve()
        tab = self.open(server, target="")
        if self.status(tab).startswith("Waiting"): # root sees those of other people
            self.tracer(FakeModel("First"))
            self.until(tab, "document.querySelector('.facts').textContent.includes('First')")
            self.assertEqual(tab.run("decodeURIComponent(location.hash)"), f"#{NAME}/First")

    def test_not_traced(self):
        """With the command that changes that, as long as it is so."""
        shown = self.folder / "llama-expert-tracer"
        shown.mkdir(mode=0o700)
        tracer = CountingTracer(shown, [FakeModel()], program=f"/usr/bin/{NAME}")
        self.addCleanup(tracer.close)
        server = Server(None, runtime=self.folder)
        self.addCleanup(server.stop)
        tab = self.open(server)
        with untraced_process(self.folder) as pid:
            command = f"llama-expert-tracer attach {pid}"
            self.until(tab, f"document.querySelector('main').textContent.includes('{command}')")
            row, = (row for row in self.table(tab, "Processes that run llama.cpp") if row[1] == str(pid))
            self.assertEqual(row, [Path(os.readlink(f"/proc/{pid}/exe")).name, str(pid), command])
            self.picture(tab, "not-traced")
        self.until(tab, f"!document.querySelector('main').textContent.includes('{command}')")

    def test_server_that_is_stopped(self):
        server, _ = self.serve(FakeModel())
        tab = self.open(server, quiet=False)
        self.until(tab, "document.querySelector('.status').dataset.state === 'connected'")
        server.process.terminate()
        self.until(tab, "document.querySelector('.status').dataset.state === 'reconnecting'")
        self.assertFalse(tab.run("document.querySelector('.facts').closest('[hidden]')"), "what is known stays")

    def test_choices(self):
        """Of models of any name; the window and the model of a stream change without a new one."""
        server, tracer = self.serve(FakeModel(), FakeModel(HOSTILE[:200], n_layer=3))
        driven = Driven(tracer)
        self.addCleanup(driven.close)
        tab = self.open(server)
        self.until(tab, "document.querySelector('select').options.length >= 2 "
                        "&& document.querySelector('.status').dataset.state === 'connected'")
        labels = [model["label"] for one in server.json(API)["processes"] if one["process"] == NAME
                  for model in one["models"]]
        names = tab.run("Array.from(document.querySelector('select').options, (one) => one.textContent)")
        self.assertEqual([name for name in names if name.startswith(f"{NAME}: ")],
                         [f"{NAME}: {label}" for label in labels])
        streams = [url for url in tab.requests() if "/live" in url]
        tab.run(f"""(() => {{
            const select = document.querySelector("select");
            select.value = Array.from(select.options)
                .find((one) => one.textContent.endsWith({json.dumps(labels[1])})).value;
            select.dispatchEvent(new Event("change"));
        }})()""")
        self.until(tab, "document.querySelectorAll('.layers span').length === 3")
        self.assertEqual(len([url for url in tab.requests() if "/live" in url]), len(streams) + 1)
        self.until_watched(tracer, 1) # the stream before it ends when the server notices
        self.assertEqual(tab.run("window.broken"), None)
        self.assertEqual(self.facts(tab)["Model"], HOSTILE[:200])


class MadeUp(Case):
    """With frames that are made up."""

    def show(self, frame, **options):
        server, _ = self.serve(FakeModel())
        tab = self.open(server, before=FAKE_STREAMS, **options)
        self.until(tab, "window.streams.length === 1")
        self.send(tab, frame)
        return tab

    def send(self, tab, frame, event="frame"):
        tab.run(f"window.send({json.dumps(event)}, {json.dumps(frame)})")
        tab.settle()

    def test_what_is_seen(self):
        frame = documents.watch()
        tab = self.show(frame)
        facts = self.facts(tab)
        self.assertEqual(facts["Tokens"], "123,456")
        self.assertEqual(facts["Generation, tokens/s"], "43")
        self.assertEqual(facts["Experts kept from the token before"], "31.0% generation, 18.6% prompt")
        self.assertEqual(facts["Drift of the last minute"], "0.034 bits, 1.6\u00a0\u00d7 its noise")
        rows = self.table(tab, "Caches of experts")
        for row, size in zip(rows, frame["sizes"]):
            its = [f"{100 * size[key]['generation']['share']:.1f}%" for key in ("lru", "lru_all", "llama", "llama_all")]
            if size["llama_slots"] == 0:
                its[2:] = ["off", "off"]
            self.assertEqual(row, [str(int(size["slots"])), *row[1:3], *its])
        self.assertEqual(len(rows), len(frame["sizes"]))
        self.press(tab, "Prompt")
        self.assertEqual(self.table(tab, "Caches of experts")[0][3],
                         f"{100 * frame['sizes'][0]['lru']['prompt']['share']:.1f}%")
        self.assertEqual([row[:4] for row in self.table(tab, "Conversations")],
                         [["0", "1", "3", "generation"], ["1", "1", "2", "prompt"], ["2", "1", "1", "generation"]])
        drawn = tab.run("Array.from(document.querySelectorAll('.chart'), "
                        "(one) => one.querySelectorAll('svg path').length)")
        self.assertEqual(len(drawn), 2)
        self.assertTrue(all(n > 5 for n in drawn), drawn)

    def test_nothing_is_known(self):
        frame = documents.watch(bytes_known=False, n_sequences=0)
        none = {"share": None, "of": 0}
        none = {"all": none, "prompt": none, "generation": none}
        frame.update(layers=[], hot=[], entropy=None, reuse=none, window=None, pid=None, program=None,
                     drift=dict.fromkeys(("divergence", "noise", "times")),
                     rates=dict.fromkeys(("all", "prompt", "generation")))
        frame["model"] = {**frame["model"], "name": None, "architecture": None, "engine": None, "capture": None}
        for size in frame["sizes"]:
            size.update(lru=none, llama=none, lru_all=none, llama_all=none, llama_slots=0)
        tab = self.show(frame)
        self.assertEqual(self.facts(tab)["Evenness"], "\u2013")
        self.assertEqual(self.facts(tab)["Model"], "\u2013")
        self.send(tab, {**frame, "sizes": []})

    def test_phases_are_not_known(self):
        """All tokens have one rate, one line and one share of each cache, and nothing is told of a phase."""
        known = documents.watch()
        tab   = self.show(known)
        told  = "Array.from(document.querySelectorAll('dt, th, td, legend, .legend, .chart, .choice label'))" \
                ".filter((one) => !one.closest('[hidden]')).map((one) => one.textContent)"
        self.assertNotIn("All, tokens/s", tab.run(told))
        self.assertIn("Prompt, tokens/s", tab.run(told))
        frame = documents.forget_phases(documents.watch())
        for i in range(3):
            frame["time"] += 1
            self.send(tab, frame)
        self.assertEqual(self.facts(tab)["All, tokens/s"], "299")
        self.assertEqual(self.facts(tab)["Experts kept from the token before"], "\u2013")
        self.assertEqual([text for text in tab.run(told) if re.search("prompt|generat", text, re.I)], [])
        self.assertIn("Which conversation a token is of is not known.", tab.run("document.body.textContent"))
        self.assertEqual([row[3:] for row in self.table(tab, "Caches of experts")],
                         [[f"{100 * size[key]['all']['share']:.1f}%" for key in ("lru", "lru_all")] +
                          ["off" if size["llama_slots"] == 0 else f"{100 * size[key]['all']['share']:.1f}%"
                           for key in ("llama", "llama_all")] for size in frame["sizes"]])
        self.assertIn("would have served 90% of what was asked for in", tab.run("document.body.textContent"))
        drawn = tab.run("Array.from(document.querySelectorAll('.chart'), "
                        "(one) => one.querySelectorAll('svg path').length)")
        self.assertEqual(len(drawn), 2)
        self.assertTrue(all(n > 5 for n in drawn), drawn)
        self.picture(tab, "phases-not-known")
        self.send(tab, {**known, "time": frame["time"] + 1})
        self.assertIn("Generation, tokens/s", tab.run(told))
        self.assertNotIn("All, tokens/s", tab.run(told))

    def test_states(self):
        tab = self.show(documents.watch())
        self.assertEqual(self.status(tab), "Connected.")
        self.send(tab, {"note": "the counters change all the time"}, "wait")
        self.assertEqual(self.status(tab), "Waiting: the counters change all the time.")
        tab.run("window.streams.at(-1).onerror()")
        self.assertIn("Reconnecting", self.status(tab))
        self.until(tab, "window.streams.length === 1 && window.streams[0].isOpen")
        self.send(tab, {}, "end")
        self.assertIn("ended", self.status(tab))

    def test_freeze(self):
        frame = documents.watch()
        tab = self.show(frame)
        self.press(tab, "Freeze")
        frame["tokens"]["all"] = 777
        self.send(tab, frame)
        self.assertEqual(self.facts(tab)["Tokens"], "123,456")
        self.assertEqual(tab.run("document.querySelector('.freeze').getAttribute('aria-pressed')"), "true")
        self.press(tab, "Freeze")
        self.assertEqual(self.facts(tab)["Tokens"], "777")

    def test_cell_that_is_looked_at(self):
        """It stays marked while its number moves on, and nothing is read out for that."""
        frame = documents.watch()
        tab = self.show(frame)
        tab.run("document.querySelector('canvas').focus()")
        tab.settle()
        tab.key("ArrowRight")
        told = "document.querySelector('.tip.cell').textContent"
        self.assertIn("Layer 0, expert 0", tab.run(told))
        self.assertEqual(tab.run("document.querySelector('.tip.cell').ariaLive"), "polite")
        frame["layers"][0]["counts"][0] = 98765
        self.send(tab, frame)
        self.assertIn("98,765 activations", tab.run(told))
        self.assertEqual(tab.run("document.querySelector('.tip.cell').ariaLive"), "off")

    def test_keyboard(self):
        """All that can be done is reached by Tab, and where one is is seen."""
        tab = self.show(documents.watch())
        seen = []
        for _ in range(40):
            tab.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            tab.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            at = tab.run("""(() => {
                const at = document.activeElement;
                const box = at.matches(".choice input") ? at.nextElementSibling : at;
                return [at.tagName, getComputedStyle(box).outlineStyle, at.textContent.slice(0, 20)];
            })()""")
            if at[0] == "BODY":
                break
            seen.append(at)
        self.assertTrue(all(at[1] == "solid" or at[0] == "SELECT" for at in seen), seen)
        kinds = [at[0] for at in seen]
        self.assertEqual(kinds.count("SELECT"), 1)
        self.assertEqual(kinds.count("CANVAS"), 1)
        self.assertEqual(kinds.count("BUTTON"), 5, "Freeze, and two lines of each chart")
        self.assertEqual(kinds.count("INPUT"), 4, "the window, the order, the phase, the span")

    def check_fits(self, tab, width):
        self.assertEqual(tab.run("[document.documentElement.scrollWidth, innerWidth]"), [width, width])
        self.assertEqual(tab.run(f"""Array.from(document.querySelectorAll("body *"))
            .filter((node) => !node.closest(".scroll, svg, [hidden]")
            && node.getBoundingClientRect().right > {width} + 0.5).map((node) => node.outerHTML.slice(0, 80))"""), [])

    def test_looks(self):
        """Large and small, light and dark: nothing sticks out, and axe-core finds nothing."""
        subprocess.run([HERE.parents[1] / "scripts" / "fetch-axe.sh", AXE], check=True, capture_output=True)
        frame = documents.watch(48, 512, 8, name="Qwen3-Next 80B A3B", n_sequences=4)
        for name, options in (("light", {}), ("dark", {"dark": True}), ("still", {"still": True}),
                              ("phone", PHONE), ("phone-dark", {**PHONE, "dark": True})):
            with self.subTest(name):
                tab = self.show(frame, **options)
                for i in range(20):
                    frame["time"] += 1
                    rates = {"prompt": 256.0 * (i % 5 == 0), "generation": 40 + 5 * random.random()}
                    frame["rates"] = {"all": sum(rates.values()), **rates}
                    self.send(tab, frame)
                self.assertEqual(tab.run("document.getAnimations().length"), 0)
                self.check_fits(tab, options.get("width", 1200))
                self.picture(tab, name)
                tab.run((AXE / "axe.min.js").read_text() + ";0")
                found = tab.run("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => "
                                "[id, nodes.map(({ html }) => html.slice(0, 120))]))")
                self.assertEqual(found, [])

    def test_long_run(self):
        """Open for ever: neither memory nor elements become more."""
        tab = self.show(documents.watch(8, 64, 4))
        frames = json.dumps([documents.watch(8, 64, 4, n_sequences=n) for n in (1, 5, 3)])
        tab.run(f"window.frames = {frames}; window.time = window.frames[0].time; window.go = async (n) => {{"
                """
            for (let i = 0; i < n; i++) {
                const frame = window.frames[i % 3];
                window.time += 1;
                frame.layers.forEach(({ counts }, y) => { counts[(i * 7 + y) % 64] += i; });
                window.send("frame", { ...frame, time: window.time });
                if (i % 20 === 0) {
                    await new Promise((done) => setTimeout(done));
                }
            }
        }; 0""")
        before = self.sizes(tab, 702) # the number of conversations is that of the last frame
        after = self.sizes(tab, 2001)
        self.assertLess(after["usedSize"] - before["usedSize"], 1_500_000, (before, after))
        self.assertLessEqual(after["nodes"], before["nodes"], (before, after))
        self.assertLessEqual(after["jsEventListeners"], before["jsEventListeners"], (before, after))

    def sizes(self, tab, n):
        """After n frames more."""
        tab.run(f"window.go({n})")
        tab.settle()
        for _ in range(2):
            tab.call("HeapProfiler.collectGarbage")
        return {**tab.call("Runtime.getHeapUsage"), **tab.call("Memory.getDOMCounters")}

    def test_large_model(self):
        """A frame of 48 layers of 512 experts takes a part of its second."""
        tab = self.show(documents.watch(48, 512, 8))
        frame = json.dumps(documents.watch(48, 512, 8))
        took = tab.run(f"""(() => {{
            const frame = {frame};
            const begin = performance.now();
            for (let i = 0; i < 10; i++) {{
                frame.time += 1;
                window.send("frame", frame);
            }}
            return (performance.now() - begin) / 10;
        }})()""")
        self.assertLess(took, 500)

    def test_without_the_library_that_draws(self):
        """All but the charts is there."""
        without = "Object.defineProperty(window, 'echarts', { get() {}, set() {} });"
        server, _ = self.serve(FakeModel())
        tab = self.open(server, before=FAKE_STREAMS + without)
        self.until(tab, "window.streams.length === 1")
        self.send(tab, documents.watch())
        self.assertEqual(self.facts(tab)["Tokens"], "123,456")
        self.assertEqual(tab.run("document.body.textContent.split('without the library that draws').length"), 3)
        self.assertEqual(len(self.table(tab, "Caches of experts")), 9)


if __name__ == "__main__":
    unittest.main()
