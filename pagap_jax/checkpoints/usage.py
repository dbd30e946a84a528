"""What Hugging Face's transformers need beside the weights: tokenizer and how to generate."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from pagap_jax.data.vocabulary import END_ID, PAD_ID, sampleable_size, sentencepiece_model
from pagap_jax.sampling.methods import SamplingMethod

TOKENIZER_MODEL, TOKENIZER_CONFIG = "spiece.model", "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
IDS = {"decoder_start_token_id": PAD_ID, "eos_token_id": END_ID, "pad_token_id": PAD_ID}


@dataclasses.dataclass(frozen=True)
class Usage:
    """How a checkpoint is used; None is what isn't known, and isn't written.

    Attributes:
        vocabulary: seqio's, of bytes or of sentencepiece.
        prompt_length, response_length: tokens, end token included.
    """

    vocabulary: Any = None
    prompt_length: int | None = None
    response_length: int | None = None
    sampling: SamplingMethod | None = None

    def write(self, folder: Path, vocab_size: int) -> list[str]:
        """Writes the files into a folder as `save_pretrained` would; their names.

        Args:
            vocab_size: of the model, which may have more ids than the vocabulary.
        """
        generation = IDS | self._generation(vocab_size)
        files = {GENERATION_CONFIG: json.dumps(generation, indent=2) + "\n"}
        tokenizer = self._tokenizer()
        if tokenizer is not None:
            files[TOKENIZER_CONFIG] = json.dumps(tokenizer, indent=2) + "\n"
        for name, content in files.items():
            (folder / name).write_text(content)
        if tokenizer is not None and (model := sentencepiece_model(self.vocabulary)):
            (folder / TOKENIZER_MODEL).write_bytes(model)
            return [*files, TOKENIZER_MODEL]
        return [*files]

    def _tokenizer(self) -> dict[str, Any] | None:
        """transformers' own class for the vocabulary; None for a vocabulary it has none for."""
        kind = type(self.vocabulary).__name__
        classes = {"SentencePieceVocabulary": "T5Tokenizer", "ByteVocabulary": "ByT5Tokenizer"}
        if kind not in classes:
            return None
        settings = {"tokenizer_class": classes[kind], "extra_ids": self.vocabulary.extra_ids}
        if self.prompt_length is not None:
            # The end of a prompt is what is kept, as `pagap prepare` does.
            settings |= {"model_max_length": self.prompt_length, "truncation_side": "left"}
        return settings | _TOKENS

    def _generation(self, vocab_size: int) -> dict[str, Any]:
        """`generate`'s settings; it would draw padding and sentinels, which training doesn't."""
        settings: dict[str, Any] = {}
        if self.vocabulary is not None:
            first_extra = sampleable_size(self.vocabulary)
            settings["suppress_tokens"] = [PAD_ID, *range(first_extra, vocab_size)]
        if self.response_length is not None:
            settings["max_new_tokens"] = self.response_length
        if (method := self.sampling) is not None:
            settings["do_sample"] = method.temperature > 0
            if method.temperature > 0:
                # 0 is all of them; transformers would take 50 without it.
                settings |= dataclasses.asdict(method)
                del settings["dtype"]
        return settings


UNKNOWN = Usage()
