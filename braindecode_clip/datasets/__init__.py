"""From a data set on disk to one sample sheet: which runs there are, and their files."""
