"""The layers that see reads and writes; each hands `Event` values to the session."""
