"""Tools for the operator of a home: its problems (doctor), its state (status), and its backups."""
