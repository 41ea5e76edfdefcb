"""Does a model, or a folder of images, give its training images back? Measurements on arrays, each with its error rate.

T are training images, C control images of the same kind that the model has not seen, H calibration images, not seen either
and apart from C, and g the samples. Everything rests on one exchange: if the model copies nothing, a sample is to T what it is
to C, and what an image of H is to both.

- `search`: how similar an image is to its nearest of T and of C;
- `leakage`: the share of samples nearer to T than to C, beyond the share that unseen images have;
- `copies`: which samples are copies, at a stated false discovery rate, and what share of all they are;
- `planting`: which planted copies would have been found;
- `local_copies`: where in the image the copy is;
- `membership`: do denoising errors tell training from control images, and by how many dB;
- `modelling`: does the network model these images at all;
- `verdict`: the rule that turns intervals into one of five words.
"""
