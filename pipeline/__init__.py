"""shardmill: web image-text shards in; clean, labelled, trainer-ready WebDataset shards out."""
