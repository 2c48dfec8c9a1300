# SPDX-License-Identifier: Apache-2.0
"""Sessions over the wire: what a second turn reads, limits, deletion, the client's words."""

import json
import unittest

from tests.e2e.programs import Server, text, token_ids


class Sessions(unittest.TestCase):
    def test_a_second_turn_reads_only_its_own_tokens(self):
        with Server() as server:
            prompt = "KING HENRY:\nWhat say you, cousin?\n"
            first = server.generate("--session", "talk", "--create", "--prompt", prompt, "--max-tokens", 30)
            usage = first[-1]["usage"]
            self.assertEqual((usage["prompt_tokens"], usage["reused_tokens"], usage["generated_tokens"]),
                             (len(prompt), 0, 30))
            read = server.metric("eddy_prompt_tokens_total")
            self.assertEqual(read, len(prompt))

            again = "\nQUEEN:\n"
            second = server.generate("--session", "talk", "--prompt", again, "--max-tokens", 10)
            usage = second[-1]["usage"]
            self.assertEqual(usage["prompt_tokens"], len(prompt) + 30 + len(again))
            # All but the last generated token, which no step had read yet.
            self.assertEqual(usage["reused_tokens"], len(prompt) + 29)
            self.assertEqual(server.metric("eddy_prompt_tokens_total") - read, len(again))
            self.assertEqual(second[0]["position"], usage["prompt_tokens"])

    def test_two_turns_equal_one(self):
        with Server() as server:
            greedy = ("--temperature", 0)
            whole = server.tokens("--prompt", "MENENIUS:\nI tell you, friends,", "--max-tokens", 50, *greedy)
            first = server.tokens("--session", "s", "--create", "--prompt", "MENENIUS:\n", "--max-tokens", 1, *greedy)
            self.assertEqual(len(first), 1)
            server.run("sessions", "delete", "s")
            # A turn cannot be empty of output, so the halves meet at a token that the first one generated.
            head = server.tokens("--session", "t", "--create", "--prompt", "MENENIUS:\nI tell you, friends,",
                                 "--max-tokens", 20, *greedy)
            self.assertEqual(head, whole[:20])
            tail = server.tokens("--session", "t", "--token-ids", whole[20], "--max-tokens", 29, *greedy)
            self.assertEqual(tail, whole[21:])

    def test_positions_and_text(self):
        with Server() as server:
            messages = server.generate("--prompt", "ROMEO:\n", "--max-tokens", 40, "--seed", 3)
            position = len("ROMEO:\n")
            for message in messages:
                self.assertEqual(message["position"], position)
                position += len(message["token_ids"])
            self.assertEqual(bytes(token_ids(messages)).decode("utf-8", "replace"), text(messages))
            self.assertEqual(messages[-1]["finish_reason"], "FINISH_REASON_LENGTH")
            self.assertTrue(all("finish_reason" not in m for m in messages[:-1]))
            code, out, _ = server.run("generate", "--prompt", "ROMEO:\n", "--max-tokens", 40, "--seed", 3)
            self.assertEqual((code, out.decode()), (0, text(messages)))

    def test_stop_strings_never_leak(self):
        with Server() as server:
            free = text(server.generate("--prompt", "ROMEO:\n", "--max-tokens", 80, "--temperature", 0))
            stop = free[30:36]
            messages = server.generate("--prompt", "ROMEO:\n", "--max-tokens", 80, "--temperature", 0, "--stop", stop)
            self.assertEqual(text(messages), free[:free.index(stop)])
            self.assertEqual(messages[-1]["finish_reason"], "FINISH_REASON_STOP_SEQUENCE")

    def test_log_probs(self):
        with Server() as server:
            messages = server.generate("--prompt", "ROMEO:\n", "--max-tokens", 12, "--temperature", 0, "--log-probs",
                                       "--top-log-probs", 3)
            given = [entry for message in messages for entry in message["log_probs"]]
            self.assertEqual(len(given), 12)
            for entry, token in zip(given, token_ids(messages)):
                self.assertEqual(entry["token"]["token_id"], token)
                self.assertEqual(entry["top"][0]["token_id"], token)  # greedy
                values = [top["log_prob"] for top in entry["top"]]
                self.assertEqual(values, sorted(values, reverse=True))
                self.assertLess(values[0], 0)

    def test_list_in_pages_and_delete(self):
        with Server("--slots", 2) as server:
            names = [f"session-{i:02}" for i in range(12)]
            for name in names:
                code, _, err = server.run("sessions", "create", name)
                self.assertEqual(code, 0, err)
            code, out, err = server.run("sessions", "list", "--json")
            self.assertEqual(code, 0, err)
            listed = [json.loads(line)["name"] for line in out.decode().splitlines()]
            self.assertEqual(listed, names)
            self.assertEqual(server.run("sessions", "delete", names[3])[0], 0)
            code, _, err = server.run("generate", "--session", names[3], "--prompt", "x")
            self.assertNotEqual(code, 0)
            self.assertIn("NOT_FOUND", err)


if __name__ == "__main__":
    unittest.main()
