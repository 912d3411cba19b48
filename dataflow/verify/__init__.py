"""`python -m dataflow verify`: reads all topics of a cluster, and checks every rule.

    reader (Kafka) ──> extract ──> spill by record ──> record_rules
                                                 └──> spill by paymentId ──> payment_rules

Each record becomes one row of numbers (`rows`), and never all of them are in memory: they are
spread over files by a hash, such that what has to be compared is in one file, and each file is
checked by itself. First all events about each input record (`record_rules`), then all events
about each paymentId (`payment_rules`). Memory is that of one file, whatever the size of the
topics.

Nothing in here writes to the cluster.
"""
