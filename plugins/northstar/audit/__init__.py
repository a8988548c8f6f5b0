"""Stage 3, audit: Great Expectations at the two boundaries, landed rows and marts that are about to be published."""
