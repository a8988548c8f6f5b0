"""What stands behind a published number, for who reads the pages: its background, its rows, and the rows of a mart where it is no metric's."""
