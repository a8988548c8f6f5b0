"""Airflow: its services, the wiring that its DAGs share, and `make run`."""
