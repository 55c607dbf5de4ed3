"""Changes of the tables, in order, run by Alembic when a database is opened."""
