#!/usr/bin/env python3
"""Tests of the streams of `llama-expert-tracer serve` (EXPERT_TRACER_CLI): what is in their frames is what tracers that
are none (counting_tracer.py) have counted, and clients that are slow, many or of other origins get what is theirs."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import socket
import time
import unittest
import urllib.parse
from pathlib import Path

from counting_tracer import CountingTracer, FakeModel
from test_import import gguf
from test_json import Reader
from test_serve import API, NAME, Case, Server

LIVE = f"{API}/{NAME}/live"
MOST = 16


class Stream:
    """A client of server-sent events, as the HTML standard reads them."""

    def __init__(self, server, path=LIVE, timeout=10, **headers):
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        self.connection.request("GET", path, headers={key.replace("_", "-"): its for key, its in headers.items()})
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.name = None
        if self.status == 200:
            assert self.response.headers["Content-Type"] == "text/event-stream", self.response.headers
            self.name = self.read("stream")["stream"]

    def event(self):
        """(event, data); None at the end"""
        event, data = "message", []
        while line := self.response.readline():
            line = line.decode().rstrip("\n")
            if line == "" and data:
                return event, json.loads("\n".join(data))
            field, _, value = line.partition(": ")
            if field == "event":
                event = value
            elif field == "data":
                data.append(value)
        return None

    def read(self, wanted="frame"):
        event = self.event()
        assert event is not None and event[0] == wanted, event
        return event[1]

    def until(self, check, wanted="frame", n=8):
        """The first of the next frames for which it is so."""
        for _ in range(n):
            if check(frame := self.read(wanted)):
                return frame
        raise AssertionError(f"it did not happen: {frame}")

    def close(self):
        if self.connection.sock is not None:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.response.close()
        self.connection.close()


class StreamCase(Case):
    def stream(self, server, path=LIVE, **options):
        stream = Stream(server, path, **options)
        self.addCleanup(stream.close)
        return stream

    def assert_frame(self, frame, model):
        """Every number of the tracer is there, as it is."""
        its = model.totals
        self.assertEqual(frame["tokens"], {"all": its["tokens"], "prompt": its["prompt"],
                                           "generation": its["generation"], "lost": its["lost"]})
        self.assertEqual([layer["counts"] for layer in frame["layers"]], model.activations)
        for layer, counts in zip(frame["layers"], model.activations):
            self.assertEqual(layer["activations"], sum(counts))
            self.assertEqual(layer["never_used"], counts.count(0))
            self.assertEqual(layer["hottest"], {"expert": counts.index(max(counts)),
                                                "share": layer["hottest"]["share"]})
            self.assertAlmostEqual(layer["hottest"]["share"], max(counts) / sum(counts))
        hot = sorted((-n, layer, expert) for layer, counts in enumerate(model.activations)
                     for expert, n in enumerate(counts) if n)
        self.assertEqual(sorted((-slot["count"], slot["layer"], slot["expert"]) for slot in frame["hot"]), hot[:64])


class Frames(StreamCase):
    def test_numbers(self):
        tracer = self.tracer(FakeModel(), FakeModel("Second", n_layer=3, n_expert=8, n_used=3))
        server = self.serve()
        for name, model in zip(("Oracle", "Second"), tracer.models):
            stream = self.stream(server, f"{LIVE}?window=all&model={name}")
            for seed in range(3):
                model.totals["lost"] += 1
                self.route(tracer, 30, seed, model=model, generation=seed % 2 == 0)
                frame = stream.until(lambda it: it["tokens"]["all"] == model.totals["tokens"])
                self.assert_frame(frame, model)
                self.assertEqual(frame["model"]["name"], name)
                self.assertEqual((frame["pid"], frame["window"], frame["models"]), (tracer.pid, None, 2))
            self.assertEqual(frame["watched"]["tokens"], 90)
            for phases in (frame["reuse"], *(size["lru_all"] for size in frame["sizes"])):
                self.assertEqual(phases["all"]["of"], phases["prompt"]["of"] + phases["generation"]["of"])
            [sequence] = frame["sequences"]
            self.assertEqual((sequence["prompt_tokens"], sequence["generation_tokens"]), (30, 60))

    def test_is_what_docs_say(self):
        """Every key, of every type; nothing that is not known is a number."""
        tracer = self.tracer(FakeModel(n_expert=8), program=b"/bin/\xff\x1b" + NAME.encode())
        server = self.serve()
        [its] = [one["process"] for one in server.json(API)["processes"] if NAME in one["process"]]
        stream = self.stream(server, f"{API}/{urllib.parse.quote(its)}/live?window=2")
        stream.read()
        self.route(tracer, 50)
        reader = Reader()
        for _ in range(3):
            frame = stream.read()
            reader.read_object(frame, "watch", "watch")
        self.assertIsNone(frame["program"])
        self.assertEqual(frame["llama_expert_tracer_watch"], 1)

    def served(self, tokens, n_slots):
        """Of requests, the share that an LRU cache in each layer serves."""
        recent, hits, requests = {}, 0, 0
        for layers in tokens:
            for layer, experts in enumerate(layers):
                before = recent.setdefault(layer, [])
                hits += sum(expert in before[:n_slots] for expert in experts)
                requests += len(experts)
                recent[layer] = experts[::-1] + [expert for expert in before if expert not in experts]
        return hits / requests

    def test_phases_are_not_known(self):
        """Of a program whose calls are not seen: what is told is of all tokens, and nothing is of a phase."""
        model  = FakeModel(n_expert=8, phases_known=False)
        tracer = self.tracer(model)
        stream = self.stream(self.serve(), f"{LIVE}?window=60")
        stream.read()
        chance = random.Random(1)
        tokens = [[chance.sample(range(8), 2) for _ in range(2)] for _ in range(90)]
        for position, layers in enumerate(tokens):
            tracer.route([(position, layers)], model=model)
        rates = []
        stream.until(lambda it: rates.append(it["rates"]) or it["watched"]["tokens"] == 90)
        frame, none = stream.read(), {"prompt": None, "generation": None}
        Reader().read_object(frame, "watch", "watch")
        self.assertAlmostEqual(sum(rate["all"] for rate in rates), 90, delta=9)
        self.assertAlmostEqual(frame["window_rates"]["all"] * frame["window"], 90)
        self.assertEqual(frame["tokens"], {"all": 90, **none, "lost": 0})
        self.assertEqual([rate | none for rate in (*rates, frame["window_rates"])], [*rates, frame["window_rates"]])
        self.assertEqual((frame["reuse"], frame["sequences"]), ({"all": {"share": None, "of": 0}, **none}, []))
        for size in frame["sizes"]:
            self.assertEqual(size["lru_all"], {"all": {"share": size["lru_all"]["all"]["share"], "of": 360}, **none})
            self.assertAlmostEqual(size["lru_all"]["all"]["share"], self.served(tokens, int(size["slots"])))
            self.assertEqual((size["lru"], size["llama"] | none), (size["lru_all"], size["llama"]))

    @unittest.skipUnless(os.geteuid() == 0, "only root can be two users")
    def test_whose_file_it_is(self):
        """The model's file is read where the process is one's own: somebody else could name any."""
        file = Path(self.folder) / "model.gguf"
        file.write_bytes(gguf({"general.architecture": "qwen3moe", "qwen3moe.expert_count": 8},
                              {f"blk.{i}.ffn_up_exps.weight": (4, 2, 8) for i in range(2)})) # 32 bytes an expert
        tracer = self.tracer(FakeModel(n_expert=8, file=str(file)))
        server = self.serve()
        for user, n_bytes in ((0, 2 * 8 * 32), (65534, None)):
            os.seteuid(user)
            tracer.listening.listen(64) # whose socket it is from now on
            os.seteuid(0)
            stream = self.stream(server)
            stream.read()
            self.route(tracer, 1)
            frame = stream.until(lambda it: it["sizes"])
            self.assertEqual(frame["expert_bytes"], n_bytes)

    def test_each_second(self):
        self.tracer()
        stream = self.stream(self.serve())
        stream.read()
        begin = time.monotonic()
        frames = [stream.read() for _ in range(4)]
        self.assertAlmostEqual(time.monotonic() - begin, 4, delta=0.6)
        self.assertAlmostEqual(frames[-1]["time"], time.time(), delta=1)

    def test_window(self):
        """What was counted before it is not in it; a stream that is asked for another one keeps what it knows."""
        tracer = self.tracer()
        server = self.serve()
        self.route(tracer, 40)
        stream = self.stream(server, f"{LIVE}?window=1")
        stream.until(lambda it: it["watched"]["seconds"] > 2)
        self.assertEqual(stream.read()["activations"], 0)
        begin = time.monotonic()
        self.assertEqual(server.ask(f"{LIVE}?stream={stream.name}&window=all", "POST")[0], 200)
        frame = stream.until(lambda it: it["window"] is None, n=2)
        self.assertLess(time.monotonic() - begin, 1)
        self.assert_frame(frame, tracer.models[0])
        self.assertGreater(frame["watched"]["seconds"], 3)

    def test_another_model(self):
        tracer = self.tracer(FakeModel(), FakeModel("Second", n_layer=3))
        server = self.serve()
        self.route(tracer, 5)
        stream = self.stream(server)
        self.assertEqual(stream.read()["model"]["name"], "Oracle", "the busiest")
        server.ask(f"{LIVE}?stream={stream.name}&model=Second", "POST")
        self.assertEqual(len(stream.until(lambda it: it["model"]["name"] == "Second")["layers"]), 3)

    def test_reset(self):
        tracer = self.tracer()
        stream = self.stream(self.serve(), f"{LIVE}?window=all")
        self.route(tracer, 20)
        stream.until(lambda it: it["tokens"]["all"] == 20)
        tracer.reset()
        self.route(tracer, 3)
        self.assert_frame(stream.until(lambda it: it["tokens"]["all"] == 3), tracer.models[0])

    def test_no_model_yet(self):
        tracer = CountingTracer(self.folder, [], program=NAME)
        self.addCleanup(tracer.close)
        stream = self.stream(self.serve())
        self.assertEqual(stream.read("wait"), {"note": "no model is open there yet"})

    def test_end(self):
        """Of the process: it is told at once, and the stream ends."""
        tracer = self.tracer()
        stream = self.stream(self.serve())
        stream.read()
        tracer.close()
        begin = time.monotonic()
        self.assertEqual(stream.event(), ("end", {}))
        self.assertIsNone(stream.event())
        self.assertLess(time.monotonic() - begin, 1)

    def test_questions(self):
        self.tracer()
        server = self.serve()
        for query, status in (("window=0", 400), ("window=61", 400), ("window=", 400), ("window=1s", 400),
                              ("window=-1", 400), ("window=99999999999", 400), ("model=nope", 404)):
            self.assertEqual(server.ask(f"{LIVE}?{query}")[0], status, query)
        for path in (f"{LIVE}?stream=", f"{LIVE}?stream={'0' * 64}", LIVE, f"{API}/nope/live"):
            self.assertEqual(server.ask(path, "POST")[0], 404, path)
        self.assertEqual(server.ask(f"{API}/nope/live")[0], 404)
        self.assertEqual(server.ask(LIVE, "HEAD")[0], 200)


class Clients(StreamCase):
    def test_many(self):
        """As many as there may be; who comes later is refused, until one goes. Nobody watches for nobody."""
        tracer = self.tracer()
        server = self.serve()
        streams = [self.stream(server) for _ in range(MOST)]
        self.until(lambda: len(tracer.watchers) == MOST)
        self.assertEqual(server.ask(LIVE)[0], 503)
        self.assertIn("streams are open", server.json(LIVE, 503)["error"])
        for stream in streams:
            self.assertEqual(stream.read()["tokens"]["all"], 0)
        streams[3].close()
        self.until(lambda: len(tracer.watchers) == MOST - 1)
        self.assertEqual(self.stream(server).status, 200)
        for stream in streams:
            stream.close()
        self.until(lambda: len(tracer.watchers) <= 1)

    def test_slow(self):
        """Who does not read is hung up on after half a minute; who reads stays."""
        tracer = self.tracer(FakeModel(n_layer=64, n_expert=512, n_used=8))
        server = self.serve()
        deaf = socket.socket()
        self.addCleanup(deaf.close)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((server.host, server.port))
        deaf.sendall(f"GET {LIVE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        good = self.stream(server)
        self.until(lambda: len(tracer.watchers) == 2)
        begin = time.monotonic()
        while len(tracer.watchers) == 2:
            self.assertEqual(good.read()["tokens"]["all"], 0)
            self.assertLess(time.monotonic() - begin, 45)
        self.assertGreater(time.monotonic() - begin, 25)
        for _ in range(3):
            good.read()

    def test_others(self):
        """Pages of other origins, and of names that lead here."""
        self.tracer()
        server = self.serve()
        for headers, status in (({"Origin": "http://evil.example"}, 403), ({"Sec_Fetch_Site": "cross-site"}, 403),
                                ({"Host": "evil.example"}, 421), ({"Sec_Fetch_Site": "same-origin"}, 200)):
            self.assertEqual(self.stream(server, **headers).status, status, headers)
        stream = self.stream(server)
        path = f"{LIVE}?stream={stream.name}&window=all"
        self.assertEqual(server.ask(path, "POST", {"Origin": "http://evil.example"})[0], 403)

    def test_stop(self):
        """At once, whoever reads."""
        tracer = self.tracer()
        server = Server(self.folder)
        streams = [Stream(server) for _ in range(MOST)]
        self.addCleanup(lambda: [stream.close() for stream in streams])
        begin = time.monotonic()
        self.assertEqual(server.stop(), (0, ""))
        self.assertLess(time.monotonic() - begin, 2)
        self.until(lambda: not tracer.watchers)

    def test_comes_and_goes(self):
        """Streams that are opened and closed all the time leave nothing behind."""
        tracer = self.tracer()
        server = self.serve()
        before = len(os.listdir(f"/proc/{server.process.pid}/fd"))

        def visit(_):
            with contextlib.closing(Stream(server)) as stream:
                total = stream.read()["tokens"]["all"]
            time.sleep(0.3) # it is seen to be gone
            return total
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(list(pool.map(visit, range(60))), [0] * 60)
        self.until(lambda: not tracer.watchers)
        self.until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) <= before)
        self.assertEqual(self.stream(server).status, 200)


class Page(Case):
    def test_index(self):
        """A page for browsers, a text for all others."""
        server = self.serve()
        self.assertIn("/metrics", server.get("/"))
        self.assertIn("/metrics", server.get("/", Accept="text/plain"))
        browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        status, headers, text = server.ask("/", headers={"Accept": browser})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("<!DOCTYPE html>", text)
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)

    def test_parts(self):
        """What the page asks for is there, and nothing else is."""
        server = self.serve()
        text = server.get("/", Accept="text/html")
        parts = [part.split('"')[0] for part in text.split('"page/')[1:]]
        self.assertGreater(len(parts), 8)
        for part in parts:
            status, headers, _ = server.ask(f"/page/{part}")
            kind = "text/css" if part.endswith(".css") else "text/javascript"
            self.assertEqual((status, headers["Content-Type"]), (200, f"{kind}; charset=utf-8"))
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        for path in ("/page/", "/page/live.html", "/page/page.html", "/page/nope.js", "/page/../etc/passwd", "/page",
                     "/live.js"):
            self.assertEqual(server.ask(path)[0], 404, path)


if __name__ == "__main__":
    unittest.main()
