"""Attribution: which training images, and which of their patches, one sample is made of.

`settings` says how much is measured, `states` which noisy images are looked at, `tracing` whose weights the training-free
estimates there are made of and how well each is what the model answered, `leaving` what becomes of one without an image,
`baselines` what other methods say, `findings` puts them together, `page` and `pictures_of` show them.
"""
