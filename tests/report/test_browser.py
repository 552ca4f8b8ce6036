"""The page in a real browser: no complaint, nothing cut off, every picture drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
FLAGS = (
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
#: Added to a copy of the page: it writes what the browser laid out into an attribute.
MEASURE = """<script>
const size = e => { const r = e.getBoundingClientRect(); return Math.min(r.width, r.height); };
document.querySelectorAll("details").forEach(e => { e.open = true; });
document.body.dataset.measured = JSON.stringify({
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  pictures: [...document.querySelectorAll("svg.picture use")].map(size),
  plots: [...document.querySelectorAll(".plot svg")].map(size),
});
</script></body>"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is on the path"
)


def measure(page: str, width_px: int, tmp_path: Path) -> dict:
    """Lay a page out and return the sizes; nothing may be complained of or wider than it."""
    copy = tmp_path / "page.html"
    copy.write_text(page.replace("</body>", MEASURE), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [BROWSER, *FLAGS, profile, f"--window-size={width_px},1000", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    measured = json.loads(
        re.search(r'data-measured="([^"]+)"', done.stdout).group(1).replace("&quot;", '"')
    )
    assert measured["overflow"] <= 0
    return measured


@pytest.mark.parametrize("width_px", [1200, 390])
def test_page_in_a_browser(full, width_px, tmp_path: Path):
    measured = measure(full[1], width_px, tmp_path)
    assert len(measured["pictures"]) == 18 * 6 and min(measured["pictures"]) > 20
    assert len(measured["plots"]) == 7 + 4 and min(measured["plots"]) > 80


@pytest.mark.parametrize("width_px", [1200, 390])
def test_decoders_in_a_browser(decoded, width_px, tmp_path: Path):
    plots = measure(decoded[1], width_px, tmp_path)["plots"]
    # Accuracy in both directions, pools, ranks; then forest, bottleneck, curve, importance.
    assert len(plots) == 4 + 4 and min(plots) > 80
