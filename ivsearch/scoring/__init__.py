"""What a score is worth: the library as background, the nearness to everything taken off, the likelihood."""
