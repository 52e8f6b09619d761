"""Faults whose damage stays: the cluster itself must find and mend it before the next one comes.

Each takes one disk of a whole cluster, before the other faults of its episode begin: two zones at
most are touched, and nothing acknowledged may be lost. Whether all is mended is judged by
`Victim.wait_mended`, not by undoing anything.
"""

import shutil
from pathlib import Path

from tests.faults.stage import Begin, Stage

MIB = 1 << 20
FLIPS = 24
ZEROED_BYTES = (4096, 65_536, MIB)
DRAIN_S = 240.0

# Damage is to be found within seconds, and deleted data to leave within minutes.
SETTINGS = f"""
[metaservice]
garbage_grace_s = 120.0
[storagenode]
extent_bytes = {32 * MIB}
scrub_bytes_per_s_min = {32 * MIB}
scrub_bytes_per_s_max = {32 * MIB}
scrub_pause_s = 10.0
[workers]
comparison_interval_s = 0.2
comparison_pause_s = 20.0
repair_grace_s = 10.0
"""


def _stop(stage: Stage, node: str) -> None:
    """End a node, so that nobody has its files open; it comes back when all is healed."""
    stage.victim.freeze_supervisor()
    stage.victim.kill(node)
    stage.victim.wait_ended(node)
    stage.hurt.add(node)
    stage.excused.add(node)


def wipe_disk(stage: Stage) -> str:
    node = stage.zones[0]
    _stop(stage, node)
    shutil.rmtree(stage.victim.disk_of(node))
    return f"{node} comes back with an empty disk"


def stale_disk(stage: Stage) -> str:
    """A copy of a disk is made; the next time it takes the disk's place."""
    victim = stage.victim
    if not victim.copies:
        node = stage.zones[0]
        _stop(stage, node)
        victim.copies[node] = victim.folder / f"copy-of-{node}"
        shutil.copytree(victim.disk_of(node), victim.copies[node])
        return f"{node} is down while its disk is copied"
    node, copy = victim.copies.popitem()
    stage.zones[:] = [node, *[name for name in stage.zones if name != node]][: len(stage.zones)]
    _stop(stage, node)
    shutil.rmtree(victim.disk_of(node))
    copy.rename(victim.disk_of(node))
    return f"{node} comes back with an old state of its disk"


def lose_files(stage: Stage) -> str:
    """Extents that are gone, empty, shorter, zeroed in part, or another's."""
    node = stage.zones[0]
    _stop(stage, node)
    words = []
    for _ in range(stage.random.randint(1, 3)):
        extents = sorted((stage.victim.disk_of(node) / "extents").glob("*.extent"))
        if not extents:
            break
        path = stage.random.choice(extents)
        kind = stage.random.choice(["gone", "empty", "shorter", "zeroed", "another's"])
        if kind == "gone":
            path.unlink()
        elif kind in ("empty", "shorter"):
            with path.open("r+b") as file:
                file.truncate(0 if kind == "empty" else path.stat().st_size // 2)
        elif kind == "zeroed":
            _zero(stage, path)
        else:
            _swap(path, stage.random.choice(extents))
        words.append(f"{path.name} {kind}")
    return f"extents of {node}: {', '.join(words) or 'none'}"


def _zero(stage: Stage, path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(stage.random.randrange(max(1, size // 4096)) * 4096)
        file.write(bytes(min(stage.random.choice(ZEROED_BYTES), size - file.tell())))


def _swap(one: Path, other: Path) -> None:
    """Whole extents under each other's names: every write of them went to a wrong place."""
    if one != other:
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)


def lose_index(stage: Stage) -> str:
    """A node's index is gone, or some of its files are."""
    node = stage.zones[0]
    _stop(stage, node)
    folder = stage.victim.disk_of(node) / "index"
    if stage.random.random() < 0.5:
        shutil.rmtree(folder, ignore_errors=True)
        return f"the index of {node} is gone"
    files = sorted(path for path in folder.iterdir() if path.is_file())
    gone = stage.random.sample(files, min(2, len(files)))
    for path in gone:
        path.unlink()
    return f"files of the index of {node} are gone: {', '.join(path.name for path in gone)}"


def rot(stage: Stage) -> str:
    """Bits flip in extents of a running node, and stay so until somebody finds them."""
    node = stage.zones[0]
    flips = stage.victim.flip(node, "*.extent", FLIPS, stage.random)
    stage.hurt.add(node)
    return f"{len(flips)} bits flipped for good in extents of {node}"


def drain_disk(stage: Stage) -> str:
    """A disk is emptied under load; it is taken back, or removed and comes as a new one."""
    victim, node = stage.victim, stage.zones[0]
    disk_id = victim.disk_id_of(node)
    if disk_id is None or not victim.set_disk(disk_id, "drain"):
        return f"{node} could not be told to drain"
    stage.hurt.add(node)
    if stage.random.random() < 0.5:
        stage.afterwards.append(lambda: victim.surely_set_disk(disk_id, "return"))
        return f"disk {disk_id} of {node} is drained, and taken back"

    def replace() -> None:
        victim.wait_drained(disk_id, DRAIN_S)
        victim.surely_set_disk(disk_id, "remove")
        if copy := victim.copies.pop(node, None):
            shutil.rmtree(copy)  # who puts a removed disk back must also say so
        victim.wipe(node)
        victim.heal()

    stage.afterwards.append(replace)
    return f"disk {disk_id} of {node} is drained, removed, and another comes in its place"


def flip_metadata(stage: Stage) -> str:
    """Bits flip in the metadata engine's files; an operator brings back what is damaged."""
    victim = stage.victim
    if not victim.survives_without_metadata():
        return "the metadata is on one disk just now: left alone"
    victim.freeze_supervisor()
    victim.kill("metaservice")
    victim.wait_ended("metaservice")
    pattern = stage.random.choice(["*.sst", "*.log", "MANIFEST*", "CURRENT"])
    flips = victim.flip_in(victim.metadata_folder, pattern, 2, stage.random)
    stage.excused.add("metaservice")
    # Before whatever else has to ask the service.
    stage.afterwards.insert(0, lambda: print(f"metadata: {victim.mend_metadata()}", flush=True))
    return f"{len(flips)} bits flipped in {pattern} of the metadata"


LASTING: dict[str, Begin] = {
    "wipe-disk": wipe_disk,
    "stale-disk": stale_disk,
    "lose-files": lose_files,
    "lose-index": lose_index,
    "rot": rot,
    "drain-disk": drain_disk,
    "flip-metadata": flip_metadata,
}
