"""Training: one loop for all cases, exact on any number of ranks, never lost."""
