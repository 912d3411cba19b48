"""`python -m dataflow.verify`: reads all topics of a cluster, and checks every rule.

    reader (Kafka) ──> reduce ──> spill by record ──> records ──> spill by paymentId ──> payments

Each record becomes one row of numbers (`rows`), and never all of them are in memory: they are
spread over files by a hash, such that what has to be compared is in one file, and each file is
checked by itself. First all that was said of each input record (`records`), then all that was said
of each paymentId (`payments`). Memory is that of one file, whatever the size of the topics.

Nothing in here writes to the cluster.
"""
