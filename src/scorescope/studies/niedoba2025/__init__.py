"""Locality (niedoba2025): the studies of patches against networks, one module a figure of the paper."""
