"""Samplers: one generator per algorithm, over falling noise levels.

    sampler(denoise, x, sigmas, path, noise, ...) -> final x

`denoise` is a guide, x (1, C, h, w) the first latents at sigmas[0], `noise(sigma, sigma_next)` unit noise of x's
shape (k-diffusion's s_noise is `rng.scaled` around it). What follows are a sampler's own options. Every step is
reported as a `Step` once its estimate is known. In the coordinates of `path` all deterministic steps are the same for
every kind of network; alpha matters only where noise is added.

Symbols: s, s1 = current and next noise level; d = (x - x0) / s, the slope of the probability flow (Karras et al.
2022, equation 1); lam = log(alpha / sigma), half the log signal-to-noise ratio. Deterministic methods that are
exponential in log sigma step in h = log(s / s1), on flows too, as SD3's own code does.
"""
