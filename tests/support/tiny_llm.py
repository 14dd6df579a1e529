"""Tiny random language models in Hugging Face layout, with a tokenizer and a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from textpro_stream.contracts import TokenSpan

D_PROSODY = 24

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "How long should I boil an egg, and what can I cook with rice tonight?",
    "Please set a timer for ten minutes, then play some quiet music in the kitchen.",
    "What's the weather like tomorrow? Will it rain in the north or stay dry?",
    "Tell me something about the moon, the sun and the tides of the sea.",
    "system user assistant You are a helpful voice. Answer shortly.",
]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,  # random, but with opinions: greedy has no near-ties
}


def write_tokenizer(folder: Path, *, template: str | None = TEMPLATE, marker: bool = True) -> int:
    """A byte-level BPE of a few hundred tokens; gives the number of ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    if marker:  # not special, as in Qwen2.5
        tokenizer.add_tokens([AddedToken("<|repo_name|>", normalized=False, special=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size())


def write_model(folder: Path, kind: str, **changes: Any) -> None:
    """Save a random model of this architecture into `folder`, beside a tokenizer."""
    import transformers

    vocabulary = write_tokenizer(folder)
    config_class = getattr(transformers, f"{kind}Config")
    config = config_class(**(SIZES | {"vocab_size": vocabulary} | changes))
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():  # norms and biases start at 1 and 0, where mistakes do not show
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
            del name
    end = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|im_end|>")
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)


def spoken(text: str, seed: int = 0) -> list[TokenSpan]:
    """The words of `text` as a recognizer would commit them, one span a word, random states."""
    random = torch.Generator().manual_seed(seed)
    words = [" " + word for word in text.split()]
    return [
        TokenSpan(
            (i,), word, i * 4800, (i + 1) * 4800, -0.1, torch.randn(1, D_PROSODY, generator=random)
        )
        for i, word in enumerate(words)
    ]
