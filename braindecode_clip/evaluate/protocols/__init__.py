"""Published protocols of identification, replayed on one set of predictions.

=================  ============================================================================
mindeye-300        One pool of 300 test pictures ranks itself, 30 draws (Scotti et al., NeurIPS
                   2023, arXiv:2305.18274; arXiv:2403.11207). Their "Image" is image → brain.
full-pool          All test pictures are candidates (the 982 or 1000 of NSD's shared ones).
lite-mind-300      Every query has a pool of its own: the true one and 299 others (Gong et al.,
                   ACM MM 2024, arXiv:2312.03781).
kamitani-pairwise  Share of distractors beaten by correlation, over all pairs (Shen et al., PLOS
                   Computational Biology 2019, https://doi.org/10.1371/journal.pcbi.1006633).
god-category       The same for category averages, against the test categories stacked with
                   candidate categories (Horikawa & Kamitani, Nature Communications 2017,
                   https://doi.org/10.1038/ncomms15037).
brainflora-kway    The true one and k - 1 random test pictures (BrainFLORA, Li et al. 2025).
haxby-nway         All categories are ranked for every sample of a run that was held out (after
                   the category identification of Haxby et al., Science 2001,
                   https://doi.org/10.1126/science.1063736).
=================  ============================================================================

Where a protocol draws pools, the value is the expectation over all draws, which is exact; the
draws are replayed beside it, with the exact standard deviation of one.
"""

from braindecode_clip.evaluate.protocols.replay import Replay, replay_protocols
from braindecode_clip.evaluate.protocols.rounds import Replayed

__all__ = ["Replay", "Replayed", "replay_protocols"]
