"""From stimuli to target vectors: encoded pictures and captions, or vectors from a file."""
