"""A real browser without a window: what it complains of, and what it laid out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
MISSING = f"no browser: none of {', '.join(_BROWSERS)} is on the path"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
    "--dump-dom",
)


def measure(text: str, script: str, *, width_px: int, folder: Path) -> tuple[Any, list[str]]:
    """Lay a page out and run a script in it.

    Parameters
    ----------
    text : str
        HTML.
    script : str
        An expression of JavaScript: what is to be known of the page.
    width_px : int
        Of the page: a frame of this width, for a window can't be narrower than 500.
    folder : path
        For the page and the browser's profile.

    Returns
    -------
    object
        The expression's value.
    list of str
        What the browser complained of.
    """
    added = f"<script>parent.document.body.dataset.measured = JSON.stringify({script});</script>"
    page = text.replace("</body>", f"{added}</body>")
    frame = page.replace("&", "&amp;").replace('"', "&quot;")
    copy = folder / "framed.html"
    style = f"width:{width_px}px;height:1000px;border:0"
    # A page within the page, and not a file of its own: those may not talk to each other.
    copy.write_text(
        f'<!doctype html><meta charset="utf-8"><body><iframe style="{style}" srcdoc="{frame}">'
        "</iframe></body>",
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            str(BROWSER),
            *_FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={max(width_px + 20, 520)},1000",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'data-measured="([^"]+)"', done.stdout)
    assert found, done.stdout[-300:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found.group(1).replace("&quot;", '"')), complaints
