"""Images on disk and where they come from.

An `ImageSet` is uint8 (N, C, H, W) that is read in pieces, maybe a subset, maybe with mirror images; an `ImageStore` is
one that lives in a folder and is mapped, not loaded. Stores are made once::

    with open_source("photos.zip") as source:          # also folders, .npy, .npz, IDX, CIFAR, Hugging Face data sets
        store = import_images(source, "photos", size=32)

and opened by everything with ``load_images("photos")``, which also knows the names in `builtin_datasets`
(``load_images("fashion-mnist")``) and gives training and test images. `splits` chooses disjoint subsets and finds
near-duplicates; `generated` draws image classes whose geometry is known. Whatever is wrong with images on disk is a
`UserError` that says which file and what to do, and nothing half-written is left.
"""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.data.builtin import BuiltinDataset, builtin_datasets
    from scorescope.data.images import ImageSet, to_float, to_uint8
    from scorescope.data.importing import import_images
    from scorescope.data.loading import DataSplit, cache_folder, load_images, parse_builtin
    from scorescope.data.sources import Source, open_source
    from scorescope.data.splits import (
        IndexList,
        NearDuplicates,
        disjoint_subsets,
        find_near_duplicates,
        train_test_split,
    )
    from scorescope.data.store import ImageStore, Provenance, StoreRecord, StoreWriter, is_store, writing_store
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "BuiltinDataset",
    "DataSplit",
    "ImageSet",
    "ImageStore",
    "IndexList",
    "NearDuplicates",
    "Provenance",
    "Source",
    "StoreRecord",
    "StoreWriter",
    "builtin_datasets",
    "cache_folder",
    "disjoint_subsets",
    "find_near_duplicates",
    "import_images",
    "is_store",
    "load_images",
    "open_source",
    "parse_builtin",
    "to_float",
    "to_uint8",
    "train_test_split",
    "writing_store",
]
