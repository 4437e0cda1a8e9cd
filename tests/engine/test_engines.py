#!/usr/bin/env python3
"""One binary of ours on nine engines of two years, each through several kinds of client."""

import unittest

from engines import (CLIENTS_TRIED, CTYPES, LINKED, NODE, OLD, RELEASES, answer, check, evaluated, has_set_warmup,
                     python_command, right_answer)
from harness import BOS, EOS, MIXTRAL, TestCase, main, run


class Engines(TestCase):
    def test_every_engine_and_client(self):
        for client in CLIENTS_TRIED:
            for release in client.releases:
                for oracle in RELEASES[release]:
                    with self.subTest(client=client.name, release=release, model=oracle.name):
                        self.stats_path.unlink(missing_ok=True)
                        check(self, client, release, oracle)

    def test_answers_are_those_of_an_untraced_run(self):
        for client in CLIENTS_TRIED:
            for release in client.releases:
                with self.subTest(client=client.name, release=release):
                    untraced = client.run(release, MIXTRAL, preload=False)
                    traced = client.run(release, MIXTRAL, trace={"STATS": 1, "NAMES": 1})
                    self.assertEqual((untraced.status, traced.status), (0, 0), traced.err)
                    self.assertEqual(answer(client, traced), answer(client, untraced))

    def test_preloaded_and_nothing_asked_for(self):
        for client in CLIENTS_TRIED:
            for release in client.releases:
                with self.subTest(client=client.name, release=release):
                    result = client.run(release, MIXTRAL)
                    self.assertEqual(result.status, 0, result.err)
                    self.assertNotIn("EXPERT-TRACE", result.out + result.err)
                    self.assertNotIn("Expert Usage", result.out + result.err)


class PythonClients(TestCase):
    """What a client of dlsym calls is not seen: only libllama's own calls to libggml pass us."""

    def client(self, release, *options):
        self.stats_path.unlink(missing_ok=True)
        result = run(*python_command(release, MIXTRAL.path, *options), trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        return self.stats()

    def test_ends_without_freeing(self):
        for release in OLD:
            for options in ["--no-free"], ["--no-free", "--linked"]:
                with self.subTest(release=release, options=options):
                    stats = self.client(release, *options)
                    self.assertTrue(stats["complete"])
                    self.assert_counts(stats, MIXTRAL, evaluated(release, MIXTRAL))

    def test_warmup_with_every_expert(self):
        # llama_set_warmup is not seen, but no other batch uses more experts than the model's file says
        for release in filter(has_set_warmup, OLD):
            with self.subTest(release=release):
                self.assert_counts(self.client(release, "--warm-up"), MIXTRAL, evaluated(release, MIXTRAL))

    def test_warmup_that_is_like_everything_else_counts(self):
        for release in OLD:
            if has_set_warmup(release):
                continue
            with self.subTest(release=release):
                self.assert_counts(self.client(release, "--warm-up"), MIXTRAL,
                                   [(BOS, False), (EOS, True), *evaluated(release, MIXTRAL)])


class Names(TestCase):
    def test_tensors_of_every_activation(self):
        expected = [f"[EXPERT-TRACE] Layer {layer}, Expert {expert}: blk.{layer}.ffn_{projection}_exps.{expert}.weight"
                    for token, asks in evaluated(OLD[0], MIXTRAL)
                    for layer in range(MIXTRAL.n_layer if asks else MIXTRAL.n_layer - 1)
                    for expert in MIXTRAL.experts(layer, token)
                    for projection in ("gate", "down", "up")]
        for client in NODE, LINKED, CTYPES:
            for release in client.releases:
                with self.subTest(client=client.name, release=release):
                    result = client.run(release, MIXTRAL, trace={"NAMES": 1})
                    self.assertEqual(result.status, 0, result.err)
                    lines = [line for line in result.said() if line.startswith("[EXPERT-TRACE] Layer")]
                    self.assertEqual(sorted(lines), sorted(expected))
                    self.assertEqual(answer(client, result), right_answer(client, MIXTRAL))


if __name__ == "__main__":
    main()
