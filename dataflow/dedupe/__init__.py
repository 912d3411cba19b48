"""Remembered ids of a lane in two tiers: the last ones in memory, the others in files.

What a lane remembers is what its log in Kafka holds. The files are a cache of that log, and of
nothing else: each of them may be lost, damaged, old or foreign, and then only a start takes longer.

    remembered.py  the indexes of a process, and what they share
    tiered.py      the index that judges batches: both tiers, and when ids move between them
    lane_files.py  the files of one lane: what is believed at a start, what is made, what is deleted
    manifest.py    which files there are, and the position in the log that they reach
    run.py         one immutable file of sorted entries with its filter
    merging.py     several runs into one, in little memory
    background.py  the thread that writes
    writing.py     files that are there as a whole or not at all

The rules without files are in `dataflow.core`: `verdicts` (what a batch is), `hot_ids`,
`id_counts`, `bloom`, `run_policy`; and entries, in `lane_log`.
"""
