# SPDX-License-Identifier: Apache-2.0
"""Starts eddy-server, runs eddy against it; the programs come from the folder EDDY_BIN."""

import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("EDDY_BIN", ROOT / "build" / "release" / "bin"))
MODEL = ROOT / "models" / "shakespeare"
SERVING = re.compile(r"^eddy-server: serving (\S+) on ([^ ,]+), metrics on (\S+)$")


class Server:
    """A running eddy-server on free ports; use it in a with statement."""

    def __init__(self, *flags, model=MODEL, timeout_s=60):
        command = [BIN / "eddy-server", "--model", model, "--listen", "127.0.0.1:0", "--metrics-listen",
                   "127.0.0.1:0", *map(str, flags)]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.address = self.metrics = None
        found = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(found,), daemon=True)
        self.reader.start()
        try:
            match = found.get(timeout=timeout_s)
        except queue.Empty:
            match = None
        if match is None:
            self.process.kill()
            raise RuntimeError("eddy-server did not start:\n" + "".join(self.lines))
        self.name, self.address, self.metrics = match.groups()

    def _read(self, found):
        for line in self.process.stdout:
            self.lines.append(line)
            match = SERVING.match(line)
            if match:
                found.put(match)
        found.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.reader.join()
        self.process.stdout.close()

    def start(self, *arguments):
        """Starts `eddy ARGUMENTS --server ...` and returns the process."""
        command = [str(BIN / "eddy"), arguments[0], *map(str, arguments[1:]), "--server", self.address]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments, timeout_s=300):
        """Runs it to its end: (exit code, stdout bytes, stderr text)."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_s)
        return process.returncode, out, err.decode()

    def generate(self, *arguments):
        """The messages of `eddy generate --json`, which must do well."""
        code, out, err = self.run("generate", "--json", *arguments)
        if code != 0:
            raise AssertionError(f"eddy generate {arguments} exited with {code}: {err}")
        return [json.loads(line) for line in out.decode().splitlines()]

    def tokens(self, *arguments):
        return token_ids(self.generate(*arguments))

    def metric(self, name):
        """Sum over labels of one series of the Prometheus page."""
        page = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        values = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                  if re.match(re.escape(name) + r"[{ ]", line)]
        if not values:
            raise AssertionError(f"no series {name} on the page")
        return sum(values)

    def resident_bytes(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def token_ids(messages):
    return [token for message in messages for token in message["token_ids"]]


def text(messages):
    return "".join(message["text"] for message in messages)


def wait_until(condition, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"did not come true in {timeout_s} s")
        time.sleep(0.02)
