"""Files that others wrote, as inert records: pickles and archives of ``torch.save``, of which nothing is ever run.

Checkpoints are read through this, and data sets that come as pickles.
"""
