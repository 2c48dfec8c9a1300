# SPDX-License-Identifier: Apache-2.0
"""Texts that tokenizers differ on, for make_tokenizers.py and tests/tokenizers/compare.py."""

import unicodedata

# A little of much: what the small vocabularies are trained on.
CORPUS = [
    "First Citizen: Before we proceed any further, hear me speak. All: Speak, speak.",
    "You are all resolved rather to die than to famish? Resolved. resolved.",
    "The quick brown fox jumps over the lazy dog; the dog doesn't mind, and we'll see what they've done.",
    "def encode(text: str) -> list[int]:\n    return [ord(c) for c in text if c != '\\n']\n",
    "for (int i = 0; i < 1024; ++i) {\n\tsum += values[i] * 3.14159;\n}\n",
    "In 1969, 2001 and 2024 there were 365, 365 and 366 days: 1,096 in all (about 26304 hours).",
    "Ein kleiner Fluß fließt über die Wiese; süße Äpfel, größere Bäume, Straßen und Brücken.",
    "Le garçon a mangé à la crêperie où l'élève était déjà; cœur, naïve, forêt.",
    "El niño pequeño comió piñas mañana; ¿dónde está? ¡Allí!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "我们的模型可以读写中文文本,今天天气很好。你好,世界!",
    "こんにちは世界。これは日本語の文章です。カタカナもあります。",
    "안녕하세요 세계. 한국어 문장입니다.",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก",
    "😀 😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ → ∑ ≤ ½ ① Ⅳ",
]

FIXED = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t", "a", " a", "a ", "  a  b  ", "Hello, world!", "hello world hello  world",
    "I'm we're they've don't he'll she'd it's IT'S I'M ſ'ſ", "’s ‘quoted’ “double”", "123456789 1 12 1234 ٣٤٥ ½ Ⅳ ①",
    "caf\u00e9 cafe\u0301 \u212b \u1e69 s\u0323\u0307 s\u0307\u0323 \uac00 \u1100\u1161\u11a8",
    "a\u0300\u0316\u0301\u0323b q\u0307\u0323", "\u0301 starts with a mark", "\u0344\u0958\u2126\ufb1d",
    "👩‍👩‍👧‍👦👍🏽🇩🇪❤️ x😀y", "你好,世界。中文 English 混合", "こんにちは 世界", "안녕 하세요", "नमस्ते दुनिया", "สวัสดี",
    "\u00a0x\u3000y\u2003z\u0085w\u2028v\u180eu\u200bt\ufeffs", "tab\tand\r\nnew\rlines\n\n\n  indented\n    more\n",
    "x = [1,2,3]; // comment\n\tif (a && b) { return \"str\"; }", "a_b-c.d/e\\f@g#h$i%j^k&l*m(n)o",
    "!!!???...---===   ",
    "▁ ▁▁x ▁", "x▁y", "<0x41> <0x0A> <unk> <s> </s>", "\u0000nul\u0001\u007f", "\ufffd", "ǅ ﬁ ﬂ ™ ℌ ² ª", "Ｆｕｌｌ ｗｉｄｔｈ",
    "ĠGPT Ċ Âł", "supercalifragilisticexpialidocious" * 3, "ab" * 60, "あ" * 30, " " * 60, "\n" * 30, "9" * 40,
    "x" * 100, "no" + " " * 30 + "yes" + " " * 24 + "  end",
]

# Bytes that are no UTF-8.
INVALID = [
    b"\xff", b"a\xffb", b"\xc0\xaf", b"\xe2\x82", b"\xe2\x82 x", b"x\xf0\x9f\x98", b"\xf0\x9f\x98\x80\x80",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"ok \xe4\xbd\xa0\xe5\xa5 ok", b"\xfe\xff\x00a", b"\x80" * 20,
]

BLOCKS = [
    (0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x590), (0x590, 0x780),
    (0x900, 0xA00), (0xE00, 0xE80), (0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2C00),
    (0x3000, 0x3100), (0x4E00, 0x5000), (0xAC00, 0xB000), (0xF900, 0xFB50), (0xFE00, 0x10000), (0x1F300, 0x1F700),
    (0x10400, 0x10450), (0x1D400, 0x1D800), (0x20000, 0x20100),
]
PIECES = [
    " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "'s", "'LL", "'re", "n't", "the", "The", " and", "ing",
    "fox", "1", "42", "1234567", ".", ",", "...", "!?", "(", ")", "\"", "-", "_", "/", "é", "e\u0301", "你好", "世界", "の",
    "한국", "привет", "שלום", "😀", "👩‍👧", "\u200d", "\ufe0f", "▁", "Ġ", "\u3000", "\u0085", "\u00a0", "\u2003", "ſ", "½",
]


def is_known(text):
    """Whether all characters are of Unicode 14 and no younger: the libraries' tables are of different ages. Those of
    tokenizers' NFC are older still and lack the combining class of U+09FE."""
    return not any(unicodedata.category(c) in ("Cn", "Cs") or c == "\u09fe" for c in text)


def random_character(rng):
    while True:
        first, end = rng.choice(BLOCKS)
        character = chr(rng.randrange(first, end))
        if is_known(character):
            return character


def random_text(rng, special):
    """special: names of tokens, which come up often."""
    kind = rng.randrange(8)
    if kind == 0:
        return "".join(random_character(rng) for _ in range(rng.randrange(1, 30)))
    if kind == 1:
        return "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 60)))
    if kind == 2:  # pieces of the texts that the vocabulary knows
        line = rng.choice(CORPUS)
        begin = rng.randrange(len(line))
        return line[begin : begin + rng.randrange(1, 50)]
    if kind == 3 and special:
        parts = [rng.choice(special) if rng.random() < 0.4 else rng.choice(PIECES) for _ in range(rng.randrange(1, 16))]
        return "".join(parts)
    if kind == 4:  # marks on letters, in any order
        marks = "\u0300\u0301\u0307\u0316\u0323\u0327\u0345\u05b0\u3099"
        return "".join(rng.choice("aesoqがAΩ ") + "".join(rng.choice(marks) for _ in range(rng.randrange(4)))
                       for _ in range(rng.randrange(1, 12)))
    if kind == 5 and rng.random() < 0.2:  # a very long word
        return "".join(rng.choice("abcdeé世") for _ in range(rng.randrange(40, 80)))
    return "".join(rng.choice(PIECES) if rng.random() < 0.8 else random_character(rng)
                   for _ in range(rng.randrange(1, 30)))


def random_bytes(rng, special):
    """A text with some of its bytes changed or cut off."""
    while True:
        text = bytearray(random_text(rng, special).encode())
        for _ in range(rng.randrange(1, 4)):
            if text:
                text[rng.randrange(len(text))] = rng.randrange(256)
        if rng.random() < 0.3:
            del text[rng.randrange(len(text) + 1) :]
        if is_known(text.decode("utf-8", errors="replace")):
            return bytes(text)
