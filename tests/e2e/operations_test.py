# SPDX-License-Identifier: Apache-2.0
"""Load, cancel, deadline, full queue, drain, and the metrics page, with real processes."""

import json
import signal
import subprocess
import unittest
import urllib.request

from tests.e2e.programs import BIN, Server, wait_until

LONG = ("--prompt", "ROMEO:\n", "--max-tokens", 1_000_000, "--seed", 1)


class Operations(unittest.TestCase):
    def test_a_client_that_goes_away_frees_its_slot(self):
        with Server("--slots", 1, "--max-tokens-limit", 1_000_000) as server:
            process = server.start("generate", *LONG)
            process.stdout.read(64)
            process.kill()
            process.communicate()
            self.assertEqual(len(server.tokens("--prompt", "x", "--max-tokens", 5)), 5)
            wait_until(lambda: server.metric("eddy_num_requests_running") == 0)

    def test_deadline(self):
        with Server("--max-tokens-limit", 1_000_000) as server:
            messages = server.generate(*LONG, "--deadline-ms", 700)
            self.assertEqual(messages[-1]["finish_reason"], "FINISH_REASON_DEADLINE")
            self.assertGreater(messages[-1]["usage"]["generated_tokens"], 10)

    def test_a_full_queue_refuses_at_once(self):
        with Server("--slots", 1, "--queue", 1, "--max-tokens-limit", 1_000_000) as server:
            running = server.start("generate", *LONG)
            running.stdout.read(1)
            waiting = server.start("generate", *LONG)
            wait_until(lambda: server.metric("eddy_num_requests_waiting") == 1)
            code, _, err = server.run("generate", "--prompt", "x")
            self.assertNotEqual(code, 0)
            self.assertIn("RESOURCE_EXHAUSTED", err)
            for process in (waiting, running):
                process.kill()
                process.communicate()

    def test_drain_lets_running_turns_finish(self):
        with Server("--grace-ms", 300_000) as server:  # no slow machine outlasts it
            process = server.start("generate", "--prompt", "ROMEO:\n", "--max-tokens", 2000, "--seed", 1, "--json")
            process.stdout.readline()
            server.process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=300)
            self.assertEqual(process.returncode, 0, err)
            last = json.loads(out.decode().splitlines()[-1])
            self.assertEqual(last["finish_reason"], "FINISH_REASON_LENGTH")
            self.assertEqual(server.process.wait(30), 0)

    def test_drain_ends_long_turns_after_the_grace_time(self):
        with Server("--grace-ms", 300, "--max-tokens-limit", 1_000_000) as server:
            process = server.start("generate", *LONG, "--json")
            process.stdout.readline()
            server.process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, err)
            self.assertEqual(json.loads(out.decode().splitlines()[-1])["finish_reason"], "FINISH_REASON_CANCELLED")
            self.assertEqual(server.process.wait(30), 0)

    def test_bench_and_metrics(self):
        with Server("--slots", 8) as server:
            code, out, err = server.run("bench", "--streams", 4, "--requests", 12, "--max-tokens", 20, "--json")
            self.assertEqual(code, 0, err)
            self.assertIsInstance(json.loads(out), dict)
            self.assertEqual(server.metric("eddy_generation_tokens_total"), 240)
            self.assertEqual(server.metric("eddy_request_success_total"), 12)
            self.assertEqual(server.metric("eddy_time_to_first_token_seconds_count"), 12)
            self.assertEqual(server.metric("eddy_inter_token_latency_seconds_count"), 12 * 19)
            self.assertEqual(server.metric("eddy_state_pool_slots"), 8)
            page = urllib.request.urlopen(server.metrics, timeout=10).read().decode()
            self.assertIn('le="0.0005"', page)

    def test_help_teaches(self):
        for program in ("eddy-server", "eddy"):
            done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual(done.returncode, 0)
            self.assertGreater(len(done.stdout.splitlines()), 10)

    def test_a_taken_port_is_said(self):
        with Server() as server:
            done = subprocess.run([BIN / "eddy-server", "--model", "models/shakespeare", "--listen", server.address],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(server.address, done.stderr)


if __name__ == "__main__":
    unittest.main()
