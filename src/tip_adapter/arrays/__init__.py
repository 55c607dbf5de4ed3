"""Files of named arrays, .npz and Parquet, read with bounds and without pickle."""
