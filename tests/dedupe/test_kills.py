"""A process that makes and merges files is killed at any moment: what is left is true.

`test_lane_files.py` ends the process before each single call; here the kernel does it, anywhere.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dataflow.core.lane_log import Entries
from dataflow.dedupe.lane_files import LaneFiles
from dataflow.dedupe.merging import merged
from tests import ROOT
from tests.dedupe.remembered import OWNER, random_entries

KILLS = 12
ROWS = 2_000
WRITER = """
import sys
from pathlib import Path
from tests.dedupe.remembered import OWNER, hot
from tests.dedupe.test_kills import record
from dataflow.dedupe.lane_files import LaneFiles
from dataflow.dedupe.manifest import Summary
files = LaneFiles(Path(sys.argv[1]), OWNER)
while True:
    position = files.position.get(0, 0)
    files.add(hot(record(position)), {0: position}, {0: position + 1}, Summary())
    print("added", flush=True)
    if position % 3 == 2:
        files.merge(files.runs[-3:], 0)
    if position % 9 == 8:
        files.merge(files.runs, 0)
"""


def record(number: int) -> Entries:
    """Return what the log has at an offset."""
    return random_entries(ROWS, number)


def test_a_killed_writer_leaves_files_that_have_all_below_their_position(tmp_path: Path) -> None:
    chance = random.Random(1)
    reached = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT)},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 6)):
                assert writer.stdout.readline() == b"added\n"
            time.sleep(chance.uniform(0.0, 0.05))
            writer.kill()
        files = LaneFiles(tmp_path, OWNER)
        position = files.position.get(0, 0)
        assert position > reached, "what was durable is not lost"
        reached = position
        found = np.concatenate(list(merged([each.run for each in files.runs], 0)))
        expected = np.concatenate([record(number) for number in range(position)])
        assert set(expected["origin"].tolist()) <= set(found["origin"].tolist())
        assert sum(1 for path in tmp_path.rglob("*") if path.is_file()) <= len(files.runs) + 1
    assert reached >= 2 * KILLS
