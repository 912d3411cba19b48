"""The measurement of the product from outside, on a real Kafka of its own: `make bench`."""
