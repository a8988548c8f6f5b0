"""Airflow's side for other processes: the environment of its commands, connections with their secrets, and the state of DAG runs."""
