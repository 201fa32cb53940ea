"""``python -m personaplug_export.tiny.build_encoder DATA TEACHER OUT``: the encoder of the bundle ``tiny``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from personaplug_export.tiny import encoder

GENERAL_TEXTS = 40_000
EPOCHS = 5
HELD_OUT = 1_000


def main() -> None:
    """Tokenizer, teacher's vectors, training, and the cosine on texts that were held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path, help="folder of a sentence-transformers model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    texts = encoder.encoder_texts(arguments.data, GENERAL_TEXTS)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tokenizer = encoder.train_wordpiece(texts, out / "encoder")
    vectors = encoder.teacher_vectors(arguments.teacher, texts, out / "teacher.npy", arguments.threads)
    ids = tokenizer(texts, truncation=True, max_length=encoder.MAX_TOKENS)["input_ids"]
    held_out = np.random.default_rng(0).permutation(len(ids))[:HELD_OUT]
    kept = np.setdiff1d(np.arange(len(ids)), held_out)
    model = encoder.new_encoder(vectors.shape[1])
    encoder.start_token_table(model, [ids[i] for i in kept], vectors[kept])
    encoder.train_encoder(model, [ids[i] for i in kept], vectors[kept], arguments.epochs, out / "encoder.pt")
    model.eval().save_pretrained(out / "encoder")
    cosine = encoder.mean_cosine(model, [ids[i] for i in held_out], vectors[held_out])
    print(f"cosine to the teacher on {HELD_OUT} held-out texts: {cosine:.4f}", flush=True)


if __name__ == "__main__":
    main()
