"""Score cards: how often each rule is wrong on healthy runs, what it misses, and how late it is.

    make bench-rules                                     all runs of the card (seeds 0 to 5), two processes
    PYTHONPATH=bench python -m score_cards --development  development: seeds from 100 up, writes no card

Small real models train on real data under `pitprop.watch`: healthy (`models/`), frightening but fine (`benign.py`),
and with a rule's fault injected at a known step (`faults.py`). A run's trace is kept under its content's address
(`run.py`); rules are asked of the traces (`card.py`), so a changed rule costs no training.
"""
