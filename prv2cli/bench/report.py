"""What a bench has found: seconds by part and peak memory, a row a scheme, and how often longer than prv2 it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OURS = "prv2"


@dataclass(frozen=True)
class Row:
    """One way from the photograph to its depth, without decoding and encoding.

    Attributes:
        scheme: "up-sampling", "prv2", "authors' PatchRefiner V2" or "PatchRefiner"; tiling: in words, "-" for none.
        tiles: how many it has; measured: how many of them were run. The rest was reckoned from these.
        parts: seconds of each (coarse, guide, reduced, tiles, fuse).
        processor: seconds of all processor cores together, which other work on the machine hardly changes.
        process_peak: bytes of the process, all that it holds among them; device_peak: of a CUDA device, else 0.
    """

    scheme: str
    tiling: str
    tiles: int
    measured: int
    parts: dict[str, float]
    processor: float
    process_peak: int
    device_peak: int = 0

    @property
    def seconds(self) -> float:
        """Of all parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class NetworkReport:
    """All schemes behind one coarse network."""

    network: str
    rows: tuple[Row, ...]

    def ratio(self, row: Row) -> float:
        """How often as long as prv2 a row takes."""
        return row.seconds / self.ours.seconds

    def processor_ratio(self, row: Row) -> float:
        """The same of processor seconds."""
        return row.processor / self.ours.processor

    @property
    def ours(self) -> Row:
        return next(row for row in self.rows if row.scheme == OURS)


@dataclass(frozen=True)
class BenchReport:
    """Everything: `around` has the seconds of decode and encode, which every scheme needs once."""

    about: dict[str, Any]
    around: dict[str, float]
    networks: tuple[NetworkReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **self.about,
            "seconds": self.around,
            "networks": {
                one.network: [
                    {
                        **asdict(row),
                        "seconds": row.seconds,
                        "times_prv2": one.ratio(row),
                        "processor_times_prv2": one.processor_ratio(row),
                    }
                    for row in one.rows
                ]
                for one in self.networks
            },
        }
