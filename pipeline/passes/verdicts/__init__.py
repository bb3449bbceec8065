"""From stored columns to verdicts: columns over the run, thresholds, verdicts, the account, the subset file."""
