"""``Bundle``: a folder whose manifest was read and whose files were verified."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from ..sampling import Sampling
from .digest import ModelLike, tokenizer_digest
from .files import check_files, safe_path
from .manifest import MANIFEST_NAME, Manifest


@dataclass(frozen=True)
class PersonaRows:
    """Trained rows that belong to no user, in the scale of the LLM's token rows."""

    instruction: NDArray[np.float32]
    """I of the paper, float32 (r, H)."""
    cold_start: NDArray[np.float32]
    """Rows for a user without a history, float32 (k, H)."""


def bundles_folder() -> Path:
    """The folder inside the package that holds the bundles known by name."""
    return Path(__file__).resolve().parent.parent / "bundles"


def known_bundles() -> list[str]:
    """Names of the bundles that come with the package, sorted."""
    return sorted(path.parent.name for path in bundles_folder().glob(f"*/{MANIFEST_NAME}"))


class Bundle:
    """A verified bundle. Immutable; holds no file open. Make one by :meth:`load`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        """Absolute path of the bundle."""
        self.manifest = manifest
        """What ``bundle.json`` says."""

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.name!r} {self.manifest.version}, {str(self.folder)!r})"

    @staticmethod
    def load(path_or_name: str | Path, *, verify: bool | Literal["full"] = True) -> Bundle:
        """Read and verify the bundle in a folder, or one that comes with the package, by its name (``tiny``).

        A plain name means the package's bundle first and a folder of that name second; write ``./tiny`` for the folder.
        ``verify`` is that of :func:`check_files`. Raises BundleError: no such folder, not a manifest, of a newer
        format, a file missing, changed or outside of the folder.
        """
        folder = _find(path_or_name)
        manifest_path = folder / MANIFEST_NAME
        try:
            text = manifest_path.read_bytes()
        except FileNotFoundError as error:
            raise BundleError(f"{folder} has no {MANIFEST_NAME}; is it a bundle?") from error
        except OSError as error:
            raise BundleError(f"{manifest_path} cannot be read: {error.strerror}") from error
        manifest = Manifest.from_json(text, source=str(manifest_path))
        check_files(folder, manifest.files, verify=verify)
        bundle = Bundle(folder, manifest)
        _ = bundle.sampling_options  # refused here, and not when an LLM has been loaded for it
        return bundle

    def path(self, name: str) -> Path:
        """Path of file ``name``, which the manifest lists. Raises BundleError when it does not."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder}: {name!r} is not among the files of {MANIFEST_NAME}")
        return safe_path(self.folder, name)

    @property
    def llm_path(self) -> Path:
        """Path of the LLM's GGUF file."""
        return self.path(self.manifest.llm.file)

    @property
    def encoder_key(self) -> str:
        """Names whatever decides a history item's vector: encoder, tokenizer, pooling, prefix, length and templates."""
        part = asdict(self.manifest.behavior_encoder)
        part |= {key: self.manifest.files[part[key]].sha256 for key in ("file", "tokenizer")}
        history = self.manifest.history
        return _key({"encoder": part, "templates": [history.template, history.template_without_output]})

    @property
    def bundle_key(self) -> str:
        """Names whatever decides a history item's projection: the vector's key and the projector."""
        projector = self.manifest.files[self.manifest.projector.file].sha256
        return _key({"encoder_key": self.encoder_key, "projector": projector})

    @property
    def sampling_options(self) -> dict[str, Any]:
        """Keyword arguments of ``Sampling`` that the bundle asks for; JSON lists as tuples. BundleError for others."""
        options = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.manifest.sampling.items()
        }
        known = [field.name for field in fields(Sampling)]
        for name in options.keys() - set(known):
            raise BundleError(f"{self.folder}: sampling: unknown option {name!r}; known are {', '.join(known)}")
        if "logit_bias" in options:
            biases = self.manifest.sampling["logit_bias"]
            try:  # JSON has no keys but strings
                options["logit_bias"] = {int(token): float(bias) for token, bias in biases.items()}
            except (AttributeError, TypeError, ValueError):
                raise BundleError(
                    f"{self.folder}: sampling.logit_bias: expected an object of token ids and numbers, "
                    f"got {biases!r:.80}"
                ) from None
        return options

    def check_llm(self, model: ModelLike) -> None:
        """Raise BundleError unless ``model`` is the LLM that the plug was trained for."""
        llm = self.manifest.llm
        pairs: list[tuple[str, object, object]] = [
            ("architecture", llm.architecture, model.architecture),
            ("embedding width", llm.embedding_width, model.embedding_width),
            ("vocabulary size", llm.vocabulary_size, model.vocabulary_size),
        ]
        for what, expected, actual in pairs:
            if expected != actual:
                raise self._other_llm(what, expected, actual)
        actual = tokenizer_digest(model)
        if actual != llm.tokenizer_sha256:
            raise self._other_llm("tokenizer", llm.tokenizer_sha256, actual)

    def rows(self) -> PersonaRows:
        """Read the instruction and cold-start rows. BundleError on a wrong shape or type, or on NaN."""
        path = self.path(self.manifest.persona.rows)
        width, tokens = self.manifest.llm.embedding_width, self.manifest.persona.tokens
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: np.ascontiguousarray(archive[name]) for name in ("instruction", "cold_start")}
        except Exception as error:  # a damaged zip or header makes numpy raise almost anything
            raise BundleError(
                f"{path}: expected an .npz with instruction and cold_start ({error}); export it again"
            ) from error
        for name, array in arrays.items():
            rows = tokens if name == "cold_start" else "r"
            fits = array.ndim == 2 and array.shape[1] == width and rows in ("r", array.shape[0])
            if not fits or array.dtype != np.float32 or not np.isfinite(array).all():
                expected = f"finite float32 ({rows}, {width})"
                raise BundleError(
                    f"{path}: {name}: expected {expected}, got {array.dtype} {array.shape}; export it again"
                )
            array.flags.writeable = False
        return PersonaRows(arrays["instruction"], arrays["cold_start"])

    def _other_llm(self, what: str, expected: object, actual: object) -> BundleError:
        return BundleError(
            f"the bundle {self.manifest.name!r} was trained for another LLM: expected {what} {expected}, got {actual}; "
            f"use {self.llm_path.name} of the bundle, or a bundle that was trained for this LLM"
        )


def _find(path_or_name: str | Path) -> Path:
    if isinstance(path_or_name, str) and path_or_name in known_bundles():
        return bundles_folder() / path_or_name
    try:
        path = Path(path_or_name).expanduser()
        if path.is_dir():
            return path.resolve()
        if path.name == MANIFEST_NAME and path.is_file():
            return path.parent.resolve()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, no home of that user
        raise BundleError(f"no bundle {str(path_or_name)!r:.200}: {error}; give its folder") from error
    names = ", ".join(known_bundles()) or "none"
    raise BundleError(
        f"no bundle {str(path_or_name)!r}: it is not a folder, and the bundles known by name are: {names}"
    )


def _key(state: object) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
