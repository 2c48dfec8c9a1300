#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what tests/engine/tokenizer compares with: a small vocabulary in each real layout, and what others make of it.

    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    .venv/bin/python tests/golden/make_tokenizers.py

The vocabularies are trained here, on a few lines of many languages. What texts become is said by the libraries that
the layouts come from (Hugging Face's tokenizers, sentencepiece), and for RWKV's trie by the plain reading of its
definition below. It writes tokenizers/texts.json and a folder per layout with the tokenizer's own files and
expected.json: for each text the ids ("encode"); those without special tokens ("plain"), null where they are the same
but for <s> and </s> around them; the text that the ids become ("decode"), null where it is the same; and the texts of
random ids ("random").
"""

import io
import json
import pathlib
import random

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_texts import CORPUS, FIXED, INVALID, random_bytes, random_text

OUT = pathlib.Path(__file__).resolve().parent / "tokenizers"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<strip>", "<word>", "<think>"]

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


# ---- Hugging Face --------------------------------------------------------------------------------


def train(tokenizer, vocabulary_size, **options):
    trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, show_progress=False, **options)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)


def gpt_neox():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 560, special_tokens=["<|endoftext|>", "<|padding|>"],
          initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    tokenizer.add_tokens([AddedToken("<strip>", lstrip=True, rstrip=True, normalized=False),
                          AddedToken("<word>", single_word=True, normalized=False),
                          AddedToken("e\u0301x", normalized=True)])
    return tokenizer, {"add_bos_token": False, "bos_token": "<|endoftext|>"}


def gpt2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 500, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, {"tokenizer_class": "GPT2Tokenizer"}


def qwen2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 540, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer, {"bos_token": None, "eos_token": {"content": "<|im_end|>"}}


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 520, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    # A word that no merges make.
    model = json.loads(tokenizer.to_str())
    model["model"]["vocab"]["Ġfamish"] = len(model["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(model))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|endoftext|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])])
    return tokenizer, {}


def byte_fallback_model(pre_tokenizer):
    """Characters and merges with <unk>, <s>, </s> and all bytes in front, as Llama 2 has them."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizer
    train(trained, 420, limit_alphabet=160)
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    ids = {name: index for index, name in enumerate(names)}
    for token in sorted(model["vocab"], key=model["vocab"].get):
        ids.setdefault(token, len(ids))
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def add_llama_tokens(tokenizer, bos=True):
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def llama2():
    tokenizer = Tokenizer(byte_fallback_model(pre_tokenizers.Metaspace()))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    add_llama_tokens(tokenizer)
    return tokenizer, {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>"}


def mistral():
    tokenizer = Tokenizer(byte_fallback_model(pre_tokenizers.Metaspace()))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    add_llama_tokens(tokenizer, bos=False)
    return tokenizer, {"add_bos_token": True, "add_eos_token": True, "bos_token": {"content": "<s>"},
                       "eos_token": "</s>"}


def metaspace():
    """Unknown characters that do not fall back on bytes, digits on their own, the decoder of the same name."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace()
    train(tokenizer, 300, limit_alphabet=90, special_tokens=["<unk>"])
    return tokenizer, {}


def compact(path, values):
    path.write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def ids_text(ids):
    return " ".join(map(str, ids))


class HuggingFace:
    """What the library says, once tokenizer_config.json has had its say on <s> and </s>."""

    def __init__(self, tokenizer, config):
        self.tokenizer = tokenizer
        name = lambda key: config[key]["content"] if isinstance(config.get(key), dict) else config.get(key)
        self.overrules = [config.get("add_bos_token"), config.get("add_eos_token")]
        self.frame = [tokenizer.token_to_id(name(key)) if name(key) else None for key in ("bos_token", "eos_token")]
        self.ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
        self.falls_back = tokenizer.token_to_id("<0x00>") is not None

    def encode(self, text):
        self.tokenizer.encode_special_tokens = False
        text = text.decode("utf-8", errors="replace")
        bare = self.tokenizer.encode(text, add_special_tokens=False).ids
        if self.overrules == [None, None]:
            return self.tokenizer.encode(text).ids
        bos, eos = [[token] if adds else [] for token, adds in zip(self.frame, self.overrules)]
        return bos + bare + eos

    def plain(self, text):
        self.tokenizer.encode_special_tokens = True
        return self.tokenizer.encode(text.decode("utf-8", errors="replace"), add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def random_ids(self, rng):
        # Of bytes that fall back, a whole run is replaced where one byte is invalid: a stream cannot know.
        ids = [i for i in self.ids if not (self.falls_back and 3 <= i < 259)]
        return [rng.choice(ids) for _ in range(rng.randrange(1, 12))]


def make_hugging_face(name, make):
    tokenizer, config = make()
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    compact(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    compact(folder / "tokenizer_config.json", config)
    write_expected(folder, HuggingFace(tokenizer, config))


# ---- sentencepiece -------------------------------------------------------------------------------

RULES = [("ﬁ", "fi"), ("Ａ", "A"), ("\u00a0", " "), ("\u3000", " "), ("e\u0301", "é"), ("½", "1 2"), ("\u200b", ""),
         ("\t", " "), ("™", "TM")]


class SentencePiece:
    def __init__(self, proto):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)

    def encode(self, text):
        return self.processor.encode(text, out_type=int)

    plain = encode

    def decode(self, ids):
        return self.processor.decode(ids)

    def random_ids(self, rng):
        return [rng.randrange(self.processor.vocab_size()) for _ in range(rng.randrange(1, 12))]


def make_sentencepiece(name, **options):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    rules = folder / "rules.tsv"
    hexadecimal = lambda text: " ".join(f"{ord(c):X}" for c in text)
    rules.write_text("".join(f"{hexadecimal(a)}\t{hexadecimal(b)}\n" for a, b in RULES))
    if "normalization_rule_name" not in options:
        options["normalization_rule_tsv"] = str(rules)
    lines = [line for text in CORPUS for line in text.split("\n") if line] * 3
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=proto, hard_vocab_limit=False, minloglevel=2, **options)
    rules.unlink()
    (folder / "tokenizer.model").write_bytes(proto.getvalue())
    write_expected(folder, SentencePiece(proto.getvalue()))


# ---- RWKV ----------------------------------------------------------------------------------------


class World:
    """The longest token at each place, found by trying all lengths."""

    def __init__(self, tokens):
        self.bytes = {index: token for index, token in enumerate(tokens, 1)}
        self.index = {token: index for index, token in self.bytes.items()}
        self.longest = max(map(len, tokens))

    def encode(self, text):
        ids, at = [], 0
        while at < len(text):
            length = next(n for n in range(self.longest, 0, -1) if text[at : at + n] in self.index)
            ids.append(self.index[text[at : at + length]])
            at += length
        return ids

    plain = encode

    def decode(self, ids):
        return b"".join(self.bytes.get(i, b"") for i in ids).decode("utf-8", errors="replace")

    def random_ids(self, rng):
        return [rng.randrange(len(self.bytes) + 1) for _ in range(rng.randrange(1, 12))]


def make_world():
    folder = OUT / "world"
    folder.mkdir(parents=True, exist_ok=True)
    words = {b"\n\n", b"\r\n", b"\t\t", b"  ", b"    ", b"'s", b'"', b"\\n", "\u00e9".encode(), "\u3000".encode(),
             b"'\""}
    rng = random.Random(3)
    for line in CORPUS:
        data = line.encode()
        words.update(data[at : at + rng.randrange(2, 9)] for at in range(0, len(data) - 9, 3))
    tokens = [bytes([b]) for b in range(256)] + sorted(w for w in words if len(w) > 1)
    lines = []
    for index, token in enumerate(tokens, 1):
        try:
            literal = repr(token.decode())
        except UnicodeDecodeError:
            literal = repr(token)
        lines.append(f"{index} {literal} {len(token)}\n")
    (folder / "rwkv_vocab_v20230424.txt").write_text("".join(lines), encoding="utf-8")
    write_expected(folder, World(tokens))


# ---- all -----------------------------------------------------------------------------------------


def texts():
    rng = random.Random(20240607)
    made = [text.encode() for text in FIXED + CORPUS]
    made += [f"a {s} b".encode() for s in SPECIAL]
    made += ["".join(SPECIAL).encode(), b"x<word>y <word>", b" <strip>  <strip>x"]
    made += INVALID
    made += [random_text(rng, SPECIAL).encode() for _ in range(40)]
    made += [random_bytes(rng, SPECIAL) for _ in range(12)]
    return made


def write_texts():
    OUT.mkdir(exist_ok=True)
    entries = []
    for text in texts():
        try:
            entries.append(text.decode())
        except UnicodeDecodeError:
            entries.append({"hex": text.hex()})
    OUT.joinpath("texts.json").write_text(json.dumps(entries, ensure_ascii=True, indent=0) + "\n", encoding="utf-8")


def write_expected(folder, oracle):
    rng = random.Random(7)
    encode, plain, decode = [], [], []
    for text in texts():
        ids = oracle.encode(text)
        bare = oracle.plain(text)
        decoded = oracle.decode(ids)
        encode.append(ids_text(ids))
        plain.append(None if bare in (ids, ids[1:], ids[1:-1]) else ids_text(bare))
        decode.append(None if decoded == text.decode("utf-8", errors="replace") else decoded)
    random_ids = [oracle.random_ids(rng) for _ in range(40)]
    expected = {"encode": encode, "plain": plain, "decode": decode,
                "random": [[ids_text(ids), oracle.decode(ids)] for ids in random_ids]}
    folder.joinpath("expected.json").write_text(
        json.dumps(expected, ensure_ascii=False, separators=(",\n", ": ")) + "\n", encoding="utf-8")
    print(f"{folder.name}: {len(encode)} texts", flush=True)


def main():
    assert tokenizers.__version__ == "0.23.3" and sentencepiece.__version__ == "0.2.3"
    write_texts()
    for name, make in [("gpt_neox", gpt_neox), ("gpt2", gpt2), ("qwen2", qwen2), ("llama3", llama3), ("llama2", llama2),
                       ("mistral", mistral), ("metaspace", metaspace)]:
        make_hugging_face(name, make)
    make_sentencepiece("sentencepiece_bpe", model_type="bpe", vocab_size=620, byte_fallback=True, split_digits=True,
                       normalization_rule_name="identity", remove_extra_whitespaces=False,
                       user_defined_symbols=["<think>", "▁▁"], character_coverage=0.98)
    make_sentencepiece("sentencepiece_bpe_rules", model_type="bpe", vocab_size=300, character_coverage=0.98)
    make_sentencepiece("sentencepiece_unigram", model_type="unigram", vocab_size=360,
                       user_defined_symbols=["<strip>", "fox"], character_coverage=0.98)
    make_sentencepiece("sentencepiece_suffix", model_type="unigram", vocab_size=560, byte_fallback=True,
                       treat_whitespace_as_suffix=True, character_coverage=0.98, unk_surface="?")
    make_world()


if __name__ == "__main__":
    main()
