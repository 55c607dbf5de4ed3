"""Photos: finding them, their labels, and decoding them within limits."""
