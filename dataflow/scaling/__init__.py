"""A calculator of how LANES, partitions, processes and epochs should be chosen.

python -m dataflow scale --rate 50000 --window 1d --latency 2s

The reasoning is in docs/scaling.md, the measurements in docs/performance.md.
"""
