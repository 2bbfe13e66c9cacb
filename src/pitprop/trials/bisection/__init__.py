"""Bisection: the smallest set of changes that brings a collapse, and the smallest whose reversal cures it.

    end points -> cut -> delta debugging, each test repeated over seeds -> confirm on fresh seeds -> answer

`sequential`, `oracle` and `search` are pure: they know subsets, seeds and booleans. `changes`, `endpoints` and `answer`
tie them to recipes; `bisect` drives.
"""
