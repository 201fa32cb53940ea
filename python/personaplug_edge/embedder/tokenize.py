"""The encoder's tokenizer: texts to token ids, cut at a length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EncoderError, MissingExtraError

_PAD_TOKENS = ("[PAD]", "<pad>", "<|padding|>")  # BERT, T5 and RoBERTa, GPT-NeoX


class Tokens(NamedTuple):
    """One text as an encoder reads it."""

    ids: list[int]
    types: list[int]


class TextTokenizer:
    """A ``tokenizer.json``, cut at ``max_tokens``, special tokens included. Thread-safe after construction."""

    def __init__(self, path: str | Path, max_tokens: int) -> None:
        """Raises MissingExtraError without the tokenizers library, EncoderError when the file is not one of its
        files."""
        try:
            import tokenizers
        except ImportError as error:
            raise MissingExtraError(
                f"tokenizers cannot be imported ({error}); "
                "run: pip install 'personaplug-edge[cpu]', or 'personaplug-edge[cuda]'"
            ) from error
        self.path = Path(path)
        if not self.path.is_file():
            raise EncoderError(f"{self.path} is missing; expected a tokenizer.json, export the bundle again")
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(self.path))
            self.pad_id = self._find_pad()
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length=max_tokens)
        except Exception as error:  # the library raises bare Exception
            raise EncoderError(f"{self.path} is not a tokenizer.json: {error}; export it again") from error

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, in order. Raises EncoderError when the vocabulary cannot spell one."""
        try:
            found = self._tokenizer.encode_batch(list(texts))
        except Exception as error:  # a WordLevel vocabulary without its unknown token
            raise EncoderError(f"{self.path} cannot tokenize: {error}; export it again") from error
        return [Tokens(each.ids, each.type_ids) for each in found]

    def _find_pad(self) -> int:
        padding = self._tokenizer.padding
        if padding:
            return int(padding["pad_id"])
        ids = (self._tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        return next((int(found) for found in ids if found is not None), 0)
