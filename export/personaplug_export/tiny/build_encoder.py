"""The sentence encoder of the bundle ``tiny``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from personaplug_export.tiny import encoder

GENERAL_TEXTS = 40_000
EPOCHS = 3
HELD_OUT = 1_000


def build_encoder(data: Path, teacher: Path, out: Path, *, epochs: int = EPOCHS, threads: int = 0) -> Path:
    """Tokenizer, teacher's vectors, training; returns the folder of the encoder, ``out/encoder``.

    The cosine to the teacher on texts that were held out goes to ``out/encoder_cosine.json``.
    """
    target = out / "encoder"
    if (target / "config.json").exists():
        return target
    out.mkdir(parents=True, exist_ok=True)
    texts = encoder.encoder_texts(data, GENERAL_TEXTS)
    tokenizer = encoder.train_wordpiece(texts, target)
    vectors = encoder.teacher_vectors(teacher, texts, out / "teacher.npy", threads)
    ids = tokenizer(texts, truncation=True, max_length=encoder.MAX_TOKENS)["input_ids"]
    held_out = np.random.default_rng(0).permutation(len(ids))[:HELD_OUT]
    kept = np.setdiff1d(np.arange(len(ids)), held_out)
    model = encoder.new_encoder(vectors.shape[1])
    encoder.start_token_table(model, [ids[i] for i in kept], vectors[kept])
    encoder.train_encoder(model, [ids[i] for i in kept], vectors[kept], epochs, out / "encoder.pt")
    cosine = encoder.mean_cosine(model.eval(), [ids[i] for i in held_out], vectors[held_out])
    (out / "encoder_cosine.json").write_text(json.dumps({"held_out_texts": HELD_OUT, "mean_cosine": cosine}) + "\n")
    print(f"cosine to the teacher on {HELD_OUT} held-out texts: {cosine:.4f}", flush=True)
    model.save_pretrained(target)
    return target
