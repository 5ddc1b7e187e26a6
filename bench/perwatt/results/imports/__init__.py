"""Results of other tools, and of older versions of ours, as rows: one file for each format, found by a scan."""
