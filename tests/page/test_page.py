#!/usr/bin/env python3
"""Tests of the pages that report, cache and compare write with --html, in a real browser without a window.

What is seen is held against the document in the page.
Documents are made up (documents.py), and those of the real commands on traces that moetrace.py writes (traces.py).
"""

import copy
import http.server
import json
import os
import re
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import documents
import traces
from browser import CHROMIUM, Browser, Tab

BUILD = Path(os.environ.get("EXPERT_TRACER_BUILD", Path(__file__).resolve().parents[2] / "build"))
CLI = BUILD / "llama-expert-tracer"
WRITE_PAGE = BUILD / "tests" / "page" / "write-page"
WITHOUT_ECHARTS = BUILD / "tests" / "page" / "write-page-without-echarts"

PHONE = {"width": 360, "height": 740, "phone": True, "ratio": 2}
HOSTILE = ("</script><script>window.broken = 1</script><!--<script>\u2028\u2029'\"`${alert(1)}"
           "<img src=x onerror='window.broken = 2'>{{page.js}}")


def percent(share, digits=1):
    return f"{100 * share:.{digits}f}%"


def count(n):
    return f"{n:,}"


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert CHROMIUM, "no Chromium here: scripts/install-deps.sh test"
        cls.temporary = tempfile.TemporaryDirectory(prefix="test-page-")
        cls.folder = Path(cls.temporary.name)
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.temporary.cleanup()

    def write(self, document, program=WRITE_PAGE, status=0):
        source, page = self.folder / "document.json", self.folder / f"{self.id()}.html"
        source.write_text(json.dumps(document))
        done = subprocess.run([program, source, page], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return page if status == 0 else done.stderr

    def open(self, page, **window):
        tab = Tab(self.browser, page, **window)
        self.addCleanup(tab.close)
        self.addCleanup(self.check_quiet, tab)
        self.assertTrue(tab.run("'ready' in document.getElementById('page').dataset"), tab.complaints())
        return tab

    def show(self, document, **window):
        return self.open(self.write(document), **window)

    def check_quiet(self, tab):
        """Nothing was complained of, and nothing but the page itself was asked for."""
        self.assertEqual(tab.complaints(), [])
        self.assertEqual([url for url in tab.requests() if not url.startswith(("file:", "data:"))], [])
        self.assertLessEqual(len(tab.requests()), 2)

    def texts(self, tab, selector):
        return tab.run(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (node) => node.textContent)")

    def table(self, tab, caption):
        """The cells of the body, row by row."""
        return tab.run(f"""Array.from(document.querySelectorAll("table"))
            .filter((one) => one.getAttribute("aria-label") === {json.dumps(caption)})
            .flatMap((one) => Array.from(one.tBodies[0].rows))
            .map((row) => Array.from(row.cells, (cell) => cell.textContent))""")

    def facts(self, tab):
        return dict(zip(self.texts(tab, ".facts dt"), self.texts(tab, ".facts dd")))

    def press(self, tab, label, n=0):
        """The n-th choice of that name."""
        tab.run(f"""Array.from(document.querySelectorAll(".choice label"))
            .filter((one) => one.textContent === {json.dumps(label)})[{n}].click()""")
        tab.settle()

    def check_drawn(self, tab, n_charts, n_heatmaps):
        drawn = tab.run("Array.from(document.querySelectorAll('.chart'), "
                        "(one) => one.querySelectorAll('svg path').length)")
        self.assertEqual(len(drawn), n_charts)
        self.assertTrue(all(n > 5 for n in drawn), drawn)
        colours = [len(set(self.pixels(tab, i))) for i in range(n_heatmaps)]
        self.assertEqual(tab.run("document.querySelectorAll('.heatmap canvas').length"), n_heatmaps)
        self.assertTrue(all(n > 5 for n in colours), colours)

    def pixels(self, tab, n=0):
        """The colours along the first row of a heatmap."""
        return tab.run(f"""(() => {{
            const canvas = document.querySelectorAll(".heatmap canvas")[{n}];
            const size   = {{ width: canvas.width, height: canvas.height }};
            const copy   = Object.assign(document.createElement("canvas"), size);
            const paper  = copy.getContext("2d", {{ willReadFrequently: true }});
            paper.drawImage(canvas, 0, 0);
            const row    = paper.getImageData(0, 1, canvas.width, 1).data;
            return Array.from({{ length: canvas.width }}, (_, x) => row.slice(4 * x, 4 * x + 3).join(","));
        }})()""")

    def check_fits(self, tab, width):
        """The page cannot be scrolled sideways, and what sticks out is in something that can."""
        self.assertEqual(tab.run("[document.documentElement.scrollWidth, innerWidth]"), [width, width])
        self.assertEqual(tab.run(f"""Array.from(document.querySelectorAll("body *"))
            .filter((node) => !node.closest(".scroll, svg, [hidden]")
            && node.getBoundingClientRect().right > {width} + 0.5).map((node) => node.outerHTML.slice(0, 80))"""), [])


class TestReport(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = documents.report()

    def test_everything_is_drawn(self):
        tab = self.show(self.document)
        self.check_drawn(tab, 4, 1)
        self.assertEqual(tab.run("document.title"), "Expert report: Small")
        self.assertTrue(all(self.texts(tab, ".explained")))
        self.assertEqual(self.texts(tab, ".verdict"), [self.document["verdict"]])

    def test_facts(self):
        facts = self.facts(self.show(self.document))
        self.assertEqual(facts["Model"], "Small")
        self.assertEqual(facts["Prompt tokens"], "512")
        self.assertEqual(facts["Generated tokens"], "1,234")
        self.assertEqual(facts["Experts"], "16 in a layer, 2 for each token")

    def test_layers(self):
        rows = self.table(self.show(self.document), "How even the routing of each layer is")
        self.assertEqual(rows, [[str(one["layer"]), "16", f"{one['entropy']:.3f}", f"{one['effective_experts']:.1f}",
                                 f"{one['hottest']['expert']} ({percent(one['hottest']['share'])})",
                                 str(one["never_used"]), percent(one["neighbours"]["generation"]),
                                 percent(one["neighbours"]["prompt"])] for one in self.document["layers"]])

    def test_coverage(self):
        rows = self.table(self.show(self.document), "Experts that take so much of all uses")
        for row, phase in zip(rows, ("all", "prompt", "generation")):
            coverage = self.document["coverage"][phase]
            self.assertEqual(row[1:], [f"{coverage[mark]} ({percent(coverage[mark] / 64)})"
                                       for mark in ("50", "80", "90", "99")] + ["64"])

    def test_hit_rates(self):
        tab = self.show(self.document)
        both = "static", "lru", "lfu", "optimum", "llama_cpp", "pooled_optimum"
        for phase, policies in (("generation", ("static", "prompt_oracle", *both[1:])), ("prompt", both)):
            if phase == "prompt":
                self.press(tab, "Prompt", 1)
            rows = self.table(tab, f"Hit rates, {phase}")
            sizes = self.document["cache"]["sizes"]
            self.assertEqual([row[0] for row in rows], [str(size["slots"]) for size in sizes])
            self.assertEqual([row[3:] for row in rows],
                             [[percent(size[phase][policy]) for policy in policies] for size in sizes])

    def test_prompt_against_generation(self):
        rows = {row[0]: row[1:]
                for row in self.table(self.show(self.document), "Reading a prompt and writing an answer")}
        size = next(size for size in self.document["cache"]["sizes"] if size["slots"] == 4)
        self.assertEqual(rows["Tokens"], ["512", "1,234"])
        self.assertEqual(rows["Hit rate of 4 slots, LRU"],
                         [percent(size[phase]["lru"]) for phase in ("prompt", "generation")])
        self.assertEqual(rows["Experts in common with the token before"], ["20.0%", "31.0%"])

    def test_sizes_in_memory(self):
        tab = self.show(self.document)
        before = self.texts(tab, ".chart svg text")
        self.press(tab, "Memory")
        self.assertNotEqual(self.texts(tab, ".chart svg text"), before)
        self.assertTrue(any(text.endswith("MiB") for text in self.texts(tab, ".chart svg text")))

    def test_a_line_can_be_hidden(self):
        tab = self.show(self.document)
        lines = "document.querySelector('.chart').querySelectorAll('svg path[stroke-width]').length"
        before = tab.run(lines)
        tab.run("document.querySelector('.legend button').click()")
        tab.settle()
        self.assertEqual(self.texts(tab, ".legend button[aria-pressed=false]"), ["All tokens"])
        self.assertLess(tab.run(lines), before)
        tab.run("document.querySelector('.legend button').click()")
        tab.settle()
        self.assertEqual(tab.run(lines), before)

    def test_a_chart_tells_its_numbers(self):
        tab = self.show(self.document)
        x, y = tab.run("""(() => {
            const chart = document.querySelector(".chart");
            chart.scrollIntoView();
            const box = chart.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2];
        })()""")
        tab.move(x, y)
        told = next(text for text in self.texts(tab, ".chart .tip") if "hottest" in text)
        at = int(re.search(r"hottest (\d+)%", told).group(1))
        for phase in ("all", "prompt", "generation"):
            self.assertIn(percent(self.document["coverage"][phase]["curve"][at]), told)

    def test_statistics_alone(self):
        """What a statistics file knows: no order, and perhaps no phases."""
        document = documents.report(with_cache=False)
        for layer in document["layers"]:
            layer["activations"].update(prompt=None, generation=None)
            layer.update(neighbours=None, expert_bytes=None)
        document["coverage"].update(prompt=None, generation=None)
        document.update(neighbours=None, file=None)
        document["model"].update(name=None, engine=None)
        tab = self.show(document)
        self.check_drawn(tab, 1, 1)
        self.assertEqual(self.texts(tab, ".choice label"), ["By number", "Hottest first"])
        self.assertNotIn("null", tab.run("document.body.innerText"))
        self.assertNotIn("NaN", tab.run("document.body.innerText"))

    def test_nothing_generated(self):
        document = documents.report()
        document["coverage"]["generation"] = None
        for layer in document["layers"]:
            layer["activations"]["generation"] = None
        cache = document["cache"]
        for size in cache["sizes"]:
            size["generation"] = None
            size["mib"] = None
        cache["lru"]["generation"] = cache["distances"]["generation"] = None
        cache["requests"]["generation"] = 0
        cache["concurrency"] = []
        tab = self.show(document)
        self.check_drawn(tab, 4, 1)
        self.assertEqual(self.table(tab, "Hit rates, generation"), [])
        self.assertEqual(len(self.table(tab, "Hit rates, prompt")), len(cache["sizes"]))


class TestHeatmap(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = documents.report()

    def point(self, tab, layer, expert):
        x, y = tab.run(f"""(() => {{
            const canvas = document.querySelector(".heatmap canvas");
            canvas.scrollIntoView({{ block: "center" }});
            const box = canvas.getBoundingClientRect();
            return [box.left + ({expert} + 0.5) * box.width / 16, box.top + ({layer} + 0.5) * box.height / 4];
        }})()""")
        tab.settle()
        tab.move(x, y)
        return self.told(tab)

    def told(self, tab):
        return tab.run("Array.from(document.querySelector('.tip.cell:not([hidden])')?.children ?? [], "
                       "(line) => line.textContent)")

    def expected(self, layer, expert, phase="all"):
        counts = self.document["layers"][layer]["activations"][phase]
        share = counts[expert] / sum(counts)
        return [f"Layer {layer}, expert {expert}", f"{count(counts[expert])} activations",
                f"{percent(share, 2)} of the layer\u2019s", f"{16 * share:.2f}\u00a0\u00d7 the average"]

    def test_the_pointer_tells(self):
        tab = self.show(self.document)
        for layer, expert in ((0, 0), (2, 7), (3, 15)):
            self.assertEqual(self.point(tab, layer, expert), self.expected(layer, expert))
        tab.move(5, 5)
        self.assertEqual(self.told(tab), [])

    def test_phases(self):
        tab = self.show(self.document)
        for label, phase in (("Prompt", "prompt"), ("Generation", "generation")):
            before = self.pixels(tab)
            self.press(tab, label)
            self.assertNotEqual(self.pixels(tab), before)
            self.assertEqual(self.point(tab, 1, 3), self.expected(1, 3, phase))

    def test_by_heat(self):
        tab = self.show(self.document)
        self.press(tab, "Hottest first")
        counts = self.document["layers"][2]["activations"]["all"]
        order = sorted(range(16), key=lambda expert: (-counts[expert], expert))
        for at in (0, 1, 15):
            self.assertEqual(self.point(tab, 2, at), self.expected(2, order[at]))

    def test_keys(self):
        tab = self.show(self.document)
        tab.run("document.querySelector('.heatmap canvas').focus()")
        for key, cell in (("ArrowRight", (0, 0)), ("ArrowRight", (0, 1)), ("ArrowDown", (1, 1)),
                          ("ArrowLeft", (1, 0)), ("ArrowLeft", (1, 0))):
            tab.key(key)
            self.assertEqual(self.told(tab), self.expected(*cell))
        tab.key("Escape")
        self.assertEqual(self.told(tab), [])

    def test_never_used_is_a_colour_of_its_own(self):
        document = copy.deepcopy(self.document)
        document["layers"][0]["activations"]["all"] = [0] * 8 + [1, 5] * 4
        pixels = self.pixels(self.show(document))
        self.assertEqual(len(set(pixels[:len(pixels) // 2])), 1)
        self.assertNotIn(pixels[0], pixels[len(pixels) // 2 + 1:])


class TestCache(Case):
    def test_alone(self):
        document = documents.cache()
        tab = self.show(document)
        self.check_drawn(tab, 2, 0)
        self.assertEqual(self.texts(tab, ".verdict"), [document["verdict"]])
        self.assertEqual(self.table(tab, "What one step of generation touches")[1][:3], ["2", "3.8", "23.4%"])

    def test_the_answer_is_apart_from_its_reasons(self):
        document = {**documents.cache(),
                    "verdict": "Take 1.50 GiB of it. --moe-cache-mib 1536 has 55%. Nothing else helps."}
        tab = self.show(document)
        self.assertEqual(self.texts(tab, ".verdict"), ["Take 1.50 GiB of it."])
        self.assertEqual(self.texts(tab, ".reasons"), ["--moe-cache-mib 1536 has 55%. Nothing else helps."])

    def test_budget(self):
        way = {"rate": 0.55, "tokens_per_second": 17.8}
        document = documents.cache()
        document["budget"] = {
            "bytes": 3 << 29, "phase": "generation", "break_even": 0.583,
            "llama_cpp": {**way, "moe_cache_mib": 1536, "slots": 340},
            "whole_layers": {**way, "rate": 0.2, "n_cpu_moe": 19, "layers": 5},
            "equal_slots": {**way, "slots": 14}, "slots_by_layer": {**way, "slots": {"0": 14}},
            "kept_layers": {"rate": None, "layers": [3], "override_tensor": "blk\\.(3)=CUDA0",
                            "moe_cache_mib": 12, "slots": 2}}
        rows = self.table(self.show(document), "Device memory for experts, judged by the generation")
        self.assertEqual([row[1:] for row in rows], [
            ["55.0%", "17.8", "--moe-cache-mib 1536"], ["20.0%", "17.8", "--n-cpu-moe 19"],
            ["\u2013", "\u2013", "-ot 'blk\\.(3)=CUDA0' -cmoe --moe-cache-mib 12"], ["55.0%", "17.8", "\u2013"],
            ["55.0%", "17.8", "\u2013"]])


class TestCompare(Case):
    def test_two(self):
        document = documents.compare()
        tab = self.show(document)
        self.check_drawn(tab, 1, 3)
        pair = document["pairs"][0]
        facts = self.facts(tab)
        self.assertEqual(facts["Divergence, mean of the layers"], f"{pair['divergence']:.4f} bits")
        self.assertEqual(facts["Between the halves of B"], "0.0305 bits")
        rows = self.table(tab, "Share of their layer\u2019s uses")
        self.assertEqual([row[:4] for row in rows],
                         [[str(one["layer"]), str(one["expert"]), percent(one["a"], 2), percent(one["b"], 2)]
                          for one in pair["experts"]])
        self.assertEqual(self.table(tab, "Hit rate of a hot set")[0], ["10%", "10.0%", "30.0%", "10.0%", "25.0%"])

    def test_three(self):
        document = documents.compare(names=("chat", "code", "poems"))
        document["matrix"] = [[None, 0.1, 0.2], [0.1, None, 0.3], [0.2, 0.3, None]]
        tab = self.show(document)
        self.assertEqual(self.table(tab, "Divergence of each two, in bits")[1], ["B", "0.1000", "\u2013", "0.3000"])
        self.press(tab, "B and C")
        self.assertEqual(self.facts(tab)["Divergence, mean of the layers"],
                         f"{document['pairs'][2]['divergence']:.4f} bits")
        self.check_drawn(tab, 1, 3)

    def test_halves_unknown(self):
        document = documents.compare()
        document["pairs"][0]["noise"] = None
        for layer in document["pairs"][0]["layers"]:
            layer.update(noise_a=None, noise_b=None)
        self.check_drawn(self.show(document), 1, 3)


class TestWindows(Case):
    DOCUMENTS = {"report": documents.report, "large report": lambda: documents.report(94, 512, 10),
                 "cache": documents.cache, "compare": documents.compare,
                 "large compare": lambda: documents.compare(94, 512)}

    def test_phone(self):
        for name, make in self.DOCUMENTS.items():
            with self.subTest(name):
                self.check_fits(self.show(make(), **PHONE), 360)

    def test_long_names_on_a_phone(self):
        document = documents.report(name="A" * 200)
        document["verdict"] = "B" * 200
        self.check_fits(self.show(document, **PHONE), 360)

    def test_desktop(self):
        for name, make in self.DOCUMENTS.items():
            with self.subTest(name):
                self.check_fits(self.show(make(), width=1200), 1200)

    def test_large_models(self):
        tab = self.show(documents.report(94, 512, 10))
        self.check_drawn(tab, 4, 1)
        self.assertGreaterEqual(len(self.pixels(tab)), 512)

    def test_a_narrowed_window(self):
        tab = self.show(documents.report())
        tab.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
        tab.settle()
        self.check_fits(tab, 400)
        self.assertLessEqual(max(self.chart_widths(tab)), 400)

    def chart_widths(self, tab):
        return tab.run("Array.from(document.querySelectorAll('.chart svg'), "
                       "(one) => one.getBoundingClientRect().width)")

    def colours(self, tab):
        ground = tab.run("getComputedStyle(document.body).backgroundColor")
        return ground, tab.run("document.querySelector('.chart svg text').getAttribute('fill')"), self.pixels(tab)

    def test_dark(self):
        page = self.write(documents.report())
        light, dark = self.open(page), self.open(page, dark=True)
        for one, other in zip(self.colours(light), self.colours(dark)):
            self.assertNotEqual(one, other)
        self.assertEqual(self.colours(dark)[0], "rgb(20, 24, 29)")

    def test_dusk(self):
        """The environment becomes dark while the page is open."""
        tab = self.show(documents.report())
        before = self.colours(tab)
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        tab.settle()
        for one, other in zip(before, self.colours(tab)):
            self.assertNotEqual(one, other)

    def test_on_paper_it_is_light(self):
        page = self.write(documents.report())
        light, dark = self.open(page), self.open(page, dark=True)
        dark.run("dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(self.colours(dark)[1], self.colours(light)[1])
        self.assertLessEqual(max(self.chart_widths(dark)), 700)
        dark.run("dispatchEvent(new Event('afterprint'))")
        self.assertNotEqual(self.colours(dark)[1], self.colours(light)[1])
        paper = self.folder / "page.pdf"
        dark.pdf(paper)
        self.assertTrue(paper.read_bytes().startswith(b"%PDF"))


class TestTrust(Case):
    def check_harmless(self, document, **window):
        tab = self.show(document, **window)
        self.assertIsNone(tab.run("window.broken ?? null"))
        self.assertEqual(tab.run("document.scripts.length"), 3)
        self.assertEqual(tab.run("document.images.length"), 0)
        return tab

    def test_hostile_names(self):
        document = documents.report(name=HOSTILE)
        document["model"].update(architecture=HOSTILE, engine=HOSTILE)
        document.update(file=HOSTILE, verdict=HOSTILE)
        tab = self.check_harmless(document)
        self.assertEqual(self.facts(tab)["Model"], HOSTILE)
        self.assertEqual(self.texts(tab, ".verdict"), [HOSTILE])
        self.check_fits(self.show(document, **PHONE), 360)

    def test_hostile_files_to_compare(self):
        tab = self.check_harmless(documents.compare(names=(HOSTILE, HOSTILE)))
        self.assertEqual([row[1] for row in self.table(tab, "What is compared")], [HOSTILE] * 2)

    def test_hostile_options(self):
        document = documents.cache()
        way = {"rate": 0.5, "moe_cache_mib": HOSTILE, "n_cpu_moe": HOSTILE, "slots": 1, "override_tensor": HOSTILE}
        document["budget"] = {"bytes": 1, "phase": HOSTILE, "llama_cpp": way, "whole_layers": way, "equal_slots": way,
                              "slots_by_layer": way, "kept_layers": way}
        self.check_harmless(document)

    def test_nothing_can_be_asked_of_a_network(self):
        asked = []

        class Listener(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            tab = Tab(self.browser, self.write(documents.report()))
            refused = tab.run(f"""(async () => {{
                const refused = [];
                addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
                new Image().src = "http://127.0.0.1:{server.server_port}/image";
                await fetch("http://127.0.0.1:{server.server_port}/fetch").catch(() => 0);
                await new Promise((done) => setTimeout(done, 200));
                return refused.sort();
            }})()""")
            tab.close()
            server.shutdown()
        self.assertEqual(refused, ["connect-src", "img-src"])
        self.assertEqual(asked, [])

    def test_the_licence_is_kept(self):
        page = self.write(documents.report()).read_text()
        self.assertIn("Licensed to the Apache Software Foundation", page)
        self.assertIn("Apache License 2.0", page)
        self.assertNotRegex(re.sub(r"<script>.*?</script>", "", page, flags=re.S),
                            r"(src|href)\s*=\s*[\"']?(https?:)?//")

    def test_an_unknown_document(self):
        tab = Tab(self.browser, self.write({"something": "else"}))
        self.assertIn("could not be drawn", tab.run("document.body.innerText"))
        tab.close()


class TestWriting(Case):
    def test_without_the_library(self):
        said = self.write(documents.report(), WITHOUT_ECHARTS, status=1)
        self.assertIn("built without it", said)
        self.assertIn("make", said)
        self.assertEqual(list(self.folder.glob(f"{self.id()}*")), [])

    def test_to_the_standard_output(self):
        source = self.folder / "document.json"
        source.write_text(json.dumps(documents.report()))
        done = subprocess.run([WRITE_PAGE, source, "-"], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, self.write(documents.report()).read_text())

    def test_the_document_is_compact_and_whole(self):
        document = documents.report(3, 8)
        page = self.write(document).read_text()
        inside = re.search(r'<script type="application/json" id="document">(.*?)</script>', page, re.S).group(1)
        self.assertNotIn(" ", re.sub(r'"[^"]*"', "", inside))
        self.assertEqual(json.loads(inside)["layers"][1]["activations"], document["layers"][1]["activations"])


class TestCommands(Case):
    """The commands themselves, on traces."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.traces = []
        for seed in (1, 2):
            cls.traces.append(cls.folder / f"{seed}.moetrace")
            traces.write(cls.traces[-1], seed=seed, name=HOSTILE)

    def page_of(self, command, *files):
        page = self.folder / f"{command}.html"
        subprocess.run([CLI, command, "--html", page, *files], capture_output=True, text=True, check=True)
        document = json.loads(subprocess.run([CLI, command, "--json", *files], capture_output=True,
                                             text=True, check=True).stdout)
        return self.open(page), document

    def test_report(self):
        tab, document = self.page_of("report", self.traces[0])
        self.check_drawn(tab, 4, 1)
        self.assertEqual(self.facts(tab)["Generated tokens"], count(document["tokens"]["generation"]))
        self.assertEqual("".join(self.texts(tab, ".verdict, .reasons")).replace(" ", ""),
                         document["verdict"].replace(" ", ""))
        rows = self.table(tab, "How even the routing of each layer is")
        self.assertEqual([row[2] for row in rows], [f"{one['entropy']:.3f}" for one in document["layers"]])

    def test_cache(self):
        tab, document = self.page_of("cache", "--vram", "64MiB", self.traces[0])
        self.check_drawn(tab, 2, 0)
        rows = self.table(tab, "Hit rates, generation")
        self.assertEqual([row[0] for row in rows],
                         [f"{size['slots'] + 1e-9:.1f}".replace(".0", "") for size in document["sizes"]])
        self.assertIn(percent(document["sizes"][0]["generation"]["lru"]), rows[0])
        self.assertIn(percent(document["sizes"][0]["generation"]["pooled_optimum"]), rows[0])
        rows = self.table(tab, "Hit rates of the whole run")
        self.assertIn(percent(document["sizes"][0]["whole_run"]["all"]["pooled_lru"]), rows[0])
        options = document["recommendation"]["options"]
        self.assertEqual(self.texts(tab, ".options"), [options] if options else [])
        self.assertTrue(self.table(tab, "Device memory for experts, judged by the generation"))

    def test_compare(self):
        tab, document = self.page_of("compare", *self.traces)
        self.check_drawn(tab, 1, 3)
        self.assertEqual(self.facts(tab)["Divergence, mean of the layers"],
                         f"{document['pairs'][0]['divergence']:.4f} bits")


if __name__ == "__main__":
    unittest.main()
