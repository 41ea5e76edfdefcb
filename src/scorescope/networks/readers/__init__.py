"""Readers of checkpoints that others wrote: they parse, check and copy numbers, and never run anything from a file."""
