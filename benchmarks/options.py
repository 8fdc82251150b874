"""How thoroughly to measure; every study gets the same options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The command line's choices. `quick` runs the same code in a few minutes, for rougher figures."""

    quick: bool = False
    rounds: int = 5
    """Measurements of each contender at each operation; reports show their median."""
    seconds: float = 3.0
    """Seconds of one measurement."""
    delays: tuple[float, ...] = (1.0, 5.0, 20.0)
    """Milliseconds that are added to each round trip between server and database."""
    clients: int = 16
    """Connections that send requests one after another, without a pause."""
