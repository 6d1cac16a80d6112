"""What a trained network has learned: maps of its code, what it looks at, figures."""
