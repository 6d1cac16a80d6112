"""kilonode: from raw science data to trained, explained, benchmarked networks on O(1000) Slurm nodes."""

__version__ = "0.1.0"
