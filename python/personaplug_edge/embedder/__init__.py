"""The user embedder: encoders, projector and aggregator as ONNX graphs. Importing it loads no onnxruntime."""

from __future__ import annotations

from .aggregator import Aggregation, Aggregator
from .encoder import Encoder
from .projector import Projector, QueryHead
from .user import UserEmbedder

__all__ = ["Aggregation", "Aggregator", "Encoder", "Projector", "QueryHead", "UserEmbedder"]
