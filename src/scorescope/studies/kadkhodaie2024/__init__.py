"""Adaptive shrinkage (kadkhodaie2024): the studies of transitions, Jacobians and bases, one module a figure or two."""
