"""What gathers: one table, one page, and the front to the workflow."""
