"""Rules to verdicts, and the account of a run."""
