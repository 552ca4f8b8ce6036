"""A data set with known truth: scenes, captions, and the fMRI of a simulated subject."""
