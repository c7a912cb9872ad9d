"""A CNN cut at a layer, and its channels as the players of a game."""

from campanion.game.game import ChannelGame
from campanion.game.shapley import Shapley

__all__ = ["ChannelGame", "Shapley"]
