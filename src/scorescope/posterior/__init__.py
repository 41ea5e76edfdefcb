"""The engine: averages of training images by posterior weight, exact, streaming, in memory that does not grow with them."""
