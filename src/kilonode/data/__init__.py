"""From raw shards to shuffled batches: simulate or ingest, split, shuffle once, check, load."""
