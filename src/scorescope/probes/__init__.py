"""Measure denoisers: errors, deviation from the optimal one and who explains it, similarity, memorization."""
