"""The recipe of the reference bundle ``tiny``: tokenizer, LLM, encoder, plug, in that order."""
