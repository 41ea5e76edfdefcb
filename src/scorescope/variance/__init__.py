"""Generalization through variance: the noisy training target makes the learned score random, and that noise fills gaps.

The theory of Vastola, ICLR 2025, arXiv 2504.12532, on small sets of points, where everything can be computed. In reading order:

* `processes`, `noise_matrix`: forward processes with any matrix of noise; `formulations`: score, clean point or noise;
* `proxy` (points), `image_proxy` (image sets): score, proxy score and its covariance C in closed form;
* `features`, `linear`, `population`: linear models, fitted, and in the limit of infinitely many draws;
* `v_kernel`, `linear_kernel`, `lazy`: the V-kernels of the four cases;
* `effective`, `field_tables`: the effective process, and a fast sampler of many linear models;
* `learned_density`, `limits`: average densities with distances, and two limits in closed form;
* `members`, `ensemble`, `tangent_kernels`, `gaussian_truth`: ensembles of networks, and cases with a known answer.
"""
