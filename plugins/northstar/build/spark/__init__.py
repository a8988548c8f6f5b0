"""What runs in the environment of Spark (`make setup-spark`): nothing here is imported by Northstar."""
