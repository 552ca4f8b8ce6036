"""Did adapting the encoder help decoding? Two encoders on the same test samples, compared."""

from braindecode_clip.audit.stage import Audit, audit

__all__ = ["Audit", "audit"]
