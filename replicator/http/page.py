"""The status page for people, at `/`."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from aiohttp import web


class Page:
    """One self-contained file that shows what `/v1/status` says, and changes nothing."""

    def __init__(self) -> None:
        html = resources.files("replicator.http").joinpath("page.html").read_text("utf-8")
        self._body = html.encode()
        self._headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": _policy(html),
        }

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [web.get("/", self.show)]

    async def show(self, _: web.Request) -> web.Response:
        """The page."""
        return web.Response(
            body=self._body, content_type="text/html", charset="utf-8", headers=self._headers
        )


def _policy(html: str) -> str:
    """Only the file's own script and style run, and it may ask nobody but us."""
    script, style = (
        " ".join(f"'sha256-{_digest(text)}'" for text in re.findall(pattern, html, re.DOTALL))
        for pattern in (r"<script>(.*?)</script>", r"<style>(.*?)</style>")
    )
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
