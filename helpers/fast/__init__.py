"""The same networks, computed faster on a CPU. Training asks for an `Engine` and for `speed_up`; without a compiler all
of it works, more slowly."""

from helpers.fast.engine import Engine, choose_engine, speed_up

__all__ = ["Engine", "choose_engine", "speed_up"]
