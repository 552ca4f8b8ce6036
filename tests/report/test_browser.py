"""The page in a real browser: no complaint, nothing cut off, every picture drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from headless import BROWSER, MISSING, measure

#: Opens what is folded; then what the browser laid out.
SCRIPT = """(() => {
const size = e => { const r = e.getBoundingClientRect(); return Math.min(r.width, r.height); };
document.querySelectorAll("details").forEach(e => { e.open = true; });
return {
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  pictures: [...document.querySelectorAll("svg.picture use")].map(size),
  plots: [...document.querySelectorAll(".plot svg")].map(size),
}; })()"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)


@pytest.mark.parametrize("width_px", [1200, 390])
def test_page_in_a_browser(full, width_px, tmp_path: Path):
    measured, complaints = measure(full[1], SCRIPT, width_px=width_px, folder=tmp_path)
    assert not complaints
    assert measured["overflow"] <= 0
    assert len(measured["pictures"]) == 18 * 6 and min(measured["pictures"]) > 20
    # Seven of scores, pools, ranks and brains, permuted labels, four of runs, two of protocols.
    assert len(measured["plots"]) == 7 + 1 + 4 + 2 and min(measured["plots"]) > 80


@pytest.mark.parametrize("width_px", [1200, 390])
def test_decoders_in_a_browser(decoded, width_px, tmp_path: Path):
    measured, complaints = measure(decoded[1], SCRIPT, width_px=width_px, folder=tmp_path)
    assert not complaints
    assert measured["overflow"] <= 0
    # Accuracy in both directions, permuted labels, pools, ranks, protocols; then forest,
    # bottleneck, curve, importance.
    assert len(measured["plots"]) == 6 + 4 and min(measured["plots"]) > 80
