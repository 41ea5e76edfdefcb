"""The audit: does a model, or a folder of images, give its training images back, and how sure is that?

`sets` says which images are compared, `settings` how much is measured, `nearness` measures samples in a feature space,
`regions` their copied parts, `denoising` what only a network can tell, `findings` puts them together for the rule, `page`
shows them.
"""
