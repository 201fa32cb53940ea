"""Cross-fitting: users in two folds, so that a plug can learn from an LLM that has not read the answers.

An LLM tuned on the very questions that the plug is trained on knows their answers without a history, and the plug
learns that histories matter little. So the users are parted: the LLM tuned on one fold's users teaches the plug about
the other's (as in stacking: Wolpert 1992; Chernozhukov et al. 2018).
"""

from __future__ import annotations

from zlib import crc32

FOLDS = 2


def fold_of(user_id: str) -> int:
    """The fold of a user, the same on every machine."""
    return crc32(user_id.encode()) % FOLDS
