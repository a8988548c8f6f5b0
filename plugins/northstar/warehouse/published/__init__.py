"""Published versions and how they are read: described tables, the view of all values, and earlier versions. `publish` writes them."""
