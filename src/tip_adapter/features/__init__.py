"""Vectors, whatever they come from: images that are encoded, stored features, files from elsewhere."""
