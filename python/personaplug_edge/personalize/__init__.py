"""Personalisation methods, one file each: a user and a request become a prompt."""
