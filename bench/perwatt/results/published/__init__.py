"""Published results as rows: tables of printed figures become CSVs, and the MFU of each row is worked out anew.

A table of :mod:`~perwatt.results.published.tables` holds only what a source prints. From it
:mod:`~perwatt.results.published.rows` makes rows, counting operations by our own formulas, and
:mod:`~perwatt.results.published.conventions` works the MFU out once more as its source did.
``python -m perwatt.results.published`` writes the CSVs and ``docs/published.md`` anew.
"""
