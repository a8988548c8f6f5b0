"""For who looks after a home: what is wrong with it, what it is doing, and its backups."""
