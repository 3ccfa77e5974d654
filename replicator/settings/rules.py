"""Rules that values of several sections keep: each says what is wrong with one, or None."""

from __future__ import annotations

from urllib.parse import urlsplit


def why_no_url(url: str) -> str | None:
    """Whether a text is an address of HTTP or of gRPC."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(char.isspace() for char in url):
        return "is not a URL such as http://localhost:6334"
    return None


def why_below(value: float, least: float) -> str | None:
    """Whether a number is too small."""
    return f"is below {least}" if value < least else None
