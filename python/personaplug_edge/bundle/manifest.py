"""The manifest of a bundle, format 1: the one definition that export writes and the runtime reads.

Every class is one object of ``bundle.json``; a field without a default is a required key. The reader (``schema.py``)
works from these fields, so that a key is named and documented in one place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..errors import BundleError
from .schema import read_part
from .template import check_template

FORMAT = 1
MANIFEST_NAME = "bundle.json"
_LARGEST_MANIFEST = 16 << 20  # bytes; a manifest is some kilobytes, more is not one

Pooling = Literal["mean", "cls", "none"]
Section = Literal["bos", "system", "instruction", "persona", "prompt"]


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """What a file of the bundle must be."""

    sha256: str
    """SHA-256 of the content, 64 hexadecimal digits."""
    bytes: int
    """Size in bytes."""

    def check(self, at: str) -> None:
        """Raise BundleError unless the digest is one and the size is not negative."""
        _check_digest(self.sha256, f"{at}.sha256")
        if self.bytes < 0:
            raise BundleError(f"{MANIFEST_NAME}: {at}.bytes: expected 0 or more, got {self.bytes}")


@dataclass(frozen=True, kw_only=True)
class LLMPart:
    """The LLM that the plug was trained for; no other LLM understands its rows."""

    file: str
    """GGUF file."""
    architecture: str
    """``general.architecture`` of the GGUF, such as ``llama``."""
    embedding_width: int
    """H, the width of a token's embedding row."""
    vocabulary_size: int
    """Number of tokens."""
    tokenizer_sha256: str
    """:func:`~personaplug_edge.bundle.tokenizer_digest` of the GGUF."""
    context: int = 0
    """Context to run with, in tokens; 0 is the context that the LLM was trained with."""

    def check(self, at: str) -> None:
        """Raise BundleError on a size out of range or a digest that is none."""
        _check_digest(self.tokenizer_sha256, f"{at}.tokenizer_sha256")
        _check_least(self, at, 1, "embedding_width", "vocabulary_size")
        _check_least(self, at, 0, "context")


@dataclass(frozen=True, kw_only=True)
class EncoderPart:
    """A sentence encoder with its tokenizer."""

    file: str
    """ONNX file: input_ids, attention_mask and token_type_ids (those that it names) to vectors."""
    tokenizer: str
    """``tokenizer.json`` of the tokenizers library."""
    pooling: Pooling
    """How token vectors become one vector; ``none``: the graph pools, its output is (batch, width)."""
    width: int
    """d, the width of a vector."""
    normalize: bool = True
    """Whether vectors are scaled to length 1."""
    prefix: str = ""
    """Text put in front of every text before it is tokenized."""
    max_tokens: int = 128
    """Tokens of a text that are read, special tokens included; the rest is cut."""

    def check(self, at: str) -> None:
        """Raise BundleError on a size out of range."""
        _check_least(self, at, 1, "width", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class HeadPart:
    """A trained head on top of the behavior encoder, in place of a second encoder for the input."""

    head: str
    """ONNX file: vectors (n, d) to queries (n, d), one input and one output of any name; used as they come out."""
    prefix: str = ""
    """Text put in front of the input; the behavior encoder's own prefix is not added."""


@dataclass(frozen=True, kw_only=True)
class GraphPart:
    """A part that is one ONNX file: the projector, or the aggregator."""

    file: str
    """ONNX file."""


@dataclass(frozen=True, kw_only=True)
class PersonaPart:
    """The rows that stand in front of the prompt."""

    tokens: int
    """k, the number of persona tokens."""
    rows: str
    """``.npz`` file with float32 ``instruction`` (r, H) and ``cold_start`` (k, H)."""
    token_norm: float = 1.0
    """Mean length of a row of the LLM's token table: what the length of a persona row is measured against."""

    def check(self, at: str) -> None:
        """Raise BundleError on a size out of range."""
        _check_least(self, at, 1, "tokens")
        if not 0 < self.token_norm < float("inf"):
            raise BundleError(f"{MANIFEST_NAME}: {at}.token_norm: expected more than 0, got {self.token_norm}")


@dataclass(frozen=True, kw_only=True)
class HistoryPart:
    """How a history item becomes the text that is encoded."""

    template: str = "{output}: {text}"
    """Text of an item that has an output."""
    template_without_output: str = "{text}"
    """Text of an item without one."""
    max_items: int = 0
    """Newest items that a request looks at; 0 is all."""

    def check(self, at: str) -> None:
        """Raise BundleError on a template without its places."""
        check_template(self.template, ("text",), f"{at}.template", optional=("output",))
        check_template(self.template_without_output, ("text",), f"{at}.template_without_output")
        _check_least(self, at, 0, "max_items")


@dataclass(frozen=True, kw_only=True)
class PromptPart:
    """How the input becomes the prompt."""

    template: str = "{input}"
    """Text of the prompt."""
    layout: tuple[Section, ...] = ("bos", "instruction", "persona", "prompt")
    """Order of the prompt's spans."""
    system: str = ""
    """Text of the span ``system``, the same for everybody; what stands in front of the persona is computed once."""
    max_input_tokens: int = 256
    """Tokens of the input that are kept; the rest is cut."""
    max_prompt_tokens: int = 512
    """Tokens up to which methods may lengthen a prompt by past items, if the context holds so many. 512 as in LaMP's
    experiments (arXiv 2304.11406, section 4); no more than the LLM has learned to read."""

    def check(self, at: str) -> None:
        """Raise BundleError on a template without ``{input}``, a layout that repeats a span or lacks the prompt, and on
        a system text without a place."""
        check_template(self.template, ("input",), f"{at}.template")
        _check_least(self, at, 1, "max_input_tokens", "max_prompt_tokens")
        if len(set(self.layout)) != len(self.layout) or "prompt" not in self.layout or "persona" not in self.layout:
            raise BundleError(
                f"{MANIFEST_NAME}: {at}.layout: expected each span once, persona and prompt among them; "
                f"got {', '.join(self.layout) or 'none'}"
            )
        if bool(self.system) != ("system" in self.layout):
            raise BundleError(f"{MANIFEST_NAME}: {at}: expected a text in system if and only if layout names it")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of ``bundle.json``."""

    name: str
    """Name of the bundle."""
    version: str
    """Version of the bundle."""
    license: str
    """License of the weights, an SPDX expression or a sentence."""
    files: Mapping[str, FilePart]
    """Every other file of the bundle: name with ``/`` between folders, to its size and digest."""
    llm: LLMPart
    """The LLM."""
    behavior_encoder: EncoderPart
    """Encoder of history items."""
    input_encoder: EncoderPart | HeadPart
    """Encoder of the input: an encoder of its own, or a head on the behavior encoder."""
    projector: GraphPart
    """ONNX file: vectors (n, d) to rows (n, k, H)."""
    aggregator: GraphPart
    """ONNX file: query (d), vectors (n, d), projections (n, k, H) to persona (k, H), weights (n)."""
    persona: PersonaPart
    """Persona tokens, instruction and cold start."""
    model_card: str = ""
    """Markdown file that says what the bundle is for; may be empty."""
    history: HistoryPart = HistoryPart()
    """Text of history items."""
    prompt: PromptPart = PromptPart()
    """Text of the prompt."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``Sampling`` that generation starts from."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures measured for the bundle, free in form."""
    format: int = FORMAT
    """Version of this format."""

    def references(self) -> dict[str, str]:
        """Every file that the parts name: key path to file name."""
        named = {"llm.file": self.llm.file, "projector.file": self.projector.file}
        named |= {"aggregator.file": self.aggregator.file, "persona.rows": self.persona.rows}
        encoders = {"behavior_encoder": self.behavior_encoder, "input_encoder": self.input_encoder}
        for key, part in encoders.items():
            if isinstance(part, HeadPart):
                named[f"{key}.head"] = part.head
            else:
                named |= {f"{key}.file": part.file, f"{key}.tokenizer": part.tokenizer}
        if self.model_card:
            named["model_card"] = self.model_card
        return named

    def to_json(self) -> str:
        """The text of ``bundle.json``; :meth:`from_json` gives an equal manifest back."""
        return json.dumps({"format": self.format} | asdict(self), ensure_ascii=False, indent=2) + "\n"

    @staticmethod
    def from_json(text: str | bytes, *, source: str = MANIFEST_NAME) -> Manifest:
        """Read ``bundle.json``. Raises BundleError that names the key path, as ``llm.file``, and what it should be."""
        if len(text) > _LARGEST_MANIFEST:
            raise BundleError(f"{source}: {len(text)} bytes; a manifest has {_LARGEST_MANIFEST} at most")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{source} is not JSON ({error}); copy or export the bundle again") from error
        if not isinstance(data, dict):
            raise BundleError(f"{source}: expected an object, got {type(data).__name__}")
        _check_format(data.get("format"), source)
        manifest = read_part(Manifest, data, "", source)
        for key, name in manifest.references().items():
            if name not in manifest.files:
                raise BundleError(
                    f"{source}: {key} names {name!r}, which is not among files; list it with size and SHA-256"
                )
        return manifest


def _check_format(version: Any, source: str) -> None:
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise BundleError(
            f"{source} has format {version}, this version of personaplug-edge reads up to {FORMAT}; "
            "upgrade: pip install --upgrade personaplug-edge"
        )
    if type(version) is not int or version < 1:
        raise BundleError(f"{source}: format: expected {FORMAT}, got {version!r}; is this the manifest of a bundle?")


def _check_least(part: object, at: str, least: int, *names: str) -> None:
    for name in names:
        if getattr(part, name) < least:
            raise BundleError(f"{MANIFEST_NAME}: {at}.{name}: expected {least} or more, got {getattr(part, name)}")


def _check_digest(digest: str, at: str) -> None:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise BundleError(f"{MANIFEST_NAME}: {at}: expected 64 lower-case hexadecimal digits, got {digest!r}")
