"""What a trained network is worth, on test groups, beside the methods a referee would ask for."""
