"""What changes, live: one reader of the store, one ring for everybody who follows, one rendering for each change."""
