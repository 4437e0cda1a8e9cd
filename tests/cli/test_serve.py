#!/usr/bin/env python3
"""Tests of `llama-expert-tracer serve` (EXPERT_TRACER_CLI) against tracers that are none (counting_tracer.py): what it
answers, whom it refuses, and that clients which are slow or hostile cost the others nothing.

Prometheus itself scrapes it where it is installed (Debian: prometheus).
"""

import concurrent.futures
import http.client
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from counting_tracer import CountingTracer, FakeModel

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
API = "/api/v1/processes"
PREFIX = "llama_expert_tracer_"
NAME = f"server-{secrets.token_hex(4)}" # root sees everybody's processes: ours have a name of their own


def parse(text):
    """{(name, ((label, value), …)): value} of a text of Prometheus; each sample is read by the format's own rules."""
    samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line).groups()
        pairs = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)', labels or "")
        whole = ",".join(f'{key}="{its}"' for key, its in pairs)
        assert whole == (labels or ""), line
        key = name, tuple(sorted((key, its.replace('\\"', '"').replace("\\\\", "\\")) for key, its in pairs))
        assert key not in samples, f"twice: {key}"
        samples[key] = float(value)
    return samples


class Server:
    """A `serve` that is running, on a free port. `folder`: the only one where it looks for tracers; None: it looks
    where a user's are, with that $XDG_RUNTIME_DIR, and everywhere."""

    def __init__(self, folder, *options, host="127.0.0.1", listen=None, runtime=None):
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("LLAMA_EXPERT_", "LD_"))}
        if folder is not None:
            environment["LLAMA_EXPERT_TRACE_LIVE"] = str(folder)
        else:
            environment["XDG_RUNTIME_DIR"] = str(runtime)
        self.process = subprocess.Popen([CLI, "serve", "--listen", listen or f"{host}:0", *options], text=True,
                                        stderr=subprocess.PIPE, env=environment)
        first = self.process.stderr.readline()
        match = re.fullmatch(r"llama-expert-tracer: (http://(\S+):(\d+))/ in a browser, /metrics for Prometheus\n",
                             first)
        assert match, first
        self.address, self.host, self.port = match[1], match[2].strip("[]"), int(match[3])
        self.token = None
        if "--allow-control" in options:
            self.token = re.search(r"Bearer ([0-9a-f]{64})\n", self.process.stderr.readline())[1]

    def ask(self, path, method="GET", headers=None, body=None):
        """(status, headers, text)"""
        request = urllib.request.Request(self.address + path, method=method, headers=headers or {}, data=body)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def get(self, path, status=200, **headers):
        its, _, text = self.ask(path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        assert its == status, (its, text)
        return text

    def json(self, path, status=200):
        return json.loads(self.get(path, status))

    def processes(self):
        return [one for one in self.json(API)["processes"] if one["process"].startswith(NAME)]

    def raw(self, data, timeout=5):
        """All that comes back for these bytes."""
        with socket.create_connection((self.host, self.port), timeout) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer

    def stop(self):
        """(exit status, the rest of stderr)"""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        rest = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(20), rest


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o700)

    def tracer(self, *models, **options):
        options.setdefault("program", f"/usr/bin/{NAME}")
        tracer = CountingTracer(self.folder, list(models) or [FakeModel()], **options)
        self.addCleanup(tracer.close)
        return tracer

    def serve(self, *options, **more):
        server = Server(self.folder, *options, **more)

        def end():
            status, rest = server.stop()
            self.assertEqual((status, rest), (0, ""))
        self.addCleanup(end)
        return server

    def until(self, check, seconds=10):
        end = time.monotonic() + seconds
        while not (found := check()):
            self.assertLess(time.monotonic(), end, "it did not happen")
            time.sleep(0.05)
        return found

    def route(self, tracer, n, seed=1, model=None, **options):
        chance = random.Random(seed)
        model = model or tracer.models[0]
        for position in range(n):
            layers = [chance.sample(range(model.n_expert), model.n_used) for _ in range(model.n_layer)]
            tracer.route([(position, layers)], model=model, **options)

    def assert_counts(self, samples, tracer, process=NAME, experts=False):
        """Every number of the tracer is there, as it is."""
        def value(name, **labels):
            return samples[PREFIX + name, tuple(sorted({"process": process, **labels}.items()))]
        self.assertEqual(value("up"), 1)
        for model in tracer.models:
            its = {"model": model.strings[0]}
            for phase in ("prompt", "generation"):
                self.assertEqual(value("tokens_total", phase=phase, **its), model.totals[phase])
            self.assertEqual(value("warmup_tokens_total", **its), model.totals["warmup"])
            self.assertEqual(value("unknown_routing_tokens_total", **its), model.totals["lost"])
            for i in range(model.n_layer):
                layer = {"layer": str(i), **its}
                self.assertEqual(value("routed_tokens_total", **layer), model.rows[i])
                self.assertEqual(value("activations_total", **layer), sum(model.activations[i]))
                self.assertEqual(value("unused_experts", **layer), model.activations[i].count(0))
                for k in range(model.n_expert if experts else 0):
                    self.assertEqual(value("expert_activations_total", expert=str(k), **layer), model.activations[i][k])


class Metrics(Case):
    def test_numbers(self):
        tracer = self.tracer(FakeModel(), FakeModel("Second", n_layer=3, n_expert=8, n_used=3))
        server = self.serve("--per-expert")
        for seed in range(5):
            tracer.models[1].totals["warmup"] += 3
            tracer.models[1].totals["lost"] += 1
            self.route(tracer, 20, seed, generation=seed % 2 == 0)
            self.route(tracer, 10, seed, model=tracer.models[1])
            for accept in ("text/plain", OPENMETRICS):
                self.assert_counts(parse(server.get("/metrics", Accept=accept)), tracer, experts=True)
        self.assertNotIn("expert=", self.serve().get("/metrics"))

    def test_large_numbers(self):
        tracer = self.tracer()
        tracer.models[0].totals.update(tokens=2**63 + 7, generation=2**63 + 7)
        tracer.write_counts(tracer.models[0])
        self.assertIn(f'phase="generation"}} {2**63 + 7}\n', self.serve().get("/metrics"))

    def test_formats(self):
        self.tracer()
        server = self.serve()
        for accept, kind, end in (("*/*", "text/plain; version=0.0.4; charset=utf-8", r"_errors_total \d+\n"),
                                  (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8",
                                   r"_errors_total \d+\n# EOF\n")):
            status, headers, text = server.ask("/metrics", headers={"Accept": accept})
            self.assertEqual((status, headers["Content-Type"]), (200, kind))
            self.assertRegex(text, end + r"\Z")
            families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
            self.assertEqual(families, list(dict.fromkeys(families)))
            self.assertEqual(len(re.findall(r"^# HELP ", text, re.M)), len(families))
            openmetrics = "openmetrics" in kind
            for name, its in families:
                self.assertEqual(name.endswith("_total"), its == "counter" and not openmetrics, name)

    def test_hostile_names(self):
        names = ['"} 1\nevil_metric 666\n', "back\\slash", "\\", "\x1b[31mred", b"\xff\xfe", "x" * 5000, "", None,
                 "\u202eturned", "Oracle", "Oracle"]
        tracer = self.tracer(*(FakeModel(name) for name in names), program=b"/bin/a \"b\"\\\n\xff")
        self.route(tracer, 3)
        text = self.serve().get("/metrics")
        samples = parse(text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("evil_metric 666\n", text.replace('"} 1', ""), "a line of its own")
        models = [dict(labels)["model"] for name, labels in samples if name == PREFIX + "contexts"
                  and dict(labels)["process"].startswith('a "b"')]
        self.assertEqual(len(set(models)), len(names), models)
        self.assertIn("Oracle-2", models)
        self.assertIn("oracle.gguf", models)
        self.check_by_promtool(text)

    def check_by_promtool(self, text):
        if not shutil.which("promtool"):
            self.skipTest("no promtool: it is in Debian's package prometheus")
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_promtool(self):
        tracer = self.tracer(FakeModel(), FakeModel("other", phases_known=False))
        self.route(tracer, 10)
        text = self.serve("--per-expert").get("/metrics")
        self.check_by_promtool(text)
        self.check_by_promtool(Server.get(self.serve(), "/metrics"))

    def test_nothing_to_see(self):
        server = self.serve()
        samples = parse(server.get("/metrics"))
        self.assertIn((PREFIX + "scrape_errors_total", ()), samples)
        self.assertNotIn(NAME, str(samples))
        self.assertEqual(server.processes(), [])

    def test_names_of_processes(self):
        """A number where there are several; who comes anew takes over the name that is free."""
        tracers = [self.tracer() for _ in range(3)]
        server = self.serve()
        its = {one["process"]: one["name"] for one in server.processes()}
        self.assertEqual(its, {NAME: tracers[0].name, f"{NAME}-2": tracers[1].name,
                               f"{NAME}-3": tracers[2].name})
        tracers[1].close()
        self.until(lambda: len(server.processes()) == 2)
        time.sleep(1.5)
        new = self.tracer()
        its = self.until(lambda: len(found := server.processes()) == 3 and found)
        self.assertEqual([one["process"] for one in its], [NAME, f"{NAME}-2", f"{NAME}-3"])
        self.assertEqual(its[1]["name"], new.name)

    def test_reset_is_a_reset(self):
        tracer = self.tracer()
        server = self.serve()
        self.route(tracer, 10)
        self.assert_counts(parse(server.get("/metrics")), tracer)
        tracer.reset()
        self.route(tracer, 2)
        self.assert_counts(parse(server.get("/metrics")), tracer)

    def test_counters_that_cannot_be_read(self):
        """A process that was stopped while it counted: the others are scraped, and it is said."""
        stopped, tracer = self.tracer(), self.tracer(program=f"{NAME}-other")
        server = self.serve()
        stopped.break_lock(stopped.models[0])
        samples = parse(server.get("/metrics"))
        self.assertEqual(samples[PREFIX + "up", (("process", NAME),)], 0)
        self.assertGreaterEqual(samples[PREFIX + "scrape_errors_total", ()], 1)
        self.assert_counts(samples, tracer, f"{NAME}-other")
        self.assertIn("try again", server.json(f"{API}/{NAME}/statistics", 503)["error"])
        stopped.break_lock(stopped.models[0], False)
        self.assert_counts(parse(server.get("/metrics")), stopped)

    def test_more_than_any_model_has(self):
        """Whoever runs a process decides what its memory says, and not how long the others' scrapes are."""
        self.tracer(FakeModel(n_layer=1 << 20, n_expert=1), program=f"{NAME}-large")
        tracer = self.tracer()
        samples = parse(self.serve().get("/metrics"))
        self.assertEqual(samples[PREFIX + "up", (("process", f"{NAME}-large"),)], 0)
        self.assert_counts(samples, tracer)

    def test_process_that_does_not_answer(self):
        """It costs nobody else's scrape its time."""
        silent = self.tracer(program=f"{NAME}-silent")
        silent.silent = True
        tracer = self.tracer()
        server = self.serve()
        begin = time.monotonic()
        for _ in range(20):
            self.assert_counts(parse(server.get("/metrics")), tracer)
        self.assertLess(time.monotonic() - begin, 20) # two seconds each where they waited


class Interface(Case):
    def test_statistics(self):
        """The same as `show --json` of the file that the process would write."""
        tracer = self.tracer()
        self.route(tracer, 50)
        server = self.serve()
        its = server.json(f"{API}/{NAME}/statistics")
        model = tracer.models[0]
        self.assertEqual(its["total_tokens"], 50)
        self.assertEqual(its["pid"], tracer.pid)
        self.assertEqual(its["layer_tokens"], {"0": 50, "1": 50})
        for layer in range(2):
            self.assertEqual(list(its["per_layer"][str(layer)].values()), model.activations[layer])
        file = self.folder / "statistics.json"
        file.write_text(json.dumps(its))
        shown = subprocess.run([CLI, "show", "--json", file], capture_output=True, text=True, check=True)
        self.assertEqual(json.loads(shown.stdout), its)

    def test_processes(self):
        tracer = self.tracer()
        self.route(tracer, 7)
        [its] = self.serve().processes()
        self.assertEqual((its["process"], its["name"], its["program"], its["error"]),
                         (NAME, tracer.name, f"/usr/bin/{NAME}", None))
        self.assertEqual((its["models"][0]["label"], its["models"][0]["tokens"]), ("Oracle", 7))
        self.assertEqual(its["status"]["models"][0]["tokens"], 7)

    def test_which_model(self):
        self.tracer(FakeModel("a/b c?"), FakeModel("second"))
        server = self.serve()
        self.assertIn("which model", server.json(f"{API}/{NAME}/statistics", 404)["error"])
        path = f"{API}/{NAME}/statistics?model={urllib.parse.quote('a/b c?', safe='')}"
        self.assertEqual(server.json(path)["model"]["name"], "a/b c?")

    def test_not_there(self):
        self.tracer()
        server = self.serve()
        for path in ("/nope", API + "/", API + "/nope/statistics", f"{API}/{NAME}", f"{API}/{NAME}/nope",
                     API + "//statistics", "/api/v1/processes/../../metrics", "/metrics/"):
            self.assertEqual(server.ask(path)[0], 404, path)
        self.assertIn("/metrics", server.get("/"))

    def test_report_and_cache(self):
        """The counts at once; what was routed recently as soon as somebody asked, and only then."""
        tracer = self.tracer(FakeModel(n_expert=8))
        server = self.serve()
        self.route(tracer, 100)
        self.assertFalse(tracer.watchers)
        first = server.json(f"{API}/{NAME}/report")
        self.assertEqual((first["counts"]["tokens"]["all"], first["recent"]), (100, None))
        self.assertTrue(tracer.watchers)
        self.route(tracer, 1500)
        def recent():
            its = server.json(f"{API}/{NAME}/report")
            return its["watched"]["tokens"] == 1500 and its
        its = self.until(recent)
        self.assertEqual((its["counts"]["tokens"]["all"], its["recent"]["tokens"]["generation"]), (1600, 1500))
        layer = its["recent"]["layers"][0]["activations"]["all"]
        chance = random.Random(1)
        expected = [0] * 8
        for _ in range(1500):
            for i in range(2):
                experts = chance.sample(range(8), 2)
                for expert in experts if i == 0 else []:
                    expected[expert] += 1
        self.assertEqual(layer, expected)
        cache = server.json(f"{API}/{NAME}/cache")
        self.assertEqual(cache["recent"]["tokens"]["generation"], 1500)
        self.assertIn("needs a size", server.json(f"{API}/{NAME}/cache?size=nope", 400)["error"])
        self.assertIn("bytes of an expert", server.json(f"{API}/{NAME}/cache?size=6GiB")["note"])

    def test_recent_routing_is_bounded(self):
        """A ring that was overrun is said to be."""
        tracer = self.tracer(FakeModel(n_layer=8, n_expert=64, n_used=8))
        server = self.serve()
        server.json(f"{API}/{NAME}/cache")
        layers = [list(range(8)) for _ in range(8)]
        record = tracer.ubatch_record(tracer.models[0], [(k, layers) for k in range(4000)], True, 0)
        for _ in range(3):
            tracer.write_record(tracer.models[0], record)
        self.until(lambda: server.json(f"{API}/{NAME}/cache")["watched"]["overrun_bytes"] > 0)

    def test_process_that_ends(self):
        """A name that is gone is gone at once, also while it is watched."""
        tracer = self.tracer()
        server = self.serve()
        server.json(f"{API}/{NAME}/report")
        tracer.close()
        self.until(lambda: server.processes() == [], 1)
        self.assertEqual(server.ask(f"{API}/{NAME}/report")[0], 404)


class Guard(Case):
    def test_hosts(self):
        server = self.serve()
        for host in ("127.0.0.1", f"127.0.0.1:{server.port}", "localhost", "LOCALHOST:80", "127.1.2.3", "[::1]",
                     "[::1]:9464"):
            self.assertEqual(server.ask("/metrics", headers={"Host": host})[0], 200, host)
        for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "localhost.evil.example",
                     "10.0.0.1", "0.0.0.0", "", "[::1", "127.0.0.1:80@evil.example", "127.0.0.1:x", "[::2]", "a" * 300,
                     "127.0.0.1, evil.example", "localhost:80:80"):
            self.assertEqual(server.ask("/metrics", headers={"Host": host})[0], 421, host)
        self.assertIn(b" 421 ", server.raw(b"GET /metrics HTTP/1.0\r\n\r\n"))
        for n in (0, 2):
            answer = server.raw(b"GET /metrics HTTP/1.1\r\n" + b"Host: localhost\r\n" * n + b"\r\n")
            self.assertRegex(answer, rb"^HTTP/1.1 4\d\d ")

    def test_all_addresses(self):
        """In a container: who has a number did not have it from DNS."""
        server = Server(self.folder, listen="0.0.0.0:0")
        self.addCleanup(server.stop)
        server.address = f"http://127.0.0.1:{server.port}"
        for host, status in (("10.1.2.3:9464", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            self.assertEqual(server.ask("/metrics", headers={"Host": host})[0], status, host)

    def test_origins(self):
        server = self.serve()
        host = f"127.0.0.1:{server.port}"
        for headers, status in (({"Origin": f"http://{host}"}, 200), ({"Origin": "http://evil.example"}, 403),
                                ({"Origin": "null"}, 403), ({"Origin": f"https://{host}"}, 403),
                                ({"Origin": f"http://{host}.evil.example"}, 403),
                                ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "none"}, 200)):
            status_of, its, _ = server.ask("/metrics", headers=headers)
            self.assertEqual(status_of, status, headers)
            self.assertFalse([key for key in its if key.lower().startswith("access-control")])

    def test_headers(self):
        server = self.serve()
        for path in ("/metrics", "/nope", API):
            its = server.ask(path)[1]
            self.assertEqual((its["X-Content-Type-Options"], its["Cache-Control"]), ("nosniff", "no-store"))
            self.assertIn("default-src 'none'", its["Content-Security-Policy"])

    def test_methods(self):
        server = self.serve("--allow-control")
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "NONSENSE"):
            self.assertEqual(server.ask("/metrics", method)[0], 405, method)
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        connection.request("HEAD", "/metrics")
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()), (200, b""))
        self.assertGreater(int(response.headers["Content-Length"]), 0)
        connection.close()

    def test_control(self):
        tracer = self.tracer()
        server = self.serve("--allow-control")
        path = f"{API}/{NAME}/"
        token = {"Authorization": f"Bearer {server.token}"}
        self.route(tracer, 5)
        for headers in ({}, {"Authorization": server.token}, {"Authorization": f"Basic {server.token}"},
                        {"Authorization": f"Bearer {server.token[:-1]}"}, {"Authorization": f"Bearer {server.token}0"},
                        {"Authorization": "Bearer "}, {"Authorization": f"Bearer {'0' * 64}"}):
            status, its, _ = server.ask(path + "reset", "POST", headers)
            self.assertEqual((status, its["WWW-Authenticate"]), (401, "Bearer"), headers)
        self.assertEqual(tracer.models[0].totals["tokens"], 5)
        for verb in ("stop", "start", "reset"):
            status, _, text = server.ask(path + verb, "POST", token, b"")
            self.assertEqual((status, json.loads(text)["holds"][0]["context"]), (200, 1))
        self.assertEqual(tracer.models[0].totals["tokens"], 0)
        self.assertEqual([words for words in tracer.requests if words[0] in ("stop", "start", "reset")],
                         [["stop"], ["start"], ["reset"]])
        self.assertEqual(server.ask(path + "reset", "POST", {**token, "Origin": "http://evil.example"})[0], 403)
        self.assertEqual(server.ask(path + "reset", headers=token)[0], 404, "GET changes nothing")
        self.assertEqual(server.ask(path + "dump", "POST", token)[0], 404)
        self.assertEqual(server.ask(API + "/nope/reset", "POST", token)[0], 404)
        self.assertEqual(server.ask(path + "reset", "POST", token, b"x" * 5000)[0], 413)

    def test_control_is_off(self):
        self.tracer()
        server = self.serve()
        self.assertEqual(server.ask(f"{API}/{NAME}/reset", "POST", {"Authorization": "Bearer "})[0], 403)

    def test_refusal_of_the_process(self):
        self.tracer(answers={"reset": {"error": "it does not count"}})
        server = self.serve("--allow-control")
        status, _, text = server.ask(f"{API}/{NAME}/reset", "POST", {"Authorization": f"Bearer {server.token}"})
        self.assertEqual((status, json.loads(text)), (503, {"error": "it does not count"}))


class Clients(Case):
    def test_slow_client(self):
        """A byte each 100 ms: a hundred concurrent scrapes go through, and it is thrown out after ten seconds."""
        tracer = self.tracer()
        self.route(tracer, 10)
        server = self.serve()
        request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 1000
        ended = []

        def crawl():
            with socket.create_connection((server.host, server.port)) as connection:
                try:
                    for byte in request:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.1)
                except OSError:
                    ended.append(time.monotonic())
        begin = time.monotonic()
        slow = [threading.Thread(target=crawl) for _ in range(5)]
        for one in slow:
            one.start()
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            for _ in range(3):
                before = time.monotonic()
                for text in pool.map(lambda _: server.get("/metrics"), range(100)):
                    self.assert_counts(parse(text), tracer)
                self.assertLess(time.monotonic() - before, 10)
        for one in slow:
            one.join(20)
        self.assertEqual(len(ended), 5)
        self.assertLess(ended[-1] - begin, 14)

    def test_crowd(self):
        """Connections that say nothing take nobody's place."""
        tracer = self.tracer()
        server = self.serve()
        crowd = []
        self.addCleanup(lambda: [one.close() for one in crowd])
        for i in range(700):
            try:
                crowd.append(socket.create_connection((server.host, server.port), 5))
                if i % 3:
                    crowd[-1].sendall(b"GET /me"[:i % 7])
            except OSError:
                pass
            if i % 50 == 0:
                begin = time.monotonic()
                self.assert_counts(parse(server.get("/metrics")), tracer)
                self.assertLess(time.monotonic() - begin, 3)
        self.assert_counts(parse(server.get("/metrics")), tracer)

    def test_reader_that_does_not_read(self):
        """Answers that nobody fetches are given up."""
        tracer = self.tracer(FakeModel(n_layer=64, n_expert=256, n_used=8))
        server = self.serve("--per-expert")
        deaf = [socket.create_connection((server.host, server.port)) for _ in range(20)]
        self.addCleanup(lambda: [one.close() for one in deaf])
        for one in deaf:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assert_counts(parse(server.get("/metrics")), tracer)

    def test_malformed(self):
        """Whatever is sent, the next one is answered."""
        tracer = self.tracer()
        server = self.serve("--allow-control")
        chance = random.Random(17)
        good = f"POST {API}/{NAME}/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".encode()
        requests = [b"", b"\r\n" * 50, b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0",
                    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
                    b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 100000 + b"\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
                    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100000,
                    b"GET /api/v1/processes/%ff%00/statistics HTTP/1.1\r\nHost: localhost\r\n\r\n",
                    f"GET {API}/{NAME}/cache?size=%00&pcie=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()]
        for _ in range(300):
            broken = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            requests.append(bytes(broken[:chance.randrange(1, len(broken) + 1)]))
        for request in requests:
            try:
                server.raw(request)
            except OSError:
                pass # it hung up
        self.route(tracer, 3)
        self.assert_counts(parse(server.get("/metrics")), tracer)

    def test_keep_alive(self):
        self.tracer()
        server = self.serve()
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        for _ in range(50):
            connection.request("GET", "/metrics")
            self.assertEqual(connection.getresponse().read()[:6], b"# HELP")
        connection.close()


class Ends(Case):
    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            server = Server(self.folder)
            server.process.send_signal(number)
            self.assertEqual(server.stop(), (0, ""))

    def test_while_somebody_asks(self):
        """With connections open, a watch and an answer under way."""
        tracer = self.tracer()
        server = Server(self.folder)
        server.json(f"{API}/{NAME}/report")
        self.route(tracer, 500)
        idle = socket.create_connection((server.host, server.port))

        def ask():
            try:
                server.raw(f"GET {API}/{NAME}/report HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            except OSError:
                pass # it was hung up on
        asking = threading.Thread(target=ask)
        asking.start()
        begin = time.monotonic()
        self.assertEqual(server.stop(), (0, ""))
        self.assertLess(time.monotonic() - begin, 5)
        asking.join(10)
        idle.close()
        self.until(lambda: not tracer.watchers)

    def test_ipv6(self):
        if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
            self.skipTest("no IPv6")
        server = Server(self.folder, listen="[::1]:0")
        self.assertIn("http://[::1]:", server.address)
        self.assertEqual(server.ask("/metrics")[0], 200)
        self.assertEqual(server.stop(), (0, ""))

    def test_addresses(self):
        for listen in ("", "9464", "127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:65536", "evil.example:1", "[::1]",
                       "::1:9464", "127.0.0.1:-1", "127.0.0.1:1x"):
            done = subprocess.run([CLI, "serve", "--listen", listen], capture_output=True, text=True, timeout=10)
            self.assertEqual(done.returncode, 2, listen)
            self.assertIn("--listen needs an address", done.stderr)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = subprocess.run([CLI, "serve", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"],
                                  capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 1)
        self.assertIn("something does already", done.stderr)
        done = subprocess.run([CLI, "serve", "more"], capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 2)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@unittest.skipUnless(shutil.which("prometheus"), "no prometheus")
class Prometheus(Case):
    """A stock Prometheus scrapes, and its own API has the numbers."""

    def begin(self, server):
        port = free_port()
        (self.folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
            f"scrape_configs: [{{job_name: experts, static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]}}]\n")
        subprocess.run(["promtool", "check", "config", self.folder / "prometheus.yml"], check=True, capture_output=True)
        log = open(self.folder / "log", "wb")
        process = subprocess.Popen(["prometheus", f"--config.file={self.folder}/prometheus.yml",
                                    f"--storage.tsdb.path={self.folder}/data",
                                    f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        log.close()

        def end():
            process.terminate()
            process.wait(20)
        self.addCleanup(end)
        self.api = f"http://127.0.0.1:{port}/api/v1/query?query="

    def query(self, what):
        try:
            with urllib.request.urlopen(self.api + urllib.parse.quote(what), timeout=10) as response:
                return json.load(response)["data"]["result"]
        except OSError:
            return []

    def has(self, tracer):
        model = tracer.models[0]
        result = self.query(f'{PREFIX}activations_total{{process="{NAME}"}}')
        found = {int(one["metric"]["layer"]): int(one["value"][1]) for one in result}
        tokens = self.query(f'sum({PREFIX}tokens_total{{process="{NAME}"}})')
        return found == {i: sum(model.activations[i]) for i in range(model.n_layer)} \
            and int(tokens[0]["value"][1]) == model.totals["tokens"]

    def test_scrapes(self):
        tracer = self.tracer()
        server = self.serve("--per-expert")
        self.route(tracer, 40)
        self.begin(server)
        self.until(lambda: self.has(tracer), 30)
        self.route(tracer, 60, 2)
        self.until(lambda: self.has(tracer), 10)
        [up] = self.query('up{job="experts"}')
        self.assertEqual(up["value"][1], "1")
        experts = self.query(f'{PREFIX}expert_activations_total{{layer="1",process="{NAME}"}}')
        self.assertEqual({int(one["metric"]["expert"]): int(one["value"][1]) for one in experts},
                         dict(enumerate(tracer.models[0].activations[1])))
        [info] = self.query(f'{PREFIX}model_info{{process="{NAME}"}} * on(process) '
                            f'group_left(pid) {PREFIX}process_info')
        self.assertEqual((info["metric"]["pid"], info["metric"]["engine"]), (str(tracer.pid), "llama.cpp 0.7.0"))
        tracer.reset()
        self.route(tracer, 5, 3)
        self.until(lambda: self.has(tracer), 10)
        [resets] = self.query(f'resets({PREFIX}activations_total{{layer="0",process="{NAME}"}}[1m])')
        self.assertEqual(resets["value"][1], "1")


if __name__ == "__main__":
    unittest.main()
