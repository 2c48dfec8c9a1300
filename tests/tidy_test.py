#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The habits of the house as a test: sizes, include direction, names, leftovers, tests for every source."""

import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX = 500
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

# Folder -> folders of the house its files may include from.
INCLUDES = {
    "kernels": {"kernels"},
    "engine": {"engine", "kernels"},
    "server": {"server", "engine", "kernels", "eddy"},
    "client": {"client", "eddy"},
    "quantize": {"quantize", "engine", "kernels"},
}
HOUSE = {"kernels", "engine", "server", "client", "quantize", "eddy", "tests", "models", "deploy"}
KERNEL_HEADERS_FOR_ENGINE = {"backend", "bf16", "quantise", "tensor", "buffer", "workspace", "check", "status_macros"}
# No numerics in these two: everybody may check and return errors alike.
KERNEL_HEADERS_FOR_SERVER = {"check", "status_macros"}


def tracked(*suffixes):
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    files = [ROOT / name for name in names if name]
    return [f for f in files if f.is_file() and (not suffixes or f.suffix in suffixes)]


def relative(path):
    return str(path.relative_to(ROOT))


def blank_out(text):
    """The same text, of the same length and lines, with comments, strings and characters blanked."""
    pattern = re.compile(
        r'R"(?P<d>[^()\\ ]{0,16})\(.*?\)(?P=d)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
        re.DOTALL)
    # A ' between digits or letters separates digits (1'000) and starts no character.
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "0", text)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def functions(text):
    """(first line, line count) of every outermost block that is no namespace, class, enum or initialiser."""
    code = blank_out(text)
    stack, found, head_start = [], [], 0
    for i, c in enumerate(code):
        if c == "{":
            head = code[head_start:i]
            scope = re.search(r"\b(namespace|class|struct|union|enum|extern)\b[^;()]*$", head) is not None
            inside = any(kind == "function" for kind, _ in stack)
            if scope and not inside:
                stack.append(("scope", i))
            elif ")" in head and not inside and "=" not in head.split(")")[-1]:
                stack.append(("function", head_start + len(head) - len(head.lstrip())))
            else:
                stack.append(("block", i))
            head_start = i + 1
        elif c == "}":
            if stack:
                kind, start = stack.pop()
                if kind == "function":
                    first = code.count("\n", 0, start) + 1
                    found.append((first, code.count("\n", 0, i) + 2 - first))
            head_start = i + 1
        elif c == ";":
            head_start = i + 1
    return found


class Tidy(unittest.TestCase):
    def complain(self, complaints):
        self.assertFalse(complaints, "\n" + "\n".join(complaints))

    def test_sizes(self):
        complaints = []
        for path in tracked(".cc", ".h", ".cu", ".cuh", ".py", ".proto"):
            text = path.read_text(encoding="utf-8")
            lines = text.split("\n")
            if len(lines) > LINES_MAX:
                complaints.append(f"{relative(path)}: {len(lines)} lines, at most {LINES_MAX}")
            wide = COLUMNS_MAX if path.suffix in (".cc", ".h", ".cu", ".cuh") else COLUMNS_MAX + 20
            for number, line in enumerate(lines, 1):
                if len(line) > wide:
                    complaints.append(f"{relative(path)}:{number}: {len(line)} columns, at most {wide}")
                if line != line.rstrip():
                    complaints.append(f"{relative(path)}:{number}: blanks at the end of the line")
            if path.suffix in (".cc", ".h", ".cu", ".cuh"):
                for first, count in functions(text):
                    if count > FUNCTION_LINES_MAX:
                        complaints.append(f"{relative(path)}:{first}: a function of {count} lines, "
                                          f"at most {FUNCTION_LINES_MAX}")
        self.complain(complaints)

    def test_function_finder_sees_long_functions(self):
        body = "  x();\n" * 80
        text = "namespace a {\nclass B {\n  void F() {\n" + body + "  }\n};\nint G(int x) {\n}\n}\n"
        self.assertEqual(functions(text), [(3, 82), (86, 2)])

    def test_include_direction(self):
        complaints = []
        for path in tracked(".cc", ".h", ".cu", ".cuh"):
            parts = path.relative_to(ROOT).parts
            allowed = INCLUDES.get(parts[0])
            if allowed is None:
                continue
            for name in re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
                target = name.split("/")
                if target[0] in HOUSE and target[0] not in allowed:
                    complaints.append(f"{relative(path)} includes {name}")
                if parts[0] in ("engine", "quantize") and target[0] == "kernels" and (
                        len(target) > 2 or target[1].split(".")[0] not in KERNEL_HEADERS_FOR_ENGINE):
                    complaints.append(f"{relative(path)} includes {name}: kernels' insides")
                if parts[0] == "server" and target[0] == "kernels" and (
                        target[1].split(".")[0] not in KERNEL_HEADERS_FOR_SERVER):
                    complaints.append(f"{relative(path)} includes {name}: numerics")
                if target[:2] == ["engine", "models"]:
                    complaints.append(f"{relative(path)} includes {name}: model families have no headers")
        self.complain(complaints)

    def test_names(self):
        bad = re.compile(r"(^|[/_.])(utils?|common|helpers?|misc|manager)([/_.]|$)")
        self.complain([relative(p) for p in tracked() if bad.search(relative(p))])

    def test_leftovers(self):
        bad = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|DISABLED_|GTEST_SKIP|#if 0")
        complaints = []
        for path in tracked(".cc", ".h", ".cu", ".cuh", ".py", ".proto", ".txt"):
            if path == pathlib.Path(__file__).resolve() or "tinyshakespeare" in path.name:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
                if bad.search(line):
                    complaints.append(f"{relative(path)}:{number}: {line.strip()}")
        self.complain(complaints)

    def test_licence_line(self):
        complaints = []
        for path in tracked(".cc", ".h", ".cu", ".cuh", ".py", ".proto"):
            head = path.read_text(encoding="utf-8").split("\n")[:2]
            if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
                complaints.append(relative(path))
        self.complain(complaints)

    def test_every_source_is_built_and_tested(self):
        complaints = []
        tests = "\n".join(p.read_text(encoding="utf-8") for p in tracked(".cc") if relative(p).startswith("tests/"))
        for path in tracked(".cc"):
            folder, name = path.relative_to(ROOT).parts[0], path.relative_to(ROOT)
            if folder not in INCLUDES:
                continue
            lists = [p / "CMakeLists.txt" for p in path.parents if ROOT in p.parents]
            lists = [p for p in lists if p.exists()]
            if not any(path.name in text.read_text(encoding="utf-8") for text in lists):
                complaints.append(f"{name} is in no CMakeLists.txt")
            header = path.with_suffix(".h")
            twin = ROOT / "tests" / name.with_name(path.stem + "_test.cc")
            if not header.exists():  # one of several sources of a header: convert_request.cc of convert.h
                header = path.with_name(path.stem.rsplit("_", 1)[0] + ".h")
            included = header.exists() and f'#include "{header.relative_to(ROOT)}"' in tests
            # A kernel that is compiled for several targets is reached through the backend only.
            behind_backend = name.parts[:2] == ("kernels", "cpu")
            # A family is tested by its goldens, all of which tests/engine/models/ reads.
            is_golden = name.parts[:2] == ("engine", "models") and (ROOT / "tests/golden" / path.stem).is_dir()
            if path.name != "main.cc" and not (twin.exists() or included or behind_backend or is_golden):
                complaints.append(f"{name} has no test: {relative(twin)}, or one that includes its header")
        self.complain(complaints)

    def test_big_files(self):
        self.complain([relative(p) for p in tracked() if p.stat().st_size > 12 << 20])


if __name__ == "__main__":
    unittest.main()
