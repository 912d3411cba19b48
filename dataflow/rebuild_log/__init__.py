"""`payments rebuild-log`: a lane log that is lost, made again from what was published."""
