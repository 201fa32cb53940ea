"""Evaluation: LaMP-shaped data, metrics with intervals over users, every method through the installed runtime."""

from __future__ import annotations
