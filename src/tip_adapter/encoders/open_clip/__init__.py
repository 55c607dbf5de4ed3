"""Every CLIP of open_clip, on torch."""
