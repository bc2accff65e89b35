"""Is fast equal to true? Properties about any backend, drawn by hypothesis."""
