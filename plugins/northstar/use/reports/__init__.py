"""Reports: what the marts say of a day, week, month or quarter, for people who read mail. `contents.yml` says what is in each."""
