"""Result cards: what a number is a number of, and whether two of them may be compared."""

from braindecode_clip.cards.card import Card, parse_card
from braindecode_clip.cards.compare import Comparison, compare_cards
from braindecode_clip.cards.make import make_card
from braindecode_clip.cards.markdown import card_text

__all__ = ["Card", "Comparison", "card_text", "compare_cards", "make_card", "parse_card"]
