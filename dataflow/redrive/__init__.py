"""`payments redrive`: failed payments that may succeed on another try, as new requests."""
