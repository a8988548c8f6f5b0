"""What Airflow knows that a process outside of it needs: connections with their secrets, and the state of DAG runs."""
