"""Measures the product from the outside, on a real Kafka of its own: `make bench`."""
