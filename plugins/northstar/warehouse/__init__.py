"""The warehouse in Postgres: connections and roles, tables and migrations, the turn to write, and the embedded server of a home."""
