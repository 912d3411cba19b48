"""The process: its command line, its signals, its end, its memory."""
