"""Kafka, and nothing else."""
