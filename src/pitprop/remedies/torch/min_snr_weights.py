"""Min-SNR weights: losses of diffusion timesteps weighed by their clamped signal-to-noise ratio; nothing is learned.

Paper: Hang et al., Efficient diffusion training via min-SNR weighting strategy, arXiv 2303.09556 (2023).
Source: written from the formulae; no code copied.
Differences: on the simplex unless `normalise=False`, so that it can stand in for any other weights.
Cost: none to speak of; the weights are constants of the noise schedule.
Facts: for epsilon min(SNR, gamma) / SNR, for v min(SNR, gamma) / (SNR + 1), for x0 min(SNR, gamma); SNR = a / (1 - a).
Insertion: changes the objective from the first step on.
Does not help: losses that aren't the denoising loss of a timestep: the derivation doesn't speak of them, though a
constant schedule can't collapse whatever it weighs.
"""

from typing import Literal

from torch import Tensor


def min_snr_weights(
    losses: Tensor,
    *,
    alphas_cumprod: Tensor,
    gamma: float = 5.0,
    prediction: Literal["epsilon", "v", "x0"] = "epsilon",
    normalise: bool = True,
) -> Tensor:
    """Weights for `(weights * losses).sum(-1)`; of `losses` only shape, type and device matter.

    Args:
        losses: `[*batch, part]`, one part per timestep.
        alphas_cumprod: `[part]` or `[*batch, part]`, in [0, 1]: share of signal power at each timestep.
        gamma: Bound on the ratio; 5 in the paper.
        prediction: What the denoiser predicts.
        normalise: On the simplex; else the paper's own factors.

    Returns:
        `[*batch, part]`, constant. NaN where all factors are 0.

    Raises:
        ValueError: An unknown `prediction`.
    """
    ratio = alphas_cumprod.detach().to(losses) / (1 - alphas_cumprod.detach().to(losses))
    if prediction == "epsilon":
        weights = (gamma / ratio).clamp(max=1.0)
    elif prediction == "v":
        weights = ratio.clamp(max=gamma) / (ratio + 1)
    elif prediction == "x0":
        weights = ratio.clamp(max=gamma)
    else:
        raise ValueError(f"`prediction` is {prediction!r}; it is one of 'epsilon', 'v', 'x0'")
    weights = weights.expand_as(losses)
    return weights / weights.sum(-1, keepdim=True) if normalise else weights.clone()
