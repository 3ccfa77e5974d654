"""
Links of the site that leave docs/: they lead to the file in the repository.

The pages are written to be read there, where `../replicator/…` is a link like any other; a site
holds docs/ alone. A link to what does not exist is left as it is, and fails the strict build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\]\((?P<path>\.\./[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """MkDocs asks for each page."""
    docs = Path(config.docs_dir).resolve()
    folder = (docs / page.file.src_uri).parent
    repository = config.extra["repository"]

    def outward(link: re.Match[str]) -> str:
        path = (folder / link["path"]).resolve()
        if path.is_relative_to(docs) or not path.exists():
            return link[0]
        place = path.relative_to(docs.parent).as_posix()
        way = "tree" if path.is_dir() else "blob"
        return f"]({repository}/{way}/main/{place}{link['anchor'] or ''})"

    return _LINK.sub(outward, markdown)
