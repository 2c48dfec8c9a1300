#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what chat_template_test.cc compares with: conversations as the published templates render them, in tokens.

    .venv/bin/pip install jinja2==3.1.6, and what make_tokenizers.py needs
    .venv/bin/python tests/golden/make_chat_templates.py

The templates are those of the models' tokenizer_config.json, run by Jinja as transformers runs them; the tokens are the
tokenizer's of the rendered text, without those it puts around a text. chat_templates.json has a list of cases: the
tokenizer's folder, its tokenizer_config.json, the format, the messages, the rendered text and its ids.
"""

import json
import pathlib

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from make_tokenizers import World, ids_text

ROOT = pathlib.Path(__file__).resolve().parent / "tokenizers"

EACH = "{% for message in messages %}"
CHATML = (r"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
QWEN2_SYSTEM = ("{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
                "You are a helpful assistant.<|im_end|>\n' }}{% endif %}")
NOT_DEFINED = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
LLAMA2 = (
    r"{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    r"messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    r"{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    r"{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    r"{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + "
    r"'\n<</SYS>>\n\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
    r"{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    r"{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
RWKV = (
    r"{{ '<|rwkv_tokenizer_end_of_text|>' }}{% for message in messages %}{% if message['role'] == 'user' %}"
    r"{{'User: ' + message['content'] + '\n\n'}}{% elif message['role'] == 'system' %}"
    r"{{'System: ' + message['content'] + '\n\n'}}{% elif message['role'] == 'assistant' %}"
    r"{{'Assistant: ' + message['content'] + '\n\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}")
RWKV_THINKS = (
    r"{% if enable_thinking is defined and enable_thinking == False %}{{ 'Assistant: <think\n</think>' }}{% else %}"
    r"{{ 'Assistant: <think' }}{% endif %}{% endif %}")

TEMPLATES = [
    ("qwen2", "chatml", {}, EACH + CHATML),
    ("qwen2", "chatml", {}, NOT_DEFINED + EACH + CHATML),
    ("qwen2", "chatml", {}, EACH + QWEN2_SYSTEM + CHATML),
    ("llama2", "llama-2", {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True}, LLAMA2),
    ("world", "rwkv", {}, RWKV + "{{ 'Assistant:' }}{% endif %}"),
    ("world", "rwkv", {}, RWKV + RWKV_THINKS),
]

SYSTEM = {"role": "system", "content": "You answer in verse."}
CONVERSATIONS = [
    [("user", "Hello, world!")],
    [("user", "  Speak, 你好 😀  ")],
    [("system", "You answer in verse."), ("user", "What is a fox?\nAnd a dog?")],
    [("user", "one"), ("assistant", "two"), ("user", "three")],
    [("system", "Be brief."), ("user", "café é?"), ("assistant", "It's 42.  "), ("user", "Why?"),
     ("assistant", "def f(x):\n    return x"), ("user", "Thanks")],
]


def render(template, messages, config):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    token = lambda key: config[key]["content"] if isinstance(config.get(key), dict) else config.get(key)
    return environment.from_string(template).render(
        messages=messages, add_generation_prompt=True, bos_token=token("bos_token"), eos_token=token("eos_token"))


def encoder(folder):
    if folder == "world":
        lines = (ROOT / "world/rwkv_vocab_v20230424.txt").read_text(encoding="utf-8").split("\n")[:-1]
        literals = [eval(line[line.index(" ") : line.rindex(" ")].strip(), {}) for line in lines]
        world = World([t.encode() if isinstance(t, str) else t for t in literals])
        end = "<|rwkv_tokenizer_end_of_text|>"
        return lambda text: [0] * text.startswith(end) + world.encode(text.removeprefix(end).encode())
    tokenizer = Tokenizer.from_file(str(ROOT / folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def main():
    assert jinja2.__version__ == "3.1.6"
    cases = []
    for folder, name, config, template in TEMPLATES:
        encode = encoder(folder)
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            if name == "rwkv":  # which takes blanks around contents for none of theirs
                messages = [{**message, "content": message["content"].strip()} for message in messages]
            text = render(template, messages, config)
            cases.append({"folder": folder, "name": name, "config": {**config, "chat_template": template},
                          "messages": messages, "text": text, "ids": ids_text(encode(text))})
    path = ROOT.parent / "chat_templates.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(cases)} conversations")


if __name__ == "__main__":
    main()
