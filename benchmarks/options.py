"""How thoroughly to measure; every study gets the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the command line says. `quick` asks for the same code in about four minutes, and for rougher numbers."""

    quick: bool = False
    rounds: int = 5
    """How often each contender has its turn at each operation; what is reported is the median."""
    seconds: float = 3.0
    """How long one turn is measured."""
    delays: tuple[float, ...] = (1.0, 5.0, 20.0)
    """Milliseconds of each round trip between server and database, beyond what loopback takes."""
    clients: int = 16
    """Connections that send requests one after another, without a pause."""
