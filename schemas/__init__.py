"""Messages and state: bytes in, structs between, bytes out."""
