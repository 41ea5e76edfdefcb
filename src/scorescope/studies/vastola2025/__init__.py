"""Generalization through variance (vastola2025): the studies of proxy scores and learned densities, one module each."""
