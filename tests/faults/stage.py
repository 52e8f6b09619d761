"""One episode of a campaign: whom it may hurt, and what must be done to end it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.faults.victim import Victim


@dataclass(slots=True)
class Stage:
    """What must be undone beyond `Victim.heal` is added by the faults."""

    victim: Victim
    random: Random
    zones: list[str]  # storage nodes, two at most
    sick: list[str]  # storage nodes whose files may be changed for good
    ticks: list[Callable[[], None]] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)  # before healing
    afterwards: list[Callable[[], None]] = field(default_factory=list)  # after healing
    excused: set[str] = field(default_factory=set)  # processes whose own files were made to fail
    hurt: set[str] = field(default_factory=set)  # nodes whose disks the cluster itself must mend

    def gateway(self) -> str:
        """Any gateway."""
        return self.random.choice(self.victim.gateway_names)

    def end_of_link(self) -> list[str]:
        """Processes whose links fail: the zones' nodes, or one of the others."""
        others = [[self.gateway()], ["metaservice"], ["workers"]]
        return self.random.choice([self.zones, self.zones, *others])


Begin = Callable[[Stage], str]
