"""One check for every indicator: does the array have the axes that the measure is about?"""

from pitprop._errors import PitpropError


def expect_axes(indicator: str, axes: str, **arrays) -> None:
    """Refuse arrays with fewer axes than `axes` names, in words that say which.

    Raises:
        PitpropError: An array has too few axes.
    """
    for name, array in arrays.items():
        if len(array.shape) < len(axes.split()):
            raise PitpropError(
                f"`{indicator}` got `{name}` of shape {tuple(array.shape)}",
                means=f"The measure is over the last axes `{axes}`, and there are too few.",
                do=f"Pass an array whose last axes are `{axes}`; further axes may come before them.",
            )


def expect_same_shape(indicator: str, **arrays) -> None:
    """Refuse arrays that cannot be compared entry by entry.

    Raises:
        PitpropError: The shapes differ.
    """
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise PitpropError(
            f"`{indicator}` got " + " and ".join(f"`{name}` of shape {shape}" for name, shape in shapes.items()),
            means="The two are compared entry by entry, so their shapes must be equal.",
            do="Pass both from the same place, before any reshaping.",
        )
