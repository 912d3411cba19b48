"""The parts that the command lines of several tools share."""
