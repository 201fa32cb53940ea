"""Invented people, ambiguous prompts, and a run that shows whether a history changes the answers."""
