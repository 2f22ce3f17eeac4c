"""Which training tricks are worth having: studies that stack them one by one, over several seeds."""

from ablations.recipe import Recipe
from ablations.registry import trick

__all__ = ["Recipe", "trick"]
