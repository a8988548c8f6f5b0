"""The Postgres database: connections and roles, its tables and their migrations, whose turn it is to write, and the server where it is the home's own."""
