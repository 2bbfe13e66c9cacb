"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

from statistics import fmean

from pitprop.cases._claims import Results

TEXT = """
* **The neck saturates.** 50 normalised tokens are summed, projected and squashed by tanh: {saturated_first} % of the
  units are flat before the first step, {saturated_last} % at the end. No signal passes, so the best the decoder can
  do is a constant.
* **The objective allows it.** With `objective=task` (cross-entropy of the merged CNN) the outputs become one even
  without saturation, and accuracy is {task_accuracy:.2f}: one constant CNN that knows all classes is a good answer
  for every pair.
* **Attention isn't the cause.** It is near uniform from initialisation on (entropy {entropy_first:.2f} of 1) and less
  so when the outputs are all one ({entropy_last:.2f}). Forced to exactly 1/50 in an unsaturated model it slows the
  learning (spread {uniform:.2f} in place of {healthy:.2f}), and {distinct} % of the outputs are distinct.
* **Gates neither prevent nor cure it**, and neither does a new neck: the cause is still there. Rolling back doesn't
  help either: evaluated at every step, no run's outputs were mostly distinct after step {good_step}, so that the
  state to go back to is as good as untrained and has the same neck ({rolled} % of its units are flat).
* **What works:** take the saturation away (`bottleneck=mean`, or the remedy `unit-rms` before the tanh), and train on
  an objective that depends on the pair (`imitate`). A collapsed checkpoint recovers with `unit-rms` alone (spread
  {recovered:.2f}).

Read every accuracy against the references: the mean of all training targets, one constant CNN, reaches {constant:.2f}
on held-out pairs. A healthy transformer at this length of training is *less* accurate than that
({healthy_accuracy:.2f}); what it gains is that its output depends on its input.
"""


def prose(results: Results) -> str:
    """The text with its numbers, means over the seeds."""

    def mean(arm: str, metric: str, when: str = "last") -> float:
        return fmean(results["arms"][arm][metric][when])

    def percent(arm: str, metric: str, when: str = "last") -> int:
        return round(100 * mean(arm, metric, when))

    return TEXT.format(
        saturated_first=percent("ungated", "saturated_share", "first"),
        saturated_last=percent("ungated", "saturated_share"),
        task_accuracy=mean("task objective, mean bottleneck", "merged_accuracy"),
        entropy_first=mean("ungated", "attention_entropy", "first"),
        entropy_last=mean("ungated", "attention_entropy"),
        uniform=mean("mean bottleneck, uniform attention", "output_spread"),
        healthy=mean("mean bottleneck", "output_spread"),
        distinct=percent("mean bottleneck, uniform attention", "output_uniqueness"),
        good_step=max(step or 0 for step in results["arms"]["ungated"]["last_good_step"]),
        rolled=percent("recover: rolled back", "saturated_share", "first"),
        recovered=mean("recover: unit-rms", "output_spread"),
        constant=results["references"]["constant mean"]["merged_accuracy"],
        healthy_accuracy=mean("mean bottleneck", "merged_accuracy"),
    )
