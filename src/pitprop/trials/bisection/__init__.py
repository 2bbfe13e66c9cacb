"""Bisection: the smallest set of changes that brings a collapse, and the smallest whose reversal cures it.

    end points -> cut -> delta debugging, each test repeated over seeds -> confirm on fresh seeds -> answer

`sequential`, `oracle`, `search` and `halving` are pure: they know subsets, seeds and booleans. `changes`, `endpoints`
and `answer` tie them to recipes, `drive` runs it. Over git revisions the same oracle is halved: `repository` asks git,
`worktrees` and `revisions` run each commit in its own worktree and processes, `first_bad` is the answer,
`drive_revisions` runs it.
"""
