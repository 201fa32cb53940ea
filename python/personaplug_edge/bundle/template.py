"""Templates of the manifest: ``{name}`` places, and nothing else of ``str.format``, which would reach into objects."""

from __future__ import annotations

import re

from ..errors import BundleError

_PLACE = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, **values: str) -> str:
    """Put ``values`` into the places of ``template`` in one pass: braces inside of a value stay as they are."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), template)


def check_template(template: str, places: tuple[str, ...], at: str, *, optional: tuple[str, ...] = ()) -> None:
    """Raise BundleError unless ``template`` has each of ``places``, perhaps ``optional`` ones, and no other place."""
    found = set(_PLACE.findall(template))
    if not set(places) <= found <= {*places, *optional}:
        expected = " and ".join(f"{{{place}}}" for place in places)
        allowed = "".join(f", perhaps {{{place}}}" for place in optional)
        raise BundleError(f"bundle.json: {at}: expected the places {expected}{allowed}; got {template!r}")
