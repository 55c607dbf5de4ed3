"""The routes of projects, a module for each kind of thing that they are about."""
