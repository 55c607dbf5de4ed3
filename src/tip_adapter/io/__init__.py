"""Files are read within limits and written whole."""
